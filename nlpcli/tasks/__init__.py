"""Supervised tasks: which examples, which batches, which loss."""

from nlpcli.config.tables import LazyTable

TASKS = LazyTable("task", {"translation": "nlpcli.tasks.translation:Translation"})
