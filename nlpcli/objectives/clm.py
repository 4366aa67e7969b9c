"""Causal language modelling (Radford et al. 2018): predict each token from those before it.

loss = -Σ_t log p(x_t | x_<t) within windows of `context` tokens, cut from the documents laid end to end. A model with
memory (Mikolov et al. 2010; Dai et al. 2019) reads the windows in order, and what it remembers of one is handed to the
next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from nlpcli.attention.masks import AttentionMask
from nlpcli.data.packing import PackedWindows, StreamedWindows, TokenStream, evaluation_windows
from nlpcli.errors import NlpcliError
from nlpcli.layers.vocabulary_loss import CROSS_ENTROPY, LossSettings
from nlpcli.objectives.objective import Loss, Sample
from nlpcli.objectives.token_loss import token_loss, token_nll

if TYPE_CHECKING:
    from nlpcli.models.recurrent_lm import RecurrentLM
    from nlpcli.models.transformer import Decoder
    from nlpcli.models.transformer_xl import TransformerXL

    LanguageModel = Decoder | TransformerXL | RecurrentLM


@dataclass(frozen=True)
class EvaluationReading:
    """How the dev text is read.

    stride: tokens from one window to the next; None: the context. streams: the equal parts that a model with memory
    reads side by side, each from its beginning without memory; fewer where they would be shorter than the context.
    """

    stride: int | None = None
    streams: int = 1


class CausalLanguageModelling:
    """Windows as an `Objective`: `PackedWindows`, or `StreamedWindows` for a model with memory.

    A batch whose windows are shorter or longer than `context` learns at a rate that is as much lower or higher.
    document_mask: no token is predicted from another document's: each is read from the eos before it on. (With
    positions that are not relative it still begins where it stands in the window.)
    Raises: NlpcliError for a document mask without borders between documents or with a memory, and for a stride with a
    memory, which takes its place.
    """

    def __init__(
        self,
        train: PackedWindows | StreamedWindows,
        dev: TokenStream | None,
        *,
        context: int,
        reading: EvaluationReading = EvaluationReading(),
        batch_tokens: int = 4096,
        loss_settings: LossSettings = CROSS_ENTROPY,
        document_mask: bool = False,
    ) -> None:
        self.train = train
        self.dev = dev
        self.context = context
        self.stride = reading.stride or context
        self.rows = max(1, batch_tokens // context)
        self.loss_settings = loss_settings
        self.document_mask = document_mask
        self.streams = reading.streams
        self.eos = train.stream.eos
        if dev is not None:
            next(evaluation_windows(len(dev), self.context, self.stride))  # raises now, not after an epoch
        if document_mask and self.eos is None:
            raise NlpcliError("a document mask needs documents, but this text is read as one document")
        if document_mask and train.stateful:
            raise NlpcliError("a model with memory attends across documents, so a document mask can't be used")
        if train.stateful and self.stride != context:
            raise NlpcliError(
                "a model with memory reads each token once, "
                f"so the stride must be equal to the context {context}, not {self.stride}",
                hint="leave out data.eval_stride",
            )

    @property
    def stateful(self) -> bool:
        """See `Objective`."""
        return self.train.stateful

    def plan(self, epoch: int) -> np.ndarray:
        return self.train.plan(epoch)

    def collate(self, item: np.ndarray, rng: np.random.Generator) -> LanguageBatch:
        return LanguageBatch(torch.from_numpy(self.train.batch(item)))

    def loss(
        self, model: LanguageModel, batch: LanguageBatch, carry: list[Tensor] | None = None
    ) -> tuple[Loss, list[Tensor] | None]:
        if not self.train.stateful or (carry and carry[0].size(0) != batch.ids.size(0)):
            carry = None  # resumed with another size of batches
        read, penalty = batch.ids[:, :-1], None
        if model.training and model.regularizes_activations:
            hidden, carry, penalty = cast("RecurrentLM", model).regularized(read, carry)
        else:
            hidden, carry = self._hidden(model, read, carry)
        loss = token_loss(model, hidden.flatten(0, 1), batch.ids[:, 1:].flatten(), self.loss_settings)
        if penalty is not None:
            loss = replace(loss, total=loss.total + penalty * loss.count)
        return replace(loss, rate=read.size(1) / self.context), carry if self.train.stateful else None

    def _hidden(
        self, model: LanguageModel, ids: Tensor, memory: list[Tensor] | None
    ) -> tuple[Tensor, list[Tensor] | None]:
        if model.has_memory:
            return cast("TransformerXL | RecurrentLM", model).hidden(ids, memory)
        mask = None
        if self.document_mask:
            assert self.eos is not None  # a document mask needs documents
            mask = AttentionMask(documents=document_numbers(ids, self.eos))
        return cast("Decoder", model).hidden(ids, mask), None

    def evaluate(self, model: LanguageModel, device: torch.device) -> Iterator[Loss]:
        """Scores every token of the dev text but the first once; a loss for each window.

        In windows `stride` apart; by a model with memory in segments of `context`, one after the other.
        """
        if self.train.stateful and model.has_memory:
            return self._evaluate_streams(model, device)
        return self._evaluate_windows(model, device)

    def _evaluate_windows(self, model: LanguageModel, device: torch.device) -> Iterator[Loss]:
        assert self.dev is not None
        windows = list(evaluation_windows(len(self.dev), self.context, self.stride))
        for start in range(0, len(windows), self.rows):
            part = windows[start : start + self.rows]
            longest = max(stop - begin for begin, stop, _ in part)
            ids = np.zeros((len(part), longest), dtype=np.int64)
            scored = np.zeros((len(part), longest - 1), dtype=bool)
            for row, (begin, stop, first) in enumerate(part):
                ids[row, : stop - begin] = self.dev.read(begin, stop)
                scored[row, first - begin - 1 : stop - begin - 1] = True
            losses, _ = self._scored(model, torch.from_numpy(ids).to(device), scored, None)
            yield from losses

    def _evaluate_streams(self, model: LanguageModel, device: torch.device) -> Iterator[Loss]:
        assert self.dev is not None
        starts, longest = self.stream_starts()
        last, memory = len(self.dev) - 1, None
        for offset in range(0, longest, self.context):
            n = min(self.context, longest - offset)
            ids = np.zeros((len(starts), n + 1), dtype=np.int64)
            scored = np.zeros((len(starts), n), dtype=bool)
            for row, start in enumerate(starts + offset):
                stop = max(min(start + n, last), start)
                scored[row, : stop - start] = True
                ids[row, : stop - start + 1] = self.dev.read(min(start, last), min(stop + 1, last + 1))
            losses, memory = self._scored(model, torch.from_numpy(ids).to(device), scored, memory)
            yield from losses

    def stream_starts(self) -> tuple[np.ndarray, int]:
        """Where each of the parallel parts of the dev text begins, and the tokens predicted in the
        longest; the last one may be shorter."""
        assert self.dev is not None
        predicted = len(self.dev) - 1
        parts = max(1, min(self.streams, predicted // self.context))
        longest = -(-predicted // parts)
        return np.arange(0, predicted, longest), longest

    def _scored(
        self, model: LanguageModel, ids: Tensor, scored: np.ndarray, memory: list[Tensor] | None
    ) -> tuple[list[Loss], list[Tensor] | None]:
        """The loss of each row of ids (rows, n + 1) at the places where `scored` (rows, n) is True, and the memory."""
        hidden, memory = self._hidden(model, ids[:, :-1], memory)
        places = torch.from_numpy(scored.ravel().nonzero()[0]).to(ids.device)
        labels = ids[:, 1:].flatten().index_select(0, places)
        nats = token_nll(model, hidden.flatten(0, 1).index_select(0, places), labels)
        parts = [part for part in nats.split(scored.sum(axis=1).tolist()) if len(part)]
        return [Loss(part.sum(), part.sum(), len(part)) for part in parts], memory

    def samples(self, count: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Windows as they are read and predicted."""
        for ids in self.train.some(count, rng).tolist():
            yield Sample(ids, ids[:-1], ids[1:])


def document_numbers(ids: Tensor, eos: int) -> Tensor:
    """(batch, n): the number of the document of each of the tokens (batch, n); the eos before it begins one."""
    return (ids == eos).cumsum(dim=1)


class LanguageBatch:
    """ids (batch, context + 1): the first `context` are read, the last `context` predicted."""

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids
        self.size = ids.size(0)
        self.tokens = self.count = ids.size(0) * (ids.size(1) - 1)

    def part(self, start: int, stop: int) -> LanguageBatch:
        """The rows from `start` up to `stop`."""
        return LanguageBatch(self.ids[start:stop])

    def to(self, device: torch.device) -> LanguageBatch:
        return LanguageBatch(self.ids.to(device, non_blocking=True))
