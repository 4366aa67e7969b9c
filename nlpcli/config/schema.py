"""The shape of a run's configuration: what `--config`, presets, `--set` and a run's `config.yaml` may hold."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nlpcli.attention.kinds import check_attention
from nlpcli.config import families
from nlpcli.config.loading import Strict
from nlpcli.config.task_settings import ExamplesConfig, HeadConfig, TuningConfig
from nlpcli.errors import NlpcliError

MOST_THREADS = 1024
"""More threads or processes than any machine runs well; a hundred thousand end a process or a machine."""

Positive = Annotated[int, Field(ge=1)]
Threads = Annotated[int, Field(ge=1, le=MOST_THREADS)]
Size = Annotated[int, Field(ge=1, lt=2**31)]
SizeOrNone = Annotated[int, Field(ge=0, lt=2**31)]
Layers = Annotated[int, Field(ge=1, le=2000)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class RopeScalingConfig(Strict):
    """How rotary positions are changed for texts longer than those in training."""

    method: Literal["none", "linear", "dynamic", "llama3", "yarn"] = "none"
    factor: Annotated[float, Field(ge=1)] = Field(1.0, description="how many times longer texts may be")
    original_max_length: Size | None = Field(
        None, description="longest text in the training before the scaling; max_length when null"
    )
    low_freq_factor: Annotated[float, Field(gt=0)] = Field(
        1.0, description="llama3: longer wavelengths than the original length divided by this are divided by the factor"
    )
    high_freq_factor: Annotated[float, Field(gt=0)] = Field(
        4.0, description="llama3: shorter wavelengths than the original length divided by this are kept"
    )
    beta_fast: Annotated[float, Field(gt=0)] = Field(32.0, description="yarn: more turns than this are kept")
    beta_slow: Annotated[float, Field(gt=0)] = Field(1.0, description="yarn: fewer turns are divided by the factor")
    attention_factor: Annotated[float, Field(gt=0)] | None = Field(
        None, description="yarn: multiplies queries and keys; 0.1 ln(factor) + 1 when null"
    )
    truncate: bool = Field(True, description="yarn: the ramp begins and ends at whole numbers of pairs")

    @model_validator(mode="after")
    def _is_of_its_method(self) -> RopeScalingConfig:
        own: dict[str, tuple[str, ...]] = {
            "llama3": ("low_freq_factor", "high_freq_factor"),
            "yarn": ("beta_fast", "beta_slow", "attention_factor", "truncate"),
        }
        for name, field in type(self).model_fields.items():
            method = next((method for method, names in own.items() if name in names), None)
            wanted = self.method != "none" if method is None else self.method == method
            if name != "method" and not wanted and getattr(self, name) != field.default:
                raise ValueError(f"rope_scaling.{name} has no effect with the method '{self.method}'")
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(f"low_freq_factor {self.low_freq_factor:g} is not below {self.high_freq_factor:g}")
        return self


class ModelConfig(Strict):
    """A Transformer; names and defaults follow Vaswani et al. 2017 (`transformer-base`)."""

    family: Literal["transformer", "transformer-xl", "xlnet"] = Field(
        "transformer", description="BERT, GPT, BART, T5 and similar models are settings of 'transformer'"
    )
    kind: Literal["encoder", "decoder", "encoder-decoder"] = Field(
        "encoder-decoder", description="stacks of the model: encoder, decoder or both"
    )
    d_model: Size = Field(512, description="size of the hidden states")
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
    d_value: Size | None = Field(None, description="size of the values of a head; null: d_model / heads")
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_position: Literal["post", "pre"] = Field(
        "post", description="post: normalize after the residual sum; pre: before the sublayer"
    )
    parallel_residual: bool = Field(
        False, description="attention and feed-forward layer read the same input (GPT-NeoX)"
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
        description="attention of each layer, in a cycle: a pattern such as full or window:128+global:2, or linear",
    )
    decoder_attention: list[str] | None = Field(
        None, min_length=1, description="attention of the decoder layers of an encoder-decoder; null: as in attention"
    )
    attention_scale: bool = Field(True, description="divide scores by the square root of d_key (T5 does not)")
    positions: Literal["sinusoidal", "sinusoidal-halves", "learned", "rotary", "relative", "none"] = Field(
        "sinusoidal",
        description="sinusoidal: sine and cosine in turn; sinusoidal-halves: sines first (Marian); relative: T5",
    )
    rope_theta: Annotated[float, Field(gt=1)] = Field(10000.0, description="base of the angles of rotary positions")
    rope_local_theta: Annotated[float, Field(gt=1)] | None = Field(
        None, description="the same in layers whose attention is not full; null: rope_theta"
    )
    rope_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="part of each head that rotary positions turn (GPT-NeoX 0.25)"
    )
    rope_scaling: RopeScalingConfig = RopeScalingConfig()
    max_length: Size = Field(1024, description="longest sequence in tokens; longer texts are truncated")
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
    memory_length: SizeOrNone = Field(
        0, description="number of cached hidden states of earlier segments (Transformer-XL, XLNet)"
    )
    clamp_length: SizeOrNone = Field(
        0, description="largest relative distance; larger ones are clamped to it (Transformer-XL, XLNet); 0: no limit"
    )
    adaptive_cutoffs: list[Size] = Field(
        [], description="ids at which the groups of an adaptive softmax begin; empty: full softmax"
    )
    share_position_biases: bool = Field(True, description="share one pair of attention biases among all layers")
    dropout: Fraction = Field(0.1, description="dropout on the output of every sublayer and on the embeddings")
    attention_dropout: Fraction = Field(
        0.0, description="dropout on attention weights; on a CPU it makes attention 3 to 5 times slower"
    )
    activation_dropout: Fraction = Field(0.0, description="dropout inside the feed-forward layers")
    output_dropout: bool = Field(False, description="dropout also on the output of each stack (T5)")
    initialization: Literal["xavier", "normal", "bert", "t5"] = "xavier"
    init_std: float = Field(
        0.02, gt=0, description="standard deviation of the initialization 'normal', and of learned positions"
    )

    @model_validator(mode="before")
    @classmethod
    def _is_what_its_family_is(cls, data: object) -> object:
        """What is left as by default, and isn't the family's to choose, says what the family does."""
        if not isinstance(data, dict) or not isinstance(data.get("family"), str):
            return data
        known = families.IS.get(data["family"], {}).items()
        return data | {key: value for key, value in known if data.get(key, _default(key)) == _default(key)}

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
    def _says_nothing_its_family_does_not_read(self) -> ModelConfig:
        known = families.IS.get(self.family, {})
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name in families.READ[self.family] or value == known.get(name, _default(name)):
                continue
            if name == "d_value" and value == (self.d_key or self.d_model / self.heads):
                continue  # a value is as wide as a key
            others = families.readers(name)
            raise ValueError(
                f"{self.family} has no setting '{name}'; {' and '.join(others)} {'have' if others[1:] else 'has'} it"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> ModelConfig:
        widths = ["d_key", "d_value"] if "d_value" in families.READ[self.family] else ["d_key"]
        if self.d_model % self.heads and not all(getattr(self, name) for name in widths):
            raise ValueError(
                f"d_model {self.d_model} can't be split into {self.heads} heads; set {' and '.join(widths)}"
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
        if self.family != "transformer" and self.d_model % 2:
            raise ValueError(f"the relative positions of {self.family} need an even d_model, not {self.d_model}")
        if any(a >= b for a, b in itertools.pairwise(self.adaptive_cutoffs)):
            raise ValueError(f"adaptive_cutoffs {self.adaptive_cutoffs} are not in increasing order")
        if (self.mlm_head or self.pooler or self.pair_head or not self.mlm_head_bias) and self.kind != "encoder":
            raise ValueError("mlm_head, mlm_head_bias, pooler and pair_head need a model of kind encoder")
        if self.relative_bias and self.positions == "relative":
            raise ValueError("relative_bias has no effect with positions 'relative', which are the same")
        if not self.first_norm and self.norm_position != "pre":
            raise ValueError("first_norm has no effect with norm_position 'post'; it needs 'pre'")
        if self.source_layers and self.kind != "encoder-decoder":
            raise ValueError("source_layers needs a model of kind encoder-decoder")
        if self.source_vocab_size and not self.source_layers:
            raise ValueError("source_vocab_size needs source_layers")
        if self.pair_head and not self.pooler:
            raise ValueError("pair_head needs pooler")
        kinds = {"transformer-xl": "decoder", "xlnet": "encoder"}
        if self.kind != kinds.get(self.family, self.kind):
            raise ValueError(f"models of the family {self.family} are of kind {kinds[self.family]}, not {self.kind}")
        return self

    @property
    def relative(self) -> bool:
        """Whether T5's relative positions are added to scores."""
        return self.positions == "relative" or self.relative_bias

    @model_validator(mode="after")
    def _rotary_positions_fit(self) -> ModelConfig:
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
    def _attention_can_do_what_is_needed(self) -> ModelConfig:
        if self.decoder_attention is not None and self.kind != "encoder-decoder":
            raise ValueError(
                f"decoder_attention needs a model of kind encoder-decoder; for one of kind {self.kind}, set attention"
            )
        wanted = {"bias": self.relative, "groups": self.kv_heads, "dropout": self.attention_dropout}
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

    @property
    def segment_recurrence(self) -> bool:
        """Whether the model remembers the hidden states of earlier segments."""
        return self.family in families.RECURRENCE

    @property
    def permutes(self) -> bool:
        """Whether the model predicts tokens in any order of factorization."""
        return self.family in families.PERMUTES


def _default(setting: str) -> Any:
    return ModelConfig.model_fields[setting].default


class TokenizerConfig(Strict):
    """The tokenizer that is trained when none is given."""

    type: Literal["unigram", "bpe", "wordpiece", "byte-bpe", "chars", "words"] = "unigram"
    vocab_size: Positive = 8000
    normalization: str = Field("identity", description="Unicode normalization of the text; identity: none")
    sentinels: Annotated[int, Field(ge=0)] = 0


class DataConfig(Strict):
    """What is read, and in what portions."""

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
    accumulate: Positive = Field(1, description="number of batches whose gradients are summed for one step")
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = Field(1e-3, description="peak learning rate; with the schedule 'noam' a factor")
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
    label_smoothing: Fraction = 0.0
    z_loss: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="weight of (log Z)² in the loss over the vocabulary, against large logits (PaLM: 1e-4); 0: none",
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
    keep_checkpoints: Positive = 1
    log_every: Positive = Field(50, description="steps between lines of metrics.jsonl")
    tensorboard: bool = Field(False, description="also write TensorBoard events (extra 'tensorboard')")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Threads | None = Field(None, description="number of CPU threads; null: PyTorch decides")
    compile: bool = Field(False, description="use torch.compile, which takes about half a minute at the start")


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
    model: ModelConfig = ModelConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    noise: NoiseConfig = NoiseConfig()
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()
    examples: ExamplesConfig = ExamplesConfig()
    head: HeadConfig = HeadConfig()
    tuning: TuningConfig = TuningConfig()
