"""Supervised tasks: which examples, which batches, which loss."""

from nlpcli.config.tables import LazyTable

TASKS = LazyTable(
    "task",
    {
        "translation": "nlpcli.tasks.translation:Translation",
        "classify": "nlpcli.tasks.classification:Classification",
        "multi-label": "nlpcli.tasks.multi_label:MultiLabel",
        "regress": "nlpcli.tasks.regression:Regression",
        "choice": "nlpcli.tasks.choice:Choice",
        "tag": "nlpcli.tasks.tagging:Tagging",
        "span": "nlpcli.tasks.span:SpanExtraction",
        "similarity": "nlpcli.tasks.similarity:Similarity",
        "text-to-text": "nlpcli.tasks.text_to_text:TextToText",
    },
)
"""Name -> the class of the task. All but translation, which reads parallel files, are a `nlpcli.tasks.task.Task`."""
