"""The largest batch that memory holds, from the memory of a few batches that were measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nlpcli.errors import RunFailed, is_out_of_memory
from nlpcli.training.memory_use import MemoryUse

_TRIES = 6  # of sizes that should fit


@dataclass(frozen=True)
class Sizes:
    """The possible sizes of a batch. first: the one that is measured first. unit: sizes are multiples of it."""

    first: int
    unit: int
    most: int

    def rounded(self, size: float) -> int:
        return max(self.unit, int(min(size, self.most)) // self.unit * self.unit)


class BatchSizeSearch:
    """Finds the largest batch that memory holds. measure(size): what a batch of that size takes.

    Memory is a + b·size: a for weights, gradients and optimizer, b for what the backward pass needs of each token. Two
    small sizes give the line; the size where it meets the limit is tried, and made smaller while it does not fit.
    """

    def __init__(self, measure: Callable[[int], MemoryUse], sizes: Sizes) -> None:
        self._measure = measure
        self.sizes = sizes
        self.fitting: dict[int, MemoryUse] = {}  # by size
        self._too_large: dict[int, int | None] = {}  # what they take, where that was measured

    def find(self) -> int:
        """The size. Raises: RunFailed where not even the smallest fits."""
        sizes = self.sizes
        small = sizes.rounded(sizes.first)
        while not self._fits(small):
            if small == sizes.unit:
                raise RunFailed(
                    f"memory does not hold a batch of {small:,}, the smallest there is",
                    hint="use a smaller model, shorten the texts (data.context or data.max_length), or set "
                    "training.activation_checkpointing=true",
                )
            small = sizes.rounded(small / 2)
        use = self.fitting[small]
        factor = 4 if 4 * use.peak <= use.limit else 2 if 2 * use.peak <= use.limit or small == sizes.unit else 0.5
        if (other := sizes.rounded(factor * small)) != small and other not in self._too_large:
            self._fits(other)
        for _ in range(_TRIES):
            size = self._expected()
            if size in self.fitting or self._fits(size):
                break
        return max(self.fitting)

    def _fits(self, size: int) -> bool:
        try:
            use = self._measure(size)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._too_large[size] = None
            return False
        if use.peak > use.limit:
            self._too_large[size] = use.peak
            return False
        self.fitting[size] = use
        return True

    def _expected(self) -> int:
        """The largest size that should fit: on the line through the largest that fitted and the one next to it.

        Where a size did not fit, at least halfway to it, in powers: memory is less than a line between the two.
        """
        *_, low, high = sorted(self.fitting)[:1] + sorted(self.fitting)
        use = self.fitting[high]
        above = min(self._too_large, default=None)
        taken = None if above is None else self._too_large[above]
        if above is not None:
            line = 0.0 if taken is None else high + (use.limit - use.peak) * (above - high) / (taken - use.peak)
            size = max(line, (high * above) ** 0.5)
        else:
            slope = (use.peak - self.fitting[low].peak) / (high - low) if high > low else use.peak / high
            size = high + (use.limit - use.peak) / slope if slope > 0 else self.sizes.most
        return max(high, self.sizes.rounded(size))
