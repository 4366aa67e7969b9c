"""Final scores with intervals, and whether a difference could be chance: measured again from what runs left."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nlpcli import __version__
from nlpcli.commands.report.read_runs import Outputs, Run
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError
from nlpcli.evaluation import METRICS, Resampling, Score
from nlpcli.evaluation.count_metrics import ExampleMetric, Measurement
from nlpcli.evaluation.score import reference_sets
from nlpcli.training.metric_direction import higher_is_better

_LEAST_PARTS = 10  # of a text; an interval of fewer is not meaningful
_CLOSE = 1e-4  # relative; sums are added in another order here


@dataclass(frozen=True)
class Final:
    """A metric of the weights a run kept, with the 95 % interval where outputs give one, and how it was measured."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    signature: str = ""


@dataclass(frozen=True)
class Paired:
    """A run's difference from the first one in a metric, on the same items: system - baseline, and its p-value."""

    metric: str
    run: str
    baseline: str
    difference: float
    p_value: float
    items: int
    signature: str

    @property
    def better(self) -> bool:
        return (self.difference > 0) == higher_is_better(self.metric)


_OF_MEANS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda means: means,
    "percentage": lambda means: 100 * means,
    "perplexity": np.exp,
}


class PartMean(ExampleMetric):
    """Σ sums / Σ counts over the parts of a text (windows, batches), in percent, or exp of it: items are (sum, count).

    kind: `mean`, `percentage` or `perplexity`, which is exp of the mean.

    Parts are sampled with replacement. They follow each other in a text, so the interval is of texts of the same
    kind, made of parts like these.
    """

    needs: ClassVar[str] = "parts of a text"

    def __init__(self, name: str, kind: str = "mean") -> None:
        self.name = name  # type: ignore[misc]  # that of a class elsewhere; this one serves several measures
        self.kind = kind

    def signature(self, references: str = "1", resampling: Resampling | None = None) -> str:
        bootstrap = f"|bs:{resampling.samples}|seed:{resampling.seed}" if resampling else ""
        return f"{self.name}|of:parts{bootstrap}|nlpcli:{__version__}"

    def measure(self, hypotheses: Sequence[Any], references: Sequence[Sequence[Any]]) -> Measurement:
        sums, counts = np.array(hypotheses, dtype=np.float64).reshape(-1, 2).T

        def values(weights: np.ndarray) -> np.ndarray:
            below = weights @ counts
            means = (weights @ sums) / np.where(below > 0, below, 1)
            return _OF_MEANS[self.kind](means)

        value = float(values(np.ones((1, len(sums))))[0])
        return Measurement(len(sums), value, values, counted(len(sums), "part"))


@dataclass(frozen=True)
class _Measured:
    """One metric over the outputs of a run: the metric, and what it is computed from."""

    metric: Any
    hypotheses: list[Any]
    references: list[list[Any]]
    suffix: str

    def score(self, resampling: Resampling | None) -> Score:
        return self.metric.corpus(self.hypotheses, self.references, resampling)


def final_scores(run: Run, resampling: Resampling | None) -> list[Final]:
    """The metrics of the kept weights, with intervals where the outputs give the same value."""
    values, signatures = run.info.get("metrics") or {}, run.info.get("signatures") or {}
    found = []
    for name, value in values.items():
        final = Final(name, value, signature=str(signatures.get(name, "")))
        measured = measured_again(run, name)
        if measured is not None and resampling is not None:
            score = measured.score(resampling)
            if math.isclose(score.value, value, rel_tol=_CLOSE, abs_tol=_CLOSE):
                final = Final(name, score.value, score.low, score.high, _signed(score, measured, final.signature))
        found.append(final)
    return found


def paired_scores(baseline: Run, run: Run, resampling: Resampling) -> tuple[list[Paired], list[str]]:
    """The differences of `run` from `baseline` in all metrics both have outputs for, and why there are no others."""
    one, other = usable_outputs(baseline), usable_outputs(run)
    if one is None or other is None:
        return [], ["runs without outputs have no paired tests"]
    common = [name for name in one.measures if name in other.measures]
    if not common:
        return [], [f"{run.name} and {baseline.name} have no paired test, because their metrics differ"]
    found, missing = [], []
    for name in common:
        first, second = measured_again(baseline, name), measured_again(run, name)
        if first is None or second is None:
            continue
        if why := _not_pairable(one, other, first, second):
            missing.append(f"{run.name} and {baseline.name} have no paired test of {name}, because {why}")
            continue
        before, after = first.metric.compare(first.hypotheses, [second.hypotheses], first.references, resampling)
        if after.p_value is None:
            missing.append(f"{run.name} and {baseline.name} have no paired test of {name}, because it has no p-value")
            continue
        signature = _signed(after, first, (baseline.info.get("signatures") or {}).get(name, ""))
        found.append(Paired(name, run.name, baseline.name, after.value - before.value, after.p_value,
                            len(first.hypotheses), signature))  # fmt: skip
    return found, list(dict.fromkeys(missing))


def usable_outputs(run: Run) -> Outputs | None:
    """The outputs, if they are those of the weights that were kept."""
    if run.outputs is None or run.info.get("step") != run.outputs.step:
        return None
    return run.outputs


def measured_again(run: Run, name: str) -> _Measured | None:
    """The outputs that a metric of the best checkpoint is computed from, None where the outputs don't record it."""
    outputs = usable_outputs(run)
    how = None if outputs is None else outputs.measures.get(name)
    kind = how.get("metric") if isinstance(how, Mapping) else None
    if outputs is None or how is None or not isinstance(kind, str):
        return None
    items = [item for item in outputs.items if "part" not in how or item.get("part") == how["part"]]
    options = dict(how.get("options") or {})
    try:
        if kind in _OF_MEANS:
            return _of_parts(items, name, options["of"], kind)
        hypotheses, references = _PREPARE.get(kind, _plain)(items)
        return _Measured(_metric(kind, options), hypotheses, references, str(how.get("suffix", "")))
    except (KeyError, TypeError, ValueError, NlpcliError):  # of another version, or damaged
        return None


def _of_parts(items: list[dict[str, Any]], name: str, of: str, kind: str) -> _Measured | None:
    if len(items) < _LEAST_PARTS:
        return None
    pairs = [(item["nats"], item["tokens"]) if of == "nats" else tuple(item["tallies"].get(of, (0.0, 0)))
             for item in items]  # fmt: skip
    return _Measured(PartMean(name, kind), pairs, [pairs], "")


def _metric(kind: str, options: dict[str, Any]) -> Any:
    from nlpcli.evaluation.classification_metrics import Accuracy, MultiLabelF1
    from nlpcli.evaluation.ranking_metrics import AveragePrecision, ReciprocalRank

    others: dict[str, Callable[..., Any]] = {
        "label-sets-f1": MultiLabelF1,
        "label-sets-accuracy": Accuracy,
        "same-text": Accuracy,
        "average-precision": AveragePrecision,
        "reciprocal-rank": ReciprocalRank,
    }
    return (others.get(kind) or METRICS.load(kind))(**options)


def _plain(items: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[list[Any]]]:
    return [item["output"] for item in items], [[item["reference"] for item in items]]


def _sets(items: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[list[Any]]]:
    return [tuple(item["output"]) for item in items], [[tuple(item["reference"]) for item in items]]


def _same(items: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[list[Any]]]:
    """Texts for which any reference is correct."""
    return [item["output"] in item["reference"] for item in items], [[True] * len(items)]


def _texts(items: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[list[Any]]]:
    """Texts with one reference or several."""
    references = [[item["reference"]] if isinstance(item["reference"], str) else item["reference"] for item in items]
    return [item["output"] for item in items], reference_sets(references)


_PREPARE = {
    "label-sets-f1": _sets,
    "label-sets-accuracy": _sets,
    "entity-f1": _sets,
    "tag-accuracy": _sets,
    "same-text": _same,
    **dict.fromkeys(("bleu", "rouge1", "rouge2", "rougel"), _texts),
}


_PLAIN = (bool, int, float, str, type(None), list, tuple, dict)


def _not_pairable(one: Outputs, other: Outputs, first: _Measured, second: _Measured) -> str:
    """Why two measurements are not of the same items, "" where they are."""
    if one.data != other.data:
        return "they were measured on different data"
    if len(first.hypotheses) != len(second.hypotheses):
        return f"one has {counted(len(first.hypotheses), 'item')} and the other has {len(second.hypotheses):,}"
    if isinstance(first.metric, PartMean):
        same = all(a[1] == b[1] for a, b in zip(first.hypotheses, second.hypotheses, strict=True))
        return "" if same else "the text was split into different parts"
    if not isinstance(first.references[0][0], bool) and first.references != second.references:
        return "their references differ"
    if first.metric.__class__ is not second.metric.__class__ or _settings(first.metric) != _settings(second.metric):
        return "it was measured in different ways"
    return ""


def _settings(metric: object) -> str:
    """The settings of a metric; what it keeps besides, such as a tokenizer, follows from them."""
    if hasattr(metric, "choices"):
        return str(metric.choices())
    return repr(sorted((name, value) for name, value in vars(metric).items() if isinstance(value, _PLAIN)))


def _signed(score: Score, measured: _Measured, known: str) -> str:
    """How a score and its interval were measured. known: how the run itself has it, which states how a text was cut."""
    if isinstance(measured.metric, PartMean) and known:
        bootstrap = next((part for part in re.findall(r"\|bs:\d+\|seed:\d+", score.signature)), "")
        return known.replace("|nlpcli:", f"|parts:{len(measured.hypotheses)}{bootstrap}|nlpcli:")
    return f"{score.signature}|{measured.suffix}" if measured.suffix else score.signature
