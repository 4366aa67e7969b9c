"""What answers to prompts are measured by: candidates as labels, written answers as texts."""

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
    metric: Metric, gold: Sequence[tuple[str, ...]], predicted: Sequence[str], resampling: Resampling | None
) -> Score:
    """The score of the answers; gold: all that is right of each example, () where nothing is."""
    if metric.needs == ANSWERS:
        return metric.corpus(predicted, [gold], resampling)
    return metric.corpus(predicted, reference_sets(gold)[: metric.max_references], resampling)
