"""Greedy search: the most probable token each time. The same as a beam of one, at a lower cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from nlpcli.decoding.autoregressive import Renewal, Stop, roll_out
from nlpcli.decoding.constraints import Constraints
from nlpcli.decoding.hypothesis import Hypothesis
from nlpcli.decoding.top_k_selection import best_tokens
from nlpcli.models.decodable import Decodable


@torch.inference_mode()
def greedy_search(
    model: Decodable,
    state: object,
    prefixes: Sequence[Sequence[int]],
    *,
    eos: int | None,
    max_length: int | Sequence[int],
    constraints: Constraints | None = None,
    stop: Stop | None = None,
    renewal: Renewal | None = None,
    watch: Callable[[int, int], None] | None = None,
    room_for_end: bool = False,
) -> list[list[Hypothesis]]:
    """The greedy continuation of each prefix, as the only one of its list; see `roll_out` for the arguments."""
    found = roll_out(
        model,
        state,
        prefixes,
        eos=eos,
        max_length=max_length,
        constraints=constraints or Constraints(),
        choose=lambda logits, rows, position: best_tokens(logits),
        stop=stop,
        renewal=renewal,
        watch=watch,
        room_for_end=room_for_end,
    )
    return [[hypothesis] for hypothesis in found]
