"""From a model and a text to the weights of its attention: what is looked at, and how each kind of model reads it."""
