"""Exchange with Hugging Face checkpoint folders: configurations, weights and tokenizers, both ways.

Everything here works on dicts: a configuration is plain data, weights are name -> tensor.
"""
