"""Hooks that record the attention weights of a layer; without a recorder, no weights are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from nlpcli.attention.core import for_heads


class Recorder(list[Tensor]):
    """The weights (rows, heads, n, m) of each call of an attention layer, in the order of the calls.

    gradients: the layer's context is computed out of the very tensor that is recorded, context = weights · value, so
    that its output has a derivative by it; otherwise the layer works as ever, and its weights are computed beside.
    """

    def __init__(self, *, gradients: bool = False) -> None:
        super().__init__()
        self.gradients = gradients


class Recordable(Protocol):
    """An attention layer, which hands its weights to its recorder while it has one."""

    recorder: Recorder | None


@contextmanager
def recording(*layers: Recordable, gradients: bool = False) -> Iterator[list[Recorder]]:
    """A recorder for each of these attention layers, in their order, which receives its calls inside the `with`.

    Afterwards each layer has the recorder that it had before; a layer that is named twice has one for both.
    """
    before = {layer: layer.recorder for layer in layers}
    recorders = {layer: Recorder(gradients=gradients) for layer in before}
    for layer, recorder in recorders.items():
        layer.recorder = recorder
    try:
        yield [recorders[layer] for layer in layers]
    finally:
        for layer, earlier in before.items():
            layer.recorder = earlier


def recorded(
    recorder: Recorder, weights: Tensor, value: Tensor, context: Callable[[], Tensor], *, dropout: float = 0.0
) -> Tensor:
    """The context of a call whose weights (rows, heads, n, m) are appended to `recorder`, without dropout.

    value (sources, kv_heads, m, d_value): each source serves the same number of consecutive rows, and each of its heads
    the same number of consecutive heads; context: computes the context without the weights.
    Returns: (rows, heads, n, d_value).
    """
    return recorded_parts(recorder, [(weights, value)], context, dropout=dropout)


def recorded_parts(
    recorder: Recorder,
    parts: Sequence[tuple[Tensor, Tensor]],
    context: Callable[[], Tensor],
    *,
    dropout: float = 0.0,
) -> Tensor:
    """As `recorded`, for queries in consecutive parts, each with its weights and its own values."""
    sizes = [weights.size(2) for weights, _ in parts]
    weights = torch.cat([weights for weights, _ in parts], dim=2) if len(parts) > 1 else parts[0][0]
    if not recorder.gradients:
        recorder.append(weights.detach())
        return context()
    if not weights.requires_grad:
        weights.requires_grad_()
    recorder.append(weights)
    found = []
    for own, (_, value) in zip(weights.split(sizes, dim=2), parts, strict=True):
        value = value.repeat_interleave(own.size(0) // value.size(0), dim=0)
        found.append(F.dropout(own, dropout) @ for_heads(value, own.size(1)))
    return torch.cat(found, dim=2) if len(found) > 1 else found[0]


class StepRecording:
    """The weights (rows, heads, n, m) of one call of an attention layer that finds them some queries at a time.

    With `recorder.gradients` what is recorded has derivatives, though it is whole only after the last step: each step
    adds its part of a tensor of zeros to its weights, and `finish` writes the weights into it.
    """

    def __init__(self, recorder: Recorder, shape: Sequence[int], like: Tensor) -> None:
        self.recorder = recorder
        exact = torch.promote_types(like.dtype, torch.float32)
        self.weights = like.new_zeros(*shape, dtype=exact).requires_grad_(recorder.gradients)
        self._found: list[Tensor] = []

    def add(self, weights: Tensor) -> Tensor:
        """The weights of the next queries, to be used in the place of those that are given."""
        start = sum(part.size(2) for part in self._found)
        self._found.append(weights.detach())
        if not self.recorder.gradients:
            return weights
        return weights + self.weights[:, :, start : start + weights.size(2)]

    def finish(self) -> None:
        """Appends what was found to the recorder."""
        with torch.no_grad():
            self.weights.copy_(torch.cat(self._found, dim=2))
        self.recorder.append(self.weights)


def apart(x: Tensor, width: int) -> Tensor:
    """(sources, heads, width · n, …) -> (rows, heads, n, …): queries that share a source, each in its own row again."""
    if width == 1:
        return x
    return x.unflatten(2, (width, -1)).transpose(1, 2).flatten(0, 1)
