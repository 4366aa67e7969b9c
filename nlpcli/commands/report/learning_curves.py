"""The curves of runs: what was logged, against steps, tokens, minutes or FLOPs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nlpcli.commands.report.read_runs import Run
from nlpcli.config.grid import flat
from nlpcli.errors import NlpcliError, unknown
from nlpcli.training.metric_direction import higher_is_better
from nlpcli.visualization.charts import Line, Panel

AXES = {
    "step": "steps",
    "tokens": "training tokens",
    "minutes": "minutes",
    "flops": "FLOPs",
}
_LOGGED = {
    "head_cosine": "cosine of two heads' weights",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_second": "tokens per second",
}
_LIKE_LOSS = ("loss", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
_MOST = 6  # panels of metrics, unless they are requested
_NOT_METRICS = {"kind", "step", "epoch", "seconds", "snapshots"}


@dataclass(frozen=True)
class Curves:
    """Panels to draw, the names of what was not drawn, and sentences about what is missing."""

    panels: tuple[Panel, ...]
    left_out: tuple[str, ...]
    missing: tuple[str, ...]


def curves_of(runs: Sequence[Run], *, x: str = "step", metrics: Sequence[str] = ()) -> Curves:
    """The panels of a report: loss, perplexity, metrics that all runs have, heads, rate, gradient norm, speed.

    metrics: those to draw; else what all runs are measured by, what decides first, and not more than six.
    Raises: NlpcliError for an axis or a metric that isn't there.
    """
    if x not in AXES:
        raise unknown("axis", x, AXES)
    if not any(_places(run, x) is not None for run in runs) and any(run.lines for run in runs):
        raise NlpcliError(
            f"none of these runs recorded {_called(x)}", hint="choose another --x: step, tokens or minutes"
        )
    missing = [
        f"{run.name}: the run did not record {_called(x)}, so its curves are missing"
        for run in runs
        if run.lines and _places(run, x) is None
    ]
    drawn, left_out = _metrics(runs, metrics)
    panels = [_loss(runs, x)]
    if not metrics and (perplexity := _panel("perplexity", runs, x, "perplexity")).lines:
        panels.append(perplexity)
    panels += [_panel(name, runs, x, name.replace("_", " ")) for name in drawn]
    panels += [_panel(name, runs, x, title, kind="train") for name, title in _LOGGED.items()]
    missing += _uncommon(runs) if not metrics else []
    panels = [panel for panel in panels if panel.lines]
    right = max((value for panel in panels for line in panel.lines for value in line.x), default=0.0)
    drawn_panels = tuple(replace(panel, right=right) if right else panel for panel in panels)
    return Curves(drawn_panels, tuple(left_out), tuple(missing))


def _called(x: str) -> str:
    return "FLOPs" if x == "flops" else x


def measured(run: Run) -> list[str]:
    """The names of what a run is measured by, what decides first."""
    names = dict.fromkeys(name for line in run.lines if line["kind"] == "dev" for name in line)
    return sorted((name for name in names if name not in _NOT_METRICS), key=lambda name: name != run.metric)


def _metrics(runs: Sequence[Run], wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """The metrics to draw besides loss and perplexity, and those left out."""
    there = [measured(run) for run in runs if measured(run)]
    for name in wanted:
        if not any(name in own for own in there):
            raise unknown("metric", name, dict.fromkeys(name for own in there for name in own))
    if wanted:
        return list(wanted), []
    common = [name for name in (there[0] if there else []) if all(name in own for own in there)]
    common = [name for name in common if name not in _LIKE_LOSS]
    return common[:_MOST], common[_MOST:]


def _uncommon(runs: Sequence[Run]) -> list[str]:
    """The metrics that only some of the runs have, in one sentence."""
    there = [set(measured(run)) for run in runs if measured(run)]
    if len(there) < 2:
        return []
    alone = [name for name in dict.fromkeys(name for run in runs for name in measured(run))
             if not all(name in own for own in there)]  # fmt: skip
    subject, them = ("this metric is", "it") if len(alone) == 1 else ("these metrics are", "them")
    return [f"{subject} not drawn, because not all runs have {them}: {', '.join(alone)}"] if alone else []


def _loss(runs: Sequence[Run], x: str) -> Panel:
    train = _panel("loss", runs, x, "loss", kind="train").lines
    return Panel("loss (nats)", AXES[x], (*train, *_panel("loss", runs, x, "loss").lines))


def _panel(name: str, runs: Sequence[Run], x: str, title: str, *, kind: str = "dev") -> Panel:
    lines = []
    for number, run in enumerate(runs):
        line = _line(run, number, name, x, kind)
        if line is not None:
            lines.append(line)
    better = "" if kind == "train" or name in _LIKE_LOSS else "higher" if higher_is_better(name) else ""
    return Panel(title, AXES[x], tuple(lines), better=better, logarithmic=name == "perplexity" and _wide(lines))


def _wide(lines: Sequence[Line]) -> bool:
    values = [value for line in lines for value in line.y]
    return bool(values) and min(values) > 0 and max(values) > 20 * min(values)


def _line(run: Run, number: int, name: str, x: str, kind: str) -> Line | None:
    rows = [line for line in run.lines if line["kind"] == kind and _is_number(line.get(name))]
    places = _places(run, x)
    if not rows or places is None:
        return None
    at = np.interp([line["step"] for line in rows], *places)
    return Line(run.name, number, tuple(at.tolist()), tuple(float(line[name]) for line in rows), kind)


def _places(run: Run, x: str) -> tuple[list[float], list[float]] | None:
    """Steps and their places on the axis, from the beginning on; None if the run lacks them."""
    if x == "step":
        last = float(run.step)
        return [0.0, last], [0.0, last]
    key = "seconds" if x == "minutes" else x
    rows = {line["step"]: line[key] for line in run.lines if _is_number(line.get(key))}
    if not rows:
        return None
    scale = 1 / 60 if x == "minutes" else 1.0
    pairs = sorted(rows.items())
    return [0.0, *(float(step) for step, _ in pairs)], [0.0, *(value * scale for _, value in pairs)]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings in which the configurations of runs differ: "training.lr" -> the value of each run."""
    settings = [flat(run.config) for run in runs]
    names = dict.fromkeys(name for own in settings for name in own)
    found = {name: [own.get(name) for own in settings] for name in names}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}
