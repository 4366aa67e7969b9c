"""A softmax over a large vocabulary in two steps: frequent tokens and groups of rare ones, then inside a group."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nlpcli.errors import NlpcliError
from nlpcli.layers.linear import linear
from nlpcli.layers.vocabulary_loss import vocabulary_loss, vocabulary_nll


class AdaptiveSoftmax(nn.Module):
    """p(token) = p(token in the head), or p(group in the head) · p(token in the group) (Grave et al. 2017).

    Made for ids in the order of falling frequency: the head has the ids before the first of `cutoffs` and one entry
    for each group, which begin at the cutoffs. The vocabulary's matrix is that of the full softmax, and may be shared
    with the embeddings (as in Dai et al. 2019); only the groups' own entries are kept here.
    Raises: NlpcliError unless the cutoffs rise within the vocabulary.
    """

    def __init__(self, d_model: int, vocab_size: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        self.borders = [0, *cutoffs, vocab_size]
        if any(left >= right for left, right in pairwise(self.borders)):
            raise NlpcliError(
                f"the adaptive cutoffs {list(cutoffs)} must increase and be between 0 and {vocab_size} (vocabulary)"
            )
        self.group_weight = nn.Parameter(torch.randn(len(cutoffs), d_model) * 0.02)
        self.group_bias = nn.Parameter(torch.zeros(len(cutoffs)))

    def loss(self, hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood summed over positions, in nats, as `vocabulary_loss` gives it.

        Shapes: hidden (n, d_model), weight (vocab, d_model), target (n), bias (vocab).
        """
        group, head_target = self._groups(target)
        head_weight, head_bias = self._head(weight, bias)
        parts = [vocabulary_loss(hidden, head_weight, head_target, bias=head_bias)]
        for i, (begin, end) in enumerate(pairwise(self.borders[1:])):
            places = (group == i + 1).nonzero().squeeze(1)
            part_bias = None if bias is None else bias[begin:end]
            parts.append(
                vocabulary_loss(hidden[places], weight[begin:end], target[places] - begin, bias=part_bias)
            )  # fmt: skip
        totals, nlls = zip(*parts, strict=True)
        return torch.stack(totals).sum(), torch.stack(nlls).sum()

    @torch.no_grad()
    def nll(self, hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None = None) -> Tensor:
        """The negative log-likelihood of each position (n), in nats, as `vocabulary_nll` gives it."""
        group, head_target = self._groups(target)
        head_weight, head_bias = self._head(weight, bias)
        found = vocabulary_nll(hidden, head_weight, head_target, bias=head_bias)
        for i, (begin, end) in enumerate(pairwise(self.borders[1:])):
            places = (group == i + 1).nonzero().squeeze(1)
            part_bias = None if bias is None else bias[begin:end]
            found[places] += vocabulary_nll(hidden[places], weight[begin:end], target[places] - begin, bias=part_bias)
        return found

    def _groups(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """For each target its group, 0 for the head's own, and the head's target: the token, or the group."""
        group = torch.bucketize(target, torch.tensor(self.borders[1:-1], device=target.device), right=True)
        return group, torch.where(group == 0, target, self.borders[1] + group - 1)

    def log_probabilities(self, hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """(…, d_model) -> (…, vocab)"""
        first = self.borders[1]
        head = linear(hidden, *self._head(weight, bias)).log_softmax(-1)
        parts = [head[..., :first]]
        for i, (begin, end) in enumerate(pairwise(self.borders[1:])):
            inside = linear(hidden, weight[begin:end], None if bias is None else bias[begin:end]).log_softmax(-1)
            parts.append(head[..., first + i, None] + inside)
        return torch.cat(parts, dim=-1)

    def _head(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        first = self.borders[1]
        words = weight.new_zeros(first) if bias is None else bias[:first]
        return torch.cat((weight[:first], self.group_weight)), torch.cat((words, self.group_bias))
