"""The map between names of our tensors and theirs, used in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nlpcli.config.model_settings import DEFAULT

Config = Mapping[str, Any]
Weights = Mapping[str, Tensor]


def _only(tensors: list[Tensor]) -> Tensor:
    (tensor,) = tensors
    return tensor


@dataclass(frozen=True)
class Pair:
    """One tensor of theirs and the one or more of ours that it holds.

    out: ours -> theirs; back: theirs -> ours. Both only move numbers, so that nothing is rounded.
    """

    ours: tuple[str, ...]
    theirs: str
    out: Callable[[list[Tensor]], Tensor] = _only
    back: Callable[[Tensor], list[Tensor]] = lambda tensor: [tensor]


def same(ours: str, theirs: str) -> Pair:
    return Pair((ours,), theirs)


def transposed(ours: str, theirs: str) -> Pair:
    """A matrix that is kept as (in, out) there, as GPT-2 has it."""
    return Pair((ours,), theirs, lambda tensors: _only(tensors).T, lambda tensor: [tensor.T])


def fused(ours: Iterable[str], theirs: str, *, turn: bool = False) -> Pair:
    """Matrices of one size below each other; turn: and the whole kept as (in, out)."""
    names = tuple(ours)

    def out(tensors: list[Tensor]) -> Tensor:
        whole = torch.cat(tensors)
        return whole.T if turn else whole

    return Pair(names, theirs, out, lambda tensor: list((tensor.T if turn else tensor).chunk(len(names))))


def as_row(ours: str, theirs: str) -> Pair:
    """A vector that is kept as a matrix of one row there."""
    return Pair((ours,), theirs, lambda tensors: _only(tensors)[None], lambda tensor: [tensor[0]])


def shaped(ours: str, theirs: str, there: tuple[int, ...], here: tuple[int, ...], *, turn: bool = False) -> Pair:
    """The same numbers in another shape; turn: a matrix that is kept as (in, out) there."""

    def out(tensors: list[Tensor]) -> Tensor:
        tensor = _only(tensors)
        return (tensor.T if turn else tensor).reshape(there)

    def back(tensor: Tensor) -> list[Tensor]:
        tensor = tensor.reshape(here)
        return [tensor.T if turn else tensor]

    return Pair((ours,), theirs, out, back)


def rolled(ours: str, theirs: str, rows: int) -> Pair:
    """Rows that stand so many places lower there; what falls off the end comes first."""
    return Pair((ours,), theirs, lambda tensors: _only(tensors).roll(rows, 0), lambda tensor: [tensor.roll(-rows, 0)])


def below(ours: str, theirs: str, rows: int) -> Pair:
    """A table with so many more rows of zeros at its front there."""

    def out(tensors: list[Tensor]) -> Tensor:
        table = _only(tensors)
        return torch.cat((table.new_zeros(rows, table.size(1)), table))

    return Pair((ours,), theirs, out, lambda tensor: [tensor[rows:]])


def modules(names: Mapping[str, str], ours: str = "", theirs: str = "", *, bias: bool = True) -> list[Pair]:
    """Weight and bias of each module; the prefixes `ours` and `theirs` go before the names."""
    kinds = ("weight", "bias") if bias else ("weight",)
    return [same(f"{ours}{a}.{kind}", f"{theirs}{b}.{kind}") for a, b in names.items() for kind in kinds]


def has(config: Config, name: str) -> bool:
    """Whether a model of this configuration has the weight `name`; only called for what may be left out."""
    part, _, kind = name.rpartition(".")
    if config.get("family", DEFAULT) != DEFAULT:
        return True
    if name.endswith("embedding.segments.weight"):
        return bool(config["segments"])
    if part == "pooler.dense":
        return bool(config["pooler"])
    if name == "output_bias":
        return bool(config["output_bias"] or config["kind"] == "encoder")
    if kind != "bias":
        return True
    if part.endswith("norm"):
        return bool(config["norm_bias"]) and config["norm"] == "layernorm"
    if "_attention." in part:
        return bool(config["attention_bias"])
    return bool(config["feed_forward_bias"]) if ".feed_forward." in part else True


def to_huggingface(pairs: Iterable[Pair], weights: Weights, config: Config) -> dict[str, Tensor]:
    """Tensors that ours lacks and theirs must have (`has`) are filled with zeros, which change nothing."""
    return {
        pair.theirs: pair.out(
            [weights[name] if has(config, name) else _zeros(name, weights, config) for name in pair.ours]
        ).contiguous()
        for pair in pairs
    }


def _zeros(name: str, weights: Weights, config: Config) -> Tensor:
    part, _, kind = name.rpartition(".")
    if kind == "bias" and f"{part}.weight" in weights:
        like = weights[f"{part}.weight"]
        return like.new_zeros(like.size(0))
    like = next(tensor for other, tensor in weights.items() if other.endswith("tokens.weight"))
    if part == "pooler.dense":
        width = config["d_model"]
        return like.new_zeros(width) if kind == "bias" else like.new_zeros(width, width)
    return like.new_zeros(1, like.size(1)) if kind == "weight" else like.new_zeros(like.size(0))


def from_huggingface(pairs: Iterable[Pair], weights: Weights, config: Config) -> dict[str, Tensor]:
    """Raises: KeyError for a tensor that is missing."""
    found: dict[str, Tensor] = {}
    for pair in pairs:
        wanted = [has(config, name) for name in pair.ours]
        if any(wanted):
            parts = pair.back(weights[pair.theirs])
            found |= {
                name: part.contiguous() for name, part, wants in zip(pair.ours, parts, wanted, strict=True) if wants
            }
    return found


_COLUMNS = ("embedding.tokens", "output_weight_owner", "query", "key", "value", "inner", "gate")
_ROWS = ("attention.output", "feed_forward.outer", "norm")


def halved(weights: Weights, *, back: bool = False) -> dict[str, Tensor]:
    """The same Transformer with the axis of d_model in another order: even places first, then odd ones.

    So sinusoids that are interleaved (Vaswani et al. 2017) become sines before cosines (Marian, PEGASUS).
    """
    found = {}
    for name, tensor in weights.items():
        part = name.rpartition(".")[0]
        axis = 0 if part.endswith(_ROWS) else 1 if part.endswith(_COLUMNS) and name.endswith("weight") else None
        found[name] = tensor if axis is None else tensor.index_select(axis, _order(tensor.size(axis), back))
    return found


def _order(width: int, back: bool) -> Tensor:
    order = torch.cat((torch.arange(0, width, 2), torch.arange(1, width, 2)))
    return order.argsort() if back else order
