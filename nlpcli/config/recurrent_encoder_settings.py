"""The settings of recurrent encoders of sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.quantities import Layers, Size


class RecurrentEncoderConfig(ModelConfig):
    """An encoder of RNN, LSTM or GRU layers: Skip-Thought (Kiros et al. 2015), InferSent (Conneau et al. 2017)."""

    build: ClassVar = "nlpcli.models.recurrent_sentence_encoder:RecurrentSentenceEncoder"

    kind: Literal["encoder"] = Field("encoder", description="the model is an encoder")
    cell: Literal["rnn", "lstm", "gru"] = Field("gru", description="recurrent layers: Elman network, LSTM or GRU")
    d_embedding: Size | None = Field(None, description="size of the embeddings; null: d_model")
    encoder_layers: Layers = 1
    bidirectional: bool = Field(True, description="the encoder reads both ways, each with half of d_model")
    neighbor_decoders: bool = Field(
        False, description="decoders of the sentences before and after (skip-thought); set by the objective"
    )

    @model_validator(mode="before")
    @classmethod
    def _says_the_usual_width_in_one_way(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("d_embedding") == data.get("d_model", 512):
            return data | {"d_embedding": None}
        return data

    @model_validator(mode="after")
    def _both_directions_have_a_half(self) -> RecurrentEncoderConfig:
        if self.bidirectional and self.d_model % 2:
            raise ValueError(f"a bidirectional encoder needs an even d_model, not {self.d_model}")
        return self

    @property
    def stacks(self) -> Mapping[str, int]:
        """See `ModelConfig.stacks`."""
        return {"encoder": self.encoder_layers}

    @property
    def layer_type(self) -> str:
        """See `ModelConfig.layer_type`."""
        return f"{'bidirectional ' * self.bidirectional}{self.cell.upper()}"

    @property
    def text_pooling(self) -> str:
        """See `ModelConfig.text_pooling`: of states that know both sides the maximum (Conneau et al. 2017, 3.2.2)."""
        return "max" if self.bidirectional else "last"

    def without_pretraining_heads(self) -> RecurrentEncoderConfig:
        """See `ModelConfig.without_pretraining_heads`."""
        return self.model_copy(update={"neighbor_decoders": False})
