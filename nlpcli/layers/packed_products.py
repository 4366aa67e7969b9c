"""Products of states with weights that do not change, which oneDNN computes from a packed copy of the weights.

PyTorch gives products in float32 on a CPU to MKL, which is slow on processors that are not Intel's, and packs the
weights anew in each call. Inside `PackedProducts`, linear layers use oneDNN and pack their weights once.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

_ROWS = 1024  # for which weights are packed; other numbers of rows work, too
_LEAST_ROWS = 16  # below it, MKL's products of a matrix and a vector are as fast
_PACKED: Any = WeakIdKeyDictionary()  # a weight -> its version and the packed copy
_PROCESSORS = ("x86_64", "AMD64")


class PackedProducts(TorchFunctionMode):
    """Inside, linear layers without gradients compute in this way where they can, and as usual where they can't.

    y = x Wᵀ + b in float32 on a CPU: the numbers may differ from PyTorch's in the last digits. A copy of the weights is
    kept as long as they are; a weight that was changed is packed anew.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.nn.functional.linear and not kwargs and _fits(*args):
            x, weight, bias = (*args, None)[:3]
            return torch.ops.mkldnn._linear_pointwise(x, _packed(weight), bias, "none", [], "")
        return func(*args, **(kwargs or {}))


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    return (
        _AVAILABLE
        and not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= _LEAST_ROWS * x.size(-1)
        and not weight.is_inference()
        and not torch.is_autocast_enabled("cpu")
    )


def _packed(weight: Tensor) -> Tensor:
    known = _PACKED.get(weight)
    if known is None or known[0] != weight._version:
        made = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS)
        _PACKED[weight] = known = (weight._version, made)
    return known[1]


_AVAILABLE = (
    torch.backends.mkldnn.is_available()
    and platform.machine() in _PROCESSORS
    and all(hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight"))
)
