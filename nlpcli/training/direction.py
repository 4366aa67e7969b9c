"""Which way a metric gets better."""

from __future__ import annotations

_HIGHER_IS_BETTER = (
    "bleu", "chrf", "accuracy", "f1", "precision", "recall", "mcc", "pearson", "spearman", "exact_match", "map", "mrr",
    "ndcg", "mean", "f1a", "em",
)  # fmt: skip


def higher_is_better(metric: str) -> bool:
    """Whether a larger value of a metric, such as `bleu`, `mlm_accuracy`, `rougeL` or `mrr@10`, is the better one."""
    return "rouge" in metric or metric.split("@")[0].endswith(_HIGHER_IS_BETTER)
