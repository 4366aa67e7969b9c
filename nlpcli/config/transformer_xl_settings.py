"""The settings of Transformer-XL, and those that it shares with XLNet."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nlpcli.config.model_settings import CacheSize, ModelConfig
from nlpcli.config.number_types import Fraction, Layers, Size, SizeOrNone
from nlpcli.errors import NlpcliError


class SegmentRecurrentConfig(ModelConfig):
    """A Transformer with relative positions that remembers the hidden states of earlier segments."""

    has_memory: ClassVar[bool] = True

    heads: Size = Field(8, description="attention heads in each layer")
    d_ff: Size = Field(2048, description="inner size of the feed-forward layers")
    d_key: Size | None = Field(
        None, description="size of the queries, keys and values of a head; null: d_model / heads"
    )
    memory_length: SizeOrNone = Field(0, description="number of cached hidden states of earlier segments")
    clamp_length: SizeOrNone = Field(
        0, description="largest relative distance; larger ones are clamped to it; 0: no limit"
    )
    activation: Literal["relu", "gelu", "gelu_tanh", "silu", "swiglu", "geglu", "geglu_tanh"] = "relu"
    norm_eps: float = Field(1e-5, gt=0)
    attention_dropout: Fraction = Field(0.0, description="dropout on attention weights")
    activation_dropout: Fraction = Field(0.0, description="dropout inside the feed-forward layers")

    @model_validator(mode="after")
    def _widths_fit(self) -> SegmentRecurrentConfig:
        if self.d_model % self.heads and not self.d_key:
            raise ValueError(f"d_model {self.d_model} can't be split into {self.heads} heads; set d_key")
        if self.d_model % 2:
            raise ValueError(f"the relative positions of {self.family} need an even d_model, not {self.d_model}")
        return self

    def check_document_mask(self, setting: str) -> None:
        """See `ModelConfig.check_document_mask`."""
        raise NlpcliError(
            f"--document-mask can't be used with {self.family}, which attends across documents",
            hint="leave out --document-mask",
        )

    @property
    def layer_type(self) -> str:
        """See `ModelConfig.layer_type`."""
        return f"layernorm, {self.activation}, relative positions"

    @property
    def carried_states(self) -> int:
        """See `ModelConfig.carried_states`."""
        return self.memory_length


class TransformerXLConfig(SegmentRecurrentConfig):
    """Transformer-XL (Dai et al. 2019), a decoder."""

    build: ClassVar = "nlpcli.models.transformer_xl:TransformerXL"

    kind: Literal["decoder"] = Field("decoder", description="the model is a decoder")
    decoder_layers: Layers = 6
    norm_position: Literal["post", "pre"] = Field(
        "post", description="post: normalize after the residual sum; pre: before the sublayer"
    )
    tie: Literal["all", "source-target", "target-output", "none"] = Field(
        "all", description="whether the output projection is the embedding matrix: all or target-output"
    )
    output_bias: bool = False
    adaptive_cutoffs: list[Size] = Field(
        [], description="ids at which the groups of an adaptive softmax begin; empty: full softmax"
    )
    share_position_biases: bool = Field(True, description="share one pair of attention biases among all layers")

    @model_validator(mode="after")
    def _cutoffs_increase(self) -> TransformerXLConfig:
        if any(a >= b for a, b in itertools.pairwise(self.adaptive_cutoffs)):
            raise ValueError(f"adaptive_cutoffs {self.adaptive_cutoffs} are not in increasing order")
        return self

    @property
    def stacks(self) -> Mapping[str, int]:
        """See `ModelConfig.stacks`."""
        return {"decoder": self.decoder_layers}

    @property
    def vocabulary_borders(self) -> Sequence[int]:
        """See `ModelConfig.vocabulary_borders`."""
        return self.adaptive_cutoffs

    def cached_numbers(self) -> CacheSize:
        """See `ModelConfig.cached_numbers`."""
        return CacheSize(self.decoder_layers * self.heads * 2 * (self.d_key or self.d_model // self.heads))
