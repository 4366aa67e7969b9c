"""The tokens that a search starts from, and how many may follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError


@dataclass
class Prefixes:
    """Prefixes of different lengths without padding: what all rows share in length is fed at once, the rest is forced.

    `first` (sentences, shortest length); `forced` (sentences, longest - shortest), -1 where a row is free to choose.
    """

    first: Tensor
    forced: Tensor
    lengths: list[int]

    @classmethod
    def of(cls, prefixes: Sequence[Sequence[int]], device: torch.device | str) -> Prefixes:
        """Raises: NlpcliError when a prefix is empty, since a model needs one token to start from."""
        lengths = [len(prefix) for prefix in prefixes]
        if not all(lengths):
            raise NlpcliError("decoding needs a prefix of at least one token", hint="start the prefix with bos or eos")
        shortest, longest = min(lengths), max(lengths)
        forced = [[*prefix[shortest:], *[-1] * (longest - len(prefix))] for prefix in prefixes]
        return cls(
            first=torch.tensor([list(prefix[:shortest]) for prefix in prefixes], device=device),
            forced=torch.tensor(forced, dtype=torch.long, device=device).view(len(lengths), longest - shortest),
            lengths=lengths,
        )

    def at(self, position: int, sentences: Tensor) -> Tensor | None:
        """The forced token (sentences,) of each sentence at `position`, -1 where it is free; None when all are free."""
        column = position - self.first.shape[1]
        return self.forced[sentences, column] if column < self.forced.shape[1] else None

    def shorter_than(
        self, minimum: int, position: int, sentences: Tensor, counted_from: int | None = None
    ) -> Tensor | None:
        """True (sentences,) where fewer than `minimum` tokens follow the prefix at `position`; None where none is.

        counted_from: the place from which tokens are counted, the prefix's end if None.
        """
        if position - (max(self.lengths) if counted_from is None else counted_from) >= minimum:
            return None
        lengths = torch.tensor(self.lengths, device=sentences.device)
        return position - (lengths if counted_from is None else lengths.clamp(max=counted_from))[sentences] < minimum


def device_of(model: object) -> torch.device:
    """Where a model computes; the CPU when it has no parameters."""
    parameter = next(iter(model.parameters()), None) if hasattr(model, "parameters") else None
    return torch.device("cpu") if parameter is None else parameter.device


def length_limits(
    max_length: int | Sequence[int], prefix_lengths: Sequence[int], window: int | None, *, shiftable: bool = False
) -> list[int]:
    """How many tokens each sentence may get: its own limit, and what the model's positions allow.

    A model with `window` positions can read that many tokens, so the last one it writes need not have a position;
    `shiftable`: the search can begin anew when they are used up.
    Raises: NlpcliError when a prefix leaves no room, or a limit is below one.
    """
    limits = [max_length] * len(prefix_lengths) if isinstance(max_length, int) else list(max_length)
    if any(limit < 1 for limit in limits):
        raise NlpcliError(f"the maximum length must be at least 1, not {min(limits)}")
    if window is None:
        return limits
    if max(prefix_lengths) > window:
        tokens, positions = counted(max(prefix_lengths), "token"), counted(window, "position")
        raise NlpcliError(
            f"the prefix has {tokens}, but the model has only {positions}",
            hint="shorten the prompt or the target prefix",
        )
    if shiftable:
        return limits
    return [min(limit, window + 1 - length) for limit, length in zip(limits, prefix_lengths, strict=True)]


def end_steps(max_length: int | Sequence[int], limits: Sequence[int], room_for_end: bool) -> list[int]:
    """1 for each sentence that may still end after its last token, else 0: there must be a position to read it.

    limits: what `length_limits` makes of `max_length`; where it is less, all positions are used up.
    """
    wanted = [max_length] * len(limits) if isinstance(max_length, int) else max_length
    return [int(room_for_end and limit == most) for limit, most in zip(limits, wanted, strict=True)]
