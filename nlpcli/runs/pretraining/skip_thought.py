"""From a sentence to those before and after it: skip-thought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nlpcli.config.counting import counted
from nlpcli.config.recurrent_encoder_settings import RecurrentEncoderConfig
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.runs.dev_samples import DevOutputs, Parts
from nlpcli.runs.pretraining.prepared_objective import (
    ObjectiveInputs,
    ObjectiveSpec,
    PreparedObjective,
    check_context,
    sized,
    tallied,
)

if TYPE_CHECKING:
    import torch

    from nlpcli.models.recurrent_sentence_encoder import RecurrentSentenceEncoder

_PRESET = "skip-thought"


def check(config: RunConfig, weights: Mapping[str, float]) -> None:
    """Raises: NlpcliError for a model that is not a recurrent encoder, or reads both ways."""
    model, name = config.model, next(iter(weights))
    if not isinstance(model, RecurrentEncoderConfig):
        raise NlpcliError(
            f"the objective {name} trains a recurrent encoder of sentences, but this model is of the family "
            f"{model.family}",
            hint=f"choose a preset with a recurrent encoder, such as {_PRESET}",
        )
    if model.bidirectional:
        raise NlpcliError(
            f"the objective {name} takes the last state of a sentence, so its encoder must read from left to right",
            hint="set model.bidirectional=false",
        )
    check_context(config, 3, "a sentence with two special tokens must fit")


def prepare(inputs: ObjectiveInputs) -> PreparedObjective:
    """An encoder of sentences with a decoder for each neighbor; samples are sentences and the nearest other ones."""
    from nlpcli.layers.vocabulary_loss import LossSettings
    from nlpcli.objectives.batching import Batching
    from nlpcli.objectives.skip_thought import SkipThought

    config, tokenizer = inputs.config, inputs.tokenizer
    train, dev = inputs.corpus.shards(tokenizer, sentences=True)
    task = SkipThought(
        train,
        dev,
        tokenizer,
        batching=Batching.of(config),
        loss_settings=LossSettings.of(config.training),
    )
    dev_outputs = DevOutputs(config.training.samples)

    def samples(model: RecurrentSentenceEncoder, device: torch.device) -> Iterator[dict[str, Any]]:
        for sentence, near in task.nearest_sentences(model, device, dev_outputs.count):
            text, output = tokenizer.decode([sentence, near])
            yield {"text": text, "output": output}

    def evaluate(model: RecurrentSentenceEncoder, device: torch.device) -> dict[str, float]:
        parts = Parts()
        metrics = tallied(parts.watch(task.evaluate(model, device)))
        dev_outputs.fill(samples(model, device), parts.outputs, parts.measures(), dev.fingerprint)
        return metrics

    return PreparedObjective(
        objective=task,
        model=config.model.model_copy(update={"neighbor_decoders": True}),
        info={"task": "encoder", "context": config.data.context},
        evaluate=evaluate,
        fingerprint=train.fingerprint,
        summary=f"{sized(train)}, {counted(len(task.train), 'sentence')} with neighbors; "
        f"{counted(dev.tokens, 'token')} in the dev set",
        dev_outputs=dev_outputs,
    )


SKIP_THOUGHT = ObjectiveSpec(
    preset=_PRESET,
    check=check,
    prepare=prepare,
    measures=lambda config, weights: ("loss",),
    reads=lambda config, weights: ("data.sentences",),
    synonyms={"skip-thoughts": ("skip-thought", None)},
)
