"""The training loop and its parts: optimiser, schedule, checkpoints, device, log."""
