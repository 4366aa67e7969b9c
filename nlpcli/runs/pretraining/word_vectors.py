"""Vectors of words, and of documents beside them: word2vec and paragraph-vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nlpcli.config.counting import counted
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.schema import RunConfig
from nlpcli.config.word_vectors_settings import ARCHITECTURES, PARAGRAPH_ARCHITECTURES, WordVectorsConfig
from nlpcli.errors import NlpcliError
from nlpcli.runs.dev_samples import DevOutputs, Parts
from nlpcli.runs.pretraining import default_preset
from nlpcli.runs.pretraining.prepared_objective import (
    ObjectiveInputs,
    ObjectiveSpec,
    PreparedObjective,
    sized,
    tallied,
)

if TYPE_CHECKING:
    import torch

    from nlpcli.models.word_vectors import WordVectors
    from nlpcli.objectives.word2vec import WordPrediction
    from nlpcli.objectives.word_windows import WindowSettings
    from nlpcli.text import Tokenizer

    TaskT = TypeVar("TaskT", bound=WordPrediction)
    Samples = Callable[[WordVectors, int], Iterator[dict[str, Any]]]

_WORD_ARCHITECTURES = tuple(name for name in ARCHITECTURES if name not in PARAGRAPH_ARCHITECTURES)
_SETTINGS = ("noise.window", "noise.negatives", "noise.power", "noise.subsample")
_NEIGHBOURS = 5
_FREQUENT = 1000  # ids among which the words that are dev_outputs are chosen


def check(config: RunConfig, weights: Mapping[str, float], architectures: Sequence[str]) -> None:
    """Raises: NlpcliError for a model that is not of these architectures."""
    model, name = config.model, next(iter(weights))
    preset = default_preset(name)
    if not isinstance(model, WordVectorsConfig):
        raise NlpcliError(
            f"the objective {name} trains word vectors, but this model is of the family {model.family}",
            hint=f"choose a preset with word vectors, such as {preset}",
        )
    if model.architecture not in architectures:
        raise NlpcliError(
            f"the objective {name} trains {' or '.join(architectures)}, but model.architecture is {model.architecture}",
            hint=f"set model.architecture={architectures[0]}, or choose the preset {preset}",
        )
    if not model.output_vectors:
        raise NlpcliError(
            f"the objective {name} trains the output vectors, but this model has none (model.output_vectors)",
            hint="set model.output_vectors=true",
        )


def window_settings(config: RunConfig) -> WindowSettings:
    """The settings of windows and noise words."""
    from nlpcli.objectives.word_windows import WindowSettings

    noise = config.noise
    return WindowSettings(noise.window, noise.negatives, noise.power, noise.subsample)


def word2vec(inputs: ObjectiveInputs) -> PreparedObjective:
    """Words distinguished from noise words by the words near them; samples are the nearest words of frequent ones."""
    from nlpcli.objectives.word2vec import WordPrediction

    task = _task(WordPrediction, inputs)

    def samples(model: WordVectors, count: int) -> Iterator[dict[str, Any]]:
        return nearest_words(model, inputs.tokenizer, count)

    return _prepared(inputs, task, inputs.config.model, samples, {})


def paragraph_vector(inputs: ObjectiveInputs) -> PreparedObjective:
    """The same with a vector for each document; samples are documents of the dev set and the nearest trained ones."""
    from nlpcli.objectives.paragraph_vectors import ParagraphVectors

    task = _task(ParagraphVectors, inputs)

    def samples(model: WordVectors, count: int) -> Iterator[dict[str, Any]]:
        for document, near in task.nearest_documents(model, count):
            text, output = inputs.tokenizer.decode([document, near])
            yield {"text": text, "output": output}

    model = inputs.config.model.model_copy(update={"documents": task.train.shards.documents})
    return _prepared(inputs, task, model, samples, {"paragraphs": asdict(task.sampler.settings)})


def _task(kind: type[TaskT], inputs: ObjectiveInputs) -> TaskT:
    config = inputs.config
    train, dev = inputs.corpus.shards(inputs.tokenizer)
    return kind(
        train,
        dev,
        inputs.tokenizer,
        architecture=cast("WordVectorsConfig", config.model).architecture,  # as `check` found
        settings=window_settings(config),
        batch_tokens=config.training.batch_tokens,
        seed=config.training.seed,
    )


def _prepared(
    inputs: ObjectiveInputs, task: WordPrediction, model: ModelConfig, samples: Samples, info: Mapping[str, Any]
) -> PreparedObjective:
    dev_outputs = DevOutputs(inputs.config.training.samples)
    train, dev = task.train.shards, task.dev.shards

    def evaluate(model: WordVectors, device: torch.device) -> dict[str, float]:
        parts = Parts()
        metrics = tallied(parts.watch(task.evaluate(model, device)))
        dev_outputs.fill(samples(model, dev_outputs.count), parts.outputs, parts.measures(), dev.fingerprint)
        return metrics

    return PreparedObjective(
        objective=task,
        model=model,
        info={"task": "encoder", **info},
        evaluate=evaluate,
        fingerprint=train.fingerprint,
        summary=f"{sized(train)}; {counted(dev.tokens, 'token')} in the dev set",
        dev_outputs=dev_outputs,
        prime=task.prime,
    )


def nearest_words(model: WordVectors, tokenizer: Tokenizer, count: int) -> Iterator[dict[str, Any]]:
    """Frequent words, the same at each evaluation, with the words of the greatest cosine."""
    from torch.nn.functional import normalize

    from nlpcli.data.even_sample import evenly_spaced
    from nlpcli.text.token_normalization import words_of

    names = {id_: word for id_, word in words_of(tokenizer).items() if word.isalpha() and model.frequencies[id_] > 0}
    ids = sorted(names, key=lambda id_: -float(model.frequencies[id_]))[: _FREQUENT * 10]
    units = normalize(model.token_embedding.weight[ids].float(), dim=1)
    for place in evenly_spaced(min(len(ids), _FREQUENT), count):
        cosines = units @ units[place]
        cosines[place] = -2.0
        near = cosines.topk(min(_NEIGHBOURS, len(ids) - 1)).indices.tolist()
        yield {"text": names[ids[place]], "output": ", ".join(names[ids[other]] for other in near)}


def _spec(preset: str, architectures: Sequence[str], **more: Any) -> ObjectiveSpec:
    return ObjectiveSpec(
        preset=preset,
        check=partial(check, architectures=architectures),
        measures=lambda config, weights: ("loss",),
        reads=lambda config, weights: _SETTINGS,
        sample_documents="paragraphs",
        **more,
    )


WORD2VEC = _spec(
    "word2vec", _WORD_ARCHITECTURES, prepare=word2vec, synonyms=dict.fromkeys(("skip-gram", "sgns"), ("word2vec", None))
)
PARAGRAPH_VECTOR = _spec(
    "doc2vec", PARAGRAPH_ARCHITECTURES, prepare=paragraph_vector, synonyms={"doc2vec": ("paragraph-vector", None)}
)
