"""The work of each command, without the terminal: one module or package a command, named as on the command line."""
