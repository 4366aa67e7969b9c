"""Supervised tasks: which examples, which batches, which loss."""

from nlpcli.config.lazy_tables import LazyTable

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
    synonyms={
        **dict.fromkeys(("translate", "mt", "nmt", "machine-translation"), "translation"),
        **dict.fromkeys(
            (
                "classification",
                "text-classification",
                "sequence-classification",
                "sentiment",
                "sentiment-analysis",
                "nli",
                "entailment",
                "paraphrase",
            ),
            "classify",
        ),
        **dict.fromkeys(("multilabel", "multi-label-classification"), "multi-label"),
        **dict.fromkeys(("regression", "sts"), "regress"),
        **dict.fromkeys(("multiple-choice", "multichoice"), "choice"),
        **dict.fromkeys(("ner", "pos", "tagging", "chunking", "token-classification", "sequence-labeling"), "tag"),
        **dict.fromkeys(("qa", "squad", "question-answering", "extractive-qa"), "span"),
        **dict.fromkeys(("embedding", "embeddings", "sentence-similarity"), "similarity"),
        **dict.fromkeys(("summarize", "summarization", "seq2seq", "text2text", "generation"), "text-to-text"),
    },
)
"""Name -> the class of the task. All but translation, which reads parallel files, are a `nlpcli.tasks.task.Task`."""
