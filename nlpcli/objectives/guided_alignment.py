"""Guided alignment: an attention head learns links between words, beside translation.

With G (target tokens, source tokens) the links of a pair as weights, each linked token's row divided by its sum, and A
the head's weights:

    L = L_translation + λ · L_alignment        L_alignment = - Σ_{linked t} Σ_s G_ts log A_ts

both sums over the target tokens of a batch. Target tokens without a link are left out. The translation is predicted
from left to right as ever; the head may see the whole target, in a second pass of the decoder. Source: Garg et al.
2019, sections 4.2 and 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nlpcli.attention.hooks import recording
from nlpcli.layers.vocabulary_loss import LossSettings
from nlpcli.models.alignment_head import FULL, READ, AlignmentHead, choose_layer, token_mask, whole_target_weights
from nlpcli.objectives.objective import Loss
from nlpcli.objectives.token_loss import token_loss

if TYPE_CHECKING:
    from nlpcli.objectives.source_target_batches import PairBatch

ALIGNMENT_LOSS = "alignment_loss"
"""The name under which it is logged: the mean over linked target tokens, in nats."""

Words = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class GuidedAlignment:
    """Which head learns links, and how much its loss counts."""

    head: AlignmentHead
    weight: float = 0.05


def token_links(links: np.ndarray, source_words: Words, target_words: Words) -> np.ndarray:
    """G (target tokens, source tokens) of one pair, float32; rows sum to 1, or to 0 without links.

    links (k, 2): source word, target word, from 0; source_words, target_words: the word of each token, -1 for none. A
    target token is linked with all tokens of the source words that its own word is linked with, equally.
    """
    source, target = np.asarray(source_words, dtype=np.int64), np.asarray(target_words, dtype=np.int64)
    size = [1 + max([-1, *words.tolist(), *links[:, side].tolist()]) for side, words in enumerate((source, target))]
    linked = np.zeros((size[1] + 1, size[0] + 1), dtype=np.float32)  # the last word of each side is none
    linked[links[:, 1], links[:, 0]] = 1
    found: np.ndarray = linked[target][:, source]
    return found / np.maximum(found.sum(axis=1, keepdims=True), 1)


def with_links(
    batch: PairBatch, rows: Sequence[np.ndarray], *, source_start: int, target_start: int, step: str
) -> PairBatch:
    """The batch with `links` (batch, n, m): `rows` at the decoder's positions whose attention aligns each token.

    rows: of `token_links`. source_start, target_start: how many tokens stand before each source and each target.
    """
    links = np.zeros((len(rows), batch.target.size(1), batch.source.size(1)), dtype=np.float32)
    first = target_start if step == READ else target_start - 1
    for row, own in zip(links, rows, strict=True):
        n, m = own.shape
        row[first : first + n, source_start : source_start + m] = own
    return replace(batch, links=torch.from_numpy(links))


def guided_loss(model: Any, batch: PairBatch, settings: LossSettings, guided: GuidedAlignment) -> Loss:
    """The loss of translation and alignment. model: an encoder-decoder."""
    assert batch.links is not None  # of a batch with `with_links`
    head = guided.head
    if head.context == FULL:
        memory = model.encode(batch.source, batch.source_mask)
        hidden = model.target_hidden(batch.target, memory)
        weights = whole_target_weights(model, memory, batch.target, target_mask(batch), head, gradients=True)
    else:
        with recording(choose_layer(model, head.layer), gradients=True) as [recorded]:
            hidden = model.hidden(batch.source, batch.source_mask, batch.target)
        weights = recorded[0][:, head.head - 1]
    loss = token_loss(model, hidden.flatten(0, 1).index_select(0, batch.places), batch.labels, settings)
    aligned, count = alignment_loss(weights, batch.links)
    logged = {**loss.logged, ALIGNMENT_LOSS: (aligned.detach(), count)}
    return replace(loss, total=loss.total + guided.weight * aligned, logged=logged)


def alignment_loss(weights: Tensor, links: Tensor) -> tuple[Tensor, int]:
    """- Σ G log A over the linked tokens, in nats, and their number. weights, links (batch, n, m)."""
    exact = weights.float().clamp(min=torch.finfo(torch.float32).tiny)
    linked = int((links > 0).any(dim=-1).sum())
    return -(links * exact.log()).sum(), linked


def target_mask(batch: PairBatch) -> Tensor:
    """(batch, n), True where the decoder reads a token of the target or of what stands before it."""
    width = batch.target.size(1)
    lengths = torch.zeros(batch.size, dtype=torch.long, device=batch.places.device)
    lengths = lengths.scatter_reduce(0, batch.places // width, batch.places % width + 1, "amax")
    return token_mask(lengths, width)
