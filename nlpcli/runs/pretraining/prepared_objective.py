"""The inputs of an objective, and the prepared objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nlpcli.config.counting import counted
from nlpcli.config.model_settings import DEFAULT, ModelConfig, permuting_families
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.runs.dev_samples import DevOutputs
from nlpcli.runs.pretraining import DEFAULT_OBJECTIVE, default_preset
from nlpcli.training.metric_direction import in_percent

if TYPE_CHECKING:
    from nlpcli.data.shards import ShardSet
    from nlpcli.objectives.objective import Loss, Objective
    from nlpcli.runs.corpus import Corpus
    from nlpcli.text import Tokenizer


@dataclass(frozen=True)
class ObjectiveInputs:
    """The configuration, the weights of the objectives in the sum, the text, and its tokenizer."""

    config: RunConfig
    weights: Mapping[str, float]
    corpus: Corpus
    tokenizer: Tokenizer


@dataclass
class PreparedObjective:
    """An objective over a corpus, ready for the loop.

    model: the configuration of the model, with the heads the objective needs. info: the contents of `model.yaml`.
    evaluate(model, device): the metrics; it also fills `signatures` and `dev_outputs`. prime(model): initializes a new
    model with statistics of the text.
    """

    objective: Objective[Any, Any]
    model: ModelConfig
    info: dict[str, Any]
    evaluate: Callable[[Any, Any], dict[str, float]]
    fingerprint: str
    summary: str
    signatures: dict[str, str] = field(default_factory=dict)
    dev_outputs: DevOutputs = field(default_factory=DevOutputs)
    prime: Callable[[Any], None] = lambda model: None


Weights = Mapping[str, float]
"""Objective -> its weight in the sum."""


@dataclass(frozen=True)
class ObjectiveSpec:
    """All that the program needs of an objective.

    preset: the model when none is named; preset_for(noise): where the noise needs another one, otherwise None; in a
    sum the objective with the highest preset_precedence chooses. synonyms: what it is called elsewhere -> how it is
    written here, and the noise that goes with it. takes: objectives of another input that it computes on its own
    input; objectives with the same `prepare` can be combined anyway. options: settings -> options of `nlpcli pretrain`
    that belong to it. sample_documents: how the sample text is divided into documents.

    check(config, weights) raises NlpcliError where settings, model and objective don't go together, before the text is
    read; check_tokenizer(config, weights) where they don't go with the tokenizer that would be trained, when none is
    given; measures(config, weights) names the metrics; prepare(inputs) makes the objective; reads(config, weights)
    names the settings of `noise` and `data` that it uses and that not all objectives use.
    """

    preset: str
    check: Callable[[RunConfig, Weights], None]
    prepare: Callable[[ObjectiveInputs], PreparedObjective]
    measures: Callable[[RunConfig, Weights], tuple[str, ...]]
    check_tokenizer: Callable[[RunConfig, Weights], None] = lambda config, weights: None
    reads: Callable[[RunConfig, Weights], tuple[str, ...]] = lambda config, weights: ()
    preset_for: Callable[[str], str | None] = lambda noise: None
    preset_precedence: int = 0
    synonyms: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    takes: frozenset[str] = frozenset()
    options: Mapping[str, str] = field(default_factory=dict)
    sample_documents: str = "paragraphs"


def tallied(losses: Iterable[Loss], joint: Mapping[str, float] | None = None) -> dict[str, float]:
    """The mean loss in nats, and the means of the tallies that the losses carry, over the held-out text: those of
    losses in nats, shares such as accuracies in percent.

    joint: the parts of a sum and their weights; then the loss is Σ weight · mean of the tally `<part>_loss`, so that
    the best weights of a run are the best for all parts.
    """
    nats, count = 0.0, 0
    sums: dict[str, list[float]] = {}
    for loss in losses:
        nats += float(loss.nll)
        count += loss.count
        for name, (total, number) in loss.tallies.items():
            entry = sums.setdefault(name, [0.0, 0])
            entry[0] += float(total)
            entry[1] += number
    units = {name: 100 if in_percent(name) else 1 for name in sums}
    means = {name: units[name] * total / max(number, 1) for name, (total, number) in sums.items()}
    if joint:
        return {"loss": sum(weight * means[f"{part}_loss"] for part, weight in joint.items()), **means}
    return {"loss": nats / max(count, 1), **means}


def check_kind(config: RunConfig, kind: str, *, permutes: bool = False) -> None:
    """Raises: NlpcliError when the objective can't be learnt by this kind of model."""
    model = config.model
    if model.kind == kind and model.permutes == permutes:
        return
    plain = model.kind != kind  # the family need not be named
    family = permuting_families()[0] if permutes else DEFAULT
    wanted, found = (
        name if family == DEFAULT and plain else f"{family} {name}"
        for family, name in ((family, kind), (model.family, model.kind))
    )
    objective = config.objective or DEFAULT_OBJECTIVE
    raise NlpcliError(
        f"the objective {config.objective} needs {_article(wanted)}, but this model is {_article(found)}",
        hint=f"choose a preset of that kind, such as {default_preset(objective, config.noise.kinds)}",
    )


def check_context(config: RunConfig, least: int, why: str) -> None:
    """Raises: NlpcliError when windows of data.context tokens have no room for what the objective needs."""
    if config.data.context < least:
        raise NlpcliError(
            f"data.context {config.data.context} is too short for {config.objective}: {why}",
            hint=f"set data.context to at least {least}",
        )


def check_positions(config: RunConfig, length: int) -> None:
    """Raises: NlpcliError when learned positions end before `length` tokens do."""
    if length > (config.model.position_limit or length):
        raise NlpcliError(
            f"data.context {config.data.context} is greater than model.max_length {config.model.max_length}",
            hint=f"set model.max_length={config.data.context}, or a smaller data.context",
        )


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" or noun.startswith("xl") else f"a {noun}"


def sized(shards: ShardSet) -> str:
    """How much text there is, for a person."""
    if shards.sentences is None:
        return f"{counted(shards.documents, 'document')}, {counted(shards.tokens, 'token')} to train on"
    documents = int((shards.lengths == 0).sum())
    return f"{counted(shards.documents - documents, 'sentence')}, {counted(shards.tokens, 'token')} to train on"
