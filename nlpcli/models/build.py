"""From a model's configuration to the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nlpcli.config.families import RECURRENT, STACK
from nlpcli.config.schema import ModelConfig
from nlpcli.errors import NlpcliError
from nlpcli.escaping import shortened
from nlpcli.layers.positions import Rotary
from nlpcli.layers.rope_scaling import RopeScaling
from nlpcli.models.initialization import initialize
from nlpcli.models.multi_task_heads import WithHeads
from nlpcli.models.source_encoder import SourceEncoder
from nlpcli.models.transformer import Decoder, Encoder, EncoderDecoder
from nlpcli.models.transformer_xl import TransformerXL
from nlpcli.models.with_head import WithHead
from nlpcli.models.xlnet import XLNet

_FILLING = ("normal_", "uniform_")


class _NoValues(TorchFunctionMode):
    """Fills nothing: where only shapes are asked for, these functions of the meta device take a second to load."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "").endswith(_FILLING):  # of tensors, and in torch.nn.init
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn:
            func = torch.empty
        elif func is torch.Tensor.mul:  # by a number, in constructors
            return args[0]
        return func(*args, **kwargs)


def outline(
    config: ModelConfig | Mapping[str, Any], vocab_size: int, head: Mapping[str, Any] | None = None
) -> nn.Module:
    """The model of `build_model` without memory for its numbers: names, shapes and counts.

    Raises: NlpcliError for settings that no model can be built with.
    """
    try:
        with torch.device("meta"), _NoValues():
            return _built(config, vocab_size, head, first_weights=False)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise NlpcliError(f"a model can't be built from these settings ({shortened(why)})") from None


def build_model(
    config: ModelConfig | Mapping[str, Any], vocab_size: int, head: Mapping[str, Any] | None = None
) -> nn.Module:
    """A freshly initialized model for `vocab_size` pieces; the weights depend on torch's random state only.

    head: the settings of `WithHead` for a task that needs one on top; those of several by name under `heads`.
    """
    return _built(config, vocab_size, head, first_weights=True)


def _built(
    config: ModelConfig | Mapping[str, Any], vocab_size: int, head: Mapping[str, Any] | None, *, first_weights: bool
) -> nn.Module:
    if not isinstance(config, ModelConfig):
        config = ModelConfig.model_validate(dict(config))
    model = _BUILDERS[config.family](config, vocab_size)
    layers = config.encoder_layers if config.kind == "encoder" else config.decoder_layers
    if first_weights:
        initialize(model, scheme=config.initialization, std=config.init_std, layers=layers)
    if config.source_layers:
        size = config.source_vocab_size or vocab_size
        add_source_encoder(model, config, layers=config.source_layers, vocab_size=size)
    if not head:
        return model
    if "heads" in head:
        return WithHeads(model, head["heads"], width=config.d_model)
    return WithHead(model, width=config.d_model, **head)


def add_source_encoder(model: EncoderDecoder, config: ModelConfig, *, layers: int, vocab_size: int) -> None:
    """Puts a new encoder of `layers` layers, which reads ids of another vocabulary, under that of `model`.

    config: that of `model`, whose kind of layers the new ones are. See `nlpcli.models.source_encoder`.
    """
    stack, embedding = _parts(config)
    encoder = SourceEncoder(vocab_size=vocab_size, layers=layers, embedding=embedding, stack=stack)
    initialize(encoder, scheme=config.initialization, std=config.init_std, layers=layers)
    model.encoder_embedding.tokens = model.decoder_embedding.tokens  # its own is read by nobody any more
    model.source_encoder = encoder


def _parts(c: ModelConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the Transformer's stacks and of its embeddings."""
    stack = {name: getattr(c, name) for name in STACK} | {
        "attention": c.attention,
        "rotary": _rotary(c, c.rope_theta),
        "local_rotary": _rotary(c, c.rope_local_theta) if c.rope_local_theta else None,
        "relative": {"buckets": c.relative_buckets, "distance": c.relative_distance} if c.relative else None,
        "output_dropout": c.dropout if c.output_dropout else 0.0,
    }
    embedding = {
        "positions": c.positions,
        "max_length": c.max_length,
        "position_offset": c.position_offset,
        "scale": c.scale_embeddings,
        "segments": c.segments,
        "norm": c.embedding_norm,
        "dropout": c.dropout,
    }
    return stack, embedding


def _rotary(c: ModelConfig, theta: float) -> Rotary | None:
    if c.positions != "rotary":
        return None
    scaling = None if c.rope_scaling.method == "none" else RopeScaling(**c.rope_scaling.model_dump())
    return Rotary(theta, c.rope_share, scaling, c.max_length)


def _transformer(c: ModelConfig, vocab_size: int) -> nn.Module:
    stack, embedding = _parts(c)
    common = {
        "vocab_size": vocab_size,
        "stack": stack,
        "embedding": embedding,
        "max_length": c.max_length if c.positions == "learned" else None,
        "tie": c.tie,
    }
    predicting = {"output_bias": c.output_bias, "scale_output": c.scale_output}
    if c.kind == "encoder":
        heads = {"mlm": c.mlm_head, "pooler": c.pooler, "pair": c.pair_head}
        return Encoder(
            encoder_layers=c.encoder_layers, heads=[name for name, there in heads.items() if there],
            d_embedding=c.d_embedding, head_bias=c.mlm_head_bias, **common,
        )  # fmt: skip
    if c.kind == "decoder":
        return Decoder(decoder_layers=c.decoder_layers, **common, **predicting)
    return EncoderDecoder(
        encoder_layers=c.encoder_layers, decoder_layers=c.decoder_layers,
        decoder_attention=c.decoder_attention or c.attention, **common, **predicting,
    )  # fmt: skip


def _transformer_xl(c: ModelConfig, vocab_size: int) -> nn.Module:
    return TransformerXL(
        vocab_size=vocab_size,
        layers=c.decoder_layers,
        share_biases=c.share_position_biases,
        norm_position=c.norm_position,
        tie=c.tie in ("all", "target-output"),
        output_bias=c.output_bias,
        adaptive_cutoffs=[border for border in c.adaptive_cutoffs if border < vocab_size],
        **{name: getattr(c, name) for name in RECURRENT},
    )


def _xlnet(c: ModelConfig, vocab_size: int) -> nn.Module:
    return XLNet(
        vocab_size=vocab_size,
        layers=c.encoder_layers,
        **{name: getattr(c, name) for name in RECURRENT},
    )


_BUILDERS = {"transformer": _transformer, "transformer-xl": _transformer_xl, "xlnet": _xlnet}


def count_parameters(model: nn.Module) -> int:
    """Trained numbers, each shared matrix once."""
    return sum(parameter.numel() for parameter in model.parameters())
