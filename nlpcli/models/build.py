"""From a model's configuration to the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from nlpcli.config.schema import ModelConfig
from nlpcli.models.transformer import Decoder, Encoder, EncoderDecoder, initialise


def build_model(config: ModelConfig | Mapping[str, Any], vocab_size: int) -> nn.Module:
    """A freshly initialised model for `vocab_size` pieces; the weights depend on torch's random state only."""
    if not isinstance(config, ModelConfig):
        config = ModelConfig.model_validate(dict(config))
    c = config
    layer = dict(
        d_model=c.d_model, heads=c.heads, d_ff=c.d_ff, d_key=c.d_key, d_value=c.d_value, norm=c.norm,
        norm_position=c.norm_position, norm_eps=c.norm_eps, norm_bias=c.norm_bias, qk_norm=c.qk_norm,
        activation=c.activation, rotary=c.positions == "rotary", attention_bias=c.attention_bias,
        feed_forward_bias=c.feed_forward_bias, dropout=c.dropout, attention_dropout=c.attention_dropout,
        activation_dropout=c.activation_dropout,
    )  # fmt: skip
    embedding = dict(
        positions=c.positions, max_length=c.max_length, scale=c.scale_embeddings, norm=c.embedding_norm,
        dropout=c.dropout,
    )  # fmt: skip
    common = dict(
        vocab_size=vocab_size, embedding=embedding, layer=layer,
        max_length=c.max_length if c.positions == "learned" else None,
    )  # fmt: skip
    model: nn.Module
    if c.kind == "encoder":
        model = Encoder(encoder_layers=c.encoder_layers, **common)
    elif c.kind == "decoder":
        model = Decoder(decoder_layers=c.decoder_layers, tie=c.tie, output_bias=c.output_bias, **common)
    else:
        model = EncoderDecoder(
            encoder_layers=c.encoder_layers,
            decoder_layers=c.decoder_layers,
            tie=c.tie,
            output_bias=c.output_bias,
            **common,
        )
    layers = c.encoder_layers if c.kind == "encoder" else c.decoder_layers
    initialise(model, scheme=c.initialisation, std=c.init_std, layers=layers)
    return model


def count_parameters(model: nn.Module) -> int:
    """Trained numbers, each shared matrix once."""
    return sum(parameter.numel() for parameter in model.parameters())
