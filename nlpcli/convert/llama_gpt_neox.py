"""Decoders with rotary positions (Su et al. 2021): GPT-NeoX (Black et al. 2022), Llama (Touvron et al. 2023), Mistral
(Jiang et al. 2023) and Qwen3 (2025).

GPT-NeoX is GPT-2's block with rotary positions in a part of each head, mostly with a parallel residual. The others are
one block of RMSNorm, SwiGLU and grouped-query heads: Mistral adds a window, Qwen3 normalized queries and keys.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nlpcli.attention.kinds import parse_attention
from nlpcli.attention.patterns import Full, Window
from nlpcli.convert import rope
from nlpcli.convert.family import WRITTEN_ACTIVATIONS, Family, activation_in
from nlpcli.convert.name_map import Config, Pair, Weights, modules, same

_SAME = {
    "d_model": "hidden_size",
    "heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "decoder_layers": "num_hidden_layers",
    "max_length": "max_position_embeddings",
    "attention_dropout": "attention_dropout",
    "init_std": "initializer_range",
}
_DEFAULTS = {"attention_dropout": 0.0, "initializer_range": 0.02, "tie_word_embeddings": False}


def _tied(ours: Config) -> bool:
    return ours["tie"] in ("all", "target-output")


def _tie(theirs: Config, weights: Weights, output: str) -> str:
    return "none" if output in weights and not theirs["tie_word_embeddings"] else "all"


# --- GPT-NeoX ----------------------------------------------------------------------------------------------------

_NEOX_OUTPUT = {"self_attention.output": "attention.dense"}
_NEOX_LAYER = {
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
            if kind == "weight" or ours["attention_bias"]:
                pairs.append(_head_by_head(names, f"{their}attention.query_key_value.{kind}", ours["heads"]))
        pairs += modules(_NEOX_OUTPUT, mine, their, bias=ours["attention_bias"])
        pairs += modules(_NEOX_LAYER, mine, their)
    if not _tied(ours):
        pairs.append(same("output_weight_owner.weight", "embed_out.weight"))
    return pairs


def _neox_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    return {
        "activation": activation_in(theirs["hidden_act"]),
        "tie": _tie(theirs, weights, "embed_out.weight"),
        **rope.rope_in(theirs, 0.25),
    }


def _neox_write(ours: Config) -> dict[str, Any]:
    written = rope.rope_out(ours)
    written["rope_parameters"]["partial_rotary_factor"] = ours["rope_share"]
    return {
        "hidden_act": WRITTEN_ACTIVATIONS[ours["activation"]],
        "tie_word_embeddings": _tied(ours),
        **written,
        "rotary_pct": ours["rope_share"],
        "rotary_emb_base": ours["rope_theta"],
    }


GPT_NEOX = Family(
    model_type="gpt_neox",
    prefix="gpt_neox.",
    kind="decoder",
    title="GPT-NeoX",
    same={
        **_SAME,
        "norm_eps": "layer_norm_eps",
        "dropout": "hidden_dropout",
        "attention_bias": "attention_bias",
        "parallel_residual": "use_parallel_residual",
    },
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
        "attention_bias": True,
    },
    handled=rope.SETTINGS,
    read=_neox_read,
    write=_neox_write,
    also=rope.unwritable,
    pairs=_neox_pairs,
    architecture=lambda ours: "GPTNeoXForCausalLM",
    ignored=("attention.bias", "attention.masked_bias", "rotary_emb.inv_freq", "embed_out.weight"),
)


# --- Llama, Mistral, Qwen3 ---------------------------------------------------------------------------------------

_GATED = {"silu": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh"}  # theirs -> ours
_ATTENTION = {
    "self_attention.query": "self_attn.q_proj",
    "self_attention.key": "self_attn.k_proj",
    "self_attention.value": "self_attn.v_proj",
    "self_attention.output": "self_attn.o_proj",
}
_FEED_FORWARD = {
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.inner": "mlp.up_proj",
    "feed_forward.outer": "mlp.down_proj",
}
_NORMS = {"self_attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}
_QK_NORMS = {"self_attention.query_norm": "self_attn.q_norm", "self_attention.key_norm": "self_attn.k_norm"}


def _llama_pairs(ours: Config, theirs: Config) -> list[Pair]:
    pairs = [same("decoder_embedding.tokens.weight", "model.embed_tokens.weight")]
    pairs.append(same("decoder.norm.weight", "model.norm.weight"))
    norms = _NORMS | (_QK_NORMS if ours["qk_norm"] else {})
    for i in range(ours["decoder_layers"]):
        mine, their = f"decoder.layers.{i}.", f"model.layers.{i}."
        pairs += modules(_ATTENTION, mine, their, bias=ours["attention_bias"])
        pairs += modules(_FEED_FORWARD, mine, their, bias=ours["feed_forward_bias"])
        pairs += modules(norms, mine, their, bias=False)
    if not _tied(ours):
        pairs.append(same("output_weight_owner.weight", "lm_head.weight"))
    return pairs


def _llama_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    if theirs["hidden_act"] not in _GATED:
        raise ValueError(f"its activation is {theirs['hidden_act']!r}")
    turning = rope.rope_in(theirs)
    if turning["rope_share"] != 1.0:
        raise ValueError(f"partial_rotary_factor is {turning['rope_share']!r} (only 1.0 is supported)")
    return {
        "activation": _GATED[theirs["hidden_act"]],
        "d_value": theirs["head_dim"],
        "tie": _tie(theirs, weights, "lm_head.weight"),
        **turning,
    }


def _llama_write(ours: Config) -> dict[str, Any]:
    return {
        "hidden_act": {ours: theirs for theirs, ours in _GATED.items()}[ours["activation"]],
        "head_dim": ours["d_key"] or ours["d_model"] // ours["heads"],
        "num_key_value_heads": ours["kv_heads"] or ours["heads"],
        "tie_word_embeddings": _tied(ours),
        **rope.rope_out(ours),
    }


_LLAMA_SAME = {**_SAME, "norm_eps": "rms_norm_eps", "d_key": "head_dim", "kv_heads": "num_key_value_heads"}
_LLAMA_FIXED = {
    "norm": "rmsnorm",
    "norm_bias": (True, False),  # RMSNorm has none
    "norm_position": "pre",
    "positions": "rotary",
    "attention_bias": False,
    "feed_forward_bias": False,
    "activation": tuple(_GATED.values()),
    "initialization": "normal",
}
_LLAMA_DEFAULTS = {
    **_DEFAULTS,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "head_dim": None,
    "num_key_value_heads": None,
}
_LLAMA_UNUSED = ("lm_head.weight", "rotary_emb.inv_freq")  # the tied matrix again, a buffer

LLAMA = Family(
    model_type="llama",
    prefix="model.",
    kind="decoder",
    title="Llama",
    same={**_LLAMA_SAME, "attention_bias": "attention_bias", "feed_forward_bias": "mlp_bias"},
    fixed=_LLAMA_FIXED,
    handled=("rope_theta", "rope_scaling"),
    defaults={**_LLAMA_DEFAULTS, "max_position_embeddings": 2048, "attention_bias": False, "mlp_bias": False},
    read=_llama_read,
    write=_llama_write,
    also=rope.unwritable,
    pairs=_llama_pairs,
    architecture=lambda ours: "LlamaForCausalLM",
    ignored=_LLAMA_UNUSED,
)


# Mistral: all layers with a window, or none


def windows(ours: Config) -> list[int | None] | None:
    """The window of each layer in turn; None where something else than a window is among them."""
    found: list[int | None] = []
    for text in ours["attention"]:
        entry = parse_attention(text)
        if entry.name != "softmax" or not isinstance(entry.pattern, (Full, Window)):
            return None
        found.append(entry.pattern.width if isinstance(entry.pattern, Window) else None)
    return found


def _mistral_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    window = theirs["sliding_window"]
    return {**_llama_read(theirs, weights), "attention": ["full" if window is None else f"window:{window}"]}


def _mistral_write(ours: Config) -> dict[str, Any]:
    [window] = set(windows(ours) or ())
    return {**_llama_write(ours), "sliding_window": window}


def _mistral_lacks(ours: Config) -> list[str]:
    return rope.unwritable(ours) + (["attention"] if len(set(windows(ours) or ())) != 1 else [])


MISTRAL = Family(
    model_type="mistral",
    prefix="model.",
    kind="decoder",
    title="Mistral",
    same=_LLAMA_SAME,
    fixed=_LLAMA_FIXED,
    handled=("rope_theta", "rope_scaling", "attention"),
    defaults={
        **_LLAMA_DEFAULTS,
        "num_key_value_heads": 8,
        "max_position_embeddings": 4096 * 32,
        "sliding_window": 4096,
    },
    read=_mistral_read,
    write=_mistral_write,
    also=_mistral_lacks,
    pairs=_llama_pairs,
    architecture=lambda ours: "MistralForCausalLM",
    ignored=_LLAMA_UNUSED,
)


# Qwen3: some layers with a window of one width


def _qwen_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    layers, width = theirs["num_hidden_layers"], theirs["sliding_window"] if theirs["use_sliding_window"] else None
    first = theirs["max_window_layers"] if width is not None else layers
    kinds = theirs["layer_types"] or ["full_attention" if i < first else "sliding_attention" for i in range(layers)]
    unknown = set(kinds) - {"full_attention", "sliding_attention"}
    if unknown or len(kinds) != layers or (width is None and "sliding_attention" in kinds):
        raise ValueError("layer_types that don't give each layer 'full_attention', or 'sliding_attention' and a window")
    attention = ["full" if kind == "full_attention" else f"window:{width}" for kind in kinds]
    return {**_llama_read(theirs, weights), "attention": attention[:1] if len(set(attention)) == 1 else attention}


def _qwen_write(ours: Config) -> dict[str, Any]:
    turn, layers = windows(ours) or [None], ours["decoder_layers"]
    found = [turn[i % len(turn)] for i in range(layers)]
    width = next((window for window in found if window is not None), None)
    kinds = ["full_attention" if window is None else "sliding_attention" for window in found]
    first = kinds.index("sliding_attention") if width is not None else layers
    return {
        **_llama_write(ours),
        "use_sliding_window": width is not None,
        "sliding_window": width,
        "max_window_layers": first,
        "layer_types": kinds,
    }


def _qwen_lacks(ours: Config) -> list[str]:
    found = windows(ours)
    fits = found is not None and len({window for window in found if window is not None}) <= 1
    return rope.unwritable(ours) + ([] if fits else ["attention"])


QWEN3 = Family(
    model_type="qwen3",
    prefix="model.",
    kind="decoder",
    title="Qwen3",
    same={**_LLAMA_SAME, "attention_bias": "attention_bias"},
    fixed={**_LLAMA_FIXED, "qk_norm": True},
    handled=("rope_theta", "rope_scaling", "attention"),
    defaults={
        **_LLAMA_DEFAULTS,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "attention_bias": False,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
        "layer_types": None,
    },
    read=_qwen_read,
    write=_qwen_write,
    also=_qwen_lacks,
    pairs=_llama_pairs,
    architecture=lambda ours: "Qwen3ForCausalLM",
    ignored=_LLAMA_UNUSED,
)
