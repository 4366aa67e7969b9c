"""The settings of word vectors and paragraph vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.number_types import Fraction, Size

Architecture = Literal["skip-gram", "cbow", "pv-dm", "pv-dbow"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
PARAGRAPH_ARCHITECTURES: tuple[Architecture, ...] = ("pv-dm", "pv-dbow")


class WordVectorsConfig(ModelConfig):
    """One vector for each word, whatever stands around it: word2vec (Mikolov et al. 2013), paragraph vectors (Le and
    Mikolov 2014), and files of vectors."""

    build: ClassVar = "nlpcli.models.word_vectors:WordVectors"
    static: ClassVar[bool] = True

    kind: Literal["encoder"] = Field("encoder", description="the model is an encoder")
    d_model: Size = Field(100, description="size of the vectors")
    architecture: Architecture = Field(
        "skip-gram",
        description="what predicts a word: each word near it (skip-gram), their mean (cbow), the mean of these and of "
        "the document's vector (pv-dm), or the document's vector alone (pv-dbow)",
    )
    documents: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        0, description="documents with a vector of their own (pv-dm, pv-dbow); taken from the training text"
    )
    output_vectors: bool = Field(
        True, description="whether the model has the output matrix, too: the vectors of words that are predicted"
    )
    dropout: Fraction = Field(0.0, description="dropout on the vectors")
    initialization: Literal["xavier", "normal", "bert", "t5"] = "normal"
    init_std: float = Field(0.003, gt=0, description="standard deviation of the initialization 'normal'")

    @property
    def stacks(self) -> Mapping[str, int]:
        """See `ModelConfig.stacks`."""
        return {"encoder": 0}

    @property
    def layer_type(self) -> str:
        """See `ModelConfig.layer_type`."""
        return f"a vector for each token, trained by {self.architecture}"

    @property
    def has_paragraphs(self) -> bool:
        """Whether the vector of a text is inferred, not made of those of its words."""
        return self.architecture in PARAGRAPH_ARCHITECTURES

    def without_pretraining_heads(self) -> WordVectorsConfig:
        """See `ModelConfig.without_pretraining_heads`: without the vectors that only predict, or are documents'."""
        return self.model_copy(update={"documents": 0, "output_vectors": False})
