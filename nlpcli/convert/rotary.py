"""Decoders with rotary positions (Su et al. 2021), which no GPT has: GPT-NeoX (Black et al. 2022) and Qwen3 (2025).

They are here for what is trained here: the former is GPT-2's block, the latter one of RMSNorm, SwiGLU and normalised
queries and keys. Published models of both have settings that are refused by name: parallel residuals and rotary
positions in a part of each head, grouped-query attention and another base of the angles.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nlpcli.convert.family import WRITTEN_ACTIVATIONS, Family, activation_in
from nlpcli.convert.name_map import Config, Pair, Weights, modules, same

_BASE = 10000.0  # of the angles
_SAME = {
    "d_model": "hidden_size",
    "heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "decoder_layers": "num_hidden_layers",
    "max_length": "max_position_embeddings",
    "attention_dropout": "attention_dropout",
    "init_std": "initializer_range",
}
_DEFAULTS = {
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "rope_parameters": None,
    "rope_theta": _BASE,
}


def _rope(theirs: Config, share: float) -> None:
    """Raises: ValueError unless all of every head is turned, by angles of the usual base."""
    said = theirs["rope_parameters"] or theirs.get("rope_scaling") or {}
    kind = said.get("rope_type", said.get("type", "default"))
    base = said.get("rope_theta", theirs.get("rotary_emb_base", theirs["rope_theta"]))
    part = said.get("partial_rotary_factor", theirs.get("rotary_pct", share))
    wrong = [
        f"{name} is {value!r} (only {known!r} is supported)"
        for name, value, known in (
            ("rope_type", kind, "default"),
            ("rope_theta", base, _BASE),
            ("partial_rotary_factor (rotary_pct)", part, 1.0),
        )
        if value != known
    ]
    if wrong:
        raise ValueError(", ".join(wrong))


def _written_rope() -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": _BASE, "partial_rotary_factor": 1.0}
    return {"rope_parameters": rope, "rope_theta": _BASE}


def _tied(ours: Config) -> bool:
    return ours["tie"] in ("all", "target-output")


# --- GPT-NeoX ----------------------------------------------------------------------------------------------------

_NEOX_LAYER = {
    "self_attention.output": "attention.dense",
    "self_attention_norm": "input_layernorm",
    "feed_forward.inner": "mlp.dense_h_to_4h",
    "feed_forward.outer": "mlp.dense_4h_to_h",
    "feed_forward_norm": "post_attention_layernorm",
}


def _head_by_head(names: list[str], theirs: str, heads: int) -> Pair:
    """Query, key and value of the first head, then those of the second, and so on."""

    def out(tensors: list[Tensor]) -> Tensor:
        parts = [tensor.unflatten(0, (heads, -1)) for tensor in tensors]  # (heads, d_key, …)
        return torch.stack(parts, 1).flatten(0, 2)

    def back(tensor: Tensor) -> list[Tensor]:
        return [part.flatten(0, 1) for part in tensor.unflatten(0, (heads, 3, -1)).unbind(1)]

    return Pair(tuple(names), theirs, out, back)


def _neox_pairs(ours: Config, theirs: Config) -> list[Pair]:
    pairs = [same("decoder_embedding.tokens.weight", "gpt_neox.embed_in.weight")]
    pairs += modules({"decoder.norm": "final_layer_norm"}, "", "gpt_neox.")
    for i in range(ours["decoder_layers"]):
        mine, their = f"decoder.layers.{i}.", f"gpt_neox.layers.{i}."
        for kind in ("weight", "bias"):
            names = [f"{mine}self_attention.{name}.{kind}" for name in ("query", "key", "value")]
            pairs.append(_head_by_head(names, f"{their}attention.query_key_value.{kind}", ours["heads"]))
        pairs += modules(_NEOX_LAYER, mine, their)
    if not _tied(ours):
        pairs.append(same("output_weight_owner.weight", "embed_out.weight"))
    return pairs


def _neox_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    _rope(theirs, 0.25)
    return {
        "activation": activation_in(theirs["hidden_act"]),
        "tie": "all" if theirs["tie_word_embeddings"] else "none",
    }


def _neox_write(ours: Config) -> dict[str, Any]:
    return {
        "hidden_act": WRITTEN_ACTIVATIONS[ours["activation"]],
        "tie_word_embeddings": _tied(ours),
        **_written_rope(),
        "rotary_pct": 1.0,
    }


GPT_NEOX = Family(
    model_type="gpt_neox",
    prefix="gpt_neox.",
    kind="decoder",
    title="GPT-NeoX",
    same={**_SAME, "norm_eps": "layer_norm_eps", "dropout": "hidden_dropout"},
    fixed={
        "norm_position": "pre",
        "positions": "rotary",
        "activation": tuple(WRITTEN_ACTIVATIONS),
        "initialization": "normal",
    },
    defaults={
        **_DEFAULTS,
        "layer_norm_eps": 1e-5,
        "hidden_dropout": 0.0,
        "hidden_act": "gelu",
        "use_parallel_residual": True,
    },
    only={"use_parallel_residual": False, "attention_bias": True},
    read=_neox_read,
    write=_neox_write,
    pairs=_neox_pairs,
    architecture=lambda ours: "GPTNeoXForCausalLM",
    ignored=("attention.bias", "attention.masked_bias", "rotary_emb.inv_freq", "embed_out.weight"),
)


# --- Qwen3 -------------------------------------------------------------------------------------------------------

_QWEN_ACTIVATIONS = {"silu": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh"}  # theirs -> ours
_QWEN_LAYER = {
    "self_attention.query": "self_attn.q_proj",
    "self_attention.key": "self_attn.k_proj",
    "self_attention.value": "self_attn.v_proj",
    "self_attention.output": "self_attn.o_proj",
    "self_attention.query_norm": "self_attn.q_norm",
    "self_attention.key_norm": "self_attn.k_norm",
    "self_attention_norm": "input_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.inner": "mlp.up_proj",
    "feed_forward.outer": "mlp.down_proj",
    "feed_forward_norm": "post_attention_layernorm",
}


def _qwen_pairs(ours: Config, theirs: Config) -> list[Pair]:
    pairs = [same("decoder_embedding.tokens.weight", "model.embed_tokens.weight")]
    pairs.append(same("decoder.norm.weight", "model.norm.weight"))
    for i in range(ours["decoder_layers"]):
        pairs += modules(_QWEN_LAYER, f"decoder.layers.{i}.", f"model.layers.{i}.", bias=False)
    if not _tied(ours):
        pairs.append(same("output_weight_owner.weight", "lm_head.weight"))
    return pairs


def _qwen_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    _rope(theirs, 1.0)
    if theirs["hidden_act"] not in _QWEN_ACTIVATIONS:
        raise ValueError(f"its activation is {theirs['hidden_act']!r}")
    if theirs.get("num_key_value_heads") not in (None, theirs["num_attention_heads"]):
        shared = theirs["num_key_value_heads"]
        raise ValueError(
            f"num_key_value_heads is {shared}, but num_attention_heads is {theirs['num_attention_heads']} "
            "(grouped-query attention is not supported)"
        )
    return {
        "activation": _QWEN_ACTIVATIONS[theirs["hidden_act"]],
        "d_value": theirs["head_dim"],
        "tie": "all" if theirs["tie_word_embeddings"] else "none",
    }


def _qwen_write(ours: Config) -> dict[str, Any]:
    activation = {ours: theirs for theirs, ours in _QWEN_ACTIVATIONS.items()}[ours["activation"]]
    return {
        "hidden_act": activation,
        "head_dim": ours["d_key"] or ours["d_model"] // ours["heads"],
        "num_key_value_heads": ours["heads"],
        "tie_word_embeddings": _tied(ours),
        **_written_rope(),
    }


QWEN3 = Family(
    model_type="qwen3",
    prefix="model.",
    kind="decoder",
    title="Qwen3",
    same={**_SAME, "norm_eps": "rms_norm_eps", "d_key": "head_dim"},
    fixed={
        "norm": "rmsnorm",
        "norm_bias": (True, False),  # RMSNorm has none
        "norm_position": "pre",
        "positions": "rotary",
        "qk_norm": True,
        "attention_bias": False,
        "feed_forward_bias": False,
        "activation": tuple(_QWEN_ACTIVATIONS.values()),
        "initialization": "normal",
    },
    defaults={**_DEFAULTS, "rms_norm_eps": 1e-6, "hidden_act": "silu", "head_dim": 128},
    only={"attention_bias": False, "use_sliding_window": False},
    read=_qwen_read,
    write=_qwen_write,
    pairs=_qwen_pairs,
    architecture=lambda ours: "Qwen3ForCausalLM",
    ignored=("lm_head.weight", "rotary_emb.inv_freq"),
)
