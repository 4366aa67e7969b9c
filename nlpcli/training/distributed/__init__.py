"""Training with several processes, on one machine or on several, outside the models: torch.distributed."""
