"""A report as plain data, in full precision."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from nlpcli.commands.report.output_scores import Final
from nlpcli.commands.report.report import Report
from nlpcli.visualization.charts import Panel


def as_dict(report: Report) -> dict[str, Any]:
    """The whole report for JSON; a number that is not finite is null."""
    runs = [
        {
            "run": str(run.path),
            "name": run.name,
            "task": run.task,
            "finished": run.finished,
            "stopped": run.stopped,
            "best_checkpoint": run.best_checkpoint,
            "metric": run.metric,
            "cost": cost,
            "scores": [_score(score) for score in scores],
        }
        for run, cost, scores in zip(report.runs, report.cost, report.scores, strict=True)
    ]
    found = {
        "runs": runs,
        "paired": [asdict(paired) for paired in report.paired],
        "differences": report.differences,
        "x": report.x,
        "curves": [_panel(panel) for panel in report.curves.panels],
        "samples": [asdict(sample) for sample in report.samples],
        "missing": list(report.missing),
    }
    return _finite(found)


def _score(score: Final) -> dict[str, Any]:
    """The form that all commands give a score."""
    return {"metric": score.name, **{key: value for key, value in asdict(score).items() if key != "name"}}


def _panel(panel: Panel) -> dict[str, Any]:
    lines = [{"run": line.label, "kind": line.kind, "x": list(line.x), "y": list(line.y)} for line in panel.lines]
    return {"title": panel.title, "lines": lines}


def _finite(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
