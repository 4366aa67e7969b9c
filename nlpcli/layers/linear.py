"""Linear layers whose float32 products are computed by the faster of the two libraries that PyTorch has on a CPU.

PyTorch gives float32 products to MKL, which does without AVX-512 on processors that are not Intel's; oneDNN, which
PyTorch takes for bfloat16, has it everywhere and is 2 to 2.3 times as fast there. On Intel's processors, on GPUs and in
other precisions nothing changes. Sums are added in another order, so results agree to rounding.

Which library computes a product depends on its shape alone, so that a run that is resumed computes what it would have.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_WORTHWHILE = 1 << 21  # multiplications: below, the call of oneDNN costs more than it saves
_WORTHWHILE_PACKED = 1 << 20
_LEAST_STEP = 64
_LEAST_STEP_PACKED = 8
_LEAST_ROWS_NARROWED = 16  # fewer rows are multiplied in less time than the best tokens are found in blocks
_NARROWED = 1 << 24  # multiplications
_BLOCK_OF_TOKENS = 64
_BLOCK = 512  # rows of the gradient of a matrix that are summed up at once, and stay in the cache


class Linear(nn.Linear):
    """`torch.nn.Linear` by `linear` below: x (…, d_in) -> x · weightᵀ + bias (…, d_out)."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`: x (…, d_in), weight (d_out, d_in), bias (d_out) -> (…, d_out), with gradients."""
    if not _by_onednn(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _Linear.apply(x, weight, bias)
    return _multiply(x, weight, bias)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a · bᵀ of matrices (n, k) and (m, k) -> (n, m), without gradients."""
    return _multiply(a, b) if _by_onednn(a, b) else a @ b.t()


class FrozenLinear:
    """x (rows, d_in) -> (rows, d_out) for many calls with weights that don't change, which are laid out for them once.

    Several layers that read the same are one product, their results one behind the other. relu: max(0, ·) of it.
    """

    def __init__(self, *layers: nn.Linear, relu: bool = False) -> None:
        weights: list[Tensor] = [layer.weight for layer in layers]
        weight = torch.cat(weights)
        self.bias: Tensor | None = None
        if any(layer.bias is not None for layer in layers):
            self.bias = torch.cat([_bias(layer) for layer in layers])
        self._relu = relu
        self._packed = _packed(weight)
        self._many = math.inf if self._packed is None else _WORTHWHILE_PACKED / weight.numel()  # rows
        self._weight = weight.t().contiguous()  # as (d_in, d_out), which few rows are multiplied with in less time

    def __call__(self, x: Tensor, to: Tensor | None = None) -> Tensor:
        """to (rows, d_out): what the result is added to."""
        if self._packed is not None and x.size(0) >= self._many:
            found = _multiply(x, self._packed, self.bias, _LEAST_STEP_PACKED, "relu" if self._relu else "none")
            return found if to is None else found.add_(to)
        if to is not None:
            found = torch.addmm(to, x, self._weight)
            return found if self.bias is None else found.add_(self.bias)
        found = torch.mm(x, self._weight) if self.bias is None else torch.addmm(self.bias, x, self._weight)
        return found.relu_() if self._relu else found


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias


class FrozenVocabulary:
    """hidden (rows, d_model) -> logits (rows, vocabulary), as `FrozenLinear`, but without a copy of so large a matrix
    where it would not be read in less time."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.bias = bias
        self._packed = _packed(weight)
        self._weight = weight
        self._narrowing: _Narrowing | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        if self._packed is None:
            return F.linear(hidden, self._weight, self.bias)
        return _multiply(hidden, self._packed, self.bias, _LEAST_STEP_PACKED if hidden.size(0) > 1 else 1)

    def best(self, hidden: Tensor, never: Tensor) -> Tensor:
        """The tokens (rows,) with the largest logits but for those of the ids `never`."""
        worthwhile = hidden.size(0) >= _LEAST_ROWS_NARROWED and hidden.size(0) * self._weight.numel() >= _NARROWED
        if worthwhile and self.bias is None and self._packed is not None:
            if self._narrowing is None and has_bfloat16_products():
                self._narrowing = _Narrowing(self._weight)
            if self._narrowing is not None:
                return self._narrowing.best(hidden, never)
        return self(hidden).index_fill_(1, never, -torch.inf).argmax(1)


class _Narrowing:
    """The largest logits of float32, by way of those of bfloat16, which cost half as much.

    Numbers that are rounded to bfloat16 are off by a share of u = 2⁻⁹ at most. So a logit h · w is off by at most
    (2 u + u²) ‖h‖ ‖w‖ (Cauchy and Schwarz), and by u |h · w| more once it is rounded itself. Only tokens whose logit is
    within twice that of the largest one can have the largest logit of float32; most often it is one alone, and for
    others it is computed.
    """

    def __init__(self, weight: Tensor) -> None:
        vocabulary = weight.size(0)
        rows = F.pad(weight, (0, 0, 0, -vocabulary % _BLOCK_OF_TOKENS)).to(torch.bfloat16)
        self._weight, self._vocabulary = weight, vocabulary
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(rows)
        self._none = torch.arange(vocabulary, rows.size(0))  # rows that are not tokens
        self._off = 1.01 * (3 * 2**-9 + 2**-16) * float(weight.norm(dim=1).max())
        """1.01: for what is lost when numbers are added up"""

    def best(self, hidden: Tensor, never: Tensor) -> Tensor:
        rows = hidden.size(0)
        narrow = _padded(hidden, _LEAST_STEP_PACKED).to(torch.bfloat16)
        logits: Tensor = torch.ops.mkldnn._linear_pointwise(narrow, self._packed, None, "none", [], "")[:rows]
        logits = logits.index_fill_(1, torch.cat((never, self._none)), -torch.inf)
        logits = logits.float().view(rows, -1, _BLOCK_OF_TOKENS)
        maxima = logits.amax(2)  # (rows, blocks), of bfloat16 in five times the time
        least = maxima.amax(1) - 2 * self._off * hidden.norm(dim=1)  # (rows,)
        row, block = (maxima >= least[:, None]).nonzero().unbind(1)
        found, place = (logits[row, block] >= least[row, None]).nonzero().unbind(1)
        row, token = row[found], block[found] * _BLOCK_OF_TOKENS + place
        if row.numel() == rows:
            return token
        exact = (hidden[row] * self._weight[token]).sum(1)
        largest = exact.new_full((rows,), -torch.inf).scatter_reduce_(0, row, exact, "amax")
        is_largest = exact == largest[row]
        every = token.new_full((rows,), self._vocabulary)
        return every.scatter_reduce_(0, row[is_largest], token[is_largest], "amin")


def _packed(weight: Tensor) -> Tensor | None:
    """A matrix (d_out, d_in) as oneDNN reads it fastest; None where PyTorch's own product is faster."""
    if not onednn_is_faster() or weight.dtype != torch.float32 or weight.device.type != "cpu":
        return None
    with torch.no_grad():
        found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
    return found


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this processor has AVX-512 and is not one that MKL uses it on."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and _vendor() == "AuthenticAMD"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


@functools.cache
def has_bfloat16_products() -> bool:
    """Whether this processor multiplies numbers of bfloat16 without turning them into float32 first."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return supported is not None and bool(supported())


def _vendor() -> str:
    """Who made the processor, in the processor's own words; "" where the system does not report it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "vendor_id"), "")


def padded_rows(rows: int, least_step: int) -> int:
    """So many rows, or some more: oneDNN prepares a kernel for each number of rows, in about 0.4 ms and 0.7 MB, and
    batches of sentences have ever new numbers. There are at most eight between one power of two and the next."""
    step = max(least_step, 1 << max(0, rows.bit_length() - 4))
    return -(-rows // step) * step


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        onednn_is_faster()
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and {type(x), type(weight)} <= {Tensor, nn.Parameter}  # no parts of a tensor on other machines, no traces
        and not torch.compiler.is_compiling()  # nor a graph for any number of rows
        and x.numel() * weight.size(0) >= _WORTHWHILE
        and not torch.is_autocast_enabled("cpu")
    )


def _multiply(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, least_step: int = _LEAST_STEP, then: str = "none"
) -> Tensor:
    """x (…, d_in) · weightᵀ + bias (…, d_out); then: "relu" for max(0, ·) of it"""
    rows = x.reshape(-1, x.size(-1))
    found: Tensor = torch.ops.mkldnn._linear_pointwise(_padded(rows, least_step), weight, bias, then, [], "")
    if found.size(0) != rows.size(0):
        found = found[: rows.size(0)]
    return found if x.dim() == 2 else found.view(*x.shape[:-1], found.size(-1))


def _padded(rows: Tensor, least_step: int = _LEAST_STEP) -> Tensor:
    """Zeros behind the rows, up to a number of rows that oneDNN may have a kernel for."""
    missing = padded_rows(rows.size(0), least_step) - rows.size(0)
    return F.pad(rows, (0, 0, 0, missing)) if missing else rows


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # torch's record of a call
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, weight.size(0))
        return (
            _multiply(gradient, weight.t()) if of_x else None,
            _summed(rows, x.reshape(-1, weight.size(1))) if of_weight else None,
            rows.sum(dim=0) if of_bias else None,
        )


def _summed(gradient: Tensor, x: Tensor) -> Tensor:
    """gradientᵀ · x: (rows, d_out), (rows, d_in) -> (d_out, d_in)."""
    total: Tensor | None = None
    for g, part in zip(gradient.split(_BLOCK), x.split(_BLOCK), strict=True):
        found: Tensor = torch.ops.mkldnn._linear_pointwise(_padded(g).t(), _padded(part).t(), None, "none", [], "")
        total = found if total is None else total.add_(found)
    assert total is not None
    return total
