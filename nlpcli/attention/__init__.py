"""Attention: which keys a query attends to, with what scores, and the context that results."""
