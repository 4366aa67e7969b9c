"""The shape of a run's configuration: what `--config`, presets, `--set` and a run's `config.yaml` may hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, model_validator

from nlpcli.config.loading import Strict
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.number_types import Fraction, Positive, Threads
from nlpcli.config.task_settings import AlignmentConfig, ExamplesConfig, HeadConfig, TuningConfig


class TokenizerConfig(Strict):
    """The tokenizer that is trained when none is given."""

    type: Literal["unigram", "bpe", "wordpiece", "byte-bpe", "chars", "words"] = "unigram"
    vocab_size: Positive = 8000
    normalization: str = Field("identity", description="Unicode normalization of the text; identity: none")
    sentinels: Annotated[int, Field(ge=0)] = 0


class DataConfig(Strict):
    """The data of a run, and its batches."""

    train: list[str] = Field([], description="files, folders or globs; for translation: source file, target file")
    dev: list[str] = Field([], description="dev set; for translation: source file, target file")
    mixture: str | None = Field(None, description="YAML file of several tasks that are trained together (text-to-text)")
    dev_fraction: Fraction = Field(
        0.05, description="share of the training data that becomes the dev set if none is given (of raw text, its end)"
    )
    documents: Literal["auto", "lines", "paragraphs", "file", "jsonl", "tsv"] = Field(
        "auto", description="how documents are separated in raw text"
    )
    field: str = Field("text", description="field of JSON lines that contains the text")
    column: Positive = Field(1, description="column of TSV files that contains the text")
    sentences: Literal["auto", "none", "lines", "split"] = Field(
        "auto", description="sentences, for objectives that need them: lines, or split by rules"
    )
    format: Literal["auto", "full-sentences", "doc-sentences", "segment-pair", "sentence-pair"] = Field(
        "auto", description="input format of an encoder (Liu et al. 2019, section 4.2)"
    )
    document_mask: bool = Field(False, description="no attention across document boundaries (clm)")
    context: Positive = Field(256, description="context length of a language model in tokens")
    eval_stride: Positive | None = Field(
        None, description="step between evaluation windows in tokens; null: the context"
    )
    eval_streams: Positive = Field(
        1, description="parts of the dev set that a model with memory reads side by side, each without earlier text"
    )
    variable_context: bool = Field(
        False, description="vary the length of windows around the context, for a model with memory (Merity et al. 2018)"
    )
    max_length: Positive = Field(
        256,
        description="longest text in tokens, special tokens included; longer pairs are left out, other texts truncated",
    )
    subword_sampling: Fraction = Field(
        0.0, description="subword regularization of sentence pairs (alpha of unigram, dropout of BPE)"
    )
    workers: Threads | None = Field(None, description="processes that encode text; null: one for each core")


class NoiseConfig(Strict):
    """How pretraining objectives hide and disturb text."""

    kinds: str = Field(
        "infill:0.3,permute",
        description="noise of the objective 'denoise': those of BART, or one of T5 (spans, iid, …)",
    )
    rate: Annotated[float, Field(gt=0, lt=1)] = Field(0.15, description="share of tokens that mlm selects")
    unit: Literal["token", "word", "span"] = Field("token", description="unit that mlm masks")
    mask_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.8, description="share of the selected tokens replaced by the mask token"
    )
    random_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="share of the selected tokens replaced by random tokens"
    )
    span_p: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="parameter p of the geometric distribution of span lengths"
    )
    span_max: Positive = Field(10, description="longest masked span in words")
    dupe_factor: Annotated[int, Field(ge=0)] = Field(
        0, description="differently masked copies of each example (BERT: 10); 0: new noise in every epoch"
    )
    gap_ratio: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="share of sentences that PEGASUS removes as gap sentences"
    )
    gap_strategy: Literal["principal", "random", "lead"] = Field(
        "principal", description="which sentences become gap sentences"
    )
    gap_selection: Literal["independent", "sequential"] = "independent"
    gap_counts: Literal["original", "unique"] = Field("original", description="how ROUGE counts repeated words")
    predict_one_of: Positive = Field(6, description="K of XLNet: one of K tokens is predicted")
    window: Positive = Field(
        5, description="largest number of words on each side that predict a word (word2vec, paragraph-vector)"
    )
    negatives: Positive = Field(5, description="noise words for each predicted word (word2vec, paragraph-vector)")
    power: Annotated[float, Field(ge=0)] = Field(
        0.75, description="noise words are sampled in proportion to count^power (word2vec, paragraph-vector)"
    )
    subsample: Annotated[float, Field(ge=0, lt=1)] = Field(
        1e-3,
        description="words with a larger share of the text are often left out (word2vec, paragraph-vector); 0: none",
    )

    @model_validator(mode="after")
    def _shares(self) -> NoiseConfig:
        if self.mask_share + self.random_share > 1:
            raise ValueError("the sum of mask_share and random_share must be at most 1")
        return self


class TrainingConfig(Strict):
    """The loop: how long, how fast, on what, and what is kept."""

    max_steps: Positive | None = Field(None, description="optimizer steps")
    max_epochs: Annotated[float, Field(gt=0)] | None = Field(None, description="passes over the data")
    max_minutes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="training time in minutes, evaluation included"
    )
    max_tokens: Positive | None = Field(None, description="tokens of training, source and target together")
    max_flops: Annotated[float, Field(gt=0)] | None = Field(
        None, description="floating-point operations (FLOPs) of training, estimated from the first step"
    )
    batch_tokens: Positive = Field(4096, description="tokens per batch, padding included")
    batch_size: Positive | None = Field(
        None, description="largest number of examples per batch (all tasks except translation)"
    )
    batching: Literal["length", "random"] = Field(
        "length",
        description="length: batches of examples of similar length, with little padding; random: random examples, "
        "which can be a little better and is slower (tasks and translation)",
    )
    fit_memory: Literal["search", "found"] | None = Field(
        None,
        description="search: find the largest batch_tokens that memory holds, as --batch-tokens auto; found: it was "
        "found, and batches are divided where memory runs out all the same; null: neither",
    )
    accumulate: Positive = Field(1, description="number of batches whose gradients are summed for one step")
    optimizer: Literal["adamw", "muon", "sgd", "asgd"] = Field(
        "adamw", description="adamw, muon, sgd, or asgd (sgd whose weights are averaged: NT-ASGD)"
    )
    nonmonotone_interval: Annotated[int, Field(ge=0)] = Field(
        5,
        description="asgd averages the weights as soon as the dev loss is worse than the best one of more than so many "
        "evaluations ago (n of NT-ASGD); 0: from the first step",
    )
    lr: Annotated[float, Field(gt=0)] = Field(1e-3, description="peak learning rate; with the schedule 'noam' a factor")
    adamw_lr_factor: Annotated[float, Field(gt=0)] = Field(
        1.0,
        description="with the optimizer 'muon': factor of the learning rate of what AdamW trains (embeddings, the "
        "output projection, vectors)",
    )
    schedule: Literal["inverse-sqrt", "noam", "linear", "cosine", "wsd", "constant"] = "inverse-sqrt"
    warmup_steps: Annotated[int, Field(ge=0)] = 1000
    warmup_fraction: Fraction = Field(0.0, description="warmup as a share of the run, instead of warmup_steps")
    decay_fraction: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="share of a run with the schedule 'wsd', at its end, in which the learning rate decays"
    )
    min_lr: Annotated[float, Field(ge=0)] = Field(
        0.0, description="final learning rate of the schedules 'linear', 'cosine' and 'wsd'"
    )
    beta1: Fraction = 0.9
    beta2: Fraction = 0.98
    eps: Annotated[float, Field(gt=0)] = 1e-9
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="decoupled weight decay of the weight matrices"
    )
    max_grad_norm: Annotated[float, Field(ge=0)] = Field(
        1.0, description="gradients with a larger norm are scaled down to this norm; 0: no limit"
    )
    non_finite: Literal["stop", "skip"] = Field(
        "stop",
        description="what is done at a step whose loss or gradient is not finite: stop the run, or skip the step (on a "
        "GPU, skip makes the CPU wait for each step); the batch is written to the folder non-finite/ of the run",
    )
    max_loss: Annotated[float, Field(gt=0)] | None = Field(
        None, description="mean loss of a step above which non_finite applies as well; null: none"
    )
    label_smoothing: Fraction = 0.0
    z_loss: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="weight of (log Z)² in the loss over the vocabulary, against large logits (PaLM: 1e-4); 0: none",
    )
    r_drop: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="R-Drop: weight of the divergence of two passes with different dropout, which costs twice the time "
        "(encoder-decoders and text-to-text; Wu et al. 2021: 5); 0: one pass",
    )
    head_penalty: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="weight of ||A Aᵀ - I||², a penalty on attention heads that attend to the same keys; 0: only their "
        "mean cosine is logged; null: neither",
    )
    redraw_features: Positive | None = Field(
        None, description="steps after which Performer's attention samples new random features; null: never"
    )
    scheduled_sampling: Literal["none", "linear", "exponential", "inverse-sigmoid"] = Field(
        "none",
        description="how the share of reference tokens that the decoder reads decays; the others are its own "
        "predictions (translation; Bengio et al. 2015)",
    )
    scheduled_sampling_batches: Positive = Field(
        10000,
        description="scheduled sampling after i batches: 1 - i/k (linear), exp(-i/k) (exponential), "
        "k/(k + exp(i/k)) (inverse-sigmoid), with this number as k",
    )
    scheduled_sampling_floor: Fraction = Field(
        0.0, description="smallest share of reference tokens in scheduled sampling"
    )
    ema_decay: Fraction = Field(
        0.0, description="decay of the exponential moving average of the weights, which is evaluated and saved; 0: none"
    )
    average_last: Annotated[int, Field(ge=0)] = Field(
        0, description="number of last evaluations whose weights are averaged; 0: none"
    )
    evaluate_every: Positive | None = Field(None, description="steps between evaluations; null: one epoch")
    metric: str = Field(
        "loss", description="metric for the best checkpoint and early stopping; auto: the metric of the task"
    )
    patience: Positive | None = Field(
        None, description="evaluations without improvement before early stopping; null: never"
    )
    bleu_sentences: Annotated[int, Field(ge=0)] = Field(
        500, description="largest number of dev sentences that are translated for BLEU, evenly spaced; 0: no BLEU"
    )
    bleu_beam_size: Positive = Field(1, description="beam size of the translations for BLEU; 1: greedy search")
    samples: Annotated[int, Field(ge=0)] = Field(
        5, description="number of dev examples whose outputs are written to samples.jsonl at each evaluation"
    )
    save_every: Positive | None = Field(None, description="steps between checkpoints; null: at each evaluation")
    keep_checkpoints: Positive = Field(
        2, description="number of last checkpoints; a run is resumed from the one before where the last is damaged"
    )
    log_every: Positive = Field(50, description="steps between lines of metrics.jsonl")
    tensorboard: bool = Field(False, description="also write TensorBoard events (extra 'tensorboard')")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="several processes: each has the whole model (ddp), or a part of its weights and optimizer (fsdp)",
    )
    activation_checkpointing: bool = Field(
        False, description="compute each Transformer layer again in the backward pass instead of storing it"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="auto: bfloat16 if the device computes it faster; float16: for CUDA GPUs without bfloat16",
    )
    threads: Threads | None = Field(None, description="number of CPU threads; null: PyTorch decides")
    compile: bool = Field(False, description="use torch.compile, which takes about half a minute at the start")

    @model_validator(mode="after")
    def _one_running_average(self) -> TrainingConfig:
        if self.optimizer == "asgd" and self.ema_decay:
            raise ValueError("the optimizer 'asgd' averages the weights itself, so ema_decay must be 0")
        return self


class DecodingConfig(Strict):
    """How the finished model translates unless told otherwise, and how BLEU is measured while it learns."""

    beam_size: Positive = 5
    length_penalty: Annotated[float, Field(ge=0)] = Field(
        1.0, description="exponent of the length penalty (Wu et al. 2016, eq. 14); 0: no penalty"
    )
    lowercase: bool = Field(False, description="lowercase both sides before BLEU")
    bleu_tokenize: str = Field("13a", description="sacreBLEU's tokenizer; 'none' for tokenized text")


class RunConfig(Strict):
    """Everything a run depends on. A preset is such a file with some sections left out."""

    description: str = ""
    source: str = Field("", description="where the settings are from")
    init: str | None = Field(None, description="folder of the model whose weights training starts from")
    task: str | None = Field(None, description="task of supervised training: translation, classify, tag, span, …")
    objective: str | None = Field(
        None, description="pretraining objective: clm, mlm, nsp, … or a weighted sum such as mlm=1+nsp=0.5"
    )
    model: SerializeAsAny[ModelConfig] = Field(default_factory=lambda: ModelConfig.model_validate({}))
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    noise: NoiseConfig = NoiseConfig()
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()
    examples: ExamplesConfig = ExamplesConfig()
    head: HeadConfig = HeadConfig()
    tuning: TuningConfig = TuningConfig()
    alignment: AlignmentConfig = AlignmentConfig()

    @model_validator(mode="after")
    def _layers_can_be_compiled(self) -> RunConfig:
        if self.training.compile and not self.model.compiles:
            raise ValueError(
                "training.compile can't be used with model.reversible, whose layers are computed in halves"
            )
        return self
