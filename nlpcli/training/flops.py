"""Counting floating-point operations: of matrix products and attention, forward and backward, as they are run.

A product of (n, k) and (k, m) counts as 2·n·k·m; a causal mask saves nothing. Norms, activations and sums are left out:
beside products they are few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Size
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

_ATEN = torch.ops.aten


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Counts what is done inside; the function that is handed out gives the number. Compiled code runs uncompiled."""
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False, custom_mapping=_FUSED) as mode:
        yield mode.get_total_flops


def _forward(query: Size, key: Size, value: Size, *_: object, out_shape: object = None, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(
    gradient: Size, query: Size, key: Size, value: Size, *_: object, out_shape: object = None, **__: object
) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def _recurrent(read: Size, weights: Sequence[Size]) -> int:
    """Of one pass over inputs (…, d_in): products with all matrices at every step."""
    return 2 * math.prod(read[:-1]) * sum(math.prod(weight) for weight in weights if len(weight) == 2)


def _lstm_on_cpu(read: Size, *weights: object, out_shape: object = None, **__: object) -> int:
    return _recurrent(read, [weight for weight in weights[:2] if isinstance(weight, Size)])


def _lstm_on_cpu_backward(read: Size, *weights: object, out_shape: object = None, **__: object) -> int:
    return 2 * _lstm_on_cpu(read, *weights)


def _recurrent_on_gpu(read: Size, weights: Sequence[Size], *_: object, out_shape: object = None, **__: object) -> int:
    return _recurrent(read, weights)


def _recurrent_on_gpu_backward(
    read: Size, weights: Sequence[Size], *_: object, out_shape: object = None, **__: object
) -> int:
    return 2 * _recurrent(read, weights)


_FUSED = {  # which PyTorch's own table lacks
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _forward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
    _ATEN.mkldnn_rnn_layer: _lstm_on_cpu,
    _ATEN.mkldnn_rnn_layer_backward: _lstm_on_cpu_backward,
    _ATEN._cudnn_rnn: _recurrent_on_gpu,
    _ATEN._cudnn_rnn_backward: _recurrent_on_gpu_backward,
}
