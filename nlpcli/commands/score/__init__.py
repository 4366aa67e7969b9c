"""`nlpcli score`: metrics of files, and the perplexity of a text."""
