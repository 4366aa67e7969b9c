"""Disturbed in, restored out: denoise (BART, T5) and gap sentences (PEGASUS), for encoder-decoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlpcli.config.counting import counted
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.runs.dev_samples import DevOutputs, Parts
from nlpcli.runs.pretraining.prepared_objective import (
    ObjectiveInputs,
    ObjectiveSpec,
    PreparedObjective,
    check_kind,
    check_positions,
    sized,
    tallied,
)
from nlpcli.runs.pretraining.sample_outputs import restored

if TYPE_CHECKING:
    import torch

    from nlpcli.models.transformer import EncoderDecoder
    from nlpcli.objectives.noise import Noise


def noise_of(config: RunConfig, weights: Mapping[str, float]) -> Noise:
    """The noise of the objective and the settings. Raises: NlpcliError for invalid settings."""
    from nlpcli.objectives.gap_sentences import GapSentences
    from nlpcli.objectives.noise_parser import parse_noise

    noise = config.noise
    gaps = GapSentences(
        ratio=noise.gap_ratio,
        choice=noise.gap_strategy,
        selection=noise.gap_selection,
        counts=noise.gap_counts,
        mlm=weights.get("mlm", 0.0) / weights.get("gap-sentences", 1.0),
        mlm_rate=noise.rate,
        mask_share=noise.mask_share,
        random_share=noise.random_share,
    )
    if "gap-sentences" in weights:
        return gaps
    return parse_noise(noise.kinds, whole_words=noise.unit == "word", gaps=gaps)


def check(config: RunConfig, weights: Mapping[str, float]) -> None:
    check_kind(config, "encoder-decoder")
    check_positions(config, config.data.context)
    if {"denoise", "gap-sentences"} <= weights.keys():
        raise NlpcliError("denoise and gap-sentences can't be used together; choose one")
    length = noise_of(config, weights).text_length(config.data.context)
    if length < 2:
        raise NlpcliError(
            f"data.context {config.data.context} is too short: it has room for only {counted(length, 'token')} of text",
            hint="set data.context to at least 4 (usually 128 or more)",
        )


def check_tokenizer(config: RunConfig, weights: Mapping[str, float]) -> None:
    from nlpcli.text.special_tokens import SpecialTokens

    noise = noise_of(config, weights)
    noise.check(SpecialTokens.first(config.tokenizer.sentinels), noise.text_length(config.data.context))


def prepare(inputs: ObjectiveInputs) -> PreparedObjective:
    """An encoder-decoder that restores what a noise disturbed."""
    from nlpcli.layers.vocabulary_loss import LossSettings
    from nlpcli.objectives.batching import Batching
    from nlpcli.objectives.denoise import Denoising

    config = inputs.config
    data, training = config.data, config.training
    noise = noise_of(config, inputs.weights)
    by_sentence = noise.needs_sentences or data.sentences in ("lines", "split")
    train, dev = inputs.corpus.shards(inputs.tokenizer, sentences=by_sentence)
    task = Denoising(
        train,
        dev,
        inputs.tokenizer,
        noise=noise,
        batching=Batching.of(config),
        loss_settings=LossSettings.of(training),
    )

    dev_outputs = DevOutputs(training.samples)

    def evaluate(model: EncoderDecoder, device: torch.device) -> dict[str, float]:
        parts = Parts()
        metrics = tallied(parts.watch(task.evaluate(model, device)), task.joint)
        samples = restored(task, inputs.tokenizer, model, device, dev_outputs.count)
        dev_outputs.fill(samples, parts.outputs, parts.measures(joint=bool(task.joint)), dev.fingerprint)
        return metrics

    return PreparedObjective(
        objective=task,
        model=config.model,
        info={"task": "denoising", "context": data.context},
        evaluate=evaluate,
        fingerprint=train.fingerprint,
        summary=f"{sized(train)}; {counted(dev.tokens, 'token')} in the dev set",
        dev_outputs=dev_outputs,
    )


def reads(config: RunConfig, weights: Mapping[str, float]) -> tuple[str, ...]:
    named = ("noise.kinds", "noise.unit") if "denoise" in weights else ()
    mlm = getattr(noise_of(config, weights), "mlm", 0.0)
    rate = ("noise.rate", "noise.mask_share", "noise.random_share") if mlm else ()
    gaps: tuple[str, ...] = ()
    if "gap-sentences" in weights or "gap-sentences" in config.noise.kinds:
        gaps = ("noise.gap_ratio", "noise.gap_strategy", "noise.gap_selection", "noise.gap_counts")
    return ("data.sentences", "training.r_drop", *named, *rate, *gaps)


def measures(config: RunConfig, weights: Mapping[str, float]) -> tuple[str, ...]:
    noise = noise_of(config, weights)
    parts = ("gap_loss", "mlm_loss") if getattr(noise, "mlm", 0.0) else ()
    kept = ("kept",) if noise.copies else ()
    return ("loss", *parts, "accuracy", "baseline", *kept, *["mlm_accuracy"] * bool(parts))


def _preset_for(noise: str) -> str | None:
    """The preset that reads and writes as the model which this noise is from."""
    from nlpcli.objectives.span_corruption import KINDS

    kind = noise.split(":")[0].strip()
    if kind in KINDS:
        return "t5-nano"
    return GAP_SENTENCES.preset if kind == "gap-sentences" else None


DENOISE = ObjectiveSpec(
    preset="bart-nano",
    preset_for=_preset_for,
    check=check,
    prepare=prepare,
    measures=measures,
    check_tokenizer=check_tokenizer,
    reads=reads,
    synonyms={
        "t5": ("denoise", "spans"),
        "span-corruption": ("denoise", "spans"),
        "bart": ("denoise", "infill,permute"),
        "denoising": ("denoise", None),
    },
    options={"noise.kinds": "--noise"},
)
GAP_SENTENCES = ObjectiveSpec(
    preset="pegasus-nano",
    preset_precedence=1,
    check=check,
    prepare=prepare,
    measures=measures,
    check_tokenizer=check_tokenizer,
    reads=reads,
    synonyms=dict.fromkeys(("pegasus", "gsg"), ("gap-sentences", None)),
    takes=frozenset({"mlm"}),  # PEGASUS's encoder learns it on what is left of the text
)
