"""Writes folders of CTranslate2: its specification, filled from our settings and weights, and the vocabulary.

What its converters make of other folders is not needed, and so their limits don't matter.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlpcli.config.ctranslate2_types import check_quantization
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.optional_packages import optional
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.convert.ctranslate2_limits import key_width, misfits, position_count, vocabulary
from nlpcli.errors import NlpcliError
from nlpcli.layers.positions import sinusoids
from nlpcli.text import Tokenizer

EXTRA = "fast"
TOKENIZER = "tokenizer"

_ACTIVATIONS = {
    "relu": "RELU", "gelu": "GELU", "gelu_tanh": "GELUTanh", "silu": "SWISH",
    "swiglu": "SWISH", "geglu": "GELU", "geglu_tanh": "GELUTanh",
}  # fmt: skip
_GATED = ("swiglu", "geglu", "geglu_tanh")


def write_ctranslate2(
    folder: Path,
    *,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    info: Mapping[str, Any],
    quantization: str | None = None,
) -> str:
    """Writes model.bin, config.json, the vocabulary and our tokenizer into `folder`; returns CTranslate2's name for it.

    weights: a state dict with all names, also those of shared matrices. quantization: a name of `QUANTIZATIONS`; None:
    numbers of 32 bits. A model of translation adds the end of a source itself.

    Raises: NlpcliError without the library, and for a model that it can't express, naming the settings.
    """
    check_quantization(quantization)
    specs = optional("ctranslate2.specs", EXTRA, "a folder for CTranslate2")
    wrong = misfits(config)
    if info.get("head"):
        wrong.append(f"the head of the task '{info['task']}'")
    if wrong or not isinstance(config, TransformerConfig):
        raise NlpcliError(f"CTranslate2 does not support {', '.join(wrong)}")
    filling = _Filling(specs, config, weights)
    names, special = vocabulary(tokenizer), tokenizer.special
    decoder = filling.decoder()
    if config.kind == "decoder":
        spec = specs.TransformerDecoderModelSpec(decoder)
        spec.register_vocabulary(names)
    else:
        spec = specs.TransformerSpec(filling.encoder(), decoder)
        spec.register_source_vocabulary(names)
        spec.register_target_vocabulary(names)
        start = (info.get("target_start") or [special.bos])[0]
        spec.config.decoder_start_token = names[start]
        spec.config.add_source_eos = True
    for role in ("unk", "bos", "eos"):
        setattr(spec.config, f"{role}_token", names[getattr(special, role)])
    spec.config.layer_norm_epsilon = config.norm_eps
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(os.fspath(folder))
    tokenizer.save(Path(folder) / TOKENIZER)
    return str(spec.name)


class _Filling:
    """The two stacks of a specification, with the weights of a model."""

    def __init__(self, specs: Any, config: TransformerConfig, weights: Mapping[str, Tensor]) -> None:
        self.specs, self.config, self.weights = specs, config, weights
        self._copies: dict[int, Tensor] = {}  # CTranslate2 rounds in place

    def encoder(self) -> Any:
        c = self.config
        spec = self.specs.TransformerEncoderSpec(c.encoder_layers, c.heads, **self._settings())
        self._fill("encoder", spec, spec.embeddings[0])
        return spec

    def decoder(self) -> Any:
        c = self.config
        alone = c.kind == "decoder"
        spec = self.specs.TransformerDecoderSpec(
            c.decoder_layers, c.heads, with_encoder_attention=not alone, alibi=c.positions == "alibi",
            parallel_residual=c.parallel_residual, **self._settings(),
        )  # fmt: skip
        self._fill("decoder", spec, spec.embeddings)
        spec.projection.weight = self._get("output_weight_owner.weight")
        if c.output_bias:
            spec.projection.bias = self._get("output_bias")
        if c.scale_output:
            spec.scale_outputs = torch.tensor(c.d_model**-0.5)
        return spec

    def _settings(self) -> dict[str, Any]:
        """What both stacks are made of."""
        c = self.config
        found: dict[str, Any] = {
            "pre_norm": c.norm_position == "pre",
            "activation": getattr(self.specs.Activation, _ACTIVATIONS[c.activation]),
            "ffn_glu": c.activation in _GATED,
            "layernorm_embedding": c.embedding_norm,
            "rms_norm": c.norm == "rmsnorm",
            "relative_attention_bias": c.positions == "relative",
            "num_heads_kv": c.kv_heads,
            "head_dim": c.d_key,
            "qk_norm": c.qk_norm,
        }
        if c.positions == "rotary":
            found |= {
                "rotary_dim": int(key_width(c) * c.rope_share),
                "rotary_interleave": False,
                "rotary_base": c.rope_theta,
            }
            if c.rope_scaling.method != "none":
                found["rotary_scaling_type"] = self.specs.RotaryScalingType.Linear
                found["rotary_scaling_factor"] = c.rope_scaling.factor
        return found

    def _fill(self, side: str, spec: Any, embeddings: Any) -> None:
        c = self.config
        embeddings.weight = self._get(f"{side}_embedding.tokens.weight")
        spec.scale_embeddings = c.scale_embeddings
        if position_count(c) is not None:
            spec.position_encodings.encodings = self._positions(side)
        if c.embedding_norm:
            self._norm(spec.layernorm_embedding, f"{side}_embedding.norm")
        if c.norm_position == "pre":
            self._norm(spec.layer_norm, f"{side}.norm")
        for number, layer in enumerate(spec.layer):
            self._layer(side, f"{side}.layers.{number}", layer)

    def _positions(self, side: str) -> Tensor:
        c = self.config
        if c.positions == "learned":
            return self._get(f"{side}_embedding.positions.weight")[c.position_offset :]
        rows = position_count(c)
        assert rows is not None
        if c.positions == "none":
            return torch.zeros(rows, c.d_model)
        return sinusoids(rows, c.d_model, halves=c.positions == "sinusoidal-halves")

    def _layer(self, side: str, name: str, spec: Any) -> None:
        if self.config.parallel_residual:
            first, second = spec.input_layer_norm, spec.post_attention_layer_norm
        else:
            first, second = spec.self_attention.layer_norm, spec.ffn.layer_norm
        self._norm(first, f"{name}.self_attention_norm")
        self._norm(second, f"{name}.feed_forward_norm")
        self._attention(spec.self_attention, f"{name}.self_attention", (("query", "key", "value"), ("output",)))
        if self.config.positions == "relative":
            spec.self_attention.relative_attention_bias = self._get(f"{side}.positions.weight")
            spec.self_attention.relative_attention_max_distance = torch.tensor(
                self.config.relative_distance, dtype=torch.int32
            )
        if hasattr(spec, "attention"):
            self._norm(spec.attention.layer_norm, f"{name}.cross_attention_norm")
            self._attention(spec.attention, f"{name}.cross_attention", (("query",), ("key", "value"), ("output",)))
        self._linear(spec.ffn.linear_1, f"{name}.feed_forward.outer")
        if self.config.activation in _GATED:
            self._linear(spec.ffn.linear_0, f"{name}.feed_forward.gate")
            self._linear(spec.ffn.linear_0_noact, f"{name}.feed_forward.inner")
        else:
            self._linear(spec.ffn.linear_0, f"{name}.feed_forward.inner")

    def _attention(self, spec: Any, name: str, parts: tuple[tuple[str, ...], ...]) -> None:
        """parts: which of our matrices each of theirs holds, below each other."""
        for linear, own in zip(spec.linear, parts, strict=True):
            self._linear(linear, *(f"{name}.{part}" for part in own))
        if self.config.score == "dot":
            spec.queries_scale = 1.0
        if self.config.qk_norm:
            spec.q_norm.gamma = self._get(f"{name}.query_norm.weight")
            spec.k_norm.gamma = self._get(f"{name}.key_norm.weight")

    def _linear(self, spec: Any, *names: str) -> None:
        spec.weight = torch.cat([self._get(f"{name}.weight") for name in names])
        if f"{names[0]}.bias" in self.weights:
            spec.bias = torch.cat([self._get(f"{name}.bias") for name in names])

    def _norm(self, spec: Any, name: str) -> None:
        spec.gamma = self._get(f"{name}.weight")
        if hasattr(spec, "beta"):
            bias = f"{name}.bias"
            spec.beta = self._get(bias) if bias in self.weights else torch.zeros_like(spec.gamma)

    def _get(self, name: str) -> Tensor:
        tensor = self.weights[name].detach()
        place = tensor.data_ptr()
        if place not in self._copies:
            self._copies[place] = tensor.to("cpu", torch.float32, copy=True)
        return self._copies[place]
