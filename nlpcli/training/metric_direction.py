"""Properties of a metric by its name: whether higher or lower is better, and its unit."""

from __future__ import annotations

_HIGHER_IS_BETTER = (
    "bleu", "chrf", "accuracy", "f1", "precision", "recall", "mcc", "pearson", "spearman", "exact_match", "map", "mrr",
    "ndcg", "mean", "f1a", "em",
)  # fmt: skip
_IN_NATS = ("loss", "nats")


def higher_is_better(metric: str) -> bool:
    """Whether a larger value of a metric, such as `bleu`, `mlm_accuracy`, `rougeL` or `mrr@10`, is the better one."""
    return "rouge" in metric or metric.split("@")[0].endswith(_HIGHER_IS_BETTER)


def in_percent(count: str) -> bool:
    """Whether the mean of what is counted under this name is a share of the predictions (`mlm_accuracy`, `baseline`).

    Shares are given in percent everywhere; what remains, `loss` and `mlm_loss`, is in nats.
    """
    return not count.endswith(_IN_NATS)
