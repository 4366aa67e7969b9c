"""Counting floating-point operations: of matrix products and attention, forward and backward, as they are run.

A product of (n, k) and (k, m) counts as 2·n·k·m; a causal mask saves nothing. Norms, activations and sums are left out:
beside products they are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Size
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

_ATEN = torch.ops.aten


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Counts what is done inside; the function that is handed out gives the number. Compiled code runs uncompiled."""
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False, custom_mapping=_OF_CPU) as mode:
        yield mode.get_total_flops


def _forward(query: Size, key: Size, value: Size, *_: object, out_shape: object = None, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(
    gradient: Size, query: Size, key: Size, value: Size, *_: object, out_shape: object = None, **__: object
) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


_OF_CPU = {  # which PyTorch's own table lacks
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _forward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
