"""BART (Lewis et al. 2020), PEGASUS (Zhang et al. 2020) and Marian: one encoder-decoder with three kinds of positions.

BART's are learned, after two rows that nobody uses; PEGASUS's are sinusoids that are stored with the weights; Marian's
are sinusoids that are not.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nlpcli.convert.family import WRITTEN_ACTIVATIONS, Family, activation_in
from nlpcli.convert.name_map import Config, Pair, Weights, as_row, below, modules, same
from nlpcli.layers.positions import sinusoids

_SELF = {
    "self_attention.query": "self_attn.q_proj",
    "self_attention.key": "self_attn.k_proj",
    "self_attention.value": "self_attn.v_proj",
    "self_attention.output": "self_attn.out_proj",
    "self_attention_norm": "self_attn_layer_norm",
}
_CROSS = {
    "cross_attention.query": "encoder_attn.q_proj",
    "cross_attention.key": "encoder_attn.k_proj",
    "cross_attention.value": "encoder_attn.v_proj",
    "cross_attention.output": "encoder_attn.out_proj",
    "cross_attention_norm": "encoder_attn_layer_norm",
}
_FEED_FORWARD = {"feed_forward.inner": "fc1", "feed_forward.outer": "fc2", "feed_forward_norm": "final_layer_norm"}
_SAME = {
    "d_model": "d_model",
    "heads": "encoder_attention_heads",
    "d_ff": "encoder_ffn_dim",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "max_length": "max_position_embeddings",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "init_std": "init_std",
    "scale_embeddings": "scale_embedding",
}
_DEFAULTS = {
    "d_model": 1024,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "max_position_embeddings": 1024,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "init_std": 0.02,
    "scale_embedding": False,
    "activation_function": "gelu",
}
_FIXED = {
    "norm_eps": 1e-5,
    "activation": tuple(WRITTEN_ACTIVATIONS),
    "tie": ("all",),
    "initialization": "bert",
    "output_bias": (False, True),
}
_OFFSET = 2  # rows before BART's positions
_IGNORED = (
    "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight", "encoder.version",
    "decoder.version",
)  # fmt: skip


def _pairs(ours: Config) -> list[Pair]:
    pairs = [
        same("encoder_embedding.tokens.weight", "model.shared.weight"),
        as_row("output_bias", "final_logits_bias"),
    ]
    for side in ("encoder", "decoder"):
        for i in range(ours[f"{side}_layers"]):
            names = {**_SELF, **(_CROSS if side == "decoder" else {}), **_FEED_FORWARD}
            pairs += modules(names, f"{side}.layers.{i}.", f"model.{side}.layers.{i}.")
    return pairs


def _read(theirs: Config, weights: Weights) -> dict[str, Any]:
    for a, b in (("encoder_attention_heads", "decoder_attention_heads"), ("encoder_ffn_dim", "decoder_ffn_dim")):
        if theirs[a] != theirs[b]:
            raise ValueError(f"{a} is {theirs[a]}, but {b} is {theirs[b]}")
    bias = weights.get("final_logits_bias")
    return {
        "activation": activation_in(theirs["activation_function"]),
        "output_bias": bias is not None and bool(bias.count_nonzero()),
        "tie": "all",
    }


def _write(ours: Config) -> dict[str, Any]:
    return {
        "decoder_attention_heads": ours["heads"],
        "decoder_ffn_dim": ours["d_ff"],
        "num_hidden_layers": ours["encoder_layers"],
        "activation_function": WRITTEN_ACTIVATIONS[ours["activation"]],
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
    }


# --- BART --------------------------------------------------------------------------------------------------------


def _bart_pairs(ours: Config, theirs: Config) -> list[Pair]:
    pairs = _pairs(ours)
    for side in ("encoder", "decoder"):
        positions = f"{side}_embedding.positions.weight", f"model.{side}.embed_positions.weight"
        pairs.append(below(*positions, _OFFSET - ours["position_offset"]))
        pairs += modules({f"{side}_embedding.norm": f"model.{side}.layernorm_embedding"})
    return pairs


BART = Family(
    model_type="bart",
    prefix="model.",
    kind="encoder-decoder",
    title="BART",
    same=_SAME,
    fixed={
        **_FIXED,
        "norm_position": "post",
        "positions": "learned",
        "embedding_norm": True,
        "position_offset": (_OFFSET, 0),
    },
    defaults=_DEFAULTS,
    read=lambda theirs, weights: _read(theirs, weights) | {"position_offset": _OFFSET},
    write=lambda ours: _write(ours) | {"normalize_before": False, "normalize_embedding": True},  # for CTranslate2
    pairs=_bart_pairs,
    architecture=lambda ours: "BartForConditionalGeneration",
    ignored=_IGNORED,
)


# --- PEGASUS and Marian ------------------------------------------------------------------------------------------


def _kind_of_positions(theirs: Config, weights: Weights) -> str:
    tables = [weights[name] for side in ("encoder", "decoder") if (name := _positions(side)) in weights]
    plain = all(bool((table - sinusoids(*table.shape, halves=True)).abs().max() < 1e-3) for table in tables)
    return "sinusoidal-halves" if plain else "learned"


def _positions(side: str) -> str:
    return f"model.{side}.embed_positions.weight"


def _stored(name: str, length: int, width: int) -> Pair:
    def out(_: list[Tensor]) -> Tensor:
        return sinusoids(length, width, halves=True)

    return Pair((), name, out)


def _pegasus_pairs(ours: Config, theirs: Config) -> list[Pair]:
    pairs = _pairs(ours)
    for side in ("encoder", "decoder"):
        if ours["positions"] == "learned":
            pairs.append(same(f"{side}_embedding.positions.weight", _positions(side)))
        else:
            pairs.append(_stored(_positions(side), ours["max_length"], ours["d_model"]))
        pairs += modules({f"{side}.norm": f"model.{side}.layer_norm"})
    return pairs


_SINUSOIDAL = ("sinusoidal-halves", "sinusoidal")  # the second with d_model's axis in another order

PEGASUS = Family(
    model_type="pegasus",
    prefix="model.",
    kind="encoder-decoder",
    title="PEGASUS",
    same=_SAME,
    fixed={**_FIXED, "norm_position": "pre", "positions": (*_SINUSOIDAL, "learned")},
    defaults=_DEFAULTS,
    read=lambda theirs, weights: _read(theirs, weights) | {"positions": _kind_of_positions(theirs, weights)},
    write=lambda ours: (
        _write(ours)
        | {
            "static_position_embeddings": True,
            "normalize_before": True,
            "normalize_embedding": False,
        }
    ),
    pairs=_pegasus_pairs,
    architecture=lambda ours: "PegasusForConditionalGeneration",
    ignored=(*_IGNORED, "embed_positions.weight"),
)


def _marian_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    if not theirs["share_encoder_decoder_embeddings"]:
        raise ValueError("it has two vocabularies")
    if _kind_of_positions(theirs, weights) == "learned":
        raise ValueError("its positions are not sinusoidal")
    return _read(theirs, weights) | {"positions": "sinusoidal-halves"}


def _marian_write(ours: Config) -> dict[str, Any]:
    return _write(ours) | {"static_position_embeddings": True, "share_encoder_decoder_embeddings": True}


MARIAN = Family(
    model_type="marian",
    prefix="model.",
    kind="encoder-decoder",
    title="Marian",
    same=_SAME,
    fixed={**_FIXED, "norm_position": "post", "positions": _SINUSOIDAL},
    defaults={**_DEFAULTS, "share_encoder_decoder_embeddings": True},
    read=_marian_read,
    write=_marian_write,
    pairs=lambda ours, theirs: _pairs(ours),
    architecture=lambda ours: "MarianMTModel",
    ignored=(*_IGNORED, "embed_positions.weight"),
)
