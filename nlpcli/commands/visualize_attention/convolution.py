"""`--convolution`: a convolution with random weights, computed by attention as well."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from nlpcli.attention.convolution import ConvolutionalAttention
from nlpcli.attention.hooks import recording
from nlpcli.errors import NlpcliError
from nlpcli.escaping import quoted
from nlpcli.visualization.convolution_data import ConvolutionComparison, Sharpness

ALPHAS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
LARGEST_KERNEL = 5
_CHANNELS = 8
_LENGTHS = {1: 24, 2: 9}
_AROUND = 1
"""Positions that are drawn beyond those at which heads look."""


def compare_convolution(kernel: str, *, seed: int = 0) -> ConvolutionComparison:
    """A convolution and the attention layer of the same weights on random input, for each α, in float64.

    kernel: its size, "5" over a line or "3x3" over a plane. Raises: NlpcliError for a size that is none.
    """
    kernel_size = _kernel_size(kernel)
    size = (_LENGTHS[len(kernel_size)],) * len(kernel_size)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        convolution = _convolution(kernel_size).double()
        x = torch.randn(1, _CHANNELS, *size, dtype=torch.float64)
        wanted = convolution(x)
        levels = tuple(_level(ConvolutionalAttention(convolution, alpha), x, wanted) for alpha in ALPHAS)
        shifts = ConvolutionalAttention(convolution, 1.0).shifts.long().tolist()
    return ConvolutionComparison(kernel_size, _CHANNELS, size, tuple(map(tuple, shifts)), levels)


def _convolution(kernel_size: tuple[int, ...]) -> nn.Conv1d | nn.Conv2d:
    if len(kernel_size) == 1:
        return nn.Conv1d(_CHANNELS, _CHANNELS, kernel_size[0], padding="same")
    return nn.Conv2d(_CHANNELS, _CHANNELS, (kernel_size[0], kernel_size[1]), padding="same")


def _kernel_size(text: str) -> tuple[int, ...]:
    found = re.fullmatch(r"\s*(\d{1,9})(?:\s*[x×,]\s*(\d{1,9}))?\s*", text)
    hint = "such as 5 (over a line) or 3x3 (over a plane)"
    if not found:
        raise NlpcliError(f"--convolution needs the size of a kernel, but {quoted(text)} is none", hint=hint)
    size = tuple(int(number) for number in found.groups() if number)
    for number in size:
        if number % 2 == 0 or number > LARGEST_KERNEL:
            raise NlpcliError(
                f"--convolution {text.strip()} is not possible: a kernel must be odd in size and at most "
                f"{LARGEST_KERNEL}",
                hint=hint,
            )
    return size


def _level(layer: ConvolutionalAttention, x: Tensor, wanted: Tensor) -> Sharpness:
    with recording(layer.attention) as [recorder]:
        found = layer(x)
    [weights] = recorder  # (1, heads, positions, positions)
    padded = [length + 2 * reach for length, reach in zip(x.shape[2:], layer.reach, strict=True)]
    middle = [length // 2 for length in padded]
    query = int(torch.arange(weights.size(2)).view(padded)[tuple(middle)])
    window = weights[0, :, query].unflatten(1, padded)
    for axis, (place, reach) in enumerate(zip(middle, layer.reach, strict=True), start=1):
        around = reach + _AROUND
        window = window.narrow(axis, place - around, 2 * around + 1)
    error = (found - wanted).abs().max() / wanted.abs().max()
    return Sharpness(layer.alpha, float(error), window.numpy())
