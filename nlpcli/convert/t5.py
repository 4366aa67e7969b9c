"""T5 (Raffel et al. 2020), the first version and 1.1."""

from __future__ import annotations

from typing import Any

from nlpcli.convert.family import Family
from nlpcli.convert.name_map import Config, Pair, Weights, modules, same

_ACTIVATIONS = {  # theirs -> ours; their gated GELU is the tanh form
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "silu": "silu",
    "gated-gelu": "geglu_tanh",
    "gated-gelu_new": "geglu_tanh",
    "gated-silu": "swiglu",
}
_WRITTEN = {ours: theirs for theirs, ours in reversed(_ACTIVATIONS.items())}
_GATED = ("geglu_tanh", "swiglu")
_SELF = {name: f"layer.0.SelfAttention.{name[0]}" for name in ("query", "key", "value", "output")}
_CROSS = {name: f"layer.1.EncDecAttention.{name[0]}" for name in ("query", "key", "value", "output")}


def _pairs(ours: Config, theirs: Config) -> list[Pair]:
    pairs = [same("encoder_embedding.tokens.weight", "shared.weight")]
    for side in ("encoder", "decoder"):
        # the one table of a stack stands in its first block
        table = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        pairs.append(same(f"{side}.positions.weight", table))
        pairs.append(same(f"{side}.norm.weight", f"{side}.final_layer_norm.weight"))
        for i in range(ours[f"{side}_layers"]):
            pairs += modules(_layer(side, ours), f"{side}.layers.{i}.", f"{side}.block.{i}.", bias=False)
    if ours["tie"] == "source-target":
        pairs.append(same("output_weight_owner.weight", "lm_head.weight"))
    return pairs


def _layer(side: str, ours: Config) -> dict[str, str]:
    names = {f"self_attention.{a}": b for a, b in _SELF.items()} | {"self_attention_norm": "layer.0.layer_norm"}
    last = 1
    if side == "decoder":
        names |= {f"cross_attention.{a}": b for a, b in _CROSS.items()} | {"cross_attention_norm": "layer.1.layer_norm"}
        last = 2
    block = f"layer.{last}.DenseReluDense"
    if ours["activation"] in _GATED:
        names |= {"feed_forward.gate": f"{block}.wi_0", "feed_forward.inner": f"{block}.wi_1"}
    else:
        names["feed_forward.inner"] = f"{block}.wi"
    return names | {"feed_forward.outer": f"{block}.wo", "feed_forward_norm": f"layer.{last}.layer_norm"}


def _read(theirs: Config, weights: Weights) -> dict[str, Any]:
    name = theirs["feed_forward_proj"]
    if name not in _ACTIVATIONS:
        raise ValueError(f"feed_forward_proj is {name!r}")
    # the setting for tying also determines whether the last states are scaled, tied or not
    scaled = theirs.get("scale_decoder_outputs", theirs.get("tie_word_embeddings") is not False)
    dropout = theirs["dropout_rate"]
    return {
        "activation": _ACTIVATIONS[name],
        "decoder_layers": theirs["num_decoder_layers"] or theirs["num_layers"],
        "d_value": theirs["d_kv"],
        "tie": "source-target" if "lm_head.weight" in weights else "all",
        "scale_output": bool(scaled),
        "output_dropout": True,
        "attention_dropout": dropout,
        "activation_dropout": dropout,
        "max_length": theirs["n_positions"],
    }


def _write(ours: Config) -> dict[str, Any]:
    return {
        "feed_forward_proj": _WRITTEN[ours["activation"]],
        "num_decoder_layers": ours["decoder_layers"],
        "d_kv": ours["d_key"] or ours["d_model"] // ours["heads"],
        "n_positions": ours["max_length"],
        "tie_word_embeddings": ours["scale_output"],
        "is_encoder_decoder": True,
    }


T5 = Family(
    model_type="t5",
    prefix="",
    kind="encoder-decoder",
    title="T5",
    same={
        "d_model": "d_model",
        "heads": "num_heads",
        "d_key": "d_kv",
        "d_ff": "d_ff",
        "encoder_layers": "num_layers",
        "norm_eps": "layer_norm_epsilon",
        "dropout": "dropout_rate",
        "relative_buckets": "relative_attention_num_buckets",
        "relative_distance": "relative_attention_max_distance",
    },
    fixed={
        "norm": "rmsnorm",
        "norm_bias": (True, False),  # RMSNorm has none
        "norm_position": "pre",
        "positions": "relative",
        "score": "dot",
        "attention_bias": False,
        "feed_forward_bias": False,
        "activation": tuple(_WRITTEN),
        "tie": ("all", "source-target"),
        "scale_output": (True, False),
        "initialization": "t5",
    },
    defaults={
        "d_model": 512,
        "num_heads": 8,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_decoder_layers": None,
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": 0.1,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "relu",
        "n_positions": 512,
    },
    read=_read,
    write=_write,
    pairs=_pairs,
    architecture=lambda ours: "T5ForConditionalGeneration",
    # a table that the first published files held in vain
    ignored=(
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
    ),
)
