"""Metrics of answers to prompts: of candidates as labels, of written answers as texts."""

from __future__ import annotations

from collections.abc import Sequence

from nlpcli.commands.generate.prompt_template import Template
from nlpcli.errors import NlpcliError
from nlpcli.evaluation import METRICS, Metric, Resampling, Score
from nlpcli.evaluation.metric_names import parse_metrics
from nlpcli.evaluation.score import ANSWERS, LABELS, TEXT_PAIRS, reference_sets

RANKED, WRITTEN = "accuracy", "exact-match"


def metrics_of(template: Template) -> list[Metric]:
    """The metrics the template names, or the usual one. Raises: NlpcliError for one that can't measure its answers."""
    usual = RANKED if template.ranks else WRITTEN
    named = template.metric or usual
    names = parse_metrics([named] if isinstance(named, str) else named)
    fit = (LABELS,) if template.ranks else (TEXT_PAIRS, ANSWERS, LABELS)
    found = []
    for name in names:
        kind = METRICS.load(name)
        if kind.needs not in fit:
            able = [other for other in METRICS if METRICS.load(other).needs in fit]
            what = "candidates" if template.ranks else "texts"
            raise NlpcliError(f"the metric {name} can't score {what}", hint=f"choose one of: {', '.join(able)}")
        found.append(kind())
    return found


def measure(
    metric: Metric, references: Sequence[tuple[str, ...]], predicted: Sequence[str], resampling: Resampling | None
) -> Score:
    """The score of the answers; references: all correct answers of each example, () if there is none."""
    if metric.needs == ANSWERS:
        return metric.corpus(predicted, [references], resampling)
    return metric.corpus(predicted, reference_sets(references)[: metric.max_references], resampling)
