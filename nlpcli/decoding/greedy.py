"""Greedy search: the most probable token each time. The same as a beam of one, at a lower cost."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nlpcli.decoding.autoregressive import ContextShift, Watch, roll_out
from nlpcli.decoding.constraints import Constraints
from nlpcli.decoding.hypothesis import Hypothesis
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.decoding.top_k_selection import best_tokens
from nlpcli.models.decodable import Decodable


@torch.inference_mode()
def greedy_search(
    model: Decodable,
    state: object,
    prefixes: Sequence[Sequence[int]],
    conditions: StopConditions,
    *,
    constraints: Constraints | None = None,
    context_shift: ContextShift | None = None,
    watch: Watch | None = None,
    scores: bool = True,
) -> list[list[Hypothesis]]:
    """The greedy continuation of each prefix, as the only one of its list; see `roll_out` for the arguments.

    scores: whether log-probabilities are wanted; without them, which are nan then, a step costs less.
    """
    found = roll_out(
        model,
        state,
        prefixes,
        conditions,
        constraints=constraints or Constraints(),
        choose=most_probable if scores else None,
        context_shift=context_shift,
        watch=watch,
    )
    return [[hypothesis] for hypothesis in found]


def most_probable(logits: Tensor, rows: Tensor, position: int) -> Tensor:
    """The choice of greedy search, for `roll_out`: (rows, vocabulary) -> (rows,)."""
    return best_tokens(logits)
