"""What commands share about a run: its settings, its folder, its model card, and opening trained models."""
