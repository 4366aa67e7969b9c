"""The options of the functions that use a model, named as those of the commands, each declared once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, ParamSpec, TypedDict, TypeVar

from nlpcli.api.arguments import PathLike
from nlpcli.errors import nearest

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class _Placed(TypedDict, total=False):
    """Where a model computes. threads: of the CPU, for all of torch in this process."""

    device: str | None
    threads: int | None


class _TrainingOptions(_Placed, total=False):
    """The options of all training. attention: the pattern of all layers, or one for each."""

    config: PathLike | None
    tokenizer: PathLike | None
    resume: bool
    overwrite: bool
    attention: str | Iterable[str] | None
    max_steps: int | None
    max_epochs: float | None
    max_minutes: float | None
    max_tokens: int | None
    batch_tokens: int | Literal["auto"] | None
    lr: float | None
    seed: int | None
    precision: str | None


class PretrainOptions(_TrainingOptions, total=False):
    """The options of `pretrain`."""

    noise: str | None
    documents: str | None
    field: str | None
    sentences: str | None
    context: int | None
    document_mask: bool | None


class FinetuneOptions(_TrainingOptions, total=False):
    """The options of `finetune`."""

    text: str | None
    text2: str | None
    label: str | None
    choices: Iterable[str] | None
    format: str | None
    header: str | None
    objective: str | None
    prefix: str | None
    mixture: PathLike | None
    source_layers: int | None
    source_tokenizer: PathLike | None
    align_train: PathLike | None
    align_dev: PathLike | None
    tune: str | None
    lora: int | None
    layer_decay: float | None
    fresh: bool
    batch_size: int | None
    patience: int | None


class TranslateOptions(_Placed, total=False):
    """The options of `translate`."""

    beam_size: int | None
    length_penalty: float | None
    length_normalization: str | None
    coverage_penalty: float | None
    beam_patience: float | None
    n_best: int | None
    alignments: bool
    alignment_layer: int | None
    target_prefix: str | None
    sample: bool
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    seed: int | None
    max_length: int | None
    min_length: int | None
    no_repeat_ngram: int | None
    repetition_penalty: float | None
    allow_unknown: bool
    batch_tokens: int | None
    engine: str | None
    quantization: str | None
    ensemble: Sequence[PathLike] | None


class GenerateOptions(_Placed, total=False):
    """The options of `generate`."""

    max_new_tokens: int | None
    num_samples: int | None
    greedy: bool
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    seed: int | None
    min_length: int | None
    no_repeat_ngram: int | None
    repetition_penalty: float | None
    stop: str | Iterable[str] | None
    engine: str | None
    quantization: str | None


class PredictOptions(_Placed, total=False):
    """The options of `predict`."""

    part: str | None
    batch_tokens: int | None
    engine: str | None


class EmbedOptions(_Placed, total=False):
    """The options of `embed`."""

    pooling: str | None
    normalize: bool | None
    layers: str | None
    max_length: int | None
    batch_tokens: int | None
    engine: str | None


class EvaluateOptions(_Placed, total=False):
    """The options of `evaluate`."""

    confusion: bool
    worst: int | None
    confidence: bool
    bootstrap_samples: int | None
    seed: int | None
    format: str | None
    text: str | None
    text2: str | None
    label: str | None
    choices: Iterable[str] | None
    header: str | None
    part: str | None
    batch_tokens: int | None


class PerplexityOptions(TypedDict, total=False):
    """The options of `Model.perplexity`: those of `nlpcli score perplexity`."""

    context: int | None
    stride: int | None
    memory_length: int | None
    streams: int | None
    dynamic_evaluation: float | None
    dynamic_decay: float | None
    documents: str | None
    field: str | None


class MinimalPairsOptions(TypedDict, total=False):
    """The options of `Model.minimal_pairs`: those of `nlpcli score minimal-pairs`."""

    pll: str | None
    confidence: bool
    bootstrap_samples: int | None
    seed: int | None


class ScoreOptions(TypedDict, total=False):
    """The options of `score`; each belongs to some metrics, and is refused for others."""

    confidence: bool
    baseline: Iterable[object] | None
    bootstrap_samples: int | None
    seed: int | None
    lowercase: bool
    tokenize: str | None
    smooth: str | None
    smooth_value: float | None
    max_ngram_order: int | None
    effective_order: bool
    chrf_char_order: int | None
    chrf_word_order: int | None
    chrf_beta: int | None
    chrf_whitespace: bool
    chrf_eps_smoothing: bool
    ter_case_sensitive: bool
    ter_normalized: bool
    ter_no_punct: bool
    ter_asian_support: bool
    remove_punctuation: bool
    collapse_whitespace: bool
    alternatives: bool
    rouge_stemmer: str | None
    rouge_irregular: str | None
    rouge_tokenize: str | None
    rouge_references: str | None
    rouge_sentences: str | None
    average: str | None
    positive: str | None
    labels: str | Iterable[str] | None
    strict: bool
    scheme: str | None
    normalize_answers: str | None
    one_based: str | None
    reverse: str | None


def takes(options: type) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """For functions with `**options`: `help` shows these, and others are refused as Python does.

    Raises: TypeError, when it is called, for an argument the function doesn't have.
    """
    names = tuple(options.__annotations__)

    def with_options(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        own = inspect.signature(function)
        kept = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names]

        @functools.wraps(function)
        def checked(*args: _Arguments.args, **given: _Arguments.kwargs) -> _Result:
            for name in given:
                if name not in names and name not in own.parameters:
                    near = nearest(name, names)
                    hint = f". Did you mean '{near}'?" if near else ""
                    raise TypeError(f"{function.__name__}() got an unexpected keyword argument '{name}'{hint}")
            return function(*args, **given)

        checked.__signature__ = own.replace(parameters=[*kept, *more])  # type: ignore[attr-defined]  # what `inspect.signature` reads
        return checked

    return with_options
