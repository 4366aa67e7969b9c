"""Names of metrics, and families of several metrics under one name."""

from __future__ import annotations

from collections.abc import Iterable

from nlpcli.evaluation import METRICS

FAMILIES = {"rouge": ("rouge1", "rouge2", "rougel"), "squad": ("exact-match", "answer-f1")}
"""Names of several metrics that are usually given together."""


def parse_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Metric names out of `bleu`, `bleu,chrf` and the like, each once. Raises: NlpcliError for an unknown one.

    The name of a family (`rouge`, `squad`) means all its metrics.
    """
    found = [name.strip().lower() for group in names for name in group.split(",")]
    members = [member for name in found for member in FAMILIES.get(name, (name,))]
    return tuple(METRICS.check(name) for name in dict.fromkeys(members) if name)
