"""Denoising: an encoder reads a disturbed text, a decoder predicts what was there.

loss = -Σ_t log p(y_t | y_<t, x), x the disturbed text, y the text itself (BART; Lewis et al. 2020) or the parts that
were taken out (T5; Raffel et al. 2020; PEGASUS; Zhang et al. 2020). The encoder reads `x eos`; the decoder reads
`bos y` and predicts `y eos`, as in translation: a pretrained model is fine-tuned with the same layout. (BART itself
frames both sides with bos and eos, T5's decoder begins with the padding token.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nlpcli.data.document_sentences import SentenceDocuments
from nlpcli.data.even_sample import evenly_spaced
from nlpcli.data.shard_set import ShardSet
from nlpcli.errors import NlpcliError
from nlpcli.layers.vocabulary_loss import CROSS_ENTROPY, LossSettings
from nlpcli.objectives.batching import Batching
from nlpcli.objectives.noise import Noise, Noised, Symbols, Text
from nlpcli.objectives.noise_parser import parse_noise
from nlpcli.objectives.objective import Loss, Sample, places_of_rows
from nlpcli.objectives.source_target_batches import PairBatch, pair_batch
from nlpcli.objectives.source_target_loss import pair_loss
from nlpcli.objectives.text_windows import SentenceChunks, Windows
from nlpcli.objectives.token_loss import TokenPredictor, best_tokens, token_loss
from nlpcli.text import Tokenizer

if TYPE_CHECKING:
    from nlpcli.models.transformer import EncoderDecoder

_EVALUATION_SEED = 2020
_COUNTED_LABELS = 50_000  # in which the most frequent token is looked for


@dataclass
class DenoisingBatch(PairBatch):
    """With MLM: hidden (j) is what the encoder predicts at `hidden_places` (j) of the flattened source."""

    hidden: Tensor | None = None
    hidden_places: Tensor | None = None
    per_hidden: float | None = None  # labels for each hidden token of the batch that this one is a part of

    def part(self, start: int, stop: int) -> DenoisingBatch:
        """The rows from `start` up to `stop`; the weights of its losses are those in the whole batch."""
        places, hidden = places_of_rows(self.hidden_places, self.hidden, start, stop, self.source.size(1))
        per_hidden = self.per_hidden
        if per_hidden is None and self.hidden is not None and self.hidden.numel():
            per_hidden = self.count / self.hidden.numel()
        return replace(super().part(start, stop), hidden=hidden, hidden_places=places, per_hidden=per_hidden)


class Denoising:
    """Disturbed texts as an `Objective`.

    train, dev: shards; where they were built with sentences, texts are stretches of whole sentences of one document,
        otherwise windows of the stream of all documents. BART's noises have an eos after each document, T5's don't.
    noise: a `Noise`, or a text for `parse_noise`.
    context: the most tokens of a source and of a target, their eos included.

    `evaluate` disturbs each text in the same way every time. Its tallies: `accuracy`, of the most probable tokens given
    those before them; `baseline`, of copying the source place by place, or, where the target isn't the text,
    of the token that is most frequent in training targets; `kept`, the upper limit of copying
    (the share of the target that the noise left in the source); with MLM, `mlm_accuracy`, and the
    losses of both parts, `gap_loss` and `mlm_loss`. joint: the two parts and their weights; empty without MLM.

    Raises: NlpcliError when the noise needs sentences that the shards don't have, or tokens that the tokenizer lacks.
    """

    def __init__(
        self,
        train: ShardSet | SentenceDocuments,
        dev: ShardSet | SentenceDocuments | None,
        tokenizer: Tokenizer,
        *,
        noise: str | Noise = "infill:0.3,permute",
        batching: Batching = Batching(),  # frozen
        loss_settings: LossSettings = CROSS_ENTROPY,
    ) -> None:
        self.noise = parse_noise(noise) if isinstance(noise, str) else noise
        context = batching.context
        if context < 2:
            raise NlpcliError(f"the context must be at least 2 tokens (text and the end token), not {context}")
        self.special = tokenizer.special
        self.special.check("bos", "eos")
        self.symbols = Symbols.of(tokenizer)
        self.context = context
        self.batch_tokens = batching.batch_tokens
        self.loss_settings = loss_settings
        self.seed = batching.seed
        self.mlm = getattr(self.noise, "mlm", 0.0)
        self.joint = {"gap": 1.0, "mlm": self.mlm} if self.mlm else {}
        self.noise.check(self.special, self.noise.text_length(context))
        self.train = self._texts(train)
        self.dev = None if dev is None else self._texts(dev)

    def _texts(self, source: ShardSet | SentenceDocuments) -> Windows | SentenceChunks:
        length = self.noise.text_length(self.context)
        if isinstance(source, ShardSet) and source.sentences is not None:
            source = SentenceDocuments(source)
        if not isinstance(source, ShardSet):
            return SentenceChunks(source, length, batch_tokens=self.batch_tokens, least=self.noise.least_sentences)
        if self.noise.needs_sentences:
            raise NlpcliError(
                "this noise needs sentences, but the text is not split into sentences",
                hint="set data.sentences=split, or data.sentences=lines if each line is a sentence",
            )
        eos = None if self.noise.joined else self.special.eos
        return Windows(source, length, rows=max(1, self.batch_tokens // self.context), eos=eos)

    def plan(self, epoch: int) -> list[np.ndarray]:
        return self.train.plan(self.seed, epoch)

    def collate(self, item: np.ndarray, rng: np.random.Generator) -> DenoisingBatch:
        return self._batch([self._disturbed(self.train.read(i), rng)[1] for i in item])

    def _disturbed(self, text: Text, rng: np.random.Generator) -> tuple[Text, Noised]:
        """The noise's outcome; should a side not fit the context, that of as much of the text as does."""
        room = self.context - 1
        while True:
            noised = self.noise(text, rng, self.symbols)
            longest = max(len(noised.source), len(noised.target))
            if longest <= room:
                return text, noised
            length = len(text.ids)
            text = Text(text.ids[: min(length * room // longest, length - 1)])  # no noise of sentences gets here

    def _batch(self, examples: Sequence[Noised]) -> DenoisingBatch:
        pairs = pair_batch([(example.source, example.target) for example in examples], self.special)
        batch = DenoisingBatch(**vars(pairs))
        if self.mlm:
            width = pairs.source.size(1)
            places, hidden = [], []
            for row, example in enumerate(examples):
                assert example.places is not None and example.hidden is not None  # a noise with MLM gives both
                places.append(row * width + example.places)
                hidden.append(example.hidden)
            batch.hidden_places = torch.from_numpy(np.concatenate(places))
            batch.hidden = torch.from_numpy(np.concatenate(hidden))
        return batch

    def loss(self, model: EncoderDecoder, batch: DenoisingBatch, carry: None = None) -> tuple[Loss, None]:
        if not self.mlm:
            return pair_loss(model, batch, self.loss_settings), None
        return self._joined(*self._parts(model, batch, *self._states(model, batch)), batch.per_hidden), None

    def _states(self, model: EncoderDecoder, batch: DenoisingBatch) -> tuple[Tensor, Tensor | None]:
        """The states that predict the target (k, d_model), and with MLM those for the source's masked tokens."""
        if not self.mlm:
            states = model.hidden(batch.source, batch.source_mask, batch.target)
            return states.flatten(0, 1).index_select(0, batch.places), None
        assert batch.hidden_places is not None  # with MLM
        memory = model.encode(batch.source, batch.source_mask)
        states = model.target_hidden(batch.target, memory).flatten(0, 1)
        return states.index_select(0, batch.places), memory.states.flatten(0, 1).index_select(0, batch.hidden_places)

    def _parts(
        self, model: EncoderDecoder, batch: DenoisingBatch, states: Tensor, encoded: Tensor | None
    ) -> tuple[Loss, Loss | None]:
        """The target's loss, and with MLM that of the hidden tokens, if there are any."""
        loss = token_loss(model, states, batch.labels, self.loss_settings)
        if encoded is None or batch.hidden is None or batch.hidden.numel() == 0:
            return loss, None
        return loss, token_loss(model, encoded, batch.hidden, self.loss_settings)

    def _joined(self, loss: Loss, mlm_loss: Loss | None, per_hidden: float | None = None) -> Loss:
        """The target's loss; with MLM the total has the mean loss of the hidden tokens in it, `mlm` times as heavy.

        per_hidden: labels for each hidden token; those of the losses when None.
        """
        if mlm_loss is None:
            return loss
        share = loss.count / mlm_loss.count if per_hidden is None else per_hidden
        return replace(loss, total=loss.total + self.mlm * mlm_loss.total * share)

    def evaluate(self, model: EncoderDecoder, device: torch.device) -> Iterator[Loss]:
        """Losses without smoothing and tallies of the dev texts, each once."""
        assert self.dev is not None
        for item in self.dev.in_order():
            batch = self._batch([self._held_out(i)[1] for i in item])
            trivial = self._trivially_right(batch)
            kept = int((~torch.from_numpy(self.symbols.is_special)[batch.source]).sum())
            batch = batch.to(device)
            states, encoded = self._states(model, batch)
            loss, mlm_loss = self._parts(model, batch, states, encoded)
            tallies: dict[str, tuple[Tensor | float, int]] = {
                "accuracy": (_right(model, states, batch.labels), batch.count),
                "baseline": (trivial, batch.count),
            }
            if self.noise.copies:
                tallies["kept"] = (kept, batch.count)
            if encoded is not None and batch.hidden is not None:
                tallies["mlm_accuracy"] = (_right(model, encoded, batch.hidden), batch.hidden.numel())
                tallies["gap_loss"] = (loss.nll, loss.count)
                tallies["mlm_loss"] = (mlm_loss.nll, mlm_loss.count) if mlm_loss else (0.0, 0)
            yield replace(self._joined(loss, mlm_loss), tallies=tallies)

    def _held_out(self, index: int) -> tuple[Text, Noised]:
        assert self.dev is not None
        return self._disturbed(self.dev.read(index), np.random.default_rng([_EVALUATION_SEED, int(index)]))

    def held_out(self, count: int) -> Iterator[Sample]:
        """Dev texts at even intervals, disturbed as `evaluate` disturbs them; without ends."""
        assert self.dev is not None
        texts = np.sort(np.concatenate(self.dev.in_order()))
        for number in evenly_spaced(len(texts), count):
            text, noised = self._held_out(texts[number])
            yield Sample(text.ids.tolist(), noised.source.tolist(), noised.target.tolist())

    def _trivially_right(self, batch: DenoisingBatch) -> int:
        """How many labels the trivial guess gets right."""
        if not self.noise.copies:
            return int((batch.labels == self._most_frequent).sum())
        row, place = batch.places // batch.target.size(1), batch.places % batch.target.size(1)
        there = place < batch.source.size(1)
        return int((batch.source[row[there], place[there]] == batch.labels[there]).sum())

    @cached_property
    def _most_frequent(self) -> int:
        """The token that is most frequent in the targets of training."""
        counts = np.zeros(len(self.symbols.is_special), dtype=np.int64)
        rng = np.random.default_rng(_EVALUATION_SEED)
        for item in self.plan(0):
            labels = self.collate(item, rng).labels.numpy()
            counts += np.bincount(labels, minlength=len(counts))
            if counts.sum() >= _COUNTED_LABELS:
                break
        return int(counts.argmax())

    def samples(self, count: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Training texts as they are, as the encoder reads them, and what the decoder predicts."""
        for index in self.train.some(count, rng):
            text, noised = self._disturbed(self.train.read(index), rng)
            corrupted, target = ([*side.tolist(), self.special.eos] for side in (noised.source, noised.target))
            yield Sample(text.ids.tolist(), corrupted, target)


def _right(model: TokenPredictor, states: Tensor, labels: Tensor) -> Tensor:
    return (best_tokens(states, model.output_weight, model.output_bias) == labels).sum()
