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
        "auto", description="file format; auto: by the file's name"
    )
    header: Literal["auto", "yes", "no"] = Field(
        "auto", description="whether the first row contains the names of the columns"
    )
    text: str | None = Field(
        None, description="column of the text, or of the words (CoNLL); null: the first column with a usual name"
    )
    text2: str | None = Field(None, description="column of the second text of a pair")
    label: str | None = Field(None, description="column of the label")
    choices: list[str] = Field([], description="columns of the candidates (choice)")
    id: str | None = Field(None, description="column of the ids of the examples")


class HeadConfig(Strict):
    """Settings of a task's head. Each task reads some of these; a warning names the others that were set."""

    pooling: Literal["auto", "first", "last", "mean", "max"] = Field(
        "auto", description="hidden state that represents a text; auto: as in pretraining, for similarity the mean"
    )
    dense: bool | None = Field(None, description="tanh layer before the output; null: as usual for the model's family")
    dropout: Share = Field(0.1, description="dropout before the output layer")
    layers: str = Field(
        "last",
        description="hidden states: last layer; concat:N or mean:N: of the last N; weighted: all, with trained weights",
    )
    recurrent: Annotated[int, Field(ge=0)] = Field(
        0, description="hidden size of a two-layer bidirectional LSTM before the output layer; 0: none (tag)"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="class weights in the loss; balanced: 1/frequency"
    )
    label_separator: str = Field(",", description="separator between the labels of one example (multi-label)")
    threshold: Share = Field(0.5, description="probability threshold of a label (multi-label), or of no answer (span)")
    truncate: Literal["longest", "first", "second"] = Field(
        "longest", description="text of a long pair that is truncated"
    )
    both_orders: bool = Field(
        False, description="encode each pair in both orders and sum the hidden states (similarity in GPT)"
    )
    lm_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="weight of the auxiliary language modeling loss (GPT: 0.5)"
    )
    minimum: float | None = Field(None, description="lowest score (regress); null: taken from the data")
    maximum: float | None = Field(None, description="highest score (regress, similarity); null: taken from the data")
    scheme: Literal["auto", "bio", "bioes", "none"] = Field("auto", description="tag scheme of entities (tag)")
    stride: Positive = Field(
        128, description="overlap between windows of a long context in tokens, at most half a window (span)"
    )
    max_answer: Positive = Field(30, description="longest answer in tokens (span)")
    no_answer: bool | None = Field(None, description="whether a question may have no answer; null: taken from the data")
    objective: Literal["auto", "softmax", "cosine", "contrastive", "multiple-negatives"] = Field(
        "auto", description="training objective of similarity; auto: by the labels"
    )
    product: bool = Field(
        False, description="the softmax also sees the product of both vectors, as in InferSent (similarity)"
    )
    margin: Annotated[float, Field(gt=0)] = Field(
        0.5, description="margin: smallest cosine distance of dissimilar texts without loss (contrastive)"
    )
    scale: Annotated[float, Field(gt=0)] = Field(
        20.0, description="factor of the cosines in the softmax (multiple-negatives)"
    )
    prefix: str = Field(
        "",
        description="text before every source, as in T5, or a template that contains {text} (text-to-text)",
    )
    max_target: Positive = Field(
        128, description="longest target in tokens; longer targets are truncated (text-to-text)"
    )
    measure: Literal["auto", "rouge", "bleu", "accuracy", "exact-match"] = Field(
        "auto", description="metric of generated text (text-to-text); auto: rouge"
    )
    no_repeat_ngram: Annotated[int, Field(ge=0)] = Field(
        0, description="length of n-grams that an output may not repeat (text-to-text); 0: no limit"
    )


class AlignmentConfig(Strict):
    """Guided alignment of a translator: which links an attention head learns, and how (Garg et al. 2019)."""

    links: str | None = Field(
        None, description="file of word links of the training pairs in Pharaoh format; null: no head learns links"
    )
    dev_links: str | None = Field(
        None, description="file of word links of the dev set, by which alignment_loss and aer are measured"
    )
    weight: Annotated[float, Field(gt=0)] = Field(0.05, description="weight of the alignment loss")
    layer: Positive | None = Field(None, description="decoder layer of the head, from 1; null: the last but one")
    head: Positive = Field(1, description="head of this layer's attention to the source, from 1")
    context: Literal["full", "causal"] = Field(
        "full",
        description="what of the target the head sees: full (all of it, in a second pass of the decoder), or causal",
    )
    step: Literal["predict", "read"] = Field(
        "read", description="step whose attention aligns a target token: the one that predicts it, or that reads it"
    )

    @model_validator(mode="after")
    def _links_to_learn(self) -> AlignmentConfig:
        if self.dev_links is not None and self.links is None:
            raise ValueError("dev_links measures a head that learns links, but links of the training pairs are missing")
        return self


ALIGNMENT_SETTINGS = tuple(f"alignment.{name}" for name in AlignmentConfig.model_fields)
"""The settings of guided alignment, which only translation reads."""


EXAMPLE_SETTINGS = (
    *(f"examples.{name}" for name in ExamplesConfig.model_fields),
    *(f"head.{name}" for name in HeadConfig.model_fields),
    "training.batch_size", "tuning.balance", "data.mixture",
)  # fmt: skip
"""Settings that have no effect where no labeled examples are read."""


class TuningConfig(Strict):
    """Which weights are trained, and how much."""

    mode: Literal["all", "head", "gradual", "stages"] = Field(
        "all",
        description="what is trained: all, head, gradual (layer after layer) or stages (new source encoder first)",
    )
    unfreeze_steps: Positive | None = Field(
        None, description="steps until the next layer is unfrozen (mode gradual); null: one epoch"
    )
    stage_steps: Positive = Field(
        1000, description="steps of the first stage, in which other parameters are frozen (mode stages)"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="factor between the learning rates of a layer and of the layer above; 1: equal rates"
    )
    lora_rank: Annotated[int, Field(ge=0)] = Field(0, description="rank of low-rank adapters; 0: none")
    lora_alpha: Annotated[float, Field(gt=0)] = Field(
        16.0, description="alpha; outputs of the adapters are multiplied by alpha / rank"
    )
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    lora_targets: str = Field(
        "attention",
        description="layers with adapters: attention (queries and values), all, or parts of names separated by commas",
    )
    source_layers: Annotated[int, Field(ge=0)] = Field(
        0, description="layers of a new source encoder below the pretrained encoder (translation)"
    )
    fresh: bool = Field(
        False,
        description="use random weights with the model's architecture, to measure the gain of pretraining",
    )
    new_tokenizer: bool = Field(
        False, description="replace the tokenizer of the model; shared tokens keep their embeddings"
    )
    word_vectors: str | None = Field(
        None, description="text file of vectors (word2vec, GloVe, fastText) that initialize the token embeddings"
    )
    freeze_embeddings: bool = Field(False, description="do not train the token embeddings")
    balance: bool = Field(False, description="sample examples so that all classes are equally frequent")

    @model_validator(mode="after")
    def _one_way_at_a_time(self) -> TuningConfig:
        if self.lora_rank and self.mode != "all":
            raise ValueError(f"lora_rank and mode '{self.mode}' can't be combined; choose one")
        if self.lora_rank and self.source_layers:
            raise ValueError(
                "lora_rank trains only adapters, but a new source encoder (source_layers) must be trained too"
            )
        return self
