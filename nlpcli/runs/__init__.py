"""The parts of a run that commands share: its settings, its folder, its model card, and opening trained models."""
