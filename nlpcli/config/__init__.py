"""Strict configuration: YAML in, typed objects out, every mistake named with its nearest right spelling."""
