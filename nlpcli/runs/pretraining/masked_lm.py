"""Both ways at once: mlm, nsp, sop and their sums, for encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from nlpcli.config.counting import counted
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.schema import RunConfig
from nlpcli.runs.dev_samples import DevOutputs, Parts
from nlpcli.runs.pretraining.prepared_objective import (
    ObjectiveInputs,
    ObjectiveSpec,
    PreparedObjective,
    check_context,
    check_kind,
    check_positions,
    sized,
    tallied,
)
from nlpcli.runs.pretraining.sample_outputs import guesses

if TYPE_CHECKING:
    import torch

    from nlpcli.models.transformer import Encoder
    from nlpcli.objectives.masking import Masking

_ORDERS = ("nsp", "sop")


def with_heads(model: ModelConfig, weights: Mapping[str, float], *, pairs: bool) -> ModelConfig:
    """The model with the heads that these objectives train and no others, and with segments where pairs are read."""
    ordered = any(name in weights for name in _ORDERS)
    return model.with_pretraining_heads(mlm="mlm" in weights, pairs=ordered, segments=2 if pairs else 0)


def check(config: RunConfig, weights: Mapping[str, float]) -> None:
    check_kind(config, "encoder")
    check_positions(config, config.data.context)
    _masking(config)
    pairs = _paired(config, weights)
    with_heads(config.model, weights, pairs=pairs)  # raises for a model that can't have them
    if pairs:
        check_context(config, 5, "two segments with three special tokens must fit")
    else:
        check_context(config, 3, "a text with two special tokens must fit")


def _paired(config: RunConfig, weights: Mapping[str, float]) -> bool:
    """Whether pairs of segments are read. Raises: NlpcliError for parts and formats that don't go together."""
    from nlpcli.data.encoder_batches import PAIR_FORMATS
    from nlpcli.objectives.encoder_objectives import format_for

    return format_for(config.data.format, weights) in PAIR_FORMATS


def prepare(inputs: ObjectiveInputs) -> PreparedObjective:
    """An encoder that predicts hidden tokens, or how two segments belong together, or both."""
    from nlpcli.layers.vocabulary_loss import LossSettings
    from nlpcli.objectives.encoder_objectives import EncoderBatching, EncoderPretraining

    config, weights = inputs.config, inputs.weights
    data, training = config.data, config.training
    pairs = _paired(config, weights)
    by_sentence = pairs or data.sentences in ("lines", "split")
    train, dev = inputs.corpus.shards(inputs.tokenizer, sentences=by_sentence)
    task = EncoderPretraining(
        train,
        dev,
        inputs.tokenizer,
        weights=weights,
        batching=EncoderBatching.of(config, format=data.format, copies=config.noise.dupe_factor),
        masking=_masking(config),
        loss_settings=LossSettings.of(training),
    )

    dev_outputs = DevOutputs(training.samples)

    def evaluate(model: Encoder, device: torch.device) -> dict[str, float]:
        parts = Parts()
        metrics = tallied(parts.watch(task.evaluate(model, device)), task.joint)
        samples = guesses(task, inputs.tokenizer, model, device, dev_outputs.count)
        dev_outputs.fill(samples, parts.outputs, parts.measures(joint=bool(task.joint)), dev.fingerprint)
        return metrics

    return PreparedObjective(
        objective=task,
        model=with_heads(config.model, weights, pairs=pairs),
        info={"task": "encoder", "context": data.context},
        evaluate=evaluate,
        fingerprint=train.fingerprint,
        summary=f"{sized(train)} as {task.format}; {counted(dev.tokens, 'token')} in the dev set",
        dev_outputs=dev_outputs,
    )


def _masking(config: RunConfig) -> Masking:
    from nlpcli.objectives.masking import Masking

    noise = config.noise
    return Masking(
        rate=noise.rate,
        mask_share=noise.mask_share,
        random_share=noise.random_share,
        unit=noise.unit,
        span_p=noise.span_p,
        span_max=noise.span_max,
    )


def reads(config: RunConfig, weights: Mapping[str, float]) -> tuple[str, ...]:
    inputs = ("data.format", "data.sentences", "noise.dupe_factor")
    masks = ("noise.rate", "noise.unit", "noise.mask_share", "noise.random_share")
    spans = ("noise.span_p", "noise.span_max") if config.noise.unit == "span" else ()
    return (*inputs, *masks, *spans) if "mlm" in weights else inputs


def measures(config: RunConfig, weights: Mapping[str, float]) -> tuple[str, ...]:
    losses = [f"{part}_loss" for part in weights] if len(weights) > 1 else []
    parts = [part for part in ("mlm", *_ORDERS) if part in weights]
    return ("loss", *losses, *(f"{part}_{name}" for part in parts for name in ("accuracy", "baseline")))


MLM = ObjectiveSpec(
    preset="roberta-nano",
    check=check,
    prepare=prepare,
    measures=measures,
    reads=reads,
    synonyms=dict.fromkeys(("masked", "masked-lm", "roberta"), ("mlm", None)),
)
NSP = replace(MLM, preset="bert-nano", preset_precedence=1, synonyms={"bert": ("mlm+nsp", None)})
SOP = replace(NSP, synonyms={"albert": ("mlm+sop", None)})
