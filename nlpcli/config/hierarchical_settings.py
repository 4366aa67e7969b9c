"""The settings of hierarchical attention networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nlpcli.config.model_settings import SentenceSplitting
from nlpcli.config.number_types import Layers, Size
from nlpcli.config.recurrent_layers_settings import RecurrentLayersConfig


class HierarchicalConfig(RecurrentLayersConfig):
    """A hierarchical attention network (Yang et al. 2016): words make up sentences, sentences make up a document."""

    build: ClassVar = "nlpcli.models.hierarchical:HierarchicalNetwork"

    usual_widths: ClassVar[tuple[str, ...]] = ("d_embedding", "d_attention")

    kind: Literal["encoder"] = Field("encoder", description="the model is an encoder")
    d_attention: Size | None = Field(
        None, description="size of the learned queries of the attention to words and to sentences; null: d_model"
    )
    word_layers: Layers = Field(1, description="recurrent layers over the words of a sentence, which read both ways")
    sentence_layers: Layers = Field(1, description="recurrent layers over the sentences, which read both ways")
    aggregation: Literal["attention", "mean", "max"] = Field(
        "attention", description="how words become a sentence, and sentences a document (HN-ATT, HN-AVE, HN-MAX)"
    )
    sentences: SentenceSplitting = Field("split", description="sentences of a text: split by rules, or its lines")

    @model_validator(mode="after")
    def _both_directions_fit(self) -> HierarchicalConfig:
        self.check_halves()
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
        how = "learned queries" if self.aggregation == "attention" else self.aggregation
        return f"bidirectional {self.rnn_name} over words and over sentences, aggregated by {how}"

    @property
    def sentence_splitting(self) -> SentenceSplitting:
        """See `ModelConfig.sentence_splitting`."""
        return self.sentences

    @property
    def without_effect(self) -> frozenset[str]:
        """See `ModelConfig.without_effect`."""
        return super().without_effect | ({"d_attention"} if self.aggregation != "attention" else set())
