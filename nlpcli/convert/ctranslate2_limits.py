"""What CTranslate2 can express, and what of a folder for it follows from a model's settings and tokenizer alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nlpcli.attention.kinds import parse_attention
from nlpcli.attention.patterns import Full
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.text import Tokenizer

_ABSENT: Mapping[str, Any] = {
    "head_aggregation": "projection", "reversible": False, "first_norm": True, "global_tokens": 0, "source_layers": 0,
    "segments": 0, "relative_bias": False,
}  # fmt: skip
"""Settings that can have no other value there."""


def misfits(config: ModelConfig) -> list[str]:
    """The settings of a model that CTranslate2 can't express, such as "model.positions 'alibi'"."""
    if not isinstance(config, TransformerConfig):
        return [f"model.family '{config.family}'"]
    if config.kind == "encoder":
        return ["model.kind 'encoder'"]
    return [f"model.{name} {_shown(getattr(config, name))}" for name in _misfits(config)]


def _misfits(c: TransformerConfig) -> list[str]:
    found = [name for name, value in _ABSENT.items() if getattr(c, name) != value]
    for name in ("attention", "decoder_attention"):
        entries = map(parse_attention, getattr(c, name) or ())
        if any((entry.name, entry.pattern) != ("softmax", Full()) for entry in entries):
            found.append(name)
    if c.score not in ("dot", "scaled-dot"):
        found.append("score")
    if c.head_aggregation == "projection" and c.value_width != key_width(c):
        found.append("d_value")
    if (
        c.kind == "encoder-decoder"
    ):  # no such bias in the encoder; cross-attention normalizes all heads of a query as one
        found += [name for name, value in (("positions", "alibi"), ("qk_norm", True)) if getattr(c, name) == value]
    if c.positions == "rotary" and c.rope_scaling.method not in ("none", "linear"):
        found.append("rope_scaling")
    if c.parallel_residual and c.norm == "rmsnorm":
        found.append("norm")
    return found


def _shown(value: object) -> str:
    if hasattr(value, "method"):
        value = value.method
    if isinstance(value, (bool, list)):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else str(value)


def position_count(config: TransformerConfig) -> int | None:
    """How many positions a folder has for each text, None where nothing limits them.

    Of computed positions there are as many as the longest translation of the longest source has by default.
    """
    if config.positions in ("rotary", "relative", "alibi"):
        return None
    return config.max_length if config.positions == "learned" else 2 * config.max_length + 64


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """A name for each id, which no other id has: its spelling, where that is not taken."""
    names: dict[str, None] = {}
    for id_ in range(tokenizer.vocab_size):
        piece = tokenizer.id_to_piece(id_)
        names[f"<unused_{id_}>" if not piece or piece in names else piece] = None
    return list(names)


def key_width(c: TransformerConfig) -> int:
    """The size of the queries and keys of a head."""
    return c.d_key or c.d_model // c.heads
