"""The report on one run or several: its content, before it is written in one form or another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlpcli.commands.report.learning_curves import Curves, curves_of, differences
from nlpcli.commands.report.output_scores import Final, Paired, final_scores, paired_scores
from nlpcli.commands.report.read_runs import Run, find_runs, read_runs
from nlpcli.errors import described_by
from nlpcli.evaluation import Resampling


@dataclass(frozen=True)
class ReportRequest:
    """The contents of a report.

    runs: folders; () for the newest run. x: the axis of the curves, a key of `AXES`. metrics: whose curves are drawn,
    () for those that all runs have. resampling: of intervals and paired tests, None for none. samples: how many of the
    dev examples are shown.
    """

    runs: tuple[Path, ...] = ()
    x: str = "step"
    metrics: tuple[str, ...] = ()
    resampling: Resampling | None = field(default_factory=Resampling)
    samples: int = 5


@dataclass(frozen=True)
class Output:
    """A run's output for a sample at an evaluation; more: further details for people."""

    step: int
    text: str
    more: str = ""
    last: int = 0  # the last of the evaluations that gave the same


@dataclass(frozen=True)
class Sample:
    """A dev example, its reference, and the outputs of each run over time, run by run."""

    text: str
    reference: str
    part: str
    outputs: tuple[tuple[Output, ...], ...]


@dataclass(frozen=True)
class Report:
    """Everything that is reported of runs.

    scores: of the kept weights, run by run. differences: settings that are not the same, run by run. cost: what the
    runs took, run by run, by name. missing: sentences about what could not be reported.
    """

    runs: tuple[Run, ...]
    x: str
    curves: Curves
    scores: tuple[tuple[Final, ...], ...]
    paired: tuple[Paired, ...]
    differences: dict[str, list[Any]]
    samples: tuple[Sample, ...]
    cost: tuple[dict[str, float | int | str | None], ...]
    missing: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(run.name for run in self.runs)

    @property
    def metrics(self) -> list[str]:
        """The names of all final scores, what decides first."""
        names = dict.fromkeys(score.name for own in self.scores for score in own)
        deciding = {run.metric for run in self.runs}
        return sorted(names, key=lambda name: name not in deciding)

    def decides(self, metric: str) -> bool:
        """Whether it is the metric that decided which weights were kept, in every run that is measured by it."""
        measured = [run for i, run in enumerate(self.runs) if self.score(i, metric) is not None]
        return bool(measured) and all(run.metric == metric for run in measured)

    def score(self, run: int, metric: str) -> Final | None:
        return next((score for score in self.scores[run] if score.name == metric), None)


def make_report(request: ReportRequest, *, notify: Callable[[str], None]) -> Report:
    """Reads the runs and measures what they left.

    Raises: NlpcliError for folders that are not runs, unknown axes and metrics.
    """
    paths = find_runs(request.runs, notify)
    with described_by(paths[0] if len(paths) == 1 else "a folder of the runs"):
        return _report_of(read_runs(paths), request)


def _report_of(runs: Sequence[Run], request: ReportRequest) -> Report:
    curves = curves_of(runs, x=request.x, metrics=request.metrics)
    missing = _together(runs)
    scores = tuple(tuple(final_scores(run, request.resampling)) for run in runs)
    paired: list[Paired] = []
    if request.resampling is not None:
        for run in runs[1:]:
            found, why = paired_scores(runs[0], run, request.resampling)
            paired += found
            missing += why
    return Report(
        runs=tuple(runs),
        x=request.x,
        curves=curves,
        scores=scores,
        paired=tuple(paired),
        differences=differences(runs) if len(runs) > 1 else {},
        samples=tuple(samples_of(runs, request.samples)),
        cost=tuple(cost_of(run) for run in runs),
        missing=tuple(dict.fromkeys((*missing, *curves.missing))),
    )


def _together(runs: Sequence[Run]) -> list[str]:
    """The data that runs lack, each sentence once, with the names of the runs where not all lack it."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for sentence in run.missing:
            found.setdefault(sentence, []).append(run.name)
    if len(runs) == 1:
        return list(found)
    return [f"{'all runs' if len(names) == len(runs) else ', '.join(names)}: {sentence}"
            for sentence, names in found.items()]  # fmt: skip


def cost_of(run: Run) -> dict[str, float | int | str | None]:
    """The cost of a run; None for unknown parts."""
    train = [line for line in run.lines if line["kind"] == "train"]
    last: dict[str, Any] = train[-1] if train else {}
    state = run.progress if run.progress.get("step", -1) >= run.step else {}
    seconds = max((line["seconds"] for line in run.lines if "seconds" in line), default=None)
    tokens = state.get("tokens") or last.get("tokens")
    flops = state.get("flops") or last.get("flops")
    spoken = run.card.get("parameters")
    speeds = sorted(line["tokens_per_second"] for line in train if "tokens_per_second" in line)
    return {
        "steps": run.step,
        "epochs": _epochs(run),
        "tokens": tokens,
        "minutes": None if seconds is None else (state.get("seconds") or seconds) / 60,
        "flops": flops or None,
        "tokens_per_second": speeds[len(speeds) // 2] if speeds else None,
        "parameters": int(spoken) if spoken else run.parameters,
        "machine": run.card.get("machine"),
    }


def _epochs(run: Run) -> int | None:
    epochs = [line["epoch"] for line in run.lines if "epoch" in line]
    return max(epochs) if epochs else None


def samples_of(runs: Sequence[Run], count: int) -> list[Sample]:
    """Up to `count` examples of each run, those that most runs show first, with all that was given for each."""
    texts: dict[tuple[str, str, str], list[list[Output]]] = {}
    for number, run in enumerate(runs):
        for line in run.samples:
            for item in line.get("items") or ():
                if line["kind"] != "dev" or not isinstance(item, dict):
                    continue
                text = str(item.get("source", item.get("text", "")))
                key = (text, str(item.get("reference", "")), str(item.get("part", "")))
                own = texts.setdefault(key, [[] for _ in runs])[number]
                _add(own, Output(line["step"], str(item.get("output", "")), _more(item), line["step"]))
    shared = sorted(texts, key=lambda key: -sum(map(bool, texts[key])))
    chosen = {key for i in range(len(runs)) for key in [key for key in shared if texts[key][i]][:count]}
    return [Sample(*key, tuple(map(tuple, texts[key]))) for key in shared if key in chosen]


def _add(outputs: list[Output], new: Output) -> None:
    """Adds what an evaluation gave; what is the same as before lengthens that."""
    if outputs and (outputs[-1].text, outputs[-1].more) == (new.text, new.more):
        outputs[-1] = Output(outputs[-1].step, new.text, new.more, new.step)
    else:
        outputs.append(new)


def _more(item: dict[str, Any]) -> str:
    """The other values of a sample, in words."""
    parts = [f"{item['correct']} correct"] if "correct" in item else []
    if (predicted := item.get("predicted_label")) is not None:
        parts.append(predicted if predicted == item.get("label") else f"{predicted} (reference: {item.get('label')})")
    return "; ".join(parts)
