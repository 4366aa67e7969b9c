"""The base of the settings of all model families, and the table of families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import PydanticKnownError

from nlpcli.config.lazy_tables import LazyTable
from nlpcli.config.loading import Strict
from nlpcli.config.number_types import Fraction, Size
from nlpcli.errors import NlpcliError

DEFAULT = "transformer"

FAMILIES = LazyTable(
    "model family",
    {
        "transformer": "nlpcli.config.transformer_settings:TransformerConfig",
        "transformer-xl": "nlpcli.config.transformer_xl_settings:TransformerXLConfig",
        "xlnet": "nlpcli.config.xlnet_settings:XLNetConfig",
        "recurrent": "nlpcli.config.recurrent_settings:RecurrentConfig",
        "hierarchical": "nlpcli.config.hierarchical_settings:HierarchicalConfig",
        "recurrent-encoder": "nlpcli.config.recurrent_encoder_settings:RecurrentEncoderConfig",
        "word-vectors": "nlpcli.config.word_vectors_settings:WordVectorsConfig",
        "recurrent-lm": "nlpcli.config.recurrent_lm_settings:RecurrentLMConfig",
    },
)
"""Family -> its settings, a subclass of `ModelConfig`. A new family is a line here and the two files that it names."""


SentenceSplitting = Literal["split", "lines"]
"""The sentences of a text: found by rules (`nlpcli.text.sentence_splitting`), or its lines."""


def _known(family: str) -> str:
    if family not in FAMILIES:
        *others, last = (f"'{name}'" for name in FAMILIES)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
    return family


@dataclass(frozen=True)
class CacheSize:
    """How many numbers a model keeps while it decodes: for each token it has written, for the last ones of a window
    (or as a state of constant size), and for each token of the source."""

    per_token: int = 0
    window: int = 0
    per_source_token: int = 0


class ModelConfig(Strict):
    """The architecture of a model. What is read as one becomes the settings of its family, a subclass.

    build: "module:class" (or function) that makes the model, a `nlpcli.models.backbone.Backbone`, of these settings
    and the size of the vocabulary. has_memory: the model remembers the hidden states of earlier segments. permutes:
    it predicts tokens in any order of factorization. head_side: the stack of an encoder-decoder whose states a head for
    a text reads; text_summary: which of them represents the text, see `nlpcli.models.heads.pooled`. static: the state
    of a token does not depend on other tokens, so texts are read without special tokens, and unknown words left out.
    """

    build: ClassVar[str]
    has_memory: ClassVar[bool] = False
    permutes: ClassVar[bool] = False
    head_side: ClassVar[str] = "decoder"
    text_summary: ClassVar[str] = "last"
    static: ClassVar[bool] = False

    family: Annotated[str, AfterValidator(_known)] = Field(
        DEFAULT,
        description="BERT, GPT, BART, T5 and similar models are settings of 'transformer', translators with RNN, LSTM "
        "or GRU those of 'recurrent'",
    )
    kind: Literal["encoder", "decoder", "encoder-decoder"] = Field(
        "encoder-decoder", description="stacks of the model: encoder, decoder or both"
    )
    d_model: Size = Field(512, description="size of the hidden states")
    max_length: Size = Field(1024, description="longest sequence in tokens; longer texts are truncated")
    dropout: Fraction = Field(0.1, description="dropout on the output of every sublayer and on the embeddings")
    initialization: Literal["xavier", "normal", "bert", "t5"] = "xavier"
    init_std: float = Field(
        0.02, gt=0, description="standard deviation of the initialization 'normal', and of learned positions"
    )

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_family(cls, data: Any, handler: ModelWrapValidatorHandler[ModelConfig]) -> ModelConfig:
        """Settings of a family from a mapping, which must not have a setting of other families only."""
        if cls is not ModelConfig or not isinstance(data, Mapping):
            return handler(data)
        name = data.get("family", DEFAULT)
        if not isinstance(name, str) or name not in FAMILIES:
            return handler({"family": name})
        own: type[ModelConfig] = FAMILIES.load(name)
        for setting in data:
            if setting not in own.model_fields and (others := families_with(setting)):
                have = "have" if others[1:] else "has"
                raise ValueError(f"{name} has no setting '{setting}'; {' and '.join(others)} {have} it")
        return own.model_validate(data)

    @classmethod
    def variants(cls) -> Sequence[type[ModelConfig]]:
        """The classes that may stand in the place of this one: those of all families."""
        return [FAMILIES.load(name) for name in FAMILIES] if cls is ModelConfig else [cls]

    @property
    def stacks(self) -> Mapping[str, int]:
        """The number of layers of each stack that the model has, from the source to the output."""
        raise NotImplementedError

    @property
    def compiles(self) -> bool:
        """Whether torch.compile can make a kernel of each layer."""
        return True

    @property
    def position_limit(self) -> int | None:
        """The most tokens that the model has positions for; None: no limit."""
        return None

    @property
    def segment_count(self) -> int:
        """The kinds of segments that the model distinguishes; 0: none."""
        return 0

    @property
    def sentence_splitting(self) -> SentenceSplitting | None:
        """How a text is split into the sentences that the model distinguishes; None: it reads texts whole."""
        return None

    @property
    def carried_states(self) -> int:
        """The hidden states of earlier segments that each layer remembers."""
        return 0

    @property
    def memory_signature(self) -> str:
        """The memory in the signature of a perplexity: its number of positions; empty without a memory."""
        return str(self.carried_states or "")

    @property
    def source_encoder_layers(self) -> int:
        """The layers of an additional source encoder with its own vocabulary; 0: the model has none."""
        return 0

    @property
    def global_token_count(self) -> int:
        """The learned vectors that an encoder's layers read before the text."""
        return 0

    @property
    def vocabulary_borders(self) -> Sequence[int]:
        """The ids at which the groups of an adaptive softmax begin; empty: a full softmax."""
        return ()

    @property
    def head_style(self) -> str | None:
        """The kind of models whose task heads are used, if the architecture determines it: electra, modernbert,
        big_bird."""
        return None

    @property
    def layer_type(self) -> str:
        """How the layers work, in a few words."""
        return self.family

    @property
    def samples_attention(self) -> bool:
        """Whether the model samples positions of its source in training."""
        return False

    @property
    def text_pooling(self) -> str | None:
        """The pooling of a text's states, if the architecture determines it: first, last, mean or max."""
        return None

    @property
    def without_effect(self) -> frozenset[str]:
        """The names of settings that do not change this model."""
        return frozenset() if self.position_limit else frozenset({"max_length"})

    def check_document_mask(self, setting: str) -> None:
        """Raises: NlpcliError, which names `setting`, if the model can't keep documents in one row apart."""
        raise NlpcliError(
            f"--document-mask can't be used with {self.family}, which does not keep documents apart",
            hint="leave out --document-mask",
        )

    def with_pretraining_heads(self, *, mlm: bool, pairs: bool, segments: int) -> ModelConfig:
        """The same model with the heads that an objective trains, and at least as many kinds of segments.

        Raises: NlpcliError for a model that has no such heads.
        """
        raise NlpcliError(
            f"models of the family {self.family} can't be pretrained with masked tokens or pairs of segments",
            hint="choose a preset of the family transformer",
        )

    def without_pretraining_heads(self) -> ModelConfig:
        """The same model without what only pretraining uses."""
        return self

    def cached_numbers(self) -> CacheSize:
        """The state that the model keeps while it decodes. Only for a model with a decoder."""
        raise NotImplementedError


def permuting_families() -> list[str]:
    """The families whose models predict tokens in any order of factorization."""
    return [family for family in FAMILIES if FAMILIES.load(family).permutes]


def families_with(setting: str) -> list[str]:
    """The families that have a setting."""
    return [family for family in FAMILIES if setting in FAMILIES.load(family).model_fields]
