"""Causal language modelling (Radford et al. 2018): predict each token from those before it.

loss = -Σ_t log p(x_t | x_<t) within windows of `context` tokens, cut from the documents laid end to end. A model with
memory (Dai et al. 2019) reads the windows in order, and what it remembers of one is handed to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    from nlpcli.models.transformer import Decoder
    from nlpcli.models.transformer_xl import TransformerXL

    LanguageModel = Decoder | TransformerXL


class CausalLanguageModelling:
    """Windows as an `Objective`: `PackedWindows`, or `StreamedWindows` for a model with memory.

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
        stride: int | None = None,
        batch_tokens: int = 4096,
        loss_settings: LossSettings = CROSS_ENTROPY,
        document_mask: bool = False,
    ) -> None:
        self.train = train
        self.dev = dev
        self.context = context
        self.stride = stride or context
        self.rows = max(1, batch_tokens // context)
        self.loss_settings = loss_settings
        self.document_mask = document_mask
        self.eos = train.stream.eos
        if dev is not None:
            next(evaluation_windows(len(dev), self.context, self.stride))  # raises now, not after an epoch
        if document_mask and self.eos is None:
            raise NlpcliError("a document mask needs documents, but this text is read as one document")
        if document_mask and train.reads_on:
            raise NlpcliError("a model with memory attends across documents, so a document mask can't be used")
        if train.reads_on and self.stride != context:
            raise NlpcliError(
                "a model with memory reads each token once, "
                f"so the stride must be equal to the context {context}, not {stride}",
                hint="leave out data.eval_stride",
            )

    def plan(self, epoch: int) -> np.ndarray:
        return self.train.plan(epoch)

    def collate(self, item: np.ndarray, rng: np.random.Generator) -> LanguageBatch:
        return LanguageBatch(torch.from_numpy(self.train.batch(item)))

    def loss(
        self, model: LanguageModel, batch: LanguageBatch, carry: list[Tensor] | None = None
    ) -> tuple[Loss, list[Tensor] | None]:
        if not self.train.reads_on or (carry and carry[0].size(0) != batch.ids.size(0)):
            carry = None  # resumed with another size of batches
        hidden, carry = self._hidden(model, batch.ids[:, :-1], carry)
        loss = token_loss(model, hidden.flatten(0, 1), batch.ids[:, 1:].flatten(), self.loss_settings)
        return loss, carry if self.train.reads_on else None

    def _hidden(
        self, model: LanguageModel, ids: Tensor, memory: list[Tensor] | None
    ) -> tuple[Tensor, list[Tensor] | None]:
        if model.has_memory:
            return cast("TransformerXL", model).hidden(ids, memory)
        mask = None
        if self.document_mask:
            assert self.eos is not None  # a document mask needs documents
            mask = AttentionMask(documents=document_numbers(ids, self.eos))
        return cast("Decoder", model).hidden(ids, mask), None

    def evaluate(self, model: LanguageModel, device: torch.device) -> Iterator[Loss]:
        """Every token of the held-out text but the first scored once, a loss for each window.

        In windows `stride` apart; by a model with memory in segments of `context`, one after the other.
        """
        assert self.dev is not None
        windows = list(evaluation_windows(len(self.dev), self.context, self.stride))
        remembers = self.train.reads_on and model.has_memory
        rows = 1 if remembers else self.rows
        memory = None
        for start in range(0, len(windows), rows):
            part = windows[start : start + rows]
            longest = max(stop - begin for begin, stop, _ in part)
            ids = np.zeros((len(part), longest), dtype=np.int64)
            scored = np.zeros((len(part), longest - 1), dtype=bool)
            for row, (begin, stop, first) in enumerate(part):
                ids[row, : stop - begin] = self.dev.read(begin, stop)
                scored[row, first - begin - 1 : stop - begin - 1] = True
            read = torch.from_numpy(ids).to(device)
            hidden, new = self._hidden(model, read[:, :-1], memory)
            memory = new if remembers else None
            places = torch.from_numpy(scored.ravel().nonzero()[0]).to(device)
            goal = read[:, 1:].flatten().index_select(0, places)
            nats = token_nll(model, hidden.flatten(0, 1).index_select(0, places), goal)
            for own in nats.split(scored.sum(axis=1).tolist()):
                nll = own.sum()
                yield Loss(nll, nll, len(own))

    def samples(self, count: int, rng: np.random.Generator) -> Iterator[Sample]:
        """Windows as they are read and predicted."""
        for start in rng.choice(self.train.plan(0).ravel(), count):
            ids = self.train.batch([start])[0].tolist()
            yield Sample(ids, ids[:-1], ids[1:])


def document_numbers(ids: Tensor, eos: int) -> Tensor:
    """(batch, n): the number of the document of each of the tokens (batch, n); the eos before it begins one."""
    return (ids == eos).cumsum(dim=1)


class LanguageBatch:
    """ids (batch, context + 1): the first `context` are read, the last `context` predicted."""

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids
        self.tokens = self.count = ids.size(0) * (ids.size(1) - 1)

    def to(self, device: torch.device) -> LanguageBatch:
        return LanguageBatch(self.ids.to(device, non_blocking=True))
