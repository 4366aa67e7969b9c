"""Collects attention weights of a model for a text: the texts, and the inputs of each kind of model."""
