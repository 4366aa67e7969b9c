"""Metrics of texts, labels, numbers, tags, answers and links, and the arithmetic of perplexity.

Every metric is one class and one line of `METRICS`; each returns a `Score` that carries its signature.
"""

from __future__ import annotations

from nlpcli.config.lazy_tables import LazyTable
from nlpcli.evaluation.score import Metric, Resampling, Score

METRICS = LazyTable(
    "metric",
    {
        "bleu": "nlpcli.evaluation.bleu:Bleu",
        "chrf": "nlpcli.evaluation.chrf:Chrf",
        "chrf++": "nlpcli.evaluation.chrf:ChrfPlusPlus",
        "ter": "nlpcli.evaluation.ter:Ter",
        "wer": "nlpcli.evaluation.error_rate:WordErrorRate",
        "cer": "nlpcli.evaluation.error_rate:CharacterErrorRate",
        "mer": "nlpcli.evaluation.error_rate:MatchErrorRate",
        "wil": "nlpcli.evaluation.error_rate:WordInformationLost",
        "accuracy": "nlpcli.evaluation.classification_metrics:Accuracy",
        "f1": "nlpcli.evaluation.classification_metrics:F1",
        "mcc": "nlpcli.evaluation.classification_metrics:Matthews",
        "pearson": "nlpcli.evaluation.correlation:Pearson",
        "spearman": "nlpcli.evaluation.correlation:Spearman",
        "entity-f1": "nlpcli.evaluation.tagging_metrics:EntityF1",
        "tag-accuracy": "nlpcli.evaluation.tagging_metrics:TagAccuracy",
        "exact-match": "nlpcli.evaluation.squad_metrics:ExactMatch",
        "answer-f1": "nlpcli.evaluation.squad_metrics:AnswerF1",
        "rouge1": "nlpcli.evaluation.rouge:Rouge1",
        "rouge2": "nlpcli.evaluation.rouge:Rouge2",
        "rougel": "nlpcli.evaluation.rouge:RougeL",
        "rougelsum": "nlpcli.evaluation.rouge:RougeLsum",
        "aer": "nlpcli.evaluation.alignment_error_rate:AlignmentErrorRate",
    },
    absent=(
        "meteor", "comet", "cometkiwi", "bertscore", "bleurt", "bartscore", "moverscore", "prism", "yisi", "metricx",
        "nist", "gleu", "ribes", "lepor", "per", "cider", "spice", "sari", "mauve", "rougew", "rouges", "rougesu",
        "sembleu", "sentbleu", "unieval", "geval", "gemba", "questeval", "wip", "blanc", "sbert", "qe", "xcomet",
    ),
)  # fmt: skip

__all__ = ["METRICS", "Metric", "Resampling", "Score"]
