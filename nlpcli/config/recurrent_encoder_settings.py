"""The settings of recurrent encoders of sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nlpcli.config.number_types import Layers
from nlpcli.config.recurrent_layers_settings import RecurrentLayersConfig


class RecurrentEncoderConfig(RecurrentLayersConfig):
    """An encoder of RNN, LSTM or GRU layers: Skip-Thought (Kiros et al. 2015), InferSent (Conneau et al. 2017)."""

    build: ClassVar = "nlpcli.models.recurrent_sentence_encoder:RecurrentSentenceEncoder"

    kind: Literal["encoder"] = Field("encoder", description="the model is an encoder")
    encoder_layers: Layers = 1
    bidirectional: bool = Field(True, description="the encoder reads both ways, each with half of d_model")
    neighbor_decoders: bool = Field(
        False, description="decoders of the sentences before and after (skip-thought); set by the objective"
    )

    @model_validator(mode="after")
    def _both_directions_have_a_half(self) -> RecurrentEncoderConfig:
        if self.bidirectional:
            self.check_halves()
        return self

    @property
    def stacks(self) -> Mapping[str, int]:
        """See `ModelConfig.stacks`."""
        return {"encoder": self.encoder_layers}

    @property
    def layer_type(self) -> str:
        """See `ModelConfig.layer_type`."""
        return f"{'bidirectional ' * self.bidirectional}{self.rnn_name}"

    @property
    def text_pooling(self) -> str:
        """See `ModelConfig.text_pooling`: the maximum for bidirectional states (Conneau et al. 2017, 3.2.2)."""
        return "max" if self.bidirectional else "last"

    def without_pretraining_heads(self) -> RecurrentEncoderConfig:
        """See `ModelConfig.without_pretraining_heads`."""
        return self.model_copy(update={"neighbor_decoders": False})
