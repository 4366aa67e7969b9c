"""Examples of an objective for a reader: the text, the model's input, the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.objectives.objective import Objective
    from nlpcli.text import Tokenizer

Part = tuple[str, str]
"""A stretch of text and what it is: "text", "special", or "changed" against the original."""


def rendered(task: Objective[Any, Any], tokenizer: Tokenizer, count: int, seed: int) -> Iterator[dict[str, list[Part]]]:
    """`count` examples of `task`, each with its parts "original", "corrupted", "target" and "label", if it has them.

    Raises: NlpcliError for an objective that has nothing to show.
    """
    if not hasattr(task, "samples"):
        raise NlpcliError("this objective does not change the text, so --show has no effect")
    for sample in task.samples(count, np.random.default_rng(seed)):
        same = len(sample.original) == len(sample.corrupted)
        shown = {
            "original": parts(sample.original, tokenizer),
            "corrupted": parts(sample.corrupted, tokenizer, against=sample.original if same else None),
            "target": parts(sample.target, tokenizer, apart=same and len(sample.target) < len(sample.original)),
            "label": [(sample.label, "text")],
        }
        yield {name: found for name, found in shown.items() if any(text for text, _ in found)}


def parts(
    ids: Sequence[int], tokenizer: Tokenizer, *, against: Sequence[int] | None = None, apart: bool = False
) -> list[Part]:
    """`ids` as stretches of text, in one line.

    against: the ids, place for place, from which others count as changed. apart: each id on its own, for ids that make
    no text together.
    """
    names = tokenizer.special.names
    result: list[Part] = []
    run: list[int] = []
    kind = "text"
    for place, id_ in enumerate(ids):
        now = "special" if id_ in names else "text" if against is None or id_ == against[place] else "changed"
        if run and (now != kind or now == "special" or apart):
            result.append((_spelled(run, tokenizer), kind))
            run = []
        run.append(id_)
        kind = now
    if run:
        result.append((_spelled(run, tokenizer), kind))
    return [part for part in result if part[0]]


def _spelled(run: list[int], tokenizer: Tokenizer) -> str:
    name = tokenizer.special.names.get(run[0])
    return " ".join(tokenizer.decode([run])[0].split()) if name is None else name
