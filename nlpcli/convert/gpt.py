"""GPT (Radford et al. 2018) and GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

from typing import Any

from nlpcli.convert.family import WRITTEN_ACTIVATIONS, Family, activation_in
from nlpcli.convert.name_map import Config, Pair, Weights, fused, modules, same, transposed

_SAME = {
    "d_model": "n_embd",
    "heads": "n_head",
    "decoder_layers": "n_layer",
    "max_length": "n_positions",
    "norm_eps": "layer_norm_epsilon",
    "dropout": "resid_pdrop",
    "attention_dropout": "attn_pdrop",
    "init_std": "initializer_range",
}
_DEFAULTS = {
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "layer_norm_epsilon": 1e-5,
    "resid_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
}
_NORMS = {"self_attention_norm": "ln_1", "feed_forward_norm": "ln_2"}
_MATRICES = {
    "self_attention.output": "attn.c_proj",
    "feed_forward.inner": "mlp.c_fc",
    "feed_forward.outer": "mlp.c_proj",
}
_BUFFERS = ("attn.bias", "attn.masked_bias", "lm_head.weight", "position_ids")  # masks, and the tied matrix again


def _tied(ours: Config) -> bool:
    return ours["tie"] in ("all", "target-output")


def _pairs(tokens: str, positions: str, ours: Config) -> list[Pair]:
    pairs = [
        same("decoder_embedding.tokens.weight", f"transformer.{tokens}.weight"),
        same("decoder_embedding.positions.weight", f"transformer.{positions}.weight"),
    ]
    for i in range(ours["decoder_layers"]):
        mine, their = f"decoder.layers.{i}.", f"transformer.h.{i}."
        pairs += modules(_NORMS, mine, their)
        for kind in ("weight", "bias"):
            parts = [f"{mine}self_attention.{name}.{kind}" for name in ("query", "key", "value")]
            pairs.append(fused(parts, f"{their}attn.c_attn.{kind}", turn=kind == "weight"))
        for a, b in _MATRICES.items():
            pairs.append(transposed(f"{mine}{a}.weight", f"{their}{b}.weight"))
            pairs.append(same(f"{mine}{a}.bias", f"{their}{b}.bias"))
    if not _tied(ours):
        pairs.append(same("output_weight_owner.weight", "lm_head.weight"))
    return pairs


def _tie(theirs: Config, weights: Weights) -> str:
    return "none" if "lm_head.weight" in weights and not theirs["tie_word_embeddings"] else "all"


# --- GPT-2 -------------------------------------------------------------------------------------------------------


def _gpt2_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    return {
        "activation": activation_in(theirs["activation_function"]),
        "d_ff": theirs["n_inner"] or 4 * theirs["n_embd"],
        "tie": _tie(theirs, weights),
    }


def _gpt2_write(ours: Config) -> dict[str, Any]:
    return {
        "activation_function": WRITTEN_ACTIVATIONS[ours["activation"]],
        "n_inner": ours["d_ff"],
        "embd_pdrop": ours["dropout"],
        "tie_word_embeddings": _tied(ours),
    }


GPT2 = Family(
    model_type="gpt2",
    prefix="transformer.",
    kind="decoder",
    title="GPT-2",
    same=_SAME,
    fixed={
        "norm_position": "pre",
        "positions": "learned",
        "activation": tuple(WRITTEN_ACTIVATIONS),
        "initialization": "normal",
    },
    handled=("d_ff",),
    defaults={**_DEFAULTS, "n_positions": 1024, "n_inner": None, "activation_function": "gelu_new"},
    only={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    read=_gpt2_read,
    write=_gpt2_write,
    pairs=lambda ours, theirs: _pairs("wte", "wpe", ours) + modules({"decoder.norm": "ln_f"}, "", "transformer."),
    architecture=lambda ours: "GPT2LMHeadModel",
    ignored=_BUFFERS,
)


# --- GPT ---------------------------------------------------------------------------------------------------------

_GPT_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}  # theirs -> ours


def _gpt_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    if theirs["afn"] not in _GPT_ACTIVATIONS:
        raise ValueError(f"its activation is {theirs['afn']!r}")
    return {
        "activation": _GPT_ACTIVATIONS[theirs["afn"]],
        "d_ff": 4 * theirs["n_embd"],
        "tie": _tie(theirs, weights),
    }


def _gpt_write(ours: Config) -> dict[str, Any]:
    return {
        "afn": {"gelu_tanh": "gelu", "relu": "relu", "silu": "silu"}[ours["activation"]],
        "embd_pdrop": ours["dropout"],
        "tie_word_embeddings": _tied(ours),
    }


GPT = Family(
    model_type="openai-gpt",
    prefix="transformer.",
    kind="decoder",
    title="GPT",
    same=_SAME,
    fixed={
        "norm_position": "post",
        "positions": "learned",
        "activation": ("gelu_tanh", "relu", "silu"),
        "initialization": "bert",
    },
    handled=("d_ff",),
    defaults={**_DEFAULTS, "n_positions": 512, "afn": "gelu"},
    read=_gpt_read,
    write=_gpt_write,
    also=lambda ours: [] if ours["d_ff"] == 4 * ours["d_model"] else ["d_ff"],
    pairs=lambda ours, theirs: _pairs("tokens_embed", "positions_embed", ours),
    architecture=lambda ours: "OpenAIGPTLMHeadModel",
    ignored=_BUFFERS,
)
