"""Self-supervised objectives: what a model learns from raw text alone."""
