"""Texts and pairs of texts as what a model reads: shared by all tasks that give one answer for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from nlpcli.config.number_parsing import parse_float, parse_int
from nlpcli.data.examples import Example
from nlpcli.errors import NlpcliError
from nlpcli.models.padded_batch import Row, Rows, stack
from nlpcli.tasks.input_layout import Layout, cut
from nlpcli.tasks.task import Context

if TYPE_CHECKING:
    from nlpcli.config.transformer_settings import TransformerConfig


@dataclass(frozen=True)
class RowsItem:
    """An example's rows, and what is to be predicted: a class, a set of classes, a number, …"""

    rows: tuple[Row, ...]
    target: Any = None

    @property
    def size(self) -> int:
        return sum(len(row.ids) for row in self.rows)


@dataclass
class RowsBatch:
    """The rows of all items one after the other; `counts` of each item; targets as the task has them."""

    rows: Rows
    counts: list[int]
    targets: Tensor | None
    tokens: int

    @property
    def count(self) -> int:
        return len(self.counts)

    @property
    def size(self) -> int:
        return len(self.counts)

    def part(self, start: int, stop: int) -> RowsBatch:
        """The examples from `start` up to `stop`."""
        rows = self.rows.part(sum(self.counts[:start]), sum(self.counts[:stop]))
        targets = None if self.targets is None else self.targets[start:stop]
        return RowsBatch(rows, self.counts[start:stop], targets, rows.tokens)

    def to(self, device: torch.device) -> RowsBatch:
        targets = None if self.targets is None else self.targets.to(device, non_blocking=True)
        return replace(self, rows=self.rows.to(device), targets=targets)


class TextReader:
    """Cuts and lays out the texts of examples.

    truncate: which text of a pair is cut when it is too long, see `cut`. both_orders: a pair is read twice, once in
    either order (Radford et al. 2018, section 3.3).
    """

    def __init__(self, context: Context, *, truncate: str = "longest", both_orders: bool = False) -> None:
        self.context = context
        self.tokenizer = context.tokenizer
        self.layout = Layout.of(context.model, context.tokenizer.special, context.info)
        self.max_length = context.max_length
        self.truncate = truncate
        self.both_orders = both_orders
        self.segments = context.model.segment_count > 1

    def rows(self, examples: Sequence[Example]) -> list[tuple[Row, ...]]:
        """The rows of each example."""
        texts = [text for example in examples for text in example.texts]
        ids = iter(self.layout.encode(self.tokenizer, texts))
        return [self._laid_out(example, [next(ids) for _ in example.texts]) for example in examples]

    def _laid_out(self, example: Example, texts: list[list[int]]) -> tuple[Row, ...]:
        orders = [texts, texts[::-1]] if self.both_orders and len(texts) > 1 else [texts]
        room = self.layout.room(len(texts), self.max_length)
        self.context.report_cut(example, room, sum(map(len, texts)))
        return tuple(self.layout.row(*cut(order, room, self.truncate)) for order in orders)

    def collate(self, items: Sequence[RowsItem], targets: Tensor | None) -> RowsBatch:
        rows = stack([row for item in items for row in item.rows], self.tokenizer.special.pad, segments=self.segments)
        return RowsBatch(rows, [len(item.rows) for item in items], targets, sum(item.size for item in items))


def summed(outputs: Tensor, counts: Sequence[int]) -> Tensor:
    """(rows, k) -> (items, k): the sum over the rows of each item."""
    if all(count == 1 for count in counts):
        return outputs
    return torch.stack([part.sum(dim=0) for part in outputs.split(list(counts))])


HEAD_OPTIONS = frozenset({"pooling", "dense", "dropout", "layers"})
"""The settings of `text_head`."""

_INNER = {"distilbert": "relu", "electra": "gelu"}
"""The activation of a head's inner layer in families where it is not tanh, by what a model was read from. Embeddings
with a width of their own are ELECTRA's, wherever they come from; BigBird's is that of its feed-forward layers."""


def head_family(context: Context) -> str:
    """The family whose heads are used: that of the architecture, or else of the folder that the model was read from."""
    return context.model.head_style or context.info.get("read_from", "")


def text_head(
    context: Context,
    outputs: int,
    *,
    pooling: str = "auto",
    dense: bool | None = None,
    dropout: float = 0.1,
    layers: str = "last",
) -> dict[str, Any]:
    """The settings of a head with one vector of outputs for a text, in the way of the model's family where unsaid."""
    summary = Layout.of(context.model, context.tokenizer.special, context.info).summary
    chosen = summary if pooling == "auto" else pooling
    if dense is None:
        dense = context.model.kind != "decoder" and chosen == summary
    settings = {"kind": "text", "outputs": outputs, "pooling": chosen, "dense": dense, "dropout": dropout}
    style = head_family(context)
    inner = cast("TransformerConfig", context.model).activation if style == "big_bird" else _INNER.get(style)
    if predicted := prediction(context):
        settings |= {"dense": False} | predicted
    elif dense and inner:
        settings["activation"] = inner
    return settings | side(context, layers)


def token_head(
    context: Context, outputs: int, *, dropout: float = 0.1, layers: str = "last", recurrent: int | None = None
) -> dict[str, Any]:
    """The settings of a head with outputs for each token. recurrent: the size of an LSTM below them, 0 for none."""
    settings: dict[str, Any] = {"kind": "tokens", "outputs": outputs, "dropout": dropout}
    if recurrent is not None:
        settings["recurrent"] = recurrent
    return settings | prediction(context) | side(context, layers)


def prediction(context: Context) -> dict[str, Any]:
    """The setting of a ModernBERT's head, which has a layer as before the vocabulary under its output; {} of others."""
    if "modernbert" not in (context.model.head_style, context.info.get("read_from")):
        return {}
    model = cast("TransformerConfig", context.model)  # ModernBERT is one
    layer = {"activation": model.activation, "norm_eps": model.norm_eps, "norm_bias": model.norm_bias}
    return {"prediction": {**layer, "bias": model.mlm_head_bias}}


def side(context: Context, layers: str, which: str | None = None) -> dict[str, Any]:
    """The settings that select the states for a head; `which` of an encoder-decoder's stacks, None: the usual one."""
    settings: dict[str, Any] = {"layers": layers}
    if context.model.kind == "encoder-decoder":
        start = context.info.get("target_start") or [context.tokenizer.special.bos]
        settings |= {"side": which or context.model.head_side, "start": int(start[0])}
    return settings


def labels_of(examples: Sequence[Example], what: str) -> list[str]:
    """The different labels of examples with one label each, sorted.

    Raises: NlpcliError for an example without label, for one label only, and for labels that look like scores.
    """
    found: dict[str, Example] = {}
    for example in examples:
        if not isinstance(example.label, str) or example.label == "":
            raise NlpcliError(f"{example.place}: the label is missing")
        found.setdefault(example.label, example)
    if len(found) < 2:
        only = next(iter(found.values()), None)
        where = f"{only.place}: " if only else ""
        raise NlpcliError(
            f"{where}all training examples have the same label '{next(iter(found), '')}'",
            hint="name the column of the labels with --label",
        )
    numbers = {label: parse_float(label) for label in found}
    scores = [label for label, number in numbers.items() if number is not None and (number % 1 or "." in label)]
    if scores and len(found) > 2 and None not in numbers.values():
        raise NlpcliError(
            f"{found[scores[0]].place}: the label '{scores[0]}' looks like a score, but {what} needs names of classes",
            hint="use --task regress for scores",
        )
    if len(found) > 50 and len(found) > len(examples) // 2:
        raise NlpcliError(
            f"{len(examples)} examples have {len(found)} different labels, which is too many for classes",
            hint="name the column of the labels with --label",
        )
    return sorted(found, key=_natural)


def _natural(label: str) -> tuple[int, float, str]:
    """Whole numbers by their value, before names."""
    number = parse_int(label)
    return (1, 0, label) if number is None else (0, number, label)


def pair_line(line: str) -> Example:
    """One or two texts out of a plain line, which a tab divides."""
    return Example(tuple(line.split("\t", 1)))
