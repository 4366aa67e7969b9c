"""The settings of recurrent encoder-decoders, with or without attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from nlpcli.config.model_settings import CacheSize
from nlpcli.config.number_types import Layers, Positive, Size
from nlpcli.config.recurrent_layers_settings import RecurrentLayersConfig


class RecurrentConfig(RecurrentLayersConfig):
    """A recurrent encoder-decoder; defaults follow Bahdanau et al. 2015, but for its size."""

    build: ClassVar = "nlpcli.models.recurrent:RecurrentEncoderDecoder"
    head_side: ClassVar[str] = "encoder"
    text_summary: ClassVar[str] = "max"

    kind: Literal["encoder-decoder"] = Field("encoder-decoder", description="the model is an encoder-decoder")
    d_embedding: Size | None = Field(
        None, description="size of the embeddings, and of the states that predict tokens; null: d_model"
    )
    encoder_layers: Layers = 1
    decoder_layers: Layers = 1
    bidirectional: bool = Field(True, description="the encoder reads both ways, each with half of d_model")
    decoder: Literal["fixed-context", "bahdanau", "luong"] = Field(
        "bahdanau",
        description="fixed-context: no attention; bahdanau: attention with the previous state; luong: with the current",
    )
    input_feeding: bool = Field(True, description="luong: each step reads the attentional vector of the one before")
    score: Literal["dot", "scaled-dot", "general", "additive", "concat", "cosine", "gaussian", "location"] = Field(
        "additive", description="score of a query and a key in the attention"
    )
    attention_window: Literal["global", "local-m", "local-p"] = Field(
        "global",
        description="where the decoder attends: everywhere, around the target's position (local-m), or around a "
        "predicted one (local-p)",
    )
    window_size: Positive = Field(10, description="D of local-m and local-p: largest distance from the window's center")
    hard_attention: Literal["none", "sample", "gumbel"] = Field(
        "none", description="attention to one sampled position: sample (REINFORCE), gumbel (straight-through)"
    )
    gumbel_temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="temperature of gumbel")
    tie: Literal["all", "source-target", "target-output", "none"] = Field(
        "all", description="matrices that are shared: source embedding, target embedding, output projection"
    )
    output_bias: bool = False

    @model_validator(mode="after")
    def _parts_fit(self) -> RecurrentConfig:
        if self.bidirectional:
            self.check_halves()
        if self.decoder == "fixed-context":
            for name in ("attention_window", "hard_attention"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} has no effect with the decoder 'fixed-context', which has no attention")
        if self.score == "location" and self.attention_window != "global":
            raise ValueError("the score 'location' needs attention_window 'global'")
        return self

    @property
    def stacks(self) -> Mapping[str, int]:
        """See `ModelConfig.stacks`."""
        return {"encoder": self.encoder_layers, "decoder": self.decoder_layers}

    @property
    def layer_type(self) -> str:
        """See `ModelConfig.layer_type`."""
        read = f"{'bidirectional ' * self.bidirectional}{self.rnn_name} encoder"
        if self.decoder == "fixed-context":
            return f"{read}, {self.rnn_name} decoder without attention"
        kind = {"bahdanau": "Bahdanau's", "luong": "Luong's"}[self.decoder]
        how = [f"score {self.score}"]
        if self.attention_window != "global":
            how.append(f"{self.attention_window}:{self.window_size}")
        if self.hard_attention != "none":
            how.append(f"hard, {self.hard_attention}")
        if self.decoder == "luong" and self.input_feeding:
            how.append("input feeding")
        return f"{read}, {self.rnn_name} decoder with {kind} attention ({', '.join(how)})"

    @property
    def samples_attention(self) -> bool:
        """See `ModelConfig.samples_attention`."""
        return self.hard_attention == "sample"

    @property
    def without_effect(self) -> frozenset[str]:
        """See `ModelConfig.without_effect`."""
        attends = self.decoder != "fixed-context"
        used = {
            "input_feeding": self.decoder == "luong",
            "score": attends,
            "attention_window": attends,
            "hard_attention": attends,
            "window_size": self.attention_window != "global",
            "gumbel_temperature": self.hard_attention == "gumbel",
            "max_length": attends and self.score == "location",
        }
        return frozenset(name for name, effect in used.items() if not effect)

    def cached_numbers(self) -> CacheSize:
        """See `ModelConfig.cached_numbers`. The state is that of the layers, and what is fed to the next step."""
        state = self.decoder_layers * self.d_model * self.state_parts
        if self.decoder == "fixed-context":
            return CacheSize(window=state + self.d_model)
        if self.decoder == "luong" and self.input_feeding:
            state += self.d_embedding or self.d_model
        return CacheSize(window=state, per_source_token=2 * self.d_model)
