"""Counting floating-point operations: of matrix products and attention, forward and backward, as they are run.

A product of (n, k) and (k, m) counts as 2·n·k·m; a causal mask saves nothing. Norms, activations and sums are left out:
beside products they are few. A recurrent layer counts as the products of its matrices with n inputs and n states, and
twice as many in the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Size, Tensor
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

_ATEN = torch.ops.aten


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Counts what is done inside; the function that is handed out gives the number. Compiled code runs uncompiled."""
    with (
        torch.compiler.set_stance("force_eager"),
        _WithoutSteps(),
        FlopCounterMode(display=False, custom_mapping=_FUSED) as mode,
    ):
        yield mode.get_total_flops


class _WithoutSteps(TorchFunctionMode):
    """On the meta device PyTorch takes the steps of a recurrent layer one by one, in seconds; here they are a product.

    Of layers with one direction or two, for rows that are padded, not packed.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _KERNELS and args[0].is_meta and isinstance(args[3], bool):
            return _products(*args, is_lstm=func is torch.lstm)
        return func(*args, **(kwargs or {}))


_KERNELS = (torch.lstm, torch.gru, torch.rnn_tanh)


def _products(
    x: Tensor, state: Any, weights: Sequence[Tensor], has_biases: bool, layers: int, *_: object, is_lstm: bool
) -> tuple[Tensor, ...]:
    """The output of a recurrent kernel for rows x (rows, n, d_in), by the same products; only its shape is right."""
    per_direction = 4 if has_biases else 2
    directions = len(weights) // per_direction // layers
    last: list[Tensor] = []
    for start in range(0, len(weights), per_direction * directions):
        found = []
        for direction in range(directions):
            matrix, recurrent = weights[start + direction * per_direction :][:2]
            gates = linear(x, matrix)
            found.append(linear(gates[..., : recurrent.size(1)], recurrent)[..., : recurrent.size(1)])
        last += [states[:, -1] for states in found]
        x = torch.cat(found, dim=-1)
    final = torch.stack(last)
    return (x, final, final) if is_lstm else (x, final)


def _forward(query: Size, key: Size, value: Size, *_: object, out_shape: object = None, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(
    gradient: Size, query: Size, key: Size, value: Size, *_: object, out_shape: object = None, **__: object
) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def _recurrent(read: Size, weights: Sequence[Size]) -> int:
    """The FLOPs of one pass over inputs (…, d_in): products with all matrices at every step."""
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


def _by_onednn(x: Size, weight: Size, *_: object, out_shape: object = None, **__: object) -> int:
    return 2 * math.prod(x) * weight[0]


_FUSED = {  # which PyTorch's own table lacks
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _forward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
    _ATEN.mkldnn_rnn_layer: _lstm_on_cpu,
    _ATEN.mkldnn_rnn_layer_backward: _lstm_on_cpu_backward,
    _ATEN._cudnn_rnn: _recurrent_on_gpu,
    _ATEN._cudnn_rnn_backward: _recurrent_on_gpu_backward,
    torch.ops.mkldnn._linear_pointwise: _by_onednn,
}
