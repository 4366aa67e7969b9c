"""Cross-entropy over the vocabulary without ever holding all logits.

The softmax over the vocabulary dominates a small model's step, and its logits dominate the memory. Here they are made
for some positions at a time and turned into gradients at once, while they are still in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nlpcli.config.schema import TrainingConfig
from nlpcli.layers.linear import linear, product

_CHUNK_NUMBERS = 1 << 20  # logits alive at a time on a CPU: 4 MB, about a core's share of the cache
_CHUNK_NUMBERS_GPU = 1 << 27
_LEAST_ROWS = 128  # each chunk adds to the whole gradient of the weight: at 33k tokens, 32 rows take 1.5 times as long


@dataclass(frozen=True)
class LossSettings:
    """Additions to the cross-entropy over the vocabulary; each name is a setting of `training`.

    label_smoothing: ε, (1 - ε) · nll(target) + ε · mean over the vocabulary of nll (Szegedy et al. 2016, section 7), as
    in torch.nn.functional.cross_entropy. z_loss: c, adds c · (log Z)² with Z = Σ exp(logits), which keeps the logits of
    long runs near 0 (Chowdhery et al. 2022, section 5: c = 1e-4). r_drop: α of R-Drop (Wu et al. 2021), which counts
    where two passes with dropout predict each position: the losses of both, with distributions P and Q, and
    α/2 · (KL(P ‖ Q) + KL(Q ‖ P)).
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    r_drop: float = 0.0

    @classmethod
    def of(cls, training: TrainingConfig) -> LossSettings:
        return cls(**{setting.name: getattr(training, setting.name) for setting in fields(cls)})

    def chosen(self) -> list[str]:
        """The names of the settings that change the loss."""
        return [setting.name for setting in fields(self) if getattr(self, setting.name) != setting.default]


CROSS_ENTROPY = LossSettings()


def vocabulary_loss(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    settings: LossSettings = CROSS_ENTROPY,
    twice: bool = False,
) -> tuple[Tensor, Tensor]:
    """The loss of softmax(hidden · weightᵀ + bias), summed over positions: cross-entropy, and what `settings` add.

    Shapes: hidden (n, d_model), weight (vocab, d_model), target (n), bias (vocab). twice: rows 2i and 2i + 1 are one
    position, predicted by two passes, for settings.r_drop, which has no effect otherwise.
    Returns: (loss, nll), two scalars in nats; gradients flow through `loss` only.
    """
    settings = settings if twice else replace(settings, r_drop=0.0)
    loss, nll, _ = _VocabularyLoss.apply(hidden, weight, bias, target, settings, torch.is_grad_enabled())
    return loss, nll


def vocabulary_losses(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    settings: LossSettings = CROSS_ENTROPY,
) -> tuple[Tensor, Tensor]:
    """As `vocabulary_loss`, but (loss, nll of each position (n)): gradients flow through `loss` only."""
    settings = replace(settings, r_drop=0.0)
    loss, _, each = _VocabularyLoss.apply(hidden, weight, bias, target, settings, torch.is_grad_enabled())
    return loss, each


@torch.no_grad()
def vocabulary_nll(hidden: Tensor, weight: Tensor, target: Tensor, *, bias: Tensor | None = None) -> Tensor:
    """The loss of each position without smoothing, for evaluation: no gradients.

    Shapes: hidden (n, d_model), weight (vocab, d_model), target (n), bias (vocab). Returns: (n), in nats.
    """
    rows = _rows(hidden.size(0), weight.size(0), on_gpu=hidden.is_cuda)
    exact = torch.promote_types(hidden.dtype, torch.float32)
    parts = [
        F.cross_entropy(linear(part, weight, bias).to(exact), labels, reduction="none")
        for part, labels in zip(hidden.split(rows), target.split(rows), strict=True)
    ]
    return torch.cat(parts)


def _rows(count: int, vocab: int, *, on_gpu: bool) -> int:
    """How many positions are in a chunk."""
    return max(_LEAST_ROWS, min(count, (_CHUNK_NUMBERS_GPU if on_gpu else _CHUNK_NUMBERS) // vocab))


@dataclass
class _Gradients:
    """The gradients of hidden states, matrix and bias, as they are summed over chunks; None: not needed."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def of(cls, hidden: Tensor, weight: Tensor, needs: Sequence[bool], kind: torch.dtype) -> _Gradients:
        """Zeros, where they are needed; kind: in which products are computed."""
        exact = torch.promote_types(kind, torch.float32)
        return cls(
            torch.empty_like(hidden) if needs[0] else None,
            torch.zeros(weight.shape, dtype=exact, device=hidden.device) if needs[1] else None,
            torch.zeros(weight.size(0), dtype=exact, device=hidden.device) if needs[2] else None,
        )

    @property
    def needed(self) -> bool:
        return any(part is not None for part in (self.hidden, self.weight, self.bias))

    def add(self, slope: Tensor, part: Tensor, w: Tensor, rows: slice) -> None:
        """slope: of the logits of these rows, whose hidden states are `part`."""
        if self.bias is not None:
            self.bias += slope.sum(dim=0)
        slope = slope.to(part.dtype)
        if self.hidden is not None:
            self.hidden[rows] = product(slope, w.t())
        if self.weight is not None:
            if self.weight.dtype == slope.dtype:
                self.weight.addmm_(slope.t(), part)
            else:
                self.weight += slope.t() @ part


def _in_chunks(
    x: Tensor, w: Tensor, bias: Tensor | None, target: Tensor, settings: LossSettings, grads: _Gradients
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, the negative log-likelihood and that of each row; the gradients are added to `grads`."""
    epsilon, z_loss, r_drop = settings.label_smoothing, settings.z_loss, settings.r_drop
    count, vocab = x.size(0), w.size(0)
    rows = _rows(count, vocab, on_gpu=x.is_cuda)
    if r_drop:
        rows += rows % 2  # both rows of a position are in one chunk
    exact = torch.promote_types(x.dtype, torch.float32)  # of sums and of the softmax
    loss = x.new_zeros((), dtype=exact)
    nll = x.new_zeros((), dtype=exact)
    each = x.new_empty(count, dtype=exact)
    for start in range(0, count, rows):
        part = x[start : start + rows]
        labels = target[start : start + rows, None]
        logits = product(part, w).to(exact)
        if bias is not None:
            logits += bias
        chosen = logits.gather(1, labels).squeeze(1)
        top = logits.amax(dim=1, keepdim=True)
        average = logits.mean(dim=1) if epsilon else 0.0
        scores = logits.clone() if r_drop else None
        logits.sub_(top).exp_()
        total = logits.sum(dim=1, keepdim=True)
        log_total = total.squeeze(1).log() + top.squeeze(1)
        part_nll = log_total - chosen
        nll += part_nll.sum()
        each[start : start + rows] = part_nll
        if epsilon:
            loss += ((1 - epsilon) * part_nll + epsilon * (log_total - average)).sum()
        elif z_loss or r_drop:
            loss += part_nll.sum()
        if z_loss:
            loss += z_loss * log_total.square().sum()
        divergence_slope = None
        if scores is not None:
            divergence, divergence_slope = _divergence(scores.sub_(log_total[:, None]), logits / total)
            loss += r_drop / 2 * divergence
        if grads.needed:
            slope = logits.div_(total)  # the softmax, from here on the gradient of the logits
            if z_loss:
                slope.mul_((1 + 2 * z_loss * log_total)[:, None])
            if epsilon:
                slope.sub_(epsilon / vocab)
            slope.scatter_add_(1, labels, slope.new_full((1, 1), epsilon - 1.0).expand_as(labels))
            if divergence_slope is not None:
                slope.add_(divergence_slope, alpha=r_drop / 2)
            grads.add(slope, part, w, slice(start, start + rows))
    return (loss if epsilon or z_loss or r_drop else nll.clone()), nll, each


def _divergence(log_p: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Σ KL(P ‖ Q) + KL(Q ‖ P) over pairs of rows 2i and 2i + 1, and its gradient for the logits behind them.

    log_p, p (rows, vocab): logarithms and probabilities. With d = log P - log Q, the gradient for the logits of P is
    P · (d - KL(P ‖ Q)) + P - Q.
    """
    difference = log_p[0::2] - log_p[1::2]
    slope = torch.empty_like(p)
    found = p.new_zeros(())
    for place, sign in ((0, 1.0), (1, -1.0)):
        own = p[place::2]
        kl = sign * (own * difference).sum(dim=1, keepdim=True)
        found = found + kl.sum()
        slope[place::2] = own * (sign * difference - kl) + own - p[1 - place :: 2]
    return found, slope


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # torch's record of a call, on which any attribute may be set
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        settings: LossSettings,
        learning: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs = [learning and bool(need) for need in ctx.needs_input_grad[:3]]
        kind = torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else None
        with torch.autocast(hidden.device.type, enabled=False):
            x = hidden.to(kind) if kind else hidden
            w = weight.to(kind) if kind else weight.to(hidden.dtype)
            grads = _Gradients.of(hidden, weight, needs, x.dtype)
            found = _in_chunks(x, w, bias, target, settings, grads)
        ctx.save_for_backward(grads.hidden, grads.weight, grads.bias)
        ctx.kinds = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        loss, nll, each = found
        ctx.mark_non_differentiable(nll, each)
        return loss, nll, each

    @staticmethod
    def backward(
        ctx: Any,  # as above
        grad_loss: Tensor,
        *_: Tensor,
    ) -> tuple[Tensor | None, ...]:
        grads = [
            None if grad is None else (grad * grad_loss).to(kind)
            for grad, kind in zip(ctx.saved_tensors, ctx.kinds, strict=True)
        ]
        return (*grads, None, None, None)
