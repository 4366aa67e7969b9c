"""Which settings each family of models reads. What a family doesn't read is refused, instead of being dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STACK = (
    "d_model",
    "heads",
    "kv_heads",
    "d_ff",
    "d_key",
    "d_value",
    "norm",
    "norm_position",
    "parallel_residual",
    "first_norm",
    "norm_eps",
    "norm_bias",
    "qk_norm",
    "activation",
    "attention_bias",
    "attention_scale",
    "feed_forward_bias",
    "dropout",
    "attention_dropout",
    "activation_dropout",
)
"""What a stack of the Transformer is told, under the names it has there."""

RECURRENT = (
    "d_model",
    "heads",
    "d_ff",
    "d_key",
    "memory_length",
    "clamp_length",
    "activation",
    "norm_eps",
    "dropout",
    "attention_dropout",
    "activation_dropout",
)
"""What both models with memory are told, under the names they have there."""

_EVERY = ("family", "kind", "encoder_layers", "decoder_layers", "max_length", "initialization", "init_std")
_EMBEDDING = ("d_embedding", "positions", "position_offset", "scale_embeddings", "segments", "embedding_norm")
_ROTARY = ("rope_theta", "rope_local_theta", "rope_share", "rope_scaling")
_RELATIVE = ("relative_bias", "relative_buckets", "relative_distance")
_HEADS = ("output_bias", "scale_output", "mlm_head", "mlm_head_bias", "pooler", "pair_head")
_SOURCE = ("source_layers", "source_vocab_size")
_ATTENTION = ("attention", "decoder_attention")

READ: Mapping[str, frozenset[str]] = {
    "transformer": frozenset(
        (*_EVERY, *STACK, *_EMBEDDING, *_ROTARY, *_RELATIVE, *_HEADS, *_SOURCE, *_ATTENTION, "tie", "output_dropout")
    ),
    "transformer-xl": frozenset(
        (*_EVERY, *RECURRENT, "norm_position", "tie", "output_bias", "adaptive_cutoffs", "share_position_biases")
    ),
    "xlnet": frozenset((*_EVERY, *RECURRENT)),
}
"""Family -> the settings it reads."""

IS: Mapping[str, Mapping[str, Any]] = {
    "transformer-xl": {"positions": "none"},
    "xlnet": {
        "positions": "none",
        "scale_embeddings": False,
        "segments": 2,
        "share_position_biases": False,
        "output_bias": True,
    },
}
"""Family -> settings it doesn't read, with the values that say what it is; the others are as by default."""

DEFAULT = "transformer"

PERMUTES = frozenset({"xlnet"})
"""Families that predict tokens in any order of factorization."""

RECURRENCE = frozenset({"transformer-xl", "xlnet"})
"""Families that remember the hidden states of earlier segments."""


def readers(setting: str) -> list[str]:
    """The families that read a setting."""
    return [family for family, settings in READ.items() if setting in settings]
