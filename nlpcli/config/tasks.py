"""Sections of a run's configuration that only tasks read: where examples stand, what is learnt of them, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nlpcli.config.loading import Strict

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class ExamplesConfig(Strict):
    """How examples stand in their files: columns by name (header, JSON key) or by number, counted from 1."""

    format: Literal["auto", "tsv", "csv", "jsonl", "conll", "conllu", "squad", "labeled-lines"] = Field(
        "auto", description="auto goes by the file's name"
    )
    header: Literal["auto", "yes", "no"] = Field("auto", description="whether the first row names the columns")
    text: str | None = Field(
        None, description="column of the text, or of the words (CoNLL); by its usual names if null"
    )
    text2: str | None = Field(None, description="column of the second text of a pair")
    label: str | None = Field(None, description="column of what is to be predicted")
    choices: list[str] = Field([], description="columns of the candidates of a multiple choice")
    id: str | None = Field(None, description="column of the examples' own names")


class HeadConfig(Strict):
    """What is learnt of the examples. Each task reads some of these; the others are told to be without effect."""

    pooling: Literal["auto", "first", "last", "mean", "max"] = Field(
        "auto", description="which state stands for a text; auto: as the model was pretrained, mean for similarity"
    )
    dense: bool | None = Field(None, description="a tanh layer before the output; null: as the model's family does")
    dropout: Share = Field(0.1, description="before the output")
    layers: str = Field(
        "last", description="states used: last, concat:N or mean:N of the last N layers, or weighted (learnt) of all"
    )
    recurrent: Annotated[int, Field(ge=0)] = Field(
        0, description="width of a bidirectional LSTM of two layers under the output; 0: none (tag)"
    )
    class_weights: Literal["none", "balanced"] = Field("none", description="weight of a class in the loss: 1/frequency")
    label_separator: str = Field(",", description="between the labels of one example (multi-label)")
    threshold: Share = Field(0.5, description="least probability of a label (multi-label), or of no answer (span)")
    truncate: Literal["longest", "first", "second"] = Field("longest", description="what a long pair is cut from")
    both_orders: bool = Field(False, description="read a pair in both orders and sum the states (GPT's similarity)")
    lm_weight: Annotated[float, Field(ge=0)] = Field(0.0, description="of the language model's loss beside (GPT: 0.5)")
    minimum: float | None = Field(None, description="least score (regress); null: as found in the data")
    maximum: float | None = Field(None, description="greatest score (regress, similarity); null: as found in the data")
    scheme: Literal["auto", "bio", "bioes", "none"] = Field("auto", description="how tags mark entities (tag)")
    stride: Positive = Field(128, description="tokens that windows of a long context share, half of one at most (span)")
    max_answer: Positive = Field(30, description="most tokens of an answer (span)")
    no_answer: bool | None = Field(None, description="whether a question may have none; null: as found in the data")
    objective: Literal["auto", "softmax", "cosine", "contrastive", "multiple-negatives"] = Field(
        "auto", description="of similarity; auto goes by the labels"
    )
    margin: Annotated[float, Field(gt=0)] = Field(0.5, description="least cosine distance of strangers (contrastive)")
    scale: Annotated[float, Field(gt=0)] = Field(20.0, description="of cosines in the softmax (multiple-negatives)")
    prefix: str = Field(
        "", description="put before every source, as T5 does; the whole source where {text} is in it (text-to-text)"
    )
    max_target: Positive = Field(128, description="most tokens of a target; longer ones are cut (text-to-text)")
    measure: Literal["auto", "rouge", "bleu", "accuracy", "exact-match"] = Field(
        "auto", description="what generated text is measured by (text-to-text); auto: rouge"
    )
    no_repeat_ngram: Annotated[int, Field(ge=0)] = Field(
        0, description="no n-gram of so many tokens is written twice (text-to-text); 0: any may"
    )


class TuningConfig(Strict):
    """Which weights are trained, and how much."""

    mode: Literal["all", "head", "gradual", "stages"] = Field(
        "all", description="everything, the head alone, from the top down, or a new source encoder first"
    )
    unfreeze_steps: Positive | None = Field(
        None, description="steps until the next layer learns too ('gradual'); null: an epoch"
    )
    stage_steps: Positive = Field(1000, description="steps with the rest frozen ('stages')")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="learning rate of a layer over the next's"
    )
    lora_rank: Annotated[int, Field(ge=0)] = Field(0, description="rank of low-rank adapters; 0: none")
    lora_alpha: Annotated[float, Field(gt=0)] = Field(16.0, description="the adapters count alpha / rank")
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    lora_targets: str = Field(
        "attention", description="attention (queries and values), all, or parts of names, by commas"
    )
    source_layers: Annotated[int, Field(ge=0)] = Field(
        0, description="layers of a new source encoder under the pretrained one (translation)"
    )
    fresh: bool = Field(False, description="take the model's shape and tokenizer only: what is its pretraining worth?")
    new_tokenizer: bool = Field(
        False, description="take another tokenizer than the model's; shared pieces keep their vectors"
    )
    word_vectors: str | None = Field(None, description="text file of vectors (word2vec, GloVe, fastText) to begin with")
    freeze_embeddings: bool = Field(False, description="token embeddings stay as they are")
    balance: bool = Field(False, description="draw examples so that all classes come equally often")

    @model_validator(mode="after")
    def _one_way_at_a_time(self) -> TuningConfig:
        if self.lora_rank and self.mode != "all":
            raise ValueError(f"lora_rank and mode '{self.mode}' are two ways to tune; choose one")
        if self.lora_rank and self.source_layers:
            raise ValueError("with lora_rank only adapters learn, and a new encoder (source_layers) must learn, too")
        return self
