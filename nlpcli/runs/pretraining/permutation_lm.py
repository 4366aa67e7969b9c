"""In a random order: plm, for XLNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlpcli.config.counting import counted
from nlpcli.config.schema import RunConfig
from nlpcli.runs.dev_samples import DevOutputs, Parts
from nlpcli.runs.pretraining.prepared_objective import (
    ObjectiveInputs,
    ObjectiveSpec,
    PreparedObjective,
    check_context,
    check_kind,
    sized,
    tallied,
)
from nlpcli.runs.pretraining.sample_outputs import guesses

if TYPE_CHECKING:
    import torch

    from nlpcli.models.xlnet import XLNet


def check(config: RunConfig, weights: Mapping[str, float]) -> None:
    check_kind(config, "encoder", permutes=True)
    one_of = config.noise.predict_one_of
    check_context(config, one_of, f"1 of {one_of} tokens is predicted")


def prepare(inputs: ObjectiveInputs) -> PreparedObjective:
    """An XLNet that predicts some of the tokens, each from those before it in a new random order."""
    from nlpcli.layers.vocabulary_loss import LossSettings
    from nlpcli.objectives.batching import Batching
    from nlpcli.objectives.plm import PermutationLanguageModelling

    config = inputs.config
    data, training = config.data, config.training
    train, dev = inputs.corpus.shards(inputs.tokenizer)
    task = PermutationLanguageModelling(
        train,
        dev,
        inputs.tokenizer,
        batching=Batching.of(config),
        one_of=config.noise.predict_one_of,
        loss_settings=LossSettings.of(training),
    )

    dev_outputs = DevOutputs(training.samples)

    def evaluate(model: XLNet, device: torch.device) -> dict[str, float]:
        parts = Parts()
        metrics = tallied(parts.watch(task.evaluate(model, device)))
        samples = guesses(task, inputs.tokenizer, model, device, dev_outputs.count)
        dev_outputs.fill(samples, parts.outputs, parts.measures(), dev.fingerprint)
        return metrics

    return PreparedObjective(
        objective=task,
        model=config.model,
        info={"task": "encoder", "context": data.context},
        evaluate=evaluate,
        fingerprint=train.fingerprint,
        summary=f"{sized(train)}; {counted(dev.tokens, 'token')} in the dev set",
        dev_outputs=dev_outputs,
    )


def reads(config: RunConfig, weights: Mapping[str, float]) -> tuple[str, ...]:
    return ("noise.predict_one_of",)


PLM = ObjectiveSpec(
    preset="xlnet-nano",
    check=check,
    prepare=prepare,
    measures=lambda config, weights: ("loss", "accuracy", "baseline"),
    reads=reads,
    synonyms=dict.fromkeys(("xlnet", "permutation"), ("plm", None)),
)
