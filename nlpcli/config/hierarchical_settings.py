"""The settings of hierarchical attention networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nlpcli.config.model_settings import ModelConfig, SentenceSplitting
from nlpcli.config.quantities import Layers, Size


class HierarchicalConfig(ModelConfig):
    """A hierarchical attention network (Yang et al. 2016): words make up sentences, sentences make up a document."""

    build: ClassVar = "nlpcli.models.hierarchical:HierarchicalNetwork"

    kind: Literal["encoder"] = Field("encoder", description="the model is an encoder")
    cell: Literal["rnn", "lstm", "gru"] = Field("gru", description="recurrent layers: Elman network, LSTM or GRU")
    d_embedding: Size | None = Field(None, description="size of the embeddings of words; null: d_model")
    d_attention: Size | None = Field(
        None, description="size of the learned queries of the attention to words and to sentences; null: d_model"
    )
    word_layers: Layers = Field(1, description="recurrent layers over the words of a sentence, which read both ways")
    sentence_layers: Layers = Field(1, description="recurrent layers over the sentences, which read both ways")
    aggregation: Literal["attention", "mean", "max"] = Field(
        "attention", description="how words become a sentence, and sentences a document (HN-ATT, HN-AVE, HN-MAX)"
    )
    sentences: SentenceSplitting = Field("split", description="sentences of a text: split by rules, or its lines")

    @model_validator(mode="before")
    @classmethod
    def _says_the_usual_width_in_one_way(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        width = data.get("d_model", cls.model_fields["d_model"].default)
        return data | {name: None for name in ("d_embedding", "d_attention") if data.get(name) == width}

    @model_validator(mode="after")
    def _both_directions_fit(self) -> HierarchicalConfig:
        if self.d_model % 2:
            raise ValueError(f"layers that read both ways need an even d_model, not {self.d_model}")
        return self

    @property
    def text_pooling(self) -> str:
        """See `ModelConfig.text_pooling`."""
        return "first"

    @property
    def stacks(self) -> Mapping[str, int]:
        """See `ModelConfig.stacks`."""
        return {"word encoder": self.word_layers, "sentence encoder": self.sentence_layers}

    @property
    def layer_type(self) -> str:
        """See `ModelConfig.layer_type`."""
        cell = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}[self.cell]
        how = "learned queries" if self.aggregation == "attention" else self.aggregation
        return f"bidirectional {cell} over words and over sentences, aggregated by {how}"

    @property
    def sentence_splitting(self) -> SentenceSplitting:
        """See `ModelConfig.sentence_splitting`."""
        return self.sentences

    @property
    def without_effect(self) -> frozenset[str]:
        """See `ModelConfig.without_effect`."""
        return super().without_effect | ({"d_attention"} if self.aggregation != "attention" else set())
