"""`score`: hypotheses against references, from lists in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nlpcli.api.arguments import given, needs, python_names, warn
from nlpcli.api.options import ScoreOptions, takes
from nlpcli.api.results import Continuation, Prediction, Score, Translation
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from typing_extensions import Unpack

Item = str | float | Sequence[str] | Translation | Continuation | Prediction | None
"""An item that a metric compares: a text, label, number, or the tags of a sentence; or a result that has it."""

_HYPOTHESES, _BASELINE = "hypotheses", "baseline"


@takes(ScoreOptions)
def score(
    metric: str,
    hypotheses: Iterable[Item],
    references: Sequence[Item] | Sequence[Sequence[Item]],
    **options: Unpack[ScoreOptions],
) -> Score:
    """Measures hypotheses against references, as `nlpcli score` does.

    hypotheses: one item for each example: a text (bleu, chrf, ter, wer, cer, rouge1 …), a label (accuracy, f1, mcc), a
    number (pearson, spearman), the tags of a sentence (entity-f1, tag-accuracy), an answer (exact-match, answer-f1), or
    word alignments such as "0-0 1-2" (aer). Results of `translate`, `generate` and `predict` may be given in place
    of their texts or answers. references: the same, or several lists where an example has several references, in
    which None or a blank text means a missing one.
    confidence: whether to estimate a 95 % interval. baseline: the items of another system; the score has then the
    p-value of the difference. The other options are those of `ScoreOptions`, named and explained as those of the
    command.

    Raises: NlpcliError for an unknown metric, options it doesn't have, unequal numbers of items, and items of a wrong
    kind.
    """
    chosen: dict[str, Any] = dict(options)
    resampling = given(samples=chosen.pop("bootstrap_samples", None), seed=chosen.pop("seed", None))
    confidence, baseline = bool(chosen.pop("confidence", False)), chosen.pop("baseline", None)
    needs("confidence", {"confidence": confidence or baseline is not None, **resampling}, *resampling)
    chosen = {name: value for name, value in given(**chosen).items() if value is not False}
    with python_names():
        from nlpcli.commands.score.score import ScoreRequest
        from nlpcli.commands.score.score import score as recipe
        from nlpcli.evaluation import METRICS, Resampling
        from nlpcli.evaluation.metric_names import parse_metrics

        names = parse_metrics([metric])
        if len(names) != 1:
            found = counted(len(names), "metric")
            raise NlpcliError(f"'{metric}' stands for {found}, but score computes exactly 1", hint=_one_of(names))
        tagged = METRICS.load(names[0]).needs == "tags"
        sets = _sets(references, tagged=tagged)
        texts = {_HYPOTHESES: hypotheses, **sets, **({} if baseline is None else {_BASELINE: baseline})}
        labels = chosen.get("labels")
        if labels is not None:
            chosen["labels"] = [labels] if isinstance(labels, str) else list(labels)
        report = recipe(
            ScoreRequest(
                hypotheses=(_HYPOTHESES,),
                references=tuple(sets),
                metrics=names,
                baseline=None if baseline is None else _BASELINE,
                format="lines",
                resampling=Resampling(**resampling) if confidence or baseline is not None else None,
                options=chosen,
                texts={
                    name: [_line(item, name, n) for n, item in enumerate(items, 1)] for name, items in texts.items()
                },
            )
        )
    for text in report.warnings:
        warn(text)
    return next(row.score for row in report.scores if not row.baseline)


def _one_of(names: Sequence[str]) -> str:
    return f"call score once for each of: {', '.join(names)}" if names else "name a metric such as 'bleu'"


def _sets(references: Iterable[object], *, tagged: bool) -> dict[str, Any]:
    """The reference sets by name: one list of items, or several such lists."""
    if isinstance(references, (str, os.PathLike)):
        raise NlpcliError("references must be a list of texts, not one string", hint="put the string in a list")
    found = list(references)
    first = found[0] if found else None
    depth = 0  # of lists in the items
    while isinstance(first, (list, tuple)):
        depth, first = depth + 1, first[0] if first else None
    if depth - tagged < 1 or not found:
        return {"references": found}
    return {f"references {number}": one for number, one in enumerate(found, start=1)}


def _line(item: object, name: str, number: int) -> str:
    """An item as the line of a file. Raises: NlpcliError for one of no such kind."""
    if isinstance(item, (Translation, Continuation)):
        return item.text
    if isinstance(item, Prediction):
        item = item.answer
    if item is None:
        return ""
    if isinstance(item, str):
        return item
    if isinstance(item, (list, tuple)) and all(isinstance(one, str) for one in item):
        return " ".join(item)
    if hasattr(item, "__float__"):
        return repr(item) if isinstance(item, (int, float)) else repr(item.item() if hasattr(item, "item") else item)
    raise NlpcliError(f"{name}: item {number} is of the type {type(item).__name__}, not a text, number or list of tags")
