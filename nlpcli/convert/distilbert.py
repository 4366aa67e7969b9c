"""DistilBERT (Sanh et al. 2019): BERT without segments and pooler."""

from __future__ import annotations

from typing import Any

from nlpcli.convert.family import WRITTEN_ACTIVATIONS, Family, activation_in
from nlpcli.convert.name_map import Config, Pair, Weights, modules, same

_LAYER = {
    "self_attention.query": "attention.q_lin",
    "self_attention.key": "attention.k_lin",
    "self_attention.value": "attention.v_lin",
    "self_attention.output": "attention.out_lin",
    "self_attention_norm": "sa_layer_norm",
    "feed_forward.inner": "ffn.lin1",
    "feed_forward.outer": "ffn.lin2",
    "feed_forward_norm": "output_layer_norm",
}
_HEAD = {"mlm_head.dense": "vocab_transform", "mlm_head.norm": "vocab_layer_norm"}


def _tied(ours: Config) -> bool:
    return ours["tie"] in ("all", "target-output")


def _pairs(ours: Config, theirs: Config) -> list[Pair]:
    pairs = [
        same("encoder_embedding.tokens.weight", "distilbert.embeddings.word_embeddings.weight"),
        same("encoder_embedding.positions.weight", "distilbert.embeddings.position_embeddings.weight"),
        *modules({"encoder_embedding.norm": "embeddings.LayerNorm"}, "", "distilbert."),
    ]
    for i in range(ours["encoder_layers"]):
        pairs += modules(_LAYER, f"encoder.layers.{i}.", f"distilbert.transformer.layer.{i}.")
    if ours["mlm_head"]:
        pairs += modules(_HEAD)
        pairs.append(same("output_bias", "vocab_projector.bias"))
        if not _tied(ours):
            pairs.append(same("output_weight_owner.weight", "vocab_projector.weight"))
    return pairs


def _read(theirs: Config, weights: Weights) -> dict[str, Any]:
    own = "vocab_projector.weight" in weights and not theirs["tie_word_embeddings"]
    return {
        "activation": activation_in(theirs["activation"]),
        "mlm_head": "vocab_transform.weight" in weights,
        "tie": "none" if own else "all",
    }


def _write(ours: Config) -> dict[str, Any]:
    return {"activation": WRITTEN_ACTIVATIONS[ours["activation"]], "tie_word_embeddings": _tied(ours)}


DISTILBERT = Family(
    model_type="distilbert",
    prefix="distilbert.",
    kind="encoder",
    title="DistilBERT",
    same={
        "d_model": "dim",
        "heads": "n_heads",
        "d_ff": "hidden_dim",
        "encoder_layers": "n_layers",
        "max_length": "max_position_embeddings",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "init_std": "initializer_range",
    },
    fixed={
        "norm_position": "post",
        "norm_eps": 1e-12,
        "positions": "learned",
        "embedding_norm": True,
        "initialization": "bert",
        "activation": tuple(WRITTEN_ACTIVATIONS),
        "output_bias": (False, True),  # the vocabulary head of an encoder always has one
    },
    handled=("activation", "mlm_head"),
    defaults={
        "dim": 768,
        "n_heads": 12,
        "hidden_dim": 3072,
        "n_layers": 6,
        "max_position_embeddings": 512,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "activation": "gelu",
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
    },
    read=_read,
    write=_write,
    pairs=_pairs,
    architecture=lambda ours: "DistilBertForMaskedLM" if ours["mlm_head"] else "DistilBertModel",
    ignored=("embeddings.position_ids", "vocab_projector.weight"),
)
