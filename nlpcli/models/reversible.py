"""Reversible layers (Gomez et al. 2017; in Transformers Kitaev et al. 2020): training keeps no states of layers.

    y1 = x1 + f(x2)        y2 = x2 + g(y1)        so that        x2 = y2 - g(y1)        x1 = y1 - f(x2)

The backward pass computes the inputs of a layer from its outputs, and its sublayers f and g once more, with the same
random numbers. So the memory of activations does not depend on the number of layers, for a third more operations. What
LSH and routing attention keep besides are the buckets, some bytes a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nlpcli.attention.recomputation_cache import recorded_choices, repeated_choices


@dataclass(frozen=True)
class Sublayer:
    """A function (rows, n, d_model) -> (rows, n, d_model), and the parameters that it has."""

    call: Callable[[Tensor], Tensor]
    parameters: Sequence[Tensor]


def reversible(first: Tensor, second: Tensor, layers: Sequence[tuple[Sublayer, Sublayer]]) -> tuple[Tensor, Tensor]:
    """The two streams after the layers, each given by f and g; no state is kept for the backward pass.

    Inputs and parameters get gradients; there are no second derivatives.
    """
    parameters = {id(p): p for layer in layers for part in layer for p in part.parameters if p.requires_grad}
    found: tuple[Tensor, Tensor] = _Reversible.apply(layers, first, second, *parameters.values())
    return found


class _Reversible(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # torch's record of a call, on which any attribute may be set
        layers: Sequence[tuple[Sublayer, Sublayer]],
        first: Tensor,
        second: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.layers, ctx.parameters = layers, parameters
        ctx.settings = _Settings.now(first)
        ctx.origins = []
        for f, g in layers:
            with _keeping(first, ctx.origins):
                first = first + f.call(second)
            with _keeping(first, ctx.origins):
                second = second + g.call(first)
        ctx.save_for_backward(first, second)
        return first, second

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # torch's record of a call, on which any attribute may be set
        of_first: Tensor,
        of_second: Tensor,
    ) -> tuple[Tensor | None, ...]:
        first, second = ctx.saved_tensors
        totals: dict[int, Tensor] = {}
        parts = [part for layer in ctx.layers for part in layer]
        for number in range(len(parts) - 1, -1, -1):
            # the last step was second += part(first); the one before it is the same with the streams exchanged
            found, of_input, gradients = _again(parts[number], first, of_second, ctx.origins[number], ctx.settings)
            of_first = of_first + of_input
            for name, gradient in gradients.items():
                totals[name] = totals[name] + gradient if name in totals else gradient
            first, second = second - found, first
            of_first, of_second = of_second, of_first
        return None, of_first, of_second, *(totals.get(id(p)) for p in ctx.parameters)


def _again(
    part: Sublayer, x: Tensor, slope: Tensor, origin: _Origin, settings: _Settings
) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
    """The sublayer's output for x, and the gradients of x and of its parameters, the latter by id."""
    x = x.detach().requires_grad_()
    with torch.enable_grad(), _repeating(x, origin), settings.again():
        found = part.call(x.view_as(x))  # no leaf, on which PyTorch's counter of operations can have no hook here
    trained = [p for p in part.parameters if p.requires_grad]
    of_input, *others = torch.autograd.grad(found, [x, *trained], slope.to(found.dtype), allow_unused=True)
    return found.detach(), of_input, {id(p): g for p, g in zip(trained, others, strict=True) if g is not None}


@dataclass(frozen=True)
class _Settings:
    """The settings of automatic mixed precision."""

    device: str
    enabled: bool
    dtype: torch.dtype | None

    @classmethod
    def now(cls, x: Tensor) -> _Settings:
        kind = x.device.type
        if not torch.amp.is_autocast_available(kind):
            return cls(kind, False, None)
        return cls(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))

    @contextmanager
    def again(self) -> Iterator[None]:
        if self.dtype is None:
            yield
            return
        with torch.autocast(self.device, enabled=self.enabled, dtype=self.dtype, cache_enabled=False):
            yield


@dataclass(frozen=True)
class _Origin:
    """The state of a sublayer's call besides its input: random states of the CPU, where dropout gets its seeds, and of
    the GPU that the input is on; and choices that it made."""

    random: Sequence[Tensor]
    choices: list[Tensor]


@contextmanager
def _keeping(x: Tensor, origins: list[_Origin]) -> Iterator[None]:
    random = [torch.get_rng_state(), *([torch.cuda.get_rng_state(x.device)] if x.is_cuda else [])]
    with recorded_choices() as choices:
        yield
    origins.append(_Origin(random, choices))


@contextmanager
def _repeating(x: Tensor, origin: _Origin) -> Iterator[None]:
    """The same random numbers and choices; afterwards the random state is restored."""
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), repeated_choices(origin.choices):
        torch.set_rng_state(origin.random[0])
        if x.is_cuda:
            torch.cuda.set_rng_state(origin.random[1], x.device)
        yield
