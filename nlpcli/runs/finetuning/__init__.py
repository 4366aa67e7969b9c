"""Fine-tuning any model for any task: where a run begins, what it is measured by, how it goes."""
