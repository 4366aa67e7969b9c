"""The settings of the Transformer: BERT, GPT, BART, T5 and similar models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from nlpcli.attention.kinds import check_attention, parse_attention
from nlpcli.config.model_settings import CacheSize, ModelConfig
from nlpcli.config.number_types import Fraction, Layers, Size, SizeOrNone
from nlpcli.config.rope_settings import RopeScalingConfig
from nlpcli.errors import NlpcliError


class TransformerConfig(ModelConfig):
    """A Transformer; names and defaults follow Vaswani et al. 2017 (`transformer-base`)."""

    build: ClassVar = "nlpcli.models.transformer:build"

    d_embedding: Size | None = Field(
        None, description="size of an encoder's embeddings, which a matrix turns into d_model (ELECTRA); null: d_model"
    )
    heads: Size = Field(8, description="attention heads in each layer")
    kv_heads: Size | None = Field(
        None, description="heads of keys and values, each shared by heads / kv_heads heads; null: as many as heads"
    )
    d_ff: Size = Field(2048, description="inner size of the feed-forward layers")
    encoder_layers: Layers = 6
    decoder_layers: Layers = 6
    source_layers: Annotated[int, Field(ge=0, le=2000)] = Field(
        0, description="layers of an additional source encoder below the encoder, with its own vocabulary; 0: none"
    )
    source_vocab_size: Size | None = Field(
        None, description="vocabulary size of the source encoder; null: the vocabulary size of the target"
    )
    d_key: Size | None = Field(None, description="size of the queries and keys of a head; null: d_model / heads")
    d_value: Size | None = Field(
        None, description="size of the values of a head; null: d_model / heads (their mean: d_model)"
    )
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_position: Literal["post", "pre"] = Field(
        "post", description="post: normalize after the residual sum; pre: before the sublayer"
    )
    parallel_residual: bool = Field(
        False, description="attention and feed-forward layer read the same input (GPT-NeoX)"
    )
    reversible: bool = Field(
        False,
        description="training computes the states of layers again in the place of keeping them (Reformer); needs "
        "norm_position pre",
    )
    first_norm: bool = Field(
        True, description="a pre-norm model's first layer normalizes its input (ModernBERT does not)"
    )
    norm_eps: float = Field(1e-5, gt=0)
    norm_bias: bool = Field(True, description="bias of LayerNorm")
    qk_norm: bool = Field(False, description="normalize queries and keys (RMSNorm) before the dot product")
    embedding_norm: bool = Field(False, description="normalize the sum of the embeddings")
    activation: Literal["relu", "gelu", "gelu_tanh", "silu", "swiglu", "geglu", "geglu_tanh"] = "relu"
    attention: list[str] = Field(
        ["full"],
        min_length=1,
        description="attention of each layer, in a cycle: a pattern such as full or window:128+global:2, or a kind "
        "such as linear or performer:256 (docs/attention-kinds.md)",
    )
    global_tokens: SizeOrNone = Field(
        0,
        description="learned vectors that an encoder's layers read before the text (ETC); a pattern counts positions "
        "from the first of them, so that global:K names K",
    )
    decoder_attention: list[str] | None = Field(
        None, min_length=1, description="attention of the decoder layers of an encoder-decoder; null: as in attention"
    )
    score: Literal["dot", "scaled-dot", "general", "additive", "concat", "cosine", "gaussian"] = Field(
        "scaled-dot", description="score of a query and a key in the attention (T5: dot)"
    )
    head_aggregation: Literal["projection", "concat", "mean"] = Field(
        "projection", description="heads become one vector: concatenated and projected, concatenated, or their mean"
    )
    positions: Literal["sinusoidal", "sinusoidal-halves", "learned", "rotary", "relative", "alibi", "none"] = Field(
        "sinusoidal",
        description="sinusoidal: sine and cosine in turn; sinusoidal-halves: sines first (Marian); relative: T5; "
        "alibi: a penalty on scores that is linear in the distance",
    )
    rope_theta: Annotated[float, Field(gt=1)] = Field(10000.0, description="base of the angles of rotary positions")
    rope_local_theta: Annotated[float, Field(gt=1)] | None = Field(
        None, description="the same in layers whose attention is not full; null: rope_theta"
    )
    rope_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="fraction of each head's dimensions that rotary positions rotate (GPT-NeoX 0.25)"
    )
    rope_scaling: RopeScalingConfig = RopeScalingConfig()
    position_offset: SizeOrNone = Field(0, description="unused embeddings before the learned positions (BART: 2)")
    relative_bias: bool = Field(False, description="T5's relative positions besides the other ones (MPNet)")
    relative_buckets: Size = Field(32, description="number of buckets for relative positions")
    relative_distance: Size = Field(128, description="relative positions beyond this distance share one bucket")
    segments: SizeOrNone = Field(0, description="number of segment embeddings (BERT: 2)")
    scale_embeddings: bool = Field(True, description="multiply token embeddings by the square root of d_model")
    tie: Literal["all", "source-target", "target-output", "none"] = Field(
        "all", description="matrices that are shared: source embedding, target embedding, output projection"
    )
    attention_bias: bool = False
    feed_forward_bias: bool = True
    output_bias: bool = False
    scale_output: bool = Field(
        False, description="multiply the last hidden states by d_model^-0.5 before the output projection (T5)"
    )
    mlm_head: bool = Field(False, description="dense layer of an encoder before the output projection (BERT)")
    mlm_head_bias: bool = Field(True, description="bias of the dense layer of mlm_head (ModernBERT has none)")
    pooler: bool = Field(False, description="tanh(W x) of the first hidden state of an encoder (BERT)")
    pair_head: bool = Field(False, description="classifier on the pooler's output, for next sentence or sentence order")
    attention_dropout: Fraction = Field(
        0.0, description="dropout on attention weights; on a CPU it makes attention 3 to 5 times slower"
    )
    activation_dropout: Fraction = Field(0.0, description="dropout inside the feed-forward layers")
    output_dropout: bool = Field(False, description="dropout also on the output of each stack (T5)")

    @model_validator(mode="before")
    @classmethod
    def _says_the_same_attention_once(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("decoder_attention") == data.get("attention", _default("attention")):
            return data | {"decoder_attention": None}
        return data

    @model_validator(mode="before")
    @classmethod
    def _says_what_is_as_usual_in_one_way(cls, data: object) -> object:
        """As many kv_heads as heads, and embeddings as wide as d_model, are null."""
        for name, usual in (("kv_heads", "heads"), ("d_embedding", "d_model")):
            if isinstance(data, dict) and data.get(name) == data.get(usual, _default(usual)):
                data = data | {name: None}
        return data

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> TransformerConfig:
        if self.d_model % self.heads and not (self.d_key and self.d_value):
            raise ValueError(f"d_model {self.d_model} can't be split into {self.heads} heads; set d_key and d_value")
        whole = {"concat": self.heads * self.value_width, "mean": self.value_width}.get(self.head_aggregation)
        if whole not in (None, self.d_model):
            raise ValueError(
                f"head_aggregation '{self.head_aggregation}' gives {whole} numbers, but d_model is {self.d_model}; "
                "leave out d_value, or set head_aggregation 'projection'"
            )
        if self.d_embedding and self.kind != "encoder":
            raise ValueError(f"d_embedding needs a model of kind encoder, not {self.kind}")
        if self.positions.startswith("sinusoidal") and self.d_embedding and self.d_embedding % 2:
            raise ValueError(f"sinusoidal positions need an even d_embedding, not {self.d_embedding}")
        if self.positions.startswith("sinusoidal") and self.d_model % 2 and not self.d_embedding:
            raise ValueError(f"sinusoidal positions need an even d_model, not {self.d_model}")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(
                f"{self.heads} heads can't share {self.kv_heads} kv_heads evenly; choose a divisor of heads"
            )
        if self.parallel_residual and (self.norm_position != "pre" or self.kind == "encoder-decoder"):
            raise ValueError("parallel_residual needs norm_position 'pre' and a model of kind encoder or decoder")
        if self.reversible and (self.norm_position != "pre" or self.kind == "encoder-decoder"):
            raise ValueError("reversible needs norm_position 'pre' and a model of kind encoder or decoder")
        if self.global_tokens and self.kind == "decoder":
            raise ValueError("global_tokens needs a model of kind encoder or encoder-decoder, not decoder")
        if self.reversible and self.parallel_residual:
            raise ValueError(
                "reversible can't be used with parallel_residual; a reversible layer needs one sublayer after the other"
            )
        if (self.mlm_head or self.pooler or self.pair_head or not self.mlm_head_bias) and self.kind != "encoder":
            raise ValueError("mlm_head, mlm_head_bias, pooler and pair_head need a model of kind encoder")
        if self.relative_bias and self.positions == "relative":
            raise ValueError("relative_bias has no effect with positions 'relative', which are the same")
        if self.relative_bias and self.positions == "alibi":
            raise ValueError("relative_bias can't be used with positions 'alibi': both are added to the scores")
        if not self.first_norm and self.norm_position != "pre":
            raise ValueError("first_norm has no effect with norm_position 'post'; it needs 'pre'")
        if self.source_layers and self.kind != "encoder-decoder":
            raise ValueError("source_layers needs a model of kind encoder-decoder")
        if self.source_vocab_size and not self.source_layers:
            raise ValueError("source_vocab_size needs source_layers")
        if self.pair_head and not self.pooler:
            raise ValueError("pair_head needs pooler")
        return self

    @property
    def stacks(self) -> Mapping[str, int]:
        """See `ModelConfig.stacks`."""
        counts = {"encoder": self.encoder_layers, "decoder": self.decoder_layers}
        found = {name: count for name, count in counts.items() if name in self.kind.split("-")}
        return {"source encoder": self.source_layers, **found} if self.source_layers else found

    @property
    def compiles(self) -> bool:
        """See `ModelConfig.compiles`."""
        return not self.reversible

    @property
    def layer_type(self) -> str:
        """See `ModelConfig.layer_type`."""
        return f"{self.norm}, {self.activation}, {self.positions} positions"

    @property
    def position_limit(self) -> int | None:
        """See `ModelConfig.position_limit`."""
        fixed = any(
            parse_attention(text).kind.fixed_length for text in [*self.attention, *(self.decoder_attention or [])]
        )
        return self.max_length if self.positions == "learned" or fixed else None

    @property
    def segment_count(self) -> int:
        """See `ModelConfig.segment_count`."""
        return self.segments

    @property
    def source_encoder_layers(self) -> int:
        """See `ModelConfig.source_encoder_layers`."""
        return self.source_layers

    @property
    def global_token_count(self) -> int:
        """See `ModelConfig.global_token_count`."""
        return self.global_tokens

    @property
    def head_style(self) -> str | None:
        """See `ModelConfig.head_style`."""
        if any(str(parse_attention(text).pattern).startswith("bigbird:") for text in self.attention):
            return "big_bird"
        return "electra" if self.d_embedding else None if self.first_norm else "modernbert"

    @property
    def without_effect(self) -> frozenset[str]:
        """See `ModelConfig.without_effect`."""
        other = {"encoder": {"decoder_layers"}, "decoder": {"encoder_layers"}}.get(self.kind, set())
        return super().without_effect | other

    def check_document_mask(self, setting: str) -> None:
        """See `ModelConfig.check_document_mask`."""
        check_attention(self.attention, setting=f"{setting} with model.attention", needs=["documents"])

    def with_pretraining_heads(self, *, mlm: bool, pairs: bool, segments: int) -> TransformerConfig:
        """See `ModelConfig.with_pretraining_heads`."""
        heads = {"mlm_head": mlm, "pooler": pairs, "pair_head": pairs}
        return self.model_copy(update={**heads, "segments": max(self.segments, segments)})

    def without_pretraining_heads(self) -> TransformerConfig:
        """See `ModelConfig.without_pretraining_heads`."""
        if self.kind != "encoder":
            return self
        return self.model_copy(update={"mlm_head": False, "pooler": False, "pair_head": False})

    def cached_numbers(self) -> CacheSize:
        """See `ModelConfig.cached_numbers`."""
        key, value = self.d_key or self.d_model // self.heads, self.value_width
        layer = (self.kv_heads or self.heads) * (key + value)
        entries = [parse_attention(text) for text in self.decoder_attention or self.attention]
        chosen = [entries[number % len(entries)] for number in range(self.decoder_layers)]
        horizons = [entry.pattern_of(causal=True).horizon for entry in chosen if entry.kind.state is None]
        states = (entry.kind.state(*entry.numbers, key, self.value_width) for entry in chosen if entry.kind.state)
        return CacheSize(
            per_token=layer * sum(horizon.last is None for horizon in horizons),
            window=layer * sum(horizon.first + horizon.last for horizon in horizons if horizon.last)
            + self.heads * sum(states),
            per_source_token=self.decoder_layers * layer if self.kind == "encoder-decoder" else 0,
        )

    @property
    def value_width(self) -> int:
        """The size of the values of a head."""
        return self.d_value or (self.d_model if self.head_aggregation == "mean" else self.d_model // self.heads)

    @property
    def relative(self) -> bool:
        """Whether T5's relative positions are added to scores."""
        return self.positions == "relative" or self.relative_bias

    @model_validator(mode="after")
    def _rotary_positions_fit(self) -> TransformerConfig:
        if self.positions != "rotary":
            for name in ("rope_theta", "rope_local_theta", "rope_share", "rope_scaling"):
                if getattr(self, name) != _default(name):
                    raise ValueError(f"{name} has no effect with positions '{self.positions}'; it needs 'rotary'")
            return self
        width = self.d_key or self.d_model // self.heads
        if width % 2:
            raise ValueError("rotary positions need an even d_key")
        if int(width * self.rope_share) % 2 or int(width * self.rope_share) < 2:
            raise ValueError(
                f"rope_share {self.rope_share:g} turns {int(width * self.rope_share)} of a head's {width} numbers; it "
                "must be an even number"
            )
        if self.rope_scaling.method == "dynamic" and int(width * self.rope_share) < 4:
            raise ValueError("rope_scaling 'dynamic' needs heads of 4 numbers or more")
        return self

    @model_validator(mode="after")
    def _attention_can_do_what_is_needed(self) -> TransformerConfig:
        if self.decoder_attention is not None and self.kind != "encoder-decoder":
            raise ValueError(
                f"decoder_attention needs a model of kind encoder-decoder; for one of kind {self.kind}, set attention"
            )
        other = self.score not in ("dot", "scaled-dot")
        if other and self.kv_heads:
            raise ValueError(
                f"the score '{self.score}' can't be used with kv_heads; its parameters are those of one head"
            )
        wanted = {
            "bias": self.relative or self.positions == "alibi",
            "groups": self.kv_heads,
            "dropout": self.attention_dropout,
            "scores": other,
        }
        needs = [ability for ability, needed in wanted.items() if needed]
        try:
            if self.kind != "decoder":
                check_attention(self.attention, setting="attention", needs=["bidirectional", *needs])
            if self.kind != "encoder":
                own = "attention" if self.decoder_attention is None else "decoder_attention"
                check_attention(getattr(self, own), setting=own, needs=["causal", *needs])
        except NlpcliError as error:
            raise ValueError(error.message + (f"; {error.hint}" if error.hint else "")) from None
        return self


def _default(setting: str) -> Any:
    return TransformerConfig.model_fields[setting].default
