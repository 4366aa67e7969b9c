"""Scores of texts from statistics of their lines, which are read, counted and forgotten in portions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from nlpcli.commands.score.request import (
    ScoreReport,
    ScoreRequest,
    SystemScore,
    build_metrics,
    check_reference_sets,
    check_sentence,
    ignored_options,
)
from nlpcli.commands.score.score_inputs import Files
from nlpcli.data.open_text import display_name
from nlpcli.evaluation import Metric, Resampling, Score
from nlpcli.evaluation.line_statistics import CautionCounts, LineMetric, Statistics
from nlpcli.evaluation.score import TEXT_PAIRS, count_for_signature, counts_of_references, without_blanks
from nlpcli.evaluation.unspaced_scripts import SAMPLE

if TYPE_CHECKING:
    import numpy as np

WINDOW = 1024
"""Lines counted at once."""


@dataclass(frozen=True)
class Window:
    """Lines of all files, by name. first: the number of the first of them, from 1."""

    first: int
    lines: dict[str, list[str]]


@dataclass(frozen=True)
class Counted:
    """The counts of a window.

    found: for each metric and system the statistics of lines and the numbers for its cautions. references: how many
    a line has, each number once. sample: the first references of the first window.
    """

    size: int
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]]
    references: set[int]
    sample: list[str | None]


@dataclass(frozen=True)
class Sentences:
    """Lines of a window with the scores of each by all metrics. remarks, sample: as in `Counted`, by metric."""

    hypotheses: list[str]
    scores: list[list[Score]]
    caution_counts: dict[str, np.ndarray]
    sample: list[str]


_Result = TypeVar("_Result")
_Compute = Callable[[ScoreRequest, "Mapping[str, LineMetric]", Window], _Result]


def are_by_line(request: ScoreRequest, metrics: Mapping[str, Metric]) -> bool:
    """Whether these scores are made of statistics of lines, and line n of each file belongs to line n of the others."""
    return (
        all(isinstance(metric, LineMetric) for metric in metrics.values())
        and Files(request.paths, request.format).format_for(TEXT_PAIRS) == "lines"
    )


def line_scores(request: ScoreRequest, metrics: Mapping[str, Metric], processes: int = 1) -> ScoreReport:
    """All scores of all systems; with a baseline its own come first. processes: how many count lines.

    Raises: NlpcliError for unreadable, empty or unequally long files, and as the metrics.
    """
    check_reference_sets(metrics, request)
    chosen = cast("Mapping[str, LineMetric]", metrics)
    if request.baseline is not None:
        request = replace(request, resampling=request.resampling or Resampling())
        for metric in chosen.values():
            metric.check_resampling(cast("Resampling", request.resampling))
    sums = {name: [_Sum(metric, request) for _ in _systems(request)] for name, metric in chosen.items()}
    segments, counts = 0, set[int]()
    for counted in _computed(request, chosen, _count, processes):
        segments += counted.size
        counts |= counted.references
        for name, found in counted.found.items():
            for total, (rows, caution_counts) in zip(sums[name], found, strict=True):
                total.statistics.add(rows)
                total.caution_counts.add(caution_counts, counted.sample)
    warnings: list[str] = []
    scores: list[SystemScore] = []
    for name, metric in chosen.items():
        scores += _scores(
            request, name, metric, [total.statistics for total in sums[name]], count_for_signature(counts)
        )
        for total in sums[name][request.baseline is not None :]:
            warnings += metric.cautions_from(total.caution_counts.numbers, total.caution_counts.sample)
    return ScoreReport(segments, request.references, scores, list(dict.fromkeys(warnings + ignored_options(request))))


def sentence_line_scores(
    request: ScoreRequest, metrics: Mapping[str, Metric], processes: int = 1, *, warn: Callable[[str], None]
) -> Iterator[tuple[str, list[Score]]]:
    """Each line of the one system with its scores by all metrics, against one set of references.

    Raises: NlpcliError as `line_scores`, after the scores of all lines before.
    """
    check_reference_sets(metrics, request)
    check_sentence(request)
    chosen = cast("Mapping[str, LineMetric]", metrics)
    caution_counts = {name: CautionCounts(SAMPLE) for name in chosen}
    for window in _computed(request, chosen, _score_sentences, processes):
        for name, numbers in window.caution_counts.items():
            caution_counts[name].add(numbers, window.sample)
        yield from zip(window.hypotheses, window.scores, strict=True)
    found = [
        caution
        for name, metric in chosen.items()
        for caution in metric.cautions_from(caution_counts[name].numbers, caution_counts[name].sample, sentence=True)
    ]
    for warning in dict.fromkeys(found + ignored_options(request)):
        warn(warning)


class _Sum:
    """The counts of one system."""

    def __init__(self, metric: LineMetric, request: ScoreRequest) -> None:
        self.statistics = metric.collector(resampled=request.resampling is not None)
        self.caution_counts = CautionCounts(SAMPLE)


@dataclass(frozen=True)
class _LineWork(Generic[_Result]):
    """Computes something of windows in another process."""

    request: ScoreRequest
    compute: _Compute[_Result]

    def open(self, number: int, threads: int) -> Callable[[Window], _Result]:
        metrics = cast("Mapping[str, LineMetric]", build_metrics(self.request.metrics, self.request.options))
        return lambda window: self.compute(self.request, metrics, window)


def _systems(request: ScoreRequest) -> tuple[str, ...]:
    return (*([] if request.baseline is None else [request.baseline]), *request.hypotheses)


def _computed(
    request: ScoreRequest, metrics: Mapping[str, LineMetric], compute: _Compute[_Result], processes: int
) -> Iterator[_Result]:
    """The counts of each window, in order."""
    windows = _windows(request)
    if processes == 1:
        yield from (compute(request, metrics, window) for window in windows)
        return
    from nlpcli.runs.worker_processes import in_processes

    yield from in_processes(windows, _LineWork(replace(request, texts={}), compute), processes)


def _windows(request: ScoreRequest) -> Iterator[Window]:
    portions = Files(request.paths, request.format, request.texts).portions(WINDOW)
    for number, lines in enumerate(portions):
        yield Window(1 + number * WINDOW, lines)


def _count(request: ScoreRequest, metrics: Mapping[str, LineMetric], window: Window) -> Counted:
    references = without_blanks([window.lines[path] for path in request.references])
    systems = [window.lines[path] for path in _systems(request)]
    return Counted(
        len(references[0]),
        {
            name: [
                (metric.line_statistics(lines, references, window.first), metric.caution_counts(lines, references))
                for lines in systems
            ]
            for name, metric in metrics.items()
        },
        counts_of_references(references),
        references[0][:SAMPLE] if window.first == 1 else [],
    )


def _score_sentences(request: ScoreRequest, metrics: Mapping[str, LineMetric], window: Window) -> Sentences:
    hypotheses, *references = (window.lines[path] for path in (*request.hypotheses, *request.references))
    columns = [metric.sentences(hypotheses, references, window.first) for metric in metrics.values()]
    return Sentences(
        hypotheses,
        [list(row) for row in zip(*columns, strict=True)],
        {name: metric.caution_counts(hypotheses, references) for name, metric in metrics.items()},
        references[0][:SAMPLE] if window.first == 1 else [],
    )


def _scores(
    request: ScoreRequest, name: str, metric: LineMetric, statistics: list[Statistics], references: str
) -> list[SystemScore]:
    names = [display_name(path) for path in _systems(request)]
    if request.baseline is None:
        return [
            SystemScore(system, name, metric.score_from(one, references, request.resampling))
            for system, one in zip(names, statistics, strict=True)
        ]
    assert request.resampling is not None
    baseline, *systems = statistics
    found = metric.compare_from(baseline, systems, references, request.resampling)
    return [
        SystemScore(system, name, scored, baseline=number == 0)
        for number, (system, scored) in enumerate(zip(names, found, strict=True))
    ]
