"""BERT (Devlin et al. 2019), RoBERTa (Liu et al. 2019), XLM-R (Conneau et al. 2020), ELECTRA (Clark et al. 2020) and
MPNet (Song et al. 2020).

RoBERTa, MPNet and XLM-R, which is RoBERTa in many languages, count positions otherwise. ELECTRA's embeddings may be
narrower than its states. MPNet has relative positions besides. All have heads of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nlpcli.convert.family import WRITTEN_ACTIVATIONS, Family, activation_in
from nlpcli.convert.name_map import Config, Pair, Weights, modules, rolled, same

_LAYER = {
    "self_attention.query": "attention.self.query",
    "self_attention.key": "attention.self.key",
    "self_attention.value": "attention.self.value",
    "self_attention.output": "attention.output.dense",
    "self_attention_norm": "attention.output.LayerNorm",
    "feed_forward.inner": "intermediate.dense",
    "feed_forward.outer": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_SAME = {
    "d_model": "hidden_size",
    "heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "encoder_layers": "num_hidden_layers",
    "norm_eps": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "init_std": "initializer_range",
}
_DEFAULTS = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "tie_word_embeddings": True,
}
_FIXED = {
    "norm_position": "post",
    "positions": "learned",
    "embedding_norm": True,
    "initialization": "bert",
    "activation": tuple(WRITTEN_ACTIVATIONS),
    "output_bias": (False, True),  # the vocabulary head of an encoder always has one
}
_ONLY = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
_HANDLED = ("activation", "segments", "position_offset", "mlm_head", "pooler", "pair_head")


def _encoder(prefix: str, ours: Config, first: int, *, layer: Mapping[str, str] = _LAYER) -> list[Pair]:
    """first: the row of the position table that holds the first position. layer: our names of a layer -> theirs."""
    pairs = [
        same("encoder_embedding.tokens.weight", f"{prefix}embeddings.word_embeddings.weight"),
        same("encoder_embedding.segments.weight", f"{prefix}embeddings.token_type_embeddings.weight"),
        rolled(
            "encoder_embedding.positions.weight",
            f"{prefix}embeddings.position_embeddings.weight",
            first - ours["position_offset"],
        ),
        *modules({"encoder_embedding.norm": "embeddings.LayerNorm"}, "", prefix),
    ]
    if ours["d_embedding"]:
        pairs += modules({"encoder_embedding.projection": "embeddings_project"}, "", prefix)
    for i in range(ours["encoder_layers"]):
        pairs += modules(layer, f"encoder.layers.{i}.", f"{prefix}encoder.layer.{i}.")
    if ours["pooler"]:
        pairs += modules({"pooler.dense": "pooler.dense"}, "", prefix)
    return pairs


def _tied(ours: Config) -> bool:
    return ours["tie"] in ("all", "target-output")


def _written(ours: Config) -> dict[str, Any]:
    return {
        "hidden_act": WRITTEN_ACTIVATIONS[ours["activation"]],
        "type_vocab_size": max(1, ours["segments"]),
        "max_position_embeddings": ours["max_length"] + ours["position_offset"],
        "tie_word_embeddings": _tied(ours),
    }


def _common(theirs: Config, weights: Weights, decoder: str) -> dict[str, Any]:
    own = decoder in weights and not theirs["tie_word_embeddings"]
    return {
        "activation": activation_in(theirs["hidden_act"]),
        "segments": theirs["type_vocab_size"],
        "pooler": any(name.endswith(".pooler.dense.weight") for name in weights),
        "tie": "none" if own else "all",
    }


# --- BERT --------------------------------------------------------------------------------------------------------


def _bert_pairs(ours: Config, theirs: Config) -> list[Pair]:
    pairs = _encoder("bert.", ours, 0)
    if ours["mlm_head"]:
        head = {"mlm_head.dense": "transform.dense", "mlm_head.norm": "transform.LayerNorm"}
        pairs += modules(head, "", "cls.predictions.")
        pairs.append(same("output_bias", "cls.predictions.bias"))
        if not _tied(ours):
            pairs.append(same("output_weight_owner.weight", "cls.predictions.decoder.weight"))
            pairs.append(same("output_bias", "cls.predictions.decoder.bias"))
    if ours["pair_head"]:
        pairs += modules({"pair_head": "cls.seq_relationship"})
    return pairs


def _bert_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    return _common(theirs, weights, "cls.predictions.decoder.weight") | {
        "max_length": theirs["max_position_embeddings"],
        "mlm_head": "cls.predictions.transform.dense.weight" in weights,
        "pair_head": "cls.seq_relationship.weight" in weights,
    }


def _bert_architecture(ours: Config) -> str:
    if ours["mlm_head"]:
        return "BertForPreTraining" if ours["pair_head"] else "BertForMaskedLM"
    return "BertForNextSentencePrediction" if ours["pair_head"] else "BertModel"


BERT = Family(
    model_type="bert",
    prefix="bert.",
    kind="encoder",
    title="BERT",
    same=_SAME,
    fixed={**_FIXED, "position_offset": 0},
    handled=tuple(name for name in _HANDLED if name != "position_offset"),
    defaults=_DEFAULTS,
    only=_ONLY,
    read=_bert_read,
    write=_written,
    pairs=_bert_pairs,
    architecture=_bert_architecture,
    ignored=("embeddings.position_ids", "cls.predictions.decoder.bias", "cls.predictions.decoder.weight"),
)


# --- RoBERTa -----------------------------------------------------------------------------------------------------


def _roberta_pairs(ours: Config, theirs: Config) -> list[Pair]:
    # the row of the padding id is padding's, and the rows after it are the positions
    pairs = _encoder("roberta.", ours, theirs["pad_token_id"] + 1)
    if ours["mlm_head"]:
        pairs += modules({"mlm_head.dense": "dense", "mlm_head.norm": "layer_norm"}, "", "lm_head.")
        pairs.append(same("output_bias", "lm_head.bias"))
        if not _tied(ours):
            pairs.append(same("output_weight_owner.weight", "lm_head.decoder.weight"))
            pairs.append(same("output_bias", "lm_head.decoder.bias"))
    return pairs


def _roberta_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    offset = theirs["pad_token_id"] + 1
    found = _common(theirs, weights, "lm_head.decoder.weight") | {
        "position_offset": offset,
        "max_length": theirs["max_position_embeddings"] - offset,
        "mlm_head": "lm_head.dense.weight" in weights,
    }
    if found["mlm_head"] and found["activation"] != "gelu":
        raise ValueError(f"its masked-token head uses gelu, but its layers use {found['activation']}")
    return found


ROBERTA = Family(
    model_type="roberta",
    prefix="roberta.",
    kind="encoder",
    title="RoBERTa",
    same=_SAME,
    fixed={**_FIXED, "activation": ("gelu",), "pair_head": False},
    handled=tuple(name for name in _HANDLED if name not in ("pair_head", "activation")),
    defaults={**_DEFAULTS, "pad_token_id": 1, "layer_norm_eps": 1e-12},
    only=_ONLY,
    read=_roberta_read,
    write=_written,
    pairs=_roberta_pairs,
    architecture=lambda ours: "RobertaForMaskedLM" if ours["mlm_head"] else "RobertaModel",
    ignored=("embeddings.position_ids", "lm_head.decoder.bias", "lm_head.decoder.weight"),
)

XLM_ROBERTA = replace(
    ROBERTA,
    model_type="xlm-roberta",
    title="XLM-R",
    architecture=lambda ours: "XLMRobertaForMaskedLM" if ours["mlm_head"] else "XLMRobertaModel",
)


# --- ELECTRA -----------------------------------------------------------------------------------------------------


def _electra_pairs(ours: Config, theirs: Config) -> list[Pair]:
    pairs = _encoder("electra.", ours, 0)
    if ours["mlm_head"]:
        pairs += modules({"mlm_head.dense": "dense", "mlm_head.norm": "LayerNorm"}, "", "generator_predictions.")
        pairs.append(same("output_bias", "generator_lm_head.bias"))
        if not _tied(ours):
            pairs.append(same("output_weight_owner.weight", "generator_lm_head.weight"))
    return pairs


def _electra_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    found = _common(theirs, weights, "generator_lm_head.weight") | {
        "max_length": theirs["max_position_embeddings"],
        "mlm_head": "generator_predictions.dense.weight" in weights,
        "d_embedding": theirs["embedding_size"],
    }
    if found["mlm_head"] and found["activation"] != "gelu":
        raise ValueError("its head computes with gelu, its layers with another function")
    return found


ELECTRA = Family(
    model_type="electra",
    prefix="electra.",
    kind="encoder",
    title="ELECTRA",
    same=_SAME,
    fixed={**_FIXED, "position_offset": 0, "pooler": False, "pair_head": False},
    handled=("activation", "segments", "mlm_head", "d_embedding"),
    defaults={
        **_DEFAULTS,
        "hidden_size": 256,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "embedding_size": 128,
    },
    only=_ONLY,
    read=_electra_read,
    write=lambda ours: {**_written(ours), "embedding_size": ours["d_embedding"] or ours["d_model"]},
    also=lambda ours: ["activation"] if ours["mlm_head"] and ours["activation"] != "gelu" else [],
    pairs=_electra_pairs,
    architecture=lambda ours: "ElectraForMaskedLM" if ours["mlm_head"] else "ElectraModel",
    ignored=("embeddings.position_ids", "generator_lm_head.weight"),
)


# --- MPNet -------------------------------------------------------------------------------------------------------

_MPNET_LAYER = {
    "self_attention.query": "attention.attn.q",
    "self_attention.key": "attention.attn.k",
    "self_attention.value": "attention.attn.v",
    "self_attention.output": "attention.attn.o",
    "self_attention_norm": "attention.LayerNorm",
    "feed_forward.inner": "intermediate.dense",
    "feed_forward.outer": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_MPNET_FIRST = 2  # the row of the first position: MPNet counts as if the padding id were 1
_MPNET_POSITIONS = {"relative_buckets": 32, "relative_distance": 128}


def _mpnet_pairs(ours: Config, theirs: Config) -> list[Pair]:
    pairs = _encoder("mpnet.", ours, _MPNET_FIRST, layer=_MPNET_LAYER)
    pairs.append(same("encoder.positions.weight", "mpnet.encoder.relative_attention_bias.weight"))
    if ours["mlm_head"]:
        pairs += modules({"mlm_head.dense": "dense", "mlm_head.norm": "layer_norm"}, "", "lm_head.")
        pairs.append(same("output_bias", "lm_head.bias"))
        if not _tied(ours):
            pairs.append(same("output_weight_owner.weight", "lm_head.decoder.weight"))
            pairs.append(same("output_bias", "lm_head.decoder.bias"))
    return [pair for pair in pairs if "token_type" not in pair.theirs]


def _mpnet_read(theirs: Config, weights: Weights) -> dict[str, Any]:
    theirs = {**theirs, "type_vocab_size": 0}
    found = _common(theirs, weights, "lm_head.decoder.weight") | {
        "position_offset": _MPNET_FIRST,
        "max_length": theirs["max_position_embeddings"] - _MPNET_FIRST,
        "mlm_head": "lm_head.dense.weight" in weights,
    }
    if found["mlm_head"] and found["activation"] != "gelu":
        raise ValueError("its head computes with gelu, its layers with another function")
    return found


def _mpnet_lacks(ours: Config) -> list[str]:
    found = [name for name, value in _MPNET_POSITIONS.items() if ours[name] != value]
    return found + (["activation"] if ours["mlm_head"] and ours["activation"] != "gelu" else [])


MPNET = Family(
    model_type="mpnet",
    prefix="mpnet.",
    kind="encoder",
    title="MPNet",
    same=_SAME,
    fixed={**_FIXED, "relative_bias": True, "position_offset": _MPNET_FIRST, "pair_head": False},
    handled=("activation", "mlm_head", "pooler"),
    defaults={**_DEFAULTS, "relative_attention_num_buckets": 32},
    only={"relative_attention_num_buckets": 32},  # the buckets are those of 32, whatever the table's size
    read=_mpnet_read,
    write=lambda ours: {name: value for name, value in _written(ours).items() if name != "type_vocab_size"},
    also=_mpnet_lacks,
    pairs=_mpnet_pairs,
    architecture=lambda ours: "MPNetForMaskedLM" if ours["mlm_head"] else "MPNetModel",
    ignored=("embeddings.position_ids", "lm_head.decoder.bias", "lm_head.decoder.weight"),
)
