"""Scoring: what systems wrote against references, by any number of metrics."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nlpcli.commands.score.line_scores import are_by_line, line_scores, sentence_line_scores
from nlpcli.commands.score.request import (
    ScoreReport,
    ScoreRequest,
    SystemScore,
    build_metrics,
    check_one_system,
    check_reference_sets,
    check_sentence,
    ignored_options,
)
from nlpcli.commands.score.score_inputs import FORMATS, Files, Inputs, Items
from nlpcli.errors import NlpcliError, is_absent, nearest, unknown
from nlpcli.evaluation import METRICS, Metric, Resampling, Score
from nlpcli.evaluation.metric_names import FAMILIES, parse_metrics
from nlpcli.evaluation.score import LABELS

if TYPE_CHECKING:
    import jiwer


__all__ = [
    "FAMILIES",
    "FORMATS",
    "Resampling",
    "ScoreReport",
    "ScoreRequest",
    "Scoring",
    "SystemScore",
    "alignment_data",
    "alignment_text",
    "chosen_labels",
    "parse_metrics",
    "score",
    "sentence_scores",
    "split_metric",
]


@runtime_checkable
class _Aligning(Protocol):
    """A metric that counts the edits of an alignment."""

    unit: str

    def align(
        self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
    ) -> jiwer.WordOutput | jiwer.CharacterOutput: ...


def split_metric(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Metrics and files out of the arguments of a call that names no metric by an option.

    A first argument that is the name of a metric, or several joined by commas, is that, whether there is a file of
    this name or not (`./bleu` is the file). Raises: NlpcliError for one that is not a metric and not a file.
    """
    first, *rest = arguments or ("",)
    names = [name.strip().lower() for name in first.split(",")]
    if all(name in METRICS or name in FAMILIES for name in names):
        return parse_metrics([first]), tuple(rest)
    absent = next((name for name in names if is_absent(name, METRICS.absent)), None)
    if absent and not Path(first).exists():
        raise unknown("metric", absent, METRICS, METRICS.absent)
    near = None if "/" in first or "." in first else nearest(names[0], [*METRICS, *FAMILIES])
    if near and not Path(first).exists():
        raise NlpcliError(f"'{first}' is neither a metric nor a file", hint=f"did you mean '{near}'?")
    return (), tuple(arguments)


def score(request: ScoreRequest, processes: int = 1) -> ScoreReport:
    """Scores every system of the request, metrics of texts in constant memory. processes: how many share the lines.

    Raises: NlpcliError as `Scoring` and the metrics, and for several processes where lines are not read one by one.
    """
    metrics = build_metrics(request.metrics, request.options)
    if are_by_line(request, metrics):
        return line_scores(request, metrics, processes)
    _check_alone(processes)
    return Scoring(request).report()


def sentence_scores(
    request: ScoreRequest, processes: int = 1, *, warn: Callable[[str], None]
) -> Iterator[tuple[Any, list[Score]]]:
    """Each example of the one system with its scores by all metrics; metrics of texts in constant memory.

    Raises: NlpcliError as `score`; where lines are read one by one, after all scores before.
    """
    metrics = build_metrics(request.metrics, request.options)
    if len(request.references) == 1 and are_by_line(request, metrics):
        yield from sentence_line_scores(request, metrics, processes, warn=warn)
        return
    _check_alone(processes)
    scoring = Scoring(request)
    for warning in scoring.warnings(sentence=True):
        warn(warning)
    yield from zip(scoring.hypotheses(), scoring.sentences(), strict=True)


def _check_alone(processes: int) -> None:
    if processes > 1:
        raise NlpcliError(
            "--processes can't divide these files",
            hint="it divides texts that are scored line by line, with metrics such as bleu, chrf and wer",
        )


class Scoring:
    """A request with its metrics built and its files read, each once.

    Raises: NlpcliError for unreadable, empty or unequally long files, files that hold not what a metric is computed
    from, unknown metrics, options no metric has.
    """

    def __init__(self, request: ScoreRequest) -> None:
        self.request = request
        self.metrics = build_metrics(request.metrics, request.options)
        check_reference_sets(self.metrics, request)
        files = Files(request.paths, request.format, request.texts)
        self._inputs: dict[str, Inputs] = {}
        for name, metric in self.metrics.items():
            if metric.needs not in self._inputs:
                self._inputs[metric.needs] = files.read(metric.needs, name)
            self._inputs[metric.needs].check(metric)
        if request.options.get("labels"):
            inputs = self._inputs[LABELS]
            known = {label for text in (*inputs.references, *inputs.systems) for label in text.items}
            labels = chosen_labels(request.options["labels"], known)
            self.metrics = build_metrics(request.metrics, {**request.options, "labels": labels})

    def report(self) -> ScoreReport:
        """All scores of all systems; with a baseline its own come first."""
        rows: list[SystemScore] = []
        for name, metric in self.metrics.items():
            rows += self._scores(name, metric)
        return ScoreReport(self._segments(), self.request.references, rows, self.warnings())

    def sentences(self) -> list[list[Score]]:
        """The scores of each segment of the one system, (segments, metrics)."""
        check_sentence(self.request)
        columns = [
            metric.sentences(self._systems(metric)[0].items, self._references(metric))
            for metric in self.metrics.values()
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def hypotheses(self) -> list[Any]:
        """The one system's output for each segment, as the first metric reads it."""
        return list(self._systems(next(iter(self.metrics.values())))[0].items)

    def alignments(self) -> dict[str, jiwer.WordOutput | jiwer.CharacterOutput]:
        """The alignments behind the error rates of the one system, by the unit that is aligned."""
        aligning = {metric.unit: metric for metric in self.metrics.values() if isinstance(metric, _Aligning)}
        if not aligning:
            raise NlpcliError(
                f"--alignment has no effect on {', '.join(self.metrics)}", hint="it applies to wer, mer, wil and cer"
            )
        check_one_system(self.request, "--alignment")
        return {
            unit: metric.align(self._systems(metric)[0].items, self._references(metric))
            for unit, metric in aligning.items()
        }

    def _scores(self, name: str, metric: Metric) -> list[SystemScore]:
        resampling, references = self.request.resampling, self._references(metric)
        systems, baseline = self._systems(metric), self._inputs[metric.needs].baseline
        if baseline is None:
            return [
                SystemScore(system.path, name, metric.corpus(system.items, references, resampling))
                for system in systems
            ]
        items = [system.items for system in systems]
        first, *others = metric.compare(baseline.items, items, references, resampling or Resampling())
        return [SystemScore(baseline.path, name, first, baseline=True)] + [
            SystemScore(system.path, name, scored) for system, scored in zip(systems, others, strict=True)
        ]

    def warnings(self, *, sentence: bool = False) -> list[str]:
        """Warnings about odd inputs and options without effect. sentence: for the scores of single segments."""
        found: list[str] = []
        for metric in self.metrics.values():
            cautions = getattr(metric, "sentence_cautions", metric.cautions) if sentence else metric.cautions
            for system in self._systems(metric):
                found += cautions(system.items, self._references(metric))
        return list(dict.fromkeys(found + ignored_options(self.request)))

    def _systems(self, metric: Metric) -> list[Items]:
        return self._inputs[metric.needs].systems

    def _references(self, metric: Metric) -> list[list[Any]]:
        return [reference.items for reference in self._inputs[metric.needs].references]

    def _segments(self) -> int:
        inputs = next(iter(self._inputs.values()))
        return len(inputs.references[0].items)


def alignment_text(output: jiwer.WordOutput | jiwer.CharacterOutput, *, width: int | None = None) -> str:
    """jiwer's picture of an alignment, segment under segment, the faultless ones left out."""
    import jiwer

    return jiwer.visualize_alignment(output, show_measures=False, skip_correct=True, line_width=width)


def alignment_data(aligned: Mapping[str, jiwer.WordOutput | jiwer.CharacterOutput]) -> dict[str, Any]:
    """The same as plain data: under `alignments` and the unit, a list of edits for each segment; {} for nothing."""
    if not aligned:
        return {}
    from nlpcli.evaluation.error_rate import edits

    return {"alignments": {unit: edits(output) for unit, output in aligned.items()}}


def chosen_labels(values: Iterable[str], known: Collection[str]) -> list[str]:
    """The labels that `--labels` names, each once.

    A value that is itself a label in the files is this label, commas or not; any other is a list with commas between,
    in which quotation marks hold a label with a comma together, as in CSV: `"a, b",c`.

    Raises: NlpcliError for a value that names no label.
    """
    found: list[str] = []
    for value in values:
        whole = value.strip()
        parts = [whole] if whole in known else next(csv.reader([whole], skipinitialspace=True), [])
        labels = [part.strip() for part in parts]
        if not labels or "" in labels:
            raise NlpcliError(f"--labels '{value}' contains an empty label")
        found += labels
    return list(dict.fromkeys(found))
