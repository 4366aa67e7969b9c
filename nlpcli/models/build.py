"""From a model's configuration to the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from nlpcli.config.schema import ModelConfig
from nlpcli.models.initialisation import initialise
from nlpcli.models.transformer import Decoder, Encoder, EncoderDecoder

_STACK_SETTINGS = [
    "d_model",
    "heads",
    "d_ff",
    "d_key",
    "d_value",
    "norm",
    "norm_position",
    "norm_eps",
    "norm_bias",
    "qk_norm",
    "activation",
    "attention_bias",
    "attention_scale",
    "attention",
    "feed_forward_bias",
    "dropout",
    "attention_dropout",
    "activation_dropout",
]


def build_model(config: ModelConfig | Mapping[str, Any], vocab_size: int) -> nn.Module:
    """A freshly initialised model for `vocab_size` pieces; the weights depend on torch's random state only."""
    if not isinstance(config, ModelConfig):
        config = ModelConfig.model_validate(dict(config))
    c = config
    stack = {name: getattr(c, name) for name in _STACK_SETTINGS} | {
        "rotary": c.positions == "rotary",
        "relative": {"buckets": c.relative_buckets, "distance": c.relative_distance}
        if c.positions == "relative"
        else None,
        "output_dropout": c.dropout if c.output_dropout else 0.0,
    }
    common = {
        "vocab_size": vocab_size,
        "stack": stack,
        "embedding": {
            "positions": c.positions,
            "max_length": c.max_length,
            "position_offset": c.position_offset,
            "scale": c.scale_embeddings,
            "segments": c.segments,
            "norm": c.embedding_norm,
            "dropout": c.dropout,
        },
        "max_length": c.max_length if c.positions == "learned" else None,
        "tie": c.tie,
    }
    predicting = {"output_bias": c.output_bias, "scale_output": c.scale_output}
    model: nn.Module
    if c.kind == "encoder":
        heads = {"mlm": c.mlm_head, "pooler": c.pooler, "pair": c.pair_head}
        model = Encoder(
            encoder_layers=c.encoder_layers, heads=[name for name, there in heads.items() if there], **common
        )
    elif c.kind == "decoder":
        model = Decoder(decoder_layers=c.decoder_layers, **common, **predicting)
    else:
        model = EncoderDecoder(encoder_layers=c.encoder_layers, decoder_layers=c.decoder_layers, **common, **predicting)
    layers = c.encoder_layers if c.kind == "encoder" else c.decoder_layers
    initialise(model, scheme=c.initialisation, std=c.init_std, layers=layers)
    return model


def count_parameters(model: nn.Module) -> int:
    """Trained numbers, each shared matrix once."""
    return sum(parameter.numel() for parameter in model.parameters())
