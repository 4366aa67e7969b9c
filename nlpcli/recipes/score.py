"""Scoring: systems' lines against reference lines, by any number of metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.data.opening import STDIN, shown
from nlpcli.data.readers import read_lines
from nlpcli.errors import NlpcliError, nearest, unknown
from nlpcli.evaluation import METRICS, Metric, Resampling, Score
from nlpcli.evaluation.score import TEXT_PAIRS
from nlpcli.evaluation.trn import in_order, parse_trn

if TYPE_CHECKING:
    import jiwer

FORMATS = ("lines", "trn")

__all__ = [
    "FORMATS",
    "Resampling",
    "ScoreReport",
    "ScoreRequest",
    "Scoring",
    "SystemScore",
    "alignment_data",
    "alignment_text",
    "parse_metrics",
    "score",
    "split_metric",
]


@dataclass(frozen=True)
class ScoreRequest:
    """What is scored, against what, and how.

    hypotheses: one file a system, "-" for standard input. references: one file a reference set. metrics: names of
    `METRICS`. baseline: a system whose difference from each of the others is tested. format: `lines`, or `trn` for
    transcripts that carry their utterance's id. resampling: how intervals are estimated; None for none. options: those
    of the metrics; each must belong to at least one of them, and goes to all that have it.
    """

    hypotheses: tuple[str, ...] = (STDIN,)
    references: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("bleu",)
    baseline: str | None = None
    format: str = "lines"
    resampling: Resampling | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


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
            {"system": row.system, "metric": row.metric, "baseline": row.baseline, **row.score.as_dict()}
            for row in self.scores
        ]
        return {"segments": self.segments, "references": list(self.references), "scores": rows}


def parse_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Metric names out of `bleu`, `bleu,chrf` and the like, each once. Raises: NlpcliError for an unknown one."""
    found = [name.strip().lower() for group in names for name in group.split(",")]
    return tuple(METRICS.check(name) for name in dict.fromkeys(found) if name)


def split_metric(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Metrics and files out of the arguments of a call that names no metric by an option.

    A first argument that is the name of a metric, or several joined by commas, is that, whether there is a file of
    this name or not (`./bleu` is the file). Raises: NlpcliError for one that is neither a metric nor a file.
    """
    first, *rest = arguments or ("",)
    names = [name.strip().lower() for name in first.split(",")]
    if all(name in METRICS for name in names):
        return parse_metrics([first]), tuple(rest)
    near = None if "/" in first or "." in first else nearest(names[0], METRICS)
    if near and not Path(first).exists():
        raise NlpcliError(f"'{first}' is neither a metric nor a file", hint=f"did you mean '{near}'?")
    return (), tuple(arguments)


def score(request: ScoreRequest) -> ScoreReport:
    """Scores every system of the request. Raises: NlpcliError as `Scoring` and the metrics."""
    return Scoring(request).report()


@dataclass(frozen=True)
class _Lines:
    """A file's segments."""

    path: str
    lines: list[str]


class Scoring:
    """A request with its metrics built and its texts read, each file once.

    Raises: NlpcliError for unreadable, empty or unequally long files, unknown metrics, options no metric has.
    """

    def __init__(self, request: ScoreRequest) -> None:
        self.request = request
        self.metrics = build_metrics(request.metrics, request.options)
        for name, metric in self.metrics.items():
            if metric.max_references is not None and len(request.references) > metric.max_references:
                raise NlpcliError(
                    f"{name} takes {metric.max_references} reference file, not {len(request.references)}",
                    hint="--alternatives reads '{ A / B }' in one reference"
                    if "alternatives" in metric.options
                    else None,
                )
        baseline = [] if request.baseline is None else [request.baseline]
        texts = _read([*request.references, *baseline, *request.hypotheses], request.format)
        count = len(request.references)
        self._references = [text.lines for text in texts[:count]]
        self._baseline = texts[count] if baseline else None
        self._systems = texts[count + len(baseline) :]

    def report(self) -> ScoreReport:
        """All scores of all systems; with a baseline its own come first."""
        rows: list[SystemScore] = []
        for name, metric in self.metrics.items():
            rows += self._scores(name, metric)
        return ScoreReport(len(self._references[0]), self.request.references, rows, self._warnings())

    def sentences(self) -> list[list[Score]]:
        """The scores of each segment of the one system, (segments, metrics)."""
        if self._baseline is not None or self.request.resampling is not None:
            raise NlpcliError("a sentence's score has no interval and no baseline")
        lines = self._only_system("sentence scores are").lines
        columns = [metric.sentences(lines, self._references) for metric in self.metrics.values()]
        return [list(row) for row in zip(*columns, strict=True)]

    def alignments(self) -> dict[str, jiwer.WordOutput | jiwer.CharacterOutput]:
        """The alignments behind the error rates of the one system, by the unit that is aligned."""
        aligning = {metric.unit: metric for metric in self.metrics.values() if hasattr(metric, "align")}
        if not aligning:
            raise NlpcliError(f"{', '.join(self.metrics)}: no alignment to show", hint="wer, mer, wil and cer have one")
        lines = self._only_system("an alignment is").lines
        return {unit: metric.align(lines, self._references) for unit, metric in aligning.items()}

    def _scores(self, name: str, metric: Metric) -> list[SystemScore]:
        resampling = self.request.resampling
        if self._baseline is None:
            return [
                SystemScore(text.path, name, metric.corpus(text.lines, self._references, resampling))
                for text in self._systems
            ]
        systems = [text.lines for text in self._systems]
        first, *others = metric.compare(self._baseline.lines, systems, self._references, resampling or Resampling())
        return [SystemScore(self._baseline.path, name, first, baseline=True)] + [
            SystemScore(text.path, name, scored) for text, scored in zip(self._systems, others, strict=True)
        ]

    def _warnings(self) -> list[str]:
        found = [
            sentence
            for metric in self.metrics.values()
            for text in self._systems
            for sentence in metric.cautions(text.lines, self._references)
        ]
        return list(dict.fromkeys(found))

    def _only_system(self, what: str) -> _Lines:
        if len(self._systems) > 1 or self._baseline is not None:
            raise NlpcliError(f"{what} for one system at a time")
        return self._systems[0]


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


def build_metrics(names: Sequence[str], options: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics by name, each with those of the options that it has. Raises: NlpcliError for an option none has."""
    kinds = {name: METRICS.load(name) for name in names}
    for name, kind in kinds.items():
        if kind.needs != TEXT_PAIRS:
            raise NlpcliError(f"{name} is not computed from lines of text beside references")
    for option in options:
        if not any(option in kind.options for kind in kinds.values()):
            able = [name for name in METRICS if option in METRICS.load(name).options]
            raise NlpcliError(
                f"--{option.replace('_', '-')} means nothing to {', '.join(kinds)}",
                hint=f"it belongs to {', '.join(able)}" if able else None,
            )
    return {
        name: kind(**{option: value for option, value in options.items() if option in kind.options})
        for name, kind in kinds.items()
    }


def _read(paths: Sequence[str], format: str) -> list[_Lines]:
    """The segments of all files, in the order of the first. Raises: NlpcliError where they don't belong together."""
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if list(paths).count(STDIN) > 1:
        raise NlpcliError("standard input can be read only once, as the hypotheses or as a reference")
    if format == "trn":
        utterances = [(path, parse_trn(read_lines(path), shown(path))) for path in paths]
        order_path, order = utterances[0]
        texts = [_Lines(shown(p), in_order(found, shown(p), order, shown(order_path))) for p, found in utterances]
    else:
        texts = [_Lines(shown(path), list(read_lines(path))) for path in paths]
    for text in texts:
        if not text.lines:
            raise NlpcliError(f"{text.path} is empty: there is nothing to score")
    first = texts[0]
    for text in texts[1:]:
        if len(text.lines) != len(first.lines):
            raise NlpcliError(
                f"unequal numbers of lines: {text.path} has {len(text.lines)}, {first.path} has {len(first.lines)}",
                hint="line n is scored against line n of the reference; a missing one must stand there as a blank line",
            )
    return texts
