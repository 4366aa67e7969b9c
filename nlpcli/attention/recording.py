"""Looking at attention while it works: what a layer hands out of its weights, and nothing while nobody looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from nlpcli.attention.softmax import softmax_attention, softmax_weights


class Recorder(list[Tensor]):
    """The weights (rows, heads, n, m) of each call of an attention layer, in the order of the calls.

    gradients: the layer's context is computed out of the very tensor that is recorded, context = weights · value, so
    that its output has a derivative by it; otherwise the layer works as ever, and its weights are computed beside.
    """

    def __init__(self, *, gradients: bool = False) -> None:
        super().__init__()
        self.gradients = gradients


@contextmanager
def recording(*layers: Any, gradients: bool = False) -> Iterator[list[Recorder]]:
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
        for layer, recorder in before.items():
            layer.recorder = recorder


def recorded_attention(
    recorder: Recorder, query: Tensor, key: Tensor, value: Tensor, *, width: int = 1, dropout: float = 0.0, **given: Any
) -> Tensor:
    """As `softmax_attention`, and the weights are appended to `recorder`, without dropout.

    query (sources, heads, width · n, d_key): of `width` rows each that share a row of key and value.
    Returns: (sources · width, heads, n, d_value).
    """
    weights = apart(softmax_weights(query, key, **given), width)
    if not recorder.gradients:
        recorder.append(weights.detach())
        return apart(softmax_attention(query, key, value, dropout=dropout, **given), width)
    if not weights.requires_grad:
        weights.requires_grad_()
    recorder.append(weights)
    return F.dropout(weights, dropout) @ value.repeat_interleave(width, dim=0)


def apart(x: Tensor, width: int) -> Tensor:
    """(sources, heads, width · n, …) -> (rows, heads, n, …): queries that share a source, each in its own row again."""
    if width == 1:
        return x
    return x.unflatten(2, (width, -1)).transpose(1, 2).flatten(0, 1)
