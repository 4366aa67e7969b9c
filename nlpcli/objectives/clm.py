"""Causal language modelling (Radford et al. 2018): predict each token from those before it.

loss = -Σ_t log p(x_t | x_<t) within windows of `context` tokens, cut from the documents laid end to end.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from nlpcli.data.packing import PackedWindows, TokenStream, evaluation_windows
from nlpcli.layers.vocabulary_loss import vocabulary_loss
from nlpcli.objectives.learning import Loss


class CausalLanguageModelling:
    """Packed windows as a `Learnable`."""

    def __init__(
        self,
        train: PackedWindows,
        dev: TokenStream | None,
        *,
        context: int,
        stride: int | None = None,
        batch_tokens: int = 4096,
        label_smoothing: float = 0.0,
    ) -> None:
        self.train = train
        self.dev = dev
        self.context = context
        self.stride = stride or context
        if dev is not None:
            next(evaluation_windows(len(dev), self.context, self.stride))  # raises now, not after an epoch
        self.rows = max(1, batch_tokens // context)
        self.label_smoothing = label_smoothing

    def plan(self, epoch: int) -> np.ndarray:
        return self.train.plan(epoch)

    def collate(self, item: np.ndarray, rng: np.random.Generator) -> LanguageBatch:
        return LanguageBatch(torch.from_numpy(self.train.batch(item)))

    def loss(self, model: nn.Module, batch: LanguageBatch, carry: None = None) -> tuple[Loss, None]:
        return self._loss(model, batch.ids, None), None

    def _loss(self, model: nn.Module, ids: Tensor, scored: Tensor | None) -> Loss:
        hidden = model.hidden(ids[:, :-1]).flatten(0, 1)
        goal = ids[:, 1:].flatten()
        if scored is not None:
            places = scored.flatten().nonzero().squeeze(1)
            hidden, goal = hidden.index_select(0, places), goal.index_select(0, places)
        smoothing = self.label_smoothing if model.training else 0.0
        total, nll = vocabulary_loss(
            hidden, model.output_weight, goal, bias=model.output_bias, label_smoothing=smoothing
        )
        return Loss(total, nll, goal.numel())

    def evaluate(self, model: nn.Module, device: torch.device) -> Iterator[Loss]:
        """Every token of the held-out text but the first scored once, in windows `stride` apart."""
        windows = list(evaluation_windows(len(self.dev), self.context, self.stride))
        for start in range(0, len(windows), self.rows):
            part = windows[start : start + self.rows]
            longest = max(stop - begin for begin, stop, _ in part)
            ids = np.zeros((len(part), longest), dtype=np.int64)
            scored = np.zeros((len(part), longest - 1), dtype=bool)
            for row, (begin, stop, first) in enumerate(part):
                ids[row, : stop - begin] = self.dev.read(begin, stop)
                scored[row, first - begin - 1 : stop - begin - 1] = True
            yield self._loss(model, torch.from_numpy(ids).to(device), torch.from_numpy(scored).to(device))


class LanguageBatch:
    """ids (batch, context + 1): the first `context` are read, the last `context` predicted."""

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids
        self.tokens = self.count = ids.size(0) * (ids.size(1) - 1)

    def to(self, device: torch.device) -> LanguageBatch:
        return LanguageBatch(self.ids.to(device, non_blocking=True))
