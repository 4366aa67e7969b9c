"""The request of a scoring, and its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nlpcli.commands.score.score_inputs import HOLDING, Paths
from nlpcli.config.counting import counted
from nlpcli.data.open_text import STDIN
from nlpcli.errors import NlpcliError
from nlpcli.evaluation import METRICS, Metric, Resampling, Score


@dataclass(frozen=True)
class ScoreRequest:
    """Hypotheses, references and the settings of a scoring.

    hypotheses: one file a system, "-" for standard input. references: one file a reference set. metrics: names of
    `METRICS`. baseline: a system whose difference from each of the others is tested. format: how examples stand in the
    files: `lines`: each on a line; `trn`: transcripts that carry their utterance's id; `conll`, `conllu`: sentences of
    words in columns, their tags in the last or in UPOS; `squad`: a data set of questions as the reference and answers
    {id: text} as hypotheses; `auto`: by the name of the reference (.conll, .conllu, .iob, .bio; .json is `squad`), else
    `lines`. resampling: how intervals are estimated; None for none. options: those of the metrics; each must belong to
    at least one of them, and goes to all that have it; `labels` as `chosen_labels` reads them.
    texts: lines that are in memory, by the name used in place of a file.
    """

    hypotheses: tuple[str, ...] = (STDIN,)
    references: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("bleu",)
    baseline: str | None = None
    format: str = "auto"
    resampling: Resampling | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def paths(self) -> Paths:
        """The files."""
        return Paths(self.references, self.baseline, self.hypotheses)


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


def check_reference_sets(metrics: Mapping[str, Metric], request: ScoreRequest) -> None:
    """Raises: NlpcliError for a metric that takes fewer sets of references."""
    for name, metric in metrics.items():
        if metric.max_references is not None and len(request.references) > metric.max_references:
            raise NlpcliError(
                f"{name} takes {counted(metric.max_references, 'reference file')}, not {len(request.references)}",
                hint="add --alternatives to read '{ A / B }' in one reference"
                if "alternatives" in metric.options
                else None,
            )


def ignored_options(request: ScoreRequest) -> list[str]:
    """Warnings of options that have no effect on these files."""
    if "rouge_references" in request.options and len(request.references) == 1:
        return ["--rouge-references has no effect with only one reference"]
    return []


def check_one_system(request: ScoreRequest, option: str) -> None:
    """Raises: NlpcliError for several systems, where an option takes only one."""
    if len(request.hypotheses) > 1 or request.baseline is not None:
        raise NlpcliError(f"{option} takes only one system", hint="name one file of hypotheses, and no --baseline")


def check_sentence(request: ScoreRequest) -> None:
    """Raises: NlpcliError for what does not go with the scores of single examples."""
    if request.baseline is not None or request.resampling is not None:
        other = "--baseline" if request.baseline is not None else "--confidence"
        raise NlpcliError(f"--sentence and {other} can't be used together", hint="leave out one of them")
    check_one_system(request, "--sentence")
