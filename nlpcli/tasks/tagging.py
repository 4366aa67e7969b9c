"""Tagging: one of several tags for each word, such as entities or parts of speech.

p(t | word) = softmax(W h)_t with the state h of the word's first token (Devlin et al. 2019, section 5.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nlpcli.data.conll import read_tagged
from nlpcli.data.examples import Columns, Example
from nlpcli.data.label_text import one_field
from nlpcli.data.tag_schemes import entities
from nlpcli.models.padded_batch import Row, Rows, stack
from nlpcli.objectives.objective import Loss
from nlpcli.tasks.input_layout import Layout
from nlpcli.tasks.tag_set import Tags
from nlpcli.tasks.task import Context, Prediction, SampleData, Stored, Task, unknown_label
from nlpcli.tasks.text_batches import token_head
from nlpcli.text.pretokenized_words import WordTokens, word_tokens

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score

_UNKNOWN = -1  # the target of a word whose tag is not known


@dataclass(frozen=True)
class TagItem:
    """A stretch of a sentence. words: first and end of those that are tagged here; positions: of each in the row;
    targets: the number of each one's tag, or None."""

    row: Row
    words: tuple[int, int]
    positions: np.ndarray
    targets: np.ndarray | None

    @property
    def size(self) -> int:
        return len(self.row.ids)


@dataclass
class TagBatch:
    """rows; the words that are tagged as their row and position, (words,) each, `counts` of
    them for each item; targets (words,), -1 for an unknown tag, or None."""

    rows: Rows
    row: Tensor
    position: Tensor
    counts: list[int]
    targets: Tensor | None
    count: int
    tokens: int

    @property
    def size(self) -> int:
        return len(self.counts)

    def part(self, start: int, stop: int) -> TagBatch:
        """The rows from `start` up to `stop`."""
        words = slice(sum(self.counts[:start]), sum(self.counts[:stop]))
        targets = None if self.targets is None else self.targets[words]
        count = words.stop - words.start if targets is None else int((targets >= 0).sum())
        rows = self.rows.part(start, stop)
        row, position = self.row[words] - start, self.position[words]
        return TagBatch(rows, row, position, self.counts[start:stop], targets, count, rows.tokens)

    def to(self, device: torch.device) -> TagBatch:
        targets = None if self.targets is None else self.targets.to(device, non_blocking=True)
        row, position = (field.to(device, non_blocking=True) for field in (self.row, self.position))
        return replace(self, rows=self.rows.to(device), row=row, position=position, targets=targets)


class Tagging(Task[TagItem, TagBatch, Tensor]):
    """See the module.

    The tag of a word is predicted from the state of its first token; in a decoder, which reads from left to right,
    from that of its last. A sentence that is too long is read in several windows, which share up to half of their
    tokens, and each word is tagged in the window that shows most of what is around it.
    tags: how the tags of the data are written, see `Tags`. notes: what was noticed in the training examples.
    """

    name: ClassVar[str] = "tag"
    columns: ClassVar[frozenset[str]] = frozenset({"text", "label"})
    answer: ClassVar[str] = "tags"
    options: ClassVar[frozenset[str]] = frozenset({"dropout", "layers", "recurrent", "scheme"})
    possible_measures: ClassVar[tuple[str, ...]] = ("entity_f1", "accuracy")
    by_words: ClassVar[bool] = True
    has_confusion: ClassVar[bool] = True
    sample_data: ClassVar[SampleData | None] = SampleData(
        train=("labelled/names/train.conll.gz",), dev=("labelled/names/dev.conll",)
    )

    def __init__(self, context: Context, tags: Tags, *, head: Mapping[str, Any], notes: Sequence[str] = ()) -> None:
        self.context = context
        self.tags = tags
        self.labels = tags.names
        self.notes = list(notes)
        self._index = {tag: index for index, tag in enumerate(tags.names)}
        self._head = dict(head)
        self._layout = Layout.of(context.model, context.tokenizer.special, context.info)
        self._room = self._layout.room(1, context.max_length)
        self._causal = context.model.kind == "decoder"
        self._segments = context.model.segment_count > 1

    @classmethod
    def create(
        cls,
        examples: Sequence[Example],
        context: Context,
        *,
        dropout: float = 0.1,
        layers: str = "last",
        recurrent: int = 0,
        scheme: str = "auto",
    ) -> Tagging:
        tags, notes = Tags.found(examples, scheme)
        head = token_head(context, len(tags.names), dropout=dropout, layers=layers, recurrent=recurrent)
        return cls(context, tags, head=head, notes=notes)

    @classmethod
    def restore(cls, description: Mapping[str, Any], context: Context) -> Tagging:
        return cls(context, Tags(description["labels"], description["scheme"]), head={})

    def describe(self) -> dict[str, Any]:
        return {"labels": self.labels, "scheme": self.scheme}

    def head(self) -> dict[str, Any]:
        return self._head

    @property
    def scheme(self) -> str | None:
        """The scheme in which tags mark entities, None where they don't."""
        return self.tags.scheme

    @property
    def measures(self) -> tuple[str, ...]:
        return ("entity_f1", "accuracy") if self.scheme else ("accuracy",)

    @staticmethod
    def read(path: str, columns: Columns, *, labelled: bool = True) -> Iterator[Example]:
        return read_tagged(path, columns, labelled=labelled)

    def check(self, example: Example) -> None:
        for number, tag in enumerate(self.tags_in(example), 1):
            if tag not in self._index:
                raise unknown_label(tag, self.labels, place=f"{example.place}, word {number}")

    def tags_in(self, example: Example) -> list[str]:
        """The tags of an example as the model writes them. Raises: NlpcliError, naming its place, for other tags."""
        return self.tags.of(example)

    def parse(self, line: str) -> Example:
        """A line is a sentence; its words are what stands between white space."""
        return Example(tuple(line.split()))

    def encode(self, examples: Sequence[Example]) -> list[list[TagItem]]:
        sentences = word_tokens(self.context.tokenizer, [example.texts for example in examples])
        return [self._items(example, words) for example, words in zip(examples, sentences, strict=True)]

    def _items(self, example: Example, words: Sequence[WordTokens]) -> list[TagItem]:
        targets = None
        if example.label is not None:
            targets = np.array([self._index.get(tag, _UNKNOWN) for tag in self.tags_in(example)], dtype=np.int64)
        sizes = [min(len(word.ids), self._room) for word in words]
        items = []
        for start, end, first, last in windows(sizes, self._room, causal=self._causal):
            ids: list[int] = []
            positions = []
            for number in range(start, end):
                size = sizes[number]
                if first <= number < last:
                    within = size - 1 if self._causal else min(words[number].first, size - 1)
                    positions.append(self._layout.first() + len(ids) + within)
                ids += words[number].ids[:size]
            row = self._layout.row(ids)
            row = replace(row, ids=np.array(row.ids, dtype=np.int32), segments=np.array(row.segments, dtype=np.int8))
            own = None if targets is None else targets[first:last]
            items.append(TagItem(row, (first, last), np.array(positions, dtype=np.int32), own))
        return items

    def collate(self, items: Sequence[TagItem]) -> TagBatch:
        rows = stack([item.row for item in items], self.context.tokenizer.special.pad, segments=self._segments)
        counts = [len(item.positions) for item in items]
        positions = torch.from_numpy(np.concatenate([item.positions for item in items]).astype(np.int64))
        row = torch.repeat_interleave(torch.arange(len(items)), torch.tensor(counts))
        known = [item.targets for item in items if item.targets is not None]
        targets = torch.from_numpy(np.concatenate(known)) if len(known) == len(items) else None
        count = len(positions) if targets is None else int((targets >= 0).sum())
        return TagBatch(rows, row, positions, counts, targets, count, sum(item.size for item in items))

    def loss(self, model: nn.Module, batch: TagBatch) -> Loss:
        assert batch.targets is not None, "examples without labels have no loss"
        logits = model(batch.rows)[batch.row, batch.position].float()
        loss = nn.functional.cross_entropy(logits, batch.targets, reduction="sum", ignore_index=_UNKNOWN)
        return Loss(loss, loss.detach(), batch.count)

    def outputs(self, model: nn.Module, batch: TagBatch) -> list[Tensor]:
        logits = model(batch.rows)[batch.row, batch.position].float()
        return list(logits.softmax(dim=-1).cpu().split(batch.counts))

    def prediction(self, example: Example, items: Sequence[TagItem], outputs: Sequence[Tensor]) -> Prediction:
        """tags and the probability of each; entities with their characters in the words joined by single spaces."""
        probabilities, best = torch.cat(list(outputs)).max(dim=-1)
        tags = [self.labels[index] for index in best.tolist()]
        found: Prediction = {"words": list(example.texts), "tags": tags, "probabilities": probabilities.tolist()}
        if self.scheme:
            found["entities"] = _entities(example.texts, tags)
        return found

    def line(self, prediction: Prediction, top: int | None = None) -> str:
        """The tags of a sentence with spaces between them; white space in a tag (of other tools) is an underscore."""
        return " ".join("_".join(one_field(tag).split()) for tag in prediction["tags"])

    def scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], resampling: Resampling | None = None
    ) -> dict[str, Score]:
        from nlpcli.evaluation.tagging_metrics import entity_f1, token_accuracy

        references = [self.tags_in(example) for example in examples]
        predicted = [prediction["tags"] for prediction in predictions]
        scores = {"entity_f1": entity_f1(references, predicted, resampling=resampling)} if self.scheme else {}
        return scores | {"accuracy": token_accuracy(references, predicted, resampling=resampling)}

    def stored_outputs(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[tuple[Any, Any]], Stored]:
        pairs = [
            (list(self.tags_in(example)), prediction["tags"])
            for example, prediction in zip(examples, predictions, strict=True)
        ]
        stored: Stored = {"entity_f1": ("entity-f1", {})} if self.scheme else {}
        return pairs, {**stored, "accuracy": ("tag-accuracy", {})}

    def displayed(self, example: Example, prediction: Prediction) -> tuple[str, str]:
        return " ".join(self.tags_in(example)), " ".join(prediction["tags"])

    def mistake(self, example: Example, prediction: Prediction) -> tuple[float, str, str]:
        """The number of wrong tags."""
        references, predicted = self.tags_in(example), prediction["tags"]
        wrong = [i for i, (tag, other) in enumerate(zip(references, predicted, strict=True)) if tag != other]
        reference, output = (
            " ".join(f"{example.texts[i]}/{tags[i]}" for i in wrong) for tags in (references, predicted)
        )
        return float(len(wrong)), reference, output

    def compared_labels(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[str], list[str]]:
        """The tags of all words, one after the other."""
        references = [tag for example in examples for tag in self.tags_in(example)]
        return references, [tag for prediction in predictions for tag in prediction["tags"]]


def windows(sizes: Sequence[int], room: int, *, causal: bool = False) -> list[tuple[int, int, int, int]]:
    """Windows of at most `room` tokens over words of these sizes; no word is larger.

    Returns: (start, end, first, last) of each: the words it shows, and those among them that are tagged in it. Each
    word is tagged once, where most tokens are shown on the side that shows fewer; in a causal model, before it. A
    sentence's own beginning and end hide nothing. Neighbours share at most a quarter of the room.
    """
    ends = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    if ends[-1] <= room:
        return [(0, len(sizes), 0, len(sizes))]
    spans: list[tuple[int, int]] = []
    start = end = 0
    while end < len(sizes):
        if end:
            shared = min(room // 4, room - sizes[end])
            start = int(np.searchsorted(ends, ends[end] - shared))
        end = int(np.searchsorted(ends, ends[start] + room, side="right")) - 1
        spans.append((start, end))
    shown = np.full((len(spans), len(sizes)), -1, dtype=np.int64)
    for number, (start, end) in enumerate(spans):
        before = ends[start:end] - ends[start] if start else np.full(end - start, ends[-1])
        after = ends[end] - ends[start + 1 : end + 1] if end < len(sizes) else np.full(end - start, ends[-1])
        shown[number, start:end] = before if causal else np.minimum(before, after)
    best = shown.argmax(axis=0)
    cuts = np.searchsorted(best, np.arange(len(spans) + 1)).tolist()
    found = [(*span, cuts[number], cuts[number + 1]) for number, span in enumerate(spans)]
    return [window for window in found if window[2] < window[3]]


def _entities(words: Sequence[str], tags: Sequence[str]) -> list[dict[str, Any]]:
    ends = np.cumsum([len(word) + 1 for word in words]).tolist()
    found = []
    for kind, first, last in entities(tags):
        text = " ".join(words[first:last])
        start = ends[first] - len(words[first]) - 1
        found.append({"type": kind, "text": text, "start": start, "end": start + len(text)})
    return found
