"""Counting floating-point operations: of matrix products and attention, forward and backward, as they are run.

A product of (n, k) and (k, m) counts as 2·n·k·m; a causal mask saves nothing. Norms, activations and sums are left out:
beside products they are few. A recurrent layer counts as the products of its matrices with n inputs and n states, and
twice as many in the backward pass.
"""

from __future__ import annotations

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
        FlopCounterMode(display=False, custom_mapping=_OF_CPU) as mode,
    ):
        yield mode.get_total_flops


class _WithoutSteps(TorchFunctionMode):
    """On the meta device PyTorch takes the steps of a recurrent layer one by one, in seconds; here they are one product.

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
    """What a recurrent kernel gives for rows x (rows, n, d_in), by the same products, its values aside."""
    per_direction = 4 if has_biases else 2
    directions = len(weights) // per_direction // layers
    for start in range(0, len(weights), per_direction * directions):
        found = []
        for direction in range(directions):
            matrix, recurrent = weights[start + direction * per_direction :][:2]
            gates = linear(x, matrix)
            found.append(linear(gates[..., : recurrent.size(1)], recurrent)[..., : recurrent.size(1)])
        x = torch.cat(found, dim=-1)
    return (x, *(state if is_lstm else (state,)))


def _forward(query: Size, key: Size, value: Size, *_: object, out_shape: object = None, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(
    gradient: Size, query: Size, key: Size, value: Size, *_: object, out_shape: object = None, **__: object
) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def _lstm(x: Size, matrix: Size, recurrent: Size, *_: object, out_shape: object = None, **__: object) -> int:
    """Of one layer and direction, x (n, rows, d_in)."""
    return 2 * x[0] * x[1] * (matrix[0] * matrix[1] + recurrent[0] * recurrent[1])


def _lstm_backward(*shapes: Size, out_shape: object = None, **__: object) -> int:
    return 2 * _lstm(*shapes)


_OF_CPU = {  # which PyTorch's own table lacks
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _forward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
    _ATEN.mkldnn_rnn_layer: _lstm,
    _ATEN.mkldnn_rnn_layer_backward: _lstm_backward,
}
