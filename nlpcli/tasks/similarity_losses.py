"""Losses on vectors of texts: contrastive, and multiple negatives (equations: `nlpcli.tasks.similarity`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, normalize


def contrastive_losses(u: Tensor, v: Tensor, alike: Tensor, margin: float) -> Tensor:
    """½ [y d² + (1 - y) max(0, margin - d)²], d = 1 - cos(u, v): (n, width) twice and y (n,) -> (n,).

    Source: Hadsell et al. 2006, eq. 4, with the cosine distance.
    """
    distance = 1 - cosine_similarity(u, v)
    y = alike.to(distance.dtype)
    return 0.5 * (y * distance**2 + (1 - y) * (margin - distance).clamp(min=0) ** 2)


def ranking_losses(vectors: Tensor, counts: Sequence[int], texts: Tensor, scale: float) -> Tensor:
    """-log softmax_j(scale · cos(u_i, v_j))_i over all texts v_j of the batch that are not first texts.

    vectors (rows, width): the texts of all examples, `counts` of each, the first u_i and the second v_i, which belong
    together, and then any that don't belong to u_i. texts (rows,): the same number for the same text. What would be a
    negative by mistake is left out: a text that is u_i or v_i, and what belongs to an equal first text. -> (examples,)

    Source: Henderson et al. 2017, section 4.4.
    """
    firsts = torch.tensor(counts, device=vectors.device).cumsum(0) - torch.tensor(counts, device=vectors.device)
    is_first = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
    is_first[firsts] = True
    owner = is_first.cumsum(0) - 1  # (rows,) which example a row is of
    candidates = (~is_first).nonzero()[:, 0]
    positives = firsts - torch.arange(len(firsts), device=vectors.device)  # the index of v_i among the candidates
    unit = normalize(vectors, dim=-1)
    logits = scale * unit[firsts] @ unit[candidates].T
    found, anchors = texts[candidates], texts[firsts]
    belongs = torch.zeros_like(found, dtype=torch.bool)
    belongs[positives] = True
    same = (found == found[positives][:, None]) | (found == anchors[:, None])
    same |= belongs & (anchors[owner[candidates]] == anchors[:, None])
    same[torch.arange(len(positives)), positives] = False
    return cross_entropy(logits.masked_fill(same, -torch.inf), positives, reduction="none")


def first_and_second(vectors: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The vectors of the first and of the second text of each example."""
    if all(count == 2 for count in counts):
        return vectors[::2], vectors[1::2]
    parts = vectors.split(list(counts))
    return torch.stack([part[0] for part in parts]), torch.stack([part[1] for part in parts])
