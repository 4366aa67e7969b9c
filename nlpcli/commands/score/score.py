"""Scoring: what systems wrote against references, by any number of metrics."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.commands.score.score_inputs import FORMATS, HOLDING, Files, Inputs, Items, Paths
from nlpcli.config.counting import counted
from nlpcli.data.open_text import STDIN
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
    "split_metric",
]


@dataclass(frozen=True)
class ScoreRequest:
    """What is scored, against what, and how.

    hypotheses: one file a system, "-" for standard input. references: one file a reference set. metrics: names of
    `METRICS`. baseline: a system whose difference from each of the others is tested. format: how examples stand in the
    files: `lines`: each on a line; `trn`: transcripts that carry their utterance's id; `conll`, `conllu`: sentences of
    words in columns, their tags in the last or in UPOS; `squad`: a data set of questions as the reference and answers
    {id: text} as hypotheses; `auto`: by the name of the reference (.conll, .conllu, .iob, .bio; .json is `squad`), else
    `lines`. resampling: how intervals are estimated; None for none. options: those of the metrics; each must belong to
    at least one of them, and goes to all that have it; `labels` as `chosen_labels` reads them.
    texts: lines that are in memory, by the name that stands for a file.
    """

    hypotheses: tuple[str, ...] = (STDIN,)
    references: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("bleu",)
    baseline: str | None = None
    format: str = "auto"
    resampling: Resampling | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class SystemScore:
    """One metric's score of one system."""

    system: str
    metric: str
    score: Score
    baseline: bool = False


@dataclass(frozen=True)
class ScoreReport:
    """All scores, system by system and metric by metric, with what was noticed on the way."""

    segments: int
    references: tuple[str, ...]
    scores: list[SystemScore]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain data in full precision, for JSON."""
        rows = [
            {"system": row.system, "baseline": row.baseline, **row.score.as_dict(row.metric)} for row in self.scores
        ]
        return {"segments": self.segments, "references": list(self.references), "scores": rows}


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


def score(request: ScoreRequest) -> ScoreReport:
    """Scores every system of the request. Raises: NlpcliError as `Scoring` and the metrics."""
    return Scoring(request).report()


class Scoring:
    """A request with its metrics built and its files read, each once.

    Raises: NlpcliError for unreadable, empty or unequally long files, files that hold not what a metric is computed
    from, unknown metrics, options no metric has.
    """

    def __init__(self, request: ScoreRequest) -> None:
        self.request = request
        self.metrics = build_metrics(request.metrics, request.options)
        for name, metric in self.metrics.items():
            if metric.max_references is not None and len(request.references) > metric.max_references:
                raise NlpcliError(
                    f"{name} takes {counted(metric.max_references, 'reference file')}, not {len(request.references)}",
                    hint="add --alternatives to read '{ A / B }' in one reference"
                    if "alternatives" in metric.options
                    else None,
                )
        paths = Paths(request.references, request.baseline, request.hypotheses)
        files = Files(paths, request.format, request.texts)
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
        if self.request.baseline is not None or self.request.resampling is not None:
            other = "--baseline" if self.request.baseline is not None else "--confidence"
            raise NlpcliError(f"--sentence and {other} exclude each other", hint="leave out one of them")
        self._check_one("--sentence")
        columns = [
            metric.sentences(self._systems(metric)[0].items, self._references(metric))
            for metric in self.metrics.values()
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def hypotheses(self) -> list[Any]:
        """What the one system has for each segment, as the first metric reads it."""
        return list(self._systems(next(iter(self.metrics.values())))[0].items)

    def alignments(self) -> dict[str, jiwer.WordOutput | jiwer.CharacterOutput]:
        """The alignments behind the error rates of the one system, by the unit that is aligned."""
        aligning = {metric.unit: metric for metric in self.metrics.values() if hasattr(metric, "align")}
        if not aligning:
            raise NlpcliError(
                f"--alignment has no effect on {', '.join(self.metrics)}", hint="it applies to wer, mer, wil and cer"
            )
        self._check_one("--alignment")
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
        """What looks wrong or has no effect, though it can be scored. sentence: for the scores of single segments."""
        found = []
        for metric in self.metrics.values():
            cautions = getattr(metric, "sentence_cautions", metric.cautions) if sentence else metric.cautions
            for system in self._systems(metric):
                found += cautions(system.items, self._references(metric))
        if "rouge_references" in self.request.options and len(self.request.references) == 1:
            found.append("--rouge-references has no effect with only one reference")
        return list(dict.fromkeys(found))

    def _systems(self, metric: Metric) -> list[Items]:
        return self._inputs[metric.needs].systems

    def _references(self, metric: Metric) -> list[list[Any]]:
        return [reference.items for reference in self._inputs[metric.needs].references]

    def _segments(self) -> int:
        inputs = next(iter(self._inputs.values()))
        return len(inputs.references[0].items)

    def _check_one(self, option: str) -> None:
        if len(self.request.hypotheses) > 1 or self.request.baseline is not None:
            raise NlpcliError(f"{option} takes only one system", hint="name one file of hypotheses, and no --baseline")


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


def build_metrics(names: Sequence[str], options: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics by name, each with those of the options that it has. Raises: NlpcliError for an option none has."""
    kinds = {name: METRICS.load(name) for name in names}
    for name, kind in kinds.items():
        if not any(kind.needs in kinds for kinds in HOLDING.values()):
            raise NlpcliError(f"the metric {name} can't be computed from hypotheses and references in files")
    for option in options:
        if not any(option in kind.options for kind in kinds.values()):
            able = [name for name in METRICS if option in METRICS.load(name).options]
            raise NlpcliError(
                f"--{option.replace('_', '-')} has no effect on {', '.join(kinds)}",
                hint=f"it applies to {', '.join(able)}" if able else None,
            )
    return {
        name: kind(**{option: value for option, value in options.items() if option in kind.options})
        for name, kind in kinds.items()
    }
