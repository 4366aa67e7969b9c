"""Attention: who may look at whom, with what score, and what comes of it."""
