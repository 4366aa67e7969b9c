"""Pretraining: from raw text to a model of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli import presets
from nlpcli.config.schema import NoiseConfig, RunConfig
from nlpcli.config.task_settings import ALIGNMENT_SETTINGS, EXAMPLE_SETTINGS
from nlpcli.errors import NlpcliError
from nlpcli.runs.corpus import Corpus
from nlpcli.runs.init_from_model import InitialModel, open_initial_model
from nlpcli.runs.model_preparation import ModelPreparation
from nlpcli.runs.multi_process_run import after_restart
from nlpcli.runs.pretraining import DEFAULT_OBJECTIVE, OBJECTIVES, parse, spec_of
from nlpcli.runs.pretraining.prepared_objective import ObjectiveInputs, PreparedObjective
from nlpcli.runs.resolve_settings import (
    SCHEDULED_SAMPLING,
    check_metric,
    check_one_vocabulary,
    from_the_start,
    resolve,
    warn_unused,
)
from nlpcli.runs.run_folder import choose_run, has_checkpoint
from nlpcli.runs.train import PreparedTraining, TrainingRun, train
from nlpcli.runs.training_request import Listener, Request
from nlpcli.runs.training_tokenizer import tokenizer_of

if TYPE_CHECKING:
    from nlpcli.models.build import AnyModel
    from nlpcli.training.training_loop_types import Outcome

_UNUSED = ("data.max_length", "data.subword_sampling", "training.bleu_sentences", "training.bleu_beam_size",
           "decoding.beam_size", "decoding.length_penalty", "decoding.lowercase", "decoding.bleu_tokenize",
           "training.batching", *SCHEDULED_SAMPLING, *ALIGNMENT_SETTINGS)  # fmt: skip
_OF_SOME = (*(f"noise.{name}" for name in NoiseConfig.model_fields),
            "data.sentences", "data.format", "data.document_mask", "data.eval_stride", "training.r_drop")  # fmt: skip


def pretrain(request: Request, listener: Listener) -> tuple[Path, Outcome]:
    """Trains a model on raw text. Returns: the run directory and the `Outcome`.

    Raises: NlpcliError for wrong settings or data, RunFailed when training diverges, KeyboardInterrupt after it saved.
    """
    request = from_the_start(after_restart(request, has_checkpoint), "pretrain")
    config, weights = configured(request)
    if config.training.fit_memory == "search":
        from nlpcli.runs.automatic_batch_size import fit_batch

        request = fit_batch(request, config, listener, pretrain)
        config, weights = configured(request)
    from nlpcli.training.device import prepare

    warn_unread_settings(config, weights, listener)
    measures = spec_of(objective_of(config)).measures(config, weights)
    check_metric(config, measures)
    folder = choose_run(request, config, "-".join(weights))
    with _inputs(request, config, weights, folder, listener) as inputs:
        prepared = _prepared(inputs)
        listener.note(prepared.summary)
        machine = prepare(config.training.device, config.training.precision, config.training.threads)
        preparation = ModelPreparation(config, _start(request, config), inputs.tokenizer, listener)

        def build() -> AnyModel:
            model = preparation.build(prepared.model)
            prepared.prime(model)
            return model

        outcome = train(
            TrainingRun(request, config.model_copy(update={"model": prepared.model}), folder, machine, listener),
            PreparedTraining(
                prepared.objective, inputs.tokenizer, build, preparation, info=prepared.info,
                evaluate=lambda model: prepared.evaluate(model, machine.device), measured=measures,
                signatures=prepared.signatures, fingerprint=prepared.fingerprint, dev_outputs=prepared.dev_outputs,
            ),
        )  # fmt: skip
    return folder, outcome


def without_model(preset: str) -> dict[str, Any]:
    """The settings of a preset without the model, to continue the training of an existing model."""
    return {key: value for key, value in presets.load(preset).items() if key not in ("model", "description", "source")}


def _start(request: Request, config: RunConfig) -> InitialModel | None:
    """The initial model of a run, if any; a resumed run has its own weights."""
    return open_initial_model(config.init) if config.init and not request.resume else None


def show(request: Request, count: int, listener: Listener) -> Iterator[dict[str, Any]]:
    """Examples of what the objective makes of the text, without training; see `nlpcli.runs.pretraining.batch_examples`.

    Raises: NlpcliError for wrong settings or data.
    """
    from nlpcli.runs.pretraining.batch_examples import rendered

    config, weights = configured(request)
    run = request.out or Path("runs")
    with _inputs(request, config, weights, run, listener) as inputs:
        yield from rendered(_prepared(inputs).objective, inputs.tokenizer, count, config.training.seed)


def configured(request: Request) -> tuple[RunConfig, dict[str, float]]:
    """The configuration of the training, and the weights of its objectives.

    Raises: NlpcliError for settings that are wrong or don't go together, before the text is read.
    """
    config = resolve(request, "pretrain")
    config = config.model_copy(update={"objective": objective_of(config)})
    check_one_vocabulary(config, "pretraining")
    weights = parse(objective_of(config))
    objective = spec_of(objective_of(config))
    objective.check(config, weights)
    if request.tokenizer is None and not request.resume:
        objective.check_tokenizer(config, weights)
    _check_options(request, config, weights)
    return config, weights


def objective_of(config: RunConfig) -> str:
    """The objective of a configuration, or the default one."""
    return config.objective or DEFAULT_OBJECTIVE


def _check_options(request: Request, config: RunConfig, weights: dict[str, float]) -> None:
    """Refuses options that mean nothing to the objective; in a preset, a file or `--set` they only cause a warning."""
    read = spec_of(objective_of(config)).reads(config, weights)
    options = [(*item, name) for name in OBJECTIVES for item in OBJECTIVES.load(name).options.items()]
    for key, option, objective in options:
        section, name = key.split(".")
        if name in request.settings.get(section, {}) and key not in read:
            raise NlpcliError(
                f"{option} has no effect on the objective {config.objective}",
                hint=f"leave out {option}, or choose --objective {objective}",
            )


def warn_unread_settings(config: RunConfig, weights: dict[str, float], listener: Listener) -> None:
    """Reports which settings were changed that mean nothing to pretraining, or nothing to this objective."""
    read = spec_of(objective_of(config)).reads(config, weights)
    warn_unused(config, (*_UNUSED, *EXAMPLE_SETTINGS, *(key for key in _OF_SOME if key not in read)), listener)


@contextmanager
def _inputs(
    request: Request, config: RunConfig, weights: dict[str, float], run: Path, listener: Listener
) -> Iterator[ObjectiveInputs]:
    with Corpus.opened(config.data) as corpus:
        start = _start(request, config)
        tokenizer = tokenizer_of(request, config, start, run, corpus.texts, listener)
        yield ObjectiveInputs(config, weights, corpus, tokenizer)


def _prepared(inputs: ObjectiveInputs) -> PreparedObjective:
    return spec_of(objective_of(inputs.config)).prepare(inputs)


def use_of(run: Path) -> str:
    """A command that makes something of the finished model in `run`."""
    from nlpcli.models.model_folder import read_info

    place, info = shlex.quote(str(run)), read_info(run)
    if info["task"] == "language-model":
        return f'nlpcli generate --model {place} --prompt "…"'
    if _can_be_exchanged(run, info["model"]):
        return f"nlpcli convert --to huggingface {place} DIR"
    if info["task"] == "encoder":
        return f"nlpcli embed --model {place} FILE"
    return f"nlpcli pretrain --resume --out {place} --max-steps N"


def _can_be_exchanged(run: Path, model: dict[str, Any]) -> bool:
    """Whether `nlpcli convert` can write the model in `run` for Hugging Face."""
    from nlpcli.convert.family_table import choose_family
    from nlpcli.convert.tokenizer_out import tokenizer_files
    from nlpcli.models.model_folder import TOKENIZER
    from nlpcli.text import load_tokenizer

    try:
        choose_family(model)
        tokenizer_files(load_tokenizer(run / TOKENIZER), kind=model["kind"])
    except NlpcliError:
        return False
    return True
