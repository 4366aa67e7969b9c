"""A question with its context as what a model reads: windows, and where the answer stands in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nlpcli.data.examples import Example
from nlpcli.models.padded_batch import Row, Rows, stack
from nlpcli.tasks.input_layout import Layout
from nlpcli.tasks.task import Context

_LONGEST_QUESTION = 64  # tokens (Devlin et al. 2019, the code released with it)
_AT_ONCE = 512  # contexts that are tokenized in one go


@dataclass(frozen=True)
class SpanItem:
    """A question with a window of its context.

    positions (k,): of the context's tokens in the row, without white space; spans (k, 2): the characters of each; null:
    the position that means "no answer here"; target: first and last position of the answer, or None.
    """

    row: Row
    positions: np.ndarray
    spans: np.ndarray
    null: int
    target: tuple[int, int] | None

    @property
    def size(self) -> int:
        return len(self.row.ids)


@dataclass
class SpanBatch:
    """possible (rows, n): whether an answer may begin and end there; targets (rows, 2) or None."""

    rows: Rows
    possible: Tensor
    targets: Tensor | None
    items: list[SpanItem]
    tokens: int

    @property
    def count(self) -> int:
        return len(self.items)

    @property
    def size(self) -> int:
        return len(self.items)

    def part(self, start: int, stop: int) -> SpanBatch:
        """The windows from `start` up to `stop`."""
        targets = None if self.targets is None else self.targets[start:stop]
        rows = self.rows.part(start, stop)
        return SpanBatch(rows, self.possible[start:stop], targets, self.items[start:stop], rows.tokens)

    def to(self, device: torch.device) -> SpanBatch:
        targets = None if self.targets is None else self.targets.to(device, non_blocking=True)
        possible = self.possible.to(device, non_blocking=True)
        return replace(self, rows=self.rows.to(device), possible=possible, targets=targets)


@dataclass(frozen=True)
class _Context:
    """ids of all tokens; of those that are not white space: the index among all, and the characters."""

    ids: list[int]
    index: np.ndarray
    spans: np.ndarray


class WindowReader:
    """Cuts contexts into windows; neighbors share `stride` tokens (but at most half of the room)."""

    def __init__(self, context: Context, stride: int) -> None:
        self.context = context
        self.stride = stride
        self._layout = Layout.of(context.model, context.tokenizer.special, context.info)
        self._room = self._layout.room(2, context.max_length)
        self._segments = context.model.segment_count > 1

    def encode(self, examples: Sequence[Example]) -> list[list[SpanItem]]:
        """The windows of each example."""
        contexts = self._contexts({example.texts[1]: None for example in examples})
        questions = self.context.tokenizer.encode([example.texts[0] for example in examples])
        longest = min(_LONGEST_QUESTION, self._room // 2)
        for example, question in zip(examples, questions, strict=True):
            self.context.report_cut(example, longest, len(question))
        return [
            self._items(example, question[:longest], contexts[example.texts[1]])
            for example, question in zip(examples, questions, strict=True)
        ]

    def _contexts(self, texts: Mapping[str, None]) -> dict[str, _Context]:
        found = {}
        different = list(texts)
        for start in range(0, len(different), _AT_ONCE):
            part = different[start : start + _AT_ONCE]
            for text, ids, spans in zip(part, *self.context.tokenizer.encode_with_offsets(part), strict=True):
                where = np.array(spans, dtype=np.int32).reshape(-1, 2)
                index = np.flatnonzero(where[:, 0] < where[:, 1])
                found[text] = _Context(ids, index, where[index])
        return found

    def _items(self, example: Example, question: list[int], context: _Context) -> list[SpanItem]:
        room = self._room - len(question)
        step = room - min(self.stride, room // 2)
        answer = None if example.label is None else _tokens_of(example.label, context.spans)
        items = []
        start = 0
        while True:
            end = min(start + room, len(context.ids))
            row = self._layout.row(question, context.ids[start:end])
            begin = self._layout.first() + len(question) + len(self._layout.between)
            null = 0 if self._layout.summary == "first" else len(row.ids) - 1
            first, last = np.searchsorted(context.index, (start, end)).tolist()
            positions = (context.index[first:last] - start + begin).astype(np.int32)
            target: tuple[int, int] | None = None
            if answer is not None:
                inside = first <= answer[0] <= answer[1] < last
                target = null, null
                if inside:
                    target = int(positions[answer[0] - first]), int(positions[answer[1] - first])
            row = replace(row, ids=np.array(row.ids, dtype=np.int32), segments=np.array(row.segments, dtype=np.int8))
            items.append(SpanItem(row, positions, context.spans[first:last], null, target))
            if end == len(context.ids):
                return items
            start += step

    def collate(self, items: Sequence[SpanItem]) -> SpanBatch:
        rows = stack([item.row for item in items], self.context.tokenizer.special.pad, segments=self._segments)
        possible = np.zeros(rows.ids.shape, dtype=bool)
        for number, item in enumerate(items):
            possible[number, item.positions] = True
            possible[number, item.null] = True
        answers = [item.target for item in items]
        targets = None if None in answers else torch.tensor(answers)
        return SpanBatch(rows, torch.from_numpy(possible), targets, list(items), sum(item.size for item in items))


def _tokens_of(answers: Sequence[Any], spans: np.ndarray) -> tuple[int, int]:
    """The first and last token that has characters of the first answer in the context; (-1, -1) without one."""
    answer = next((answer for answer in answers if answer.start is not None), None)
    if answer is None:
        return -1, -1
    start, end = answer.start, answer.start + len(answer.text)
    first = int(np.searchsorted(spans[:, 1], start, side="right"))
    last = int(np.searchsorted(spans[:, 0], end, side="left")) - 1
    return (first, last) if first <= last else (-1, -1)
