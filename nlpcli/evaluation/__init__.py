"""How good a text is: metrics over lines of text, and the arithmetic of perplexity.

Every metric is one file and one line of `METRICS`; each returns a `Score` that carries its signature.
"""

from __future__ import annotations

from nlpcli.config.tables import LazyTable
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
    },
)

__all__ = ["METRICS", "Metric", "Resampling", "Score"]
