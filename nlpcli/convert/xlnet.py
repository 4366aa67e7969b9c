"""XLNet (Yang et al. 2019)."""

from __future__ import annotations

from typing import Any

from nlpcli.convert.family import WRITTEN_ACTIVATIONS, Family, activation_in
from nlpcli.convert.name_map import Config, Pair, Weights, modules, same, shaped

_MATRICES = {"query": "q", "key": "k", "value": "v", "position": "r"}
_BIASES = {
    "content_bias": "r_w_bias",
    "position_bias": "r_r_bias",
    "segment_bias": "r_s_bias",
    "segment_keys": "seg_embed",
}
_MODULES = {
    "attention_norm": "rel_attn.layer_norm",
    "feed_forward.inner": "ff.layer_1",
    "feed_forward.outer": "ff.layer_2",
    "feed_forward_norm": "ff.layer_norm",
}


def _pairs(ours: Config, theirs: Config) -> list[Pair]:
    width, heads = ours["d_model"], ours["heads"]
    by_head = (width, heads, width // heads)
    pairs = [
        same("embedding.tokens.weight", "transformer.word_embedding.weight"),
        shaped("query_embedding", "transformer.mask_emb", (1, 1, width), (width,)),
        same("output_bias", "lm_loss.bias"),
    ]
    for i in range(ours["encoder_layers"]):
        mine, their = f"layers.{i}.", f"transformer.layer.{i}."
        for a, b in _MATRICES.items():
            name = f"{mine}attention.{a}.weight"
            pairs.append(shaped(name, f"{their}rel_attn.{b}", by_head, (width, width), turn=True))
        pairs.append(shaped(f"{mine}attention.output.weight", f"{their}rel_attn.o", by_head, (width, width)))
        pairs += [same(f"{mine}attention.{a}", f"{their}rel_attn.{b}") for a, b in _BIASES.items()]
        pairs += modules(_MODULES, mine, their)
    return pairs


def _read(theirs: Config, weights: Weights) -> dict[str, Any]:
    return {
        "activation": activation_in(theirs["ff_activation"]),
        "attention_dropout": theirs["dropout"],
        "memory_length": theirs["mem_len"] or 0,
        "clamp_length": max(0, theirs["clamp_len"]),
    }


def _write(ours: Config) -> dict[str, Any]:
    return {
        "ff_activation": WRITTEN_ACTIVATIONS[ours["activation"]],
        "mem_len": ours["memory_length"] or None,
        "clamp_len": ours["clamp_length"] or -1,
        "d_head": ours["d_model"] // ours["heads"],
        "tie_word_embeddings": True,
    }


def _rows(weights: Weights) -> int:
    return weights["transformer.word_embedding.weight"].size(0)


XLNET = Family(
    model_type="xlnet",
    prefix="transformer.",
    kind="encoder",
    title="XLNet",
    same={
        "d_model": "d_model",
        "heads": "n_head",
        "d_ff": "d_inner",
        "encoder_layers": "n_layer",
        "norm_eps": "layer_norm_eps",
        "dropout": "dropout",
        "init_std": "initializer_range",
    },
    fixed={
        "family": "xlnet",
        "activation": tuple(WRITTEN_ACTIVATIONS),
        "initialization": "normal",
    },
    handled=("clamp_length",),
    defaults={
        "d_model": 1024,
        "n_head": 16,
        "d_inner": 4096,
        "n_layer": 24,
        "layer_norm_eps": 1e-12,
        "dropout": 0.1,
        "initializer_range": 0.02,
        "ff_activation": "gelu",
        "mem_len": 512,
        "clamp_len": -1,
    },
    only={"attn_type": "bi", "bi_data": False, "same_length": False, "untie_r": True},
    read=_read,
    write=_write,
    pairs=_pairs,
    otherwise=lambda weights: {"lm_loss.bias": weights["transformer.word_embedding.weight"].new_zeros(_rows(weights))},
    architecture=lambda ours: "XLNetLMHeadModel",
    ignored=("lm_loss.weight",),
)
