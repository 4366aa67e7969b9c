"""The base of the settings of all families with recurrent layers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.number_types import Size


class RecurrentLayersConfig(ModelConfig):
    """The settings of a model with recurrent layers."""

    usual_widths: ClassVar[tuple[str, ...]] = ("d_embedding",)
    """Settings that are d_model where they are not set, and are null where they are set to it."""

    rnn_type: Literal["rnn", "lstm", "gru"] = Field("gru", description="recurrent layers: Elman network, LSTM or GRU")
    d_embedding: Size | None = Field(None, description="size of the embeddings; null: d_model")

    @model_validator(mode="before")
    @classmethod
    def _says_the_usual_width_in_one_way(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        width = data.get("d_model", cls.model_fields["d_model"].default)
        return data | {name: None for name in cls.usual_widths if data.get(name) == width}

    @property
    def rnn_name(self) -> str:
        """The recurrent layers, for people."""
        return self.rnn_type.upper()

    @property
    def state_parts(self) -> int:
        """Vectors of a layer's state: an LSTM has two."""
        return 2 if self.rnn_type == "lstm" else 1

    def check_halves(self) -> None:
        """Raises: ValueError where d_model can't be shared by two directions."""
        if self.d_model % 2:
            raise ValueError(f"a bidirectional encoder needs an even d_model, not {self.d_model}")
