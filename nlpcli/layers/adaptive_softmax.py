"""A softmax over a large vocabulary in two steps: frequent tokens and groups of rare ones, then inside a group."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from nlpcli.errors import NlpcliError


class AdaptiveSoftmax(nn.Module):
    """p(token) = p(token in the head), or p(group in the head) · p(token in the group) (Grave et al. 2017).

    Made for ids in the order of falling frequency. `cutoffs` are the ids at which groups begin; group g works in
    `shrink`^g times fewer dimensions. Raises: NlpcliError unless the cutoffs rise within the vocabulary.
    """

    def __init__(self, d_model: int, vocab_size: int, cutoffs: Sequence[int], *, shrink: float = 4.0) -> None:
        super().__init__()
        if any(left >= right for left, right in pairwise([0, *cutoffs, vocab_size])):
            raise NlpcliError(
                f"adaptive cutoffs {list(cutoffs)}: must rise, above 0 and below the vocabulary's {vocab_size} pieces"
            )
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(
            d_model, vocab_size, list(cutoffs), div_value=shrink, head_bias=True
        )

    def loss(self, hidden: Tensor, target: Tensor) -> Tensor:
        """The negative log-likelihood of target (n) given hidden (n, d_model), summed, in nats."""
        return -self.softmax(hidden, target).output.sum()

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """(…, d_model) -> (…, vocab)"""
        return self.softmax.log_prob(hidden.flatten(0, -2)).unflatten(0, hidden.shape[:-1])
