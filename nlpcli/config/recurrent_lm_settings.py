"""The settings of recurrent language models, with or without attention to their own past states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from nlpcli.config.model_settings import CacheSize
from nlpcli.config.number_types import Fraction, Layers, Size, SizeOrNone
from nlpcli.config.recurrent_layers_settings import RecurrentLayersConfig
from nlpcli.errors import NlpcliError

Weight = Annotated[float, Field(ge=0)]


class RecurrentLMConfig(RecurrentLayersConfig):
    """A decoder of RNN, LSTM or GRU layers, which carries its state from segment to segment."""

    build: ClassVar = "nlpcli.models.recurrent_lm:RecurrentLM"
    has_memory: ClassVar[bool] = True
    usual_widths: ClassVar[tuple[str, ...]] = ("d_hidden", "d_embedding")

    kind: Literal["decoder"] = Field("decoder", description="the model is a decoder")
    rnn_type: Literal["rnn", "lstm", "gru"] = Field("lstm", description="recurrent layers: Elman network, LSTM or GRU")
    decoder_layers: Layers = 2
    d_model: Size = Field(512, description="size of the top layer's states")
    d_hidden: Size | None = Field(None, description="size of the states of the layers below; null: d_model")
    past_states: SizeOrNone = Field(
        0, description="number of the top layer's earlier states that attention reads; 0: no attention"
    )
    score: Literal["dot", "scaled-dot", "general", "additive", "concat", "cosine", "gaussian"] = Field(
        "general", description="score of a query and a key in the attention to past states"
    )
    tie: Literal["all", "target-output", "none"] = Field(
        "all", description="whether the output projection is the embedding matrix: all or target-output"
    )
    output_bias: bool = True
    dropout: Fraction = Field(0.0, description="dropout on the states that predict tokens")
    input_dropout: Fraction = Field(0.0, description="dropout on the embeddings that the bottom layer reads")
    hidden_dropout: Fraction = Field(0.0, description="dropout between layers")
    embedding_dropout: Fraction = Field(
        0.0, description="share of the vocabulary whose embeddings are 0 wherever they occur in a batch"
    )
    weight_dropout: Fraction = Field(0.0, description="dropout on the recurrent weight matrices (DropConnect)")
    variational_dropout: bool = Field(
        False, description="one dropout mask for all positions of a segment (not of embedding and weight dropout)"
    )
    activation_regularization: Weight = Field(
        0.0, description="weight of the mean square of the states that predict tokens, in the training loss (AR)"
    )
    temporal_activation_regularization: Weight = Field(
        0.0, description="weight of the mean square of the changes of the top layer's states, in the same loss (TAR)"
    )

    @model_validator(mode="after")
    def _widths_fit(self) -> RecurrentLMConfig:
        if self.is_tied and self.d_embedding:
            raise ValueError(
                f"with tie '{self.tie}' the embeddings must be as wide as the top layer: "
                f"d_embedding {self.d_embedding} is not d_model {self.d_model}; set tie to none"
            )
        return self

    @property
    def is_tied(self) -> bool:
        """Whether the output projection is the embedding matrix."""
        return self.tie != "none"

    @property
    def widths(self) -> list[int]:
        """The size of the embeddings, and of the states of each layer."""
        below = [self.d_hidden or self.d_model] * (self.decoder_layers - 1)
        return [self.d_embedding or self.d_model, *below, self.d_model]

    @property
    def stacks(self) -> Mapping[str, int]:
        """See `ModelConfig.stacks`."""
        return {"decoder": self.decoder_layers}

    @property
    def carried_states(self) -> int:
        """See `ModelConfig.carried_states`: the last, which sums up all before it, and those attended to."""
        return max(1, self.past_states)

    @property
    def memory_signature(self) -> str:
        """See `ModelConfig.memory_signature`."""
        return "state"

    @property
    def layer_type(self) -> str:
        """See `ModelConfig.layer_type`."""
        sizes = self.widths
        widths = "" if len(set(sizes)) == 1 else f"; embeddings {sizes[0]}, states {', '.join(map(str, sizes[1:]))}"
        attends = f", attention to {self.past_states} past states (score {self.score})" if self.past_states else ""
        return f"{self.rnn_name}{attends}{widths}"

    @property
    def without_effect(self) -> frozenset[str]:
        """See `ModelConfig.without_effect`."""
        used = {"score": self.past_states > 0, "d_hidden": self.decoder_layers > 1}
        return super().without_effect | {name for name, effect in used.items() if not effect}

    def check_document_mask(self, setting: str) -> None:
        """See `ModelConfig.check_document_mask`."""
        raise NlpcliError(
            f"--document-mask can't be used with {self.family}, whose state goes through all documents",
            hint="leave out --document-mask",
        )

    def cached_numbers(self) -> CacheSize:
        """See `ModelConfig.cached_numbers`."""
        states = sum(self.widths[1:]) * self.state_parts
        return CacheSize(window=states + self.past_states * self.d_model)
