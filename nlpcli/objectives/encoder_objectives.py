"""Pretraining objectives of encoders: masked language modeling, a classification of two segments, or their sum.

BERT is mlm + nsp on pairs of segments, RoBERTa mlm on running text, ALBERT mlm + sop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from nlpcli.data.encoder_batches import PAIR_FORMATS, Inputs, Item, make_format
from nlpcli.data.even_sample import evenly_spaced
from nlpcli.data.next_sentence_pairs import Example
from nlpcli.data.shard_set import ShardSet
from nlpcli.errors import NlpcliError, unknown
from nlpcli.layers.vocabulary_loss import CROSS_ENTROPY, LossSettings
from nlpcli.objectives.batching import Batching
from nlpcli.objectives.masking import Masked, Masking
from nlpcli.objectives.mlm import masked_loss, most_frequent
from nlpcli.objectives.noise import Symbols
from nlpcli.objectives.nsp import label_loss
from nlpcli.objectives.objective import Loss, Sample, SamplePrediction, places_of_rows
from nlpcli.objectives.token_loss import best_tokens
from nlpcli.text import Tokenizer

if TYPE_CHECKING:
    from nlpcli.models.transformer import Encoder

PARTS = ("mlm", "nsp", "sop")
_LABELS = {
    "nsp": ("the second segment follows the first", "the second segment is from elsewhere"),
    "sop": ("the segments are in order", "the segments are exchanged"),
}
_EVALUATION_SEED = 2019


@dataclass
class EncoderBatch:
    """ids (batch, n) read; mask (batch, n), True where there is a token, or None; segments (batch, n) or None.

    targets (k): the hidden tokens, at `places` (k) of the flattened ids; labels (batch): of the pairs. Either may be
    None.
    """

    ids: Tensor
    mask: Tensor | None
    segments: Tensor | None
    places: Tensor | None
    targets: Tensor | None
    labels: Tensor | None
    tokens: int  # padding not counted
    per_row: float | None = None  # targets for each row of the batch that this one is a part of

    @property
    def count(self) -> int:
        return len(self.ids) if self.targets is None else self.targets.numel()

    @property
    def size(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> EncoderBatch:
        """The rows from `start` up to `stop`; the weights of its losses are those in the whole batch."""
        ids, mask = self.ids[start:stop], None if self.mask is None else self.mask[start:stop]
        places, targets = places_of_rows(self.places, self.targets, start, stop, self.ids.size(1))
        return EncoderBatch(
            ids, mask,
            None if self.segments is None else self.segments[start:stop],
            places, targets,
            None if self.labels is None else self.labels[start:stop],
            ids.numel() if mask is None else int(mask.sum()),
            self.count / self.size if self.per_row is None else self.per_row,
        )  # fmt: skip

    def to(self, device: torch.device) -> EncoderBatch:
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in values if isinstance(value, Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class EncoderBatching(Batching):
    """format: how text becomes examples, see `nlpcli.data.encoder_batches`; `auto`: segment-pair with nsp and sop,
    full-sentences with mlm alone. copies: 0 samples noise anew whenever a text is read; more are fixed noises that take
    turns from epoch to epoch, with fixed pairs."""

    format: str = "auto"
    copies: int = 0


class EncoderPretraining:
    """A weighted sum of mlm and one of nsp and sop, or one of them alone, as an `Objective`.

    loss = k · (w_mlm · mean loss of the k hidden tokens + w_pair · mean loss of the pairs), divided by k = `count` in
    the loop; without mlm, the pairs' loss times its weight, divided by their number. `nll` is that of mlm, or of the
    pairs where they are alone. joint: the parts and their weights, where there are two.

    train, dev: shards; pair formats need such that were built with sentences.
    weights: of the parts, among mlm, nsp, sop. masking: what is hidden, and how.

    `evaluate` reads the dev text in the same way every time, whatever the seed. Its tallies: `mlm_accuracy` and
    `mlm_baseline`, of always guessing the token that is most frequent in training; `nsp_accuracy` (`sop_accuracy`) and
    `nsp_baseline`, of the label that is more frequent in the dev pairs; of a sum also each part's `<part>_loss`.

    Raises: NlpcliError for parts that don't go together, formats that don't go with them or the shards, and tokenizers
        without the special tokens this needs.
    """

    def __init__(
        self,
        train: ShardSet,
        dev: ShardSet | None,
        tokenizer: Tokenizer,
        *,
        weights: Mapping[str, float] | None = None,
        masking: Masking | None = None,
        batching: EncoderBatching | None = None,
        loss_settings: LossSettings = CROSS_ENTROPY,
    ) -> None:
        batching = batching or EncoderBatching()
        self.weights = _checked(weights or {"mlm": 1.0})
        self.joint = self.weights if len(self.weights) > 1 else {}
        self.pair = _pair(self.weights)
        self.format = format_for(batching.format, self.weights)
        self.masking = (masking or Masking()) if "mlm" in self.weights else None
        self.loss_settings = loss_settings
        self.special = tokenizer.special
        self.special.check("pad", "cls", "sep", *(["mask"] if self.masking else []))
        self.symbols = Symbols.of(tokenizer)
        self._train = train

        def inputs(shards: ShardSet, seed: int, copies: int) -> Inputs:
            cut = make_format(self.format, shards, self.special, context=batching.context, order=self.pair == "sop")
            return Inputs(cut, batch_tokens=batching.batch_tokens, seed=seed, copies=copies)

        self.train = inputs(train, batching.seed, batching.copies)
        self.dev = None if dev is None else inputs(dev, _EVALUATION_SEED, 1)

    def plan(self, epoch: int) -> list[Item]:
        return self.train.plan(epoch)

    def collate(self, item: Item, rng: np.random.Generator) -> EncoderBatch:
        return self._batch(*self._read(self.train, item, rng))

    def _read(
        self, inputs: Inputs, item: Item, rng: np.random.Generator | None = None
    ) -> tuple[list[Example], list[Masked]]:
        """The examples of a batch, and with mlm what is hidden of each."""
        chance = inputs.chance(item, rng)
        examples = inputs.examples(item, chance)
        if self.masking is None:
            return examples, []
        return examples, [self._hide(example.ids, own) for example, own in zip(examples, chance, strict=True)]

    def _hide(self, ids: np.ndarray, rng: np.random.Generator) -> Masked:
        assert self.masking is not None  # it is called with mlm alone
        return self.masking(ids, rng, self.symbols, self.symbols.word_starts(ids) if self.masking.needs_words else None)

    def _batch(self, examples: Sequence[Example], hidden: Sequence[Masked]) -> EncoderBatch:
        lengths = np.array([len(example.ids) for example in examples])
        width = int(lengths.max())
        mask = np.arange(width) < lengths[:, None]
        ids = np.full(mask.shape, self.special.pad, dtype=np.int64)
        ids[mask] = np.concatenate([masked.corrupted for masked in hidden] or [example.ids for example in examples])
        segments = None
        if self.format in PAIR_FORMATS:
            segments = np.zeros(mask.shape, dtype=np.int64)
            segments[mask] = np.concatenate([example.segments for example in examples])
        places = targets = None
        if hidden:
            places = np.concatenate([row * width + masked.places for row, masked in enumerate(hidden)])
            targets = np.concatenate([masked.targets for masked in hidden])
        return EncoderBatch(
            ids=torch.from_numpy(ids),
            mask=None if mask.all() else torch.from_numpy(mask),
            segments=None if segments is None else torch.from_numpy(segments),
            places=None if places is None else torch.from_numpy(places),
            targets=None if targets is None else torch.from_numpy(targets),
            labels=torch.tensor([example.label for example in examples]) if self.pair else None,
            tokens=int(lengths.sum()),
        )

    def loss(self, model: Encoder, batch: EncoderBatch, carry: None = None) -> tuple[Loss, None]:
        return self._loss(model, batch), None

    def _loss(self, model: Encoder, batch: EncoderBatch, *, measured: bool = False) -> Loss:
        states = model(batch.ids, batch.mask, batch.segments)
        parts: dict[str, Loss] = {}
        if batch.targets is not None:
            assert batch.places is not None  # of the targets
            guess = self._most_frequent if measured else None
            settings = self.loss_settings
            parts["mlm"] = masked_loss(model, states, batch.places, batch.targets, settings=settings, guess=guess)
        if self.pair:
            assert batch.labels is not None  # of the pairs
            guess = self._majority if measured else None
            parts[self.pair] = label_loss(model, states, batch.labels, self.pair, guess=guess)
        first = next(iter(parts.values()))
        per_row = first.count / batch.size if batch.per_row is None else batch.per_row
        shares = {name: 1.0 if part is first else per_row for name, part in parts.items()}
        terms = (self.weights[name] * shares[name] * part.total for name, part in parts.items())
        tallies = {name: tally for part in parts.values() for name, tally in part.tallies.items()}
        if measured:
            tallies |= {f"{name}_loss": (parts[name].nll, parts[name].count) for name in self.joint}
        return Loss(cast("Tensor", sum(terms)), first.nll, first.count, tallies)  # there is a part at least

    def evaluate(self, model: Encoder, device: torch.device) -> Iterator[Loss]:
        """Losses and tallies of the dev examples, each once."""
        assert self.dev is not None
        for item in self._held_out:
            yield self._loss(model, self._batch(*self._read(self.dev, item)).to(device), measured=True)

    @cached_property
    def _held_out(self) -> list[Item]:
        assert self.dev is not None
        return self.dev.plan(0)

    @cached_property
    def _most_frequent(self) -> int:
        return most_frequent(self._train, self.symbols)

    @cached_property
    def _majority(self) -> int:
        """The more frequent label of the dev pairs."""
        labels = np.concatenate([item.places[:, -1] for item in self._held_out])
        return int(labels.mean() > 0.5)

    def guesses(self, model: Encoder, device: torch.device, count: int) -> Iterator[SamplePrediction]:
        """Dev examples at even intervals with the model's predictions; the same every time."""
        assert self.dev is not None
        rows = [(item, row) for item in self._held_out for row in range(len(item.numbers))]
        for number in evenly_spaced(len(rows), count):
            item, row = rows[number]
            [example], hidden = self._read(self.dev, Item(item.places[[row]], item.numbers[[row]], item.copy))
            batch = self._batch([example], hidden).to(device)
            states = model(batch.ids, batch.mask, batch.segments)
            predictions: list[int] = []
            if hidden:
                assert batch.places is not None
                chosen = model.mlm_hidden(states.flatten(0, 1).index_select(0, batch.places))
                predictions = best_tokens(chosen, model.output_weight, model.output_bias).tolist()
            label = predicted_label = ""
            if self.pair:
                label = _LABELS[self.pair][example.label]
                predicted_label = _LABELS[self.pair][int(model.pair_logits(states).argmax())]
            ids = example.ids.tolist()
            places, targets = (hidden[0].places.tolist(), hidden[0].targets.tolist()) if hidden else ([], [])
            yield SamplePrediction(
                Sample(ids, hidden[0].corrupted.tolist() if hidden else ids, targets, label),
                places,
                predictions,
                predicted_label,
            )

    def samples(self, count: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Training examples as they are, as they are read, and the hidden tokens in order (none without mlm)."""
        plan = self.plan(0)
        for number in rng.choice(len(plan), count, replace=count > len(plan)):
            item = plan[number]
            one = [int(rng.integers(len(item.numbers)))]
            chosen = Item(item.places[one], item.numbers[one], item.copy)
            (example,), hidden = self._read(self.train, chosen, rng)
            corrupted, targets = (hidden[0].corrupted, hidden[0].targets) if hidden else (example.ids, example.ids[:0])
            label = _LABELS[self.pair][example.label] if self.pair else ""
            yield Sample(example.ids.tolist(), corrupted.tolist(), targets.tolist(), label)


def _checked(weights: Mapping[str, float]) -> dict[str, float]:
    for name, weight in weights.items():
        if name not in PARTS:
            raise unknown("objective of an encoder", name, PARTS)
        if not 0 < weight < float("inf"):
            raise NlpcliError(f"the weight of {name} must be a positive number, not {weight:g}")
    if {"nsp", "sop"} <= weights.keys():
        raise NlpcliError("nsp and sop can't be used together", hint="choose one of them")
    return dict(weights)


def _pair(weights: Mapping[str, float]) -> str | None:
    return next((name for name in ("nsp", "sop") if name in weights), None)


def format_for(name: str, weights: Mapping[str, float]) -> str:
    """The format in which the parts of a sum read text, where `name` is requested.

    Raises: NlpcliError for parts that don't go together, and for a format that doesn't go with them.
    """
    pair = _pair(_checked(weights))
    if name == "auto":
        return "segment-pair" if pair else "full-sentences"
    if pair and name not in PAIR_FORMATS:
        raise NlpcliError(
            f"{pair} needs pairs of segments, but the input format '{name}' has no pairs",
            hint=f"set data.format to {' or '.join(PAIR_FORMATS)}",
        )
    return name
