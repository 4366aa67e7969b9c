"""ModernBERT (Warner et al. 2024): a pre-norm encoder with rotary positions, GeGLU, and windows in most layers."""

from __future__ import annotations

from typing import Any

from nlpcli.convert.family import Family, in_turn
from nlpcli.convert.llama_gpt_neox import windows
from nlpcli.convert.name_map import Config, Pair, Weights, fused, modules, same

_GATED = {"silu": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh"}  # theirs -> ours
_FULL, _SLIDING = "full_attention", "sliding_attention"
_EVERY = 3  # a layer with full attention, without a value in config.json


def _tied(ours: Config) -> bool:
    return ours["tie"] in ("all", "target-output")


def _pairs(ours: Config, theirs: Config) -> list[Pair]:
    norm_bias = ours["norm_bias"]
    pairs = [same("encoder_embedding.tokens.weight", "model.embeddings.tok_embeddings.weight")]
    pairs += modules({"encoder_embedding.norm": "embeddings.norm"}, "", "model.", bias=norm_bias)
    pairs += modules({"encoder.norm": "final_norm"}, "", "model.", bias=norm_bias)
    for i in range(ours["encoder_layers"]):
        mine, their = f"encoder.layers.{i}.", f"model.layers.{i}."
        if i:
            pairs += modules({"self_attention_norm": "attn_norm"}, mine, their, bias=norm_bias)
        for kind in ("weight", *(["bias"] if ours["attention_bias"] else [])):
            names = [f"{mine}self_attention.{name}.{kind}" for name in ("query", "key", "value")]
            pairs.append(fused(names, f"{their}attn.Wqkv.{kind}"))
        pairs += modules({"self_attention.output": "attn.Wo"}, mine, their, bias=ours["attention_bias"])
        pairs += modules({"feed_forward_norm": "mlp_norm"}, mine, their, bias=norm_bias)
        for kind in ("weight", *(["bias"] if ours["feed_forward_bias"] else [])):
            names = [f"{mine}feed_forward.{name}.{kind}" for name in ("gate", "inner")]
            pairs.append(fused(names, f"{their}mlp.Wi.{kind}"))
        pairs += modules({"feed_forward.outer": "mlp.Wo"}, mine, their, bias=ours["feed_forward_bias"])
    if ours["mlm_head"]:
        pairs += modules({"mlm_head.dense": "head.dense"}, bias=ours["mlm_head_bias"])
        pairs += modules({"mlm_head.norm": "head.norm"}, bias=norm_bias)
        pairs.append(same("output_bias", "decoder.bias"))
        if not _tied(ours):
            pairs.append(same("output_weight_owner.weight", "decoder.weight"))
    return pairs


# --- theirs -> ours ----------------------------------------------------------------------------------------------


def _read(theirs: Config, weights: Weights) -> dict[str, Any]:
    activation, head = theirs["hidden_activation"], "decoder.bias" in weights
    if activation not in _GATED:
        raise ValueError(f"activation {activation!r}")
    if head and theirs["classifier_activation"] != activation:
        raise ValueError("its head computes with another function than its layers")
    layers, every = theirs["num_hidden_layers"], theirs.get("global_attn_every_n_layers") or _EVERY
    kinds = theirs["layer_types"] or [_SLIDING if i % every else _FULL for i in range(layers)]
    if len(kinds) != layers or set(kinds) - {_FULL, _SLIDING}:
        raise ValueError(f"layer_types that don't give each layer {_FULL!r} or {_SLIDING!r}")
    window = f"window:{theirs['local_attention'] // 2 + 1}"
    theta, local = (_theta(theirs, kind) for kind in (_FULL, _SLIDING))
    return {
        "activation": _GATED[activation],
        "mlm_head": head,
        "tie": "none" if "decoder.weight" in weights and not theirs["tie_word_embeddings"] else "all",
        "attention": in_turn(["full" if kind == _FULL else window for kind in kinds]),
        "rope_theta": theta,
        "rope_local_theta": local,
    }


def _theta(theirs: Config, kind: str) -> float:
    parameters: Config = (theirs["rope_parameters"] or {}).get(kind) or {}
    scaling = theirs.get("rope_scaling") or parameters.get("rope_type") or "default"
    if scaling != "default":
        raise ValueError(f"rope_type {scaling!r} (only 'default' is supported)")
    named = {_FULL: "global_rope_theta", _SLIDING: "local_rope_theta"}[kind]
    return float(parameters.get("rope_theta", theirs[named]))


# --- ours -> theirs ----------------------------------------------------------------------------------------------


def _layers(ours: Config) -> list[int | None]:
    turn = windows(ours) or [None]
    return [turn[i % len(turn)] for i in range(ours["encoder_layers"])]


def _write(ours: Config) -> dict[str, Any]:
    layers = _layers(ours)
    kinds = [_FULL if window is None else _SLIDING for window in layers]
    window = next((window for window in layers if window is not None), 65)
    thetas = {_FULL: ours["rope_theta"], _SLIDING: ours["rope_local_theta"] or ours["rope_theta"]}
    activation = {ours: theirs for theirs, ours in _GATED.items()}[ours["activation"]]
    every = [n for n in range(1, len(kinds) + 1) if kinds == [_SLIDING if i % n else _FULL for i in range(len(kinds))]]
    return {
        "hidden_activation": activation,
        "classifier_activation": activation,
        "tie_word_embeddings": _tied(ours),
        "layer_types": kinds,
        **({"global_attn_every_n_layers": every[0]} if every else {}),
        "local_attention": 2 * (window - 1),
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()},
        "global_rope_theta": thetas[_FULL],
        "local_rope_theta": thetas[_SLIDING],
    }


def _lacks(ours: Config) -> list[str]:
    found = windows(ours)
    fits = found is not None and len({window for window in found if window is not None}) <= 1
    return [] if fits else ["attention"]


MODERNBERT = Family(
    model_type="modernbert",
    prefix="model.",
    kind="encoder",
    title="ModernBERT",
    same={
        "d_model": "hidden_size",
        "heads": "num_attention_heads",
        "d_ff": "intermediate_size",
        "encoder_layers": "num_hidden_layers",
        "max_length": "max_position_embeddings",
        "norm_eps": "norm_eps",
        "norm_bias": "norm_bias",
        "attention_bias": "attention_bias",
        "feed_forward_bias": "mlp_bias",
        "mlm_head_bias": "classifier_bias",
        "dropout": "embedding_dropout",
        "attention_dropout": "attention_dropout",
        "activation_dropout": "mlp_dropout",
        "init_std": "initializer_range",
    },
    fixed={
        "norm_position": "pre",
        "first_norm": False,
        "embedding_norm": True,
        "positions": "rotary",
        "activation": tuple(_GATED.values()),
        "initialization": "bert",
        "output_bias": (False, True),  # the vocabulary head of an encoder always has one
    },
    handled=("activation", "mlm_head", "attention", "rope_theta", "rope_local_theta"),
    defaults={
        "hidden_size": 768,
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "max_position_embeddings": 8192,
        "initializer_range": 0.02,
        "norm_eps": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "classifier_bias": False,
        "embedding_dropout": 0.0,
        "attention_dropout": 0.0,
        "mlp_dropout": 0.0,
        "layer_types": None,
        "local_attention": 128,
        "rope_parameters": None,
        "global_rope_theta": 160_000.0,
        "local_rope_theta": 10_000.0,
        "tie_word_embeddings": True,
    },
    only={"decoder_bias": True},
    read=_read,
    write=_write,
    also=_lacks,
    pairs=_pairs,
    architecture=lambda ours: "ModernBertForMaskedLM" if ours["mlm_head"] else "ModernBertModel",
    ignored=("decoder.weight",),
)
