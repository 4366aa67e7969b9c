"""The commands as typed Python functions; `import nlpcli` offers them."""
