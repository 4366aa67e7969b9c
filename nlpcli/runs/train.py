"""The work of all training around the loop: building the model, and writing the result to the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nlpcli.config.counting import counted
from nlpcli.config.files import write_atomic
from nlpcli.config.folder_lock import locked_folder
from nlpcli.config.schema import RunConfig
from nlpcli.runs.dev_samples import DevOutputs, write_outputs
from nlpcli.runs.model_card import CARD, CardFacts, card_of
from nlpcli.runs.multi_process_run import prepared_together, sharded_among
from nlpcli.runs.resolve_settings import check_metric
from nlpcli.runs.run_folder import open_run
from nlpcli.runs.signature import provenance, signature, weights_digest
from nlpcli.runs.training_request import Listener, PreparedRun, Request
from nlpcli.training.distributed.environment import process_rank

if TYPE_CHECKING:
    from nlpcli.models.build import AnyModel
    from nlpcli.objectives.objective import Objective
    from nlpcli.runs.model_preparation import ModelPreparation
    from nlpcli.text import Tokenizer
    from nlpcli.training.checkpoint import Progress
    from nlpcli.training.device import Machine
    from nlpcli.training.training_loop import Trainer
    from nlpcli.training.training_loop_types import Outcome

    TrainerT = TypeVar("TrainerT", bound=Trainer)


@dataclass(frozen=True)
class TrainingRun:
    """A run: the request, its configuration and folder, the device it computes on, and the listener to its progress."""

    request: Request
    config: RunConfig
    folder: Path
    machine: Machine
    listener: Listener


@dataclass(frozen=True)
class PreparedTraining:
    """Objective, model and evaluation of a run, ready for the training loop.

    build(): the model; preparation: its trainable weights and their learning rates. info: the contents of `model.yaml`.
    evaluate(model): the metrics named in `measured`; it may fill `signatures`, which has the signature of each metric,
    and `dev_outputs`. fingerprint: of the data. source_tokenizer: the tokenizer of sources, if it is another one.
    """

    objective: Objective[Any, Any]
    tokenizer: Tokenizer
    build: Callable[[], AnyModel]
    preparation: ModelPreparation
    info: Mapping[str, Any]
    evaluate: Callable[[Any], dict[str, float]]
    measured: Sequence[str]
    signatures: Mapping[str, str]
    fingerprint: str
    dev_outputs: DevOutputs = field(default_factory=DevOutputs)
    source_tokenizer: Tokenizer | None = None


def train(run: TrainingRun, prepared: PreparedTraining) -> Outcome:
    """Builds the model, trains it, and leaves a model directory with its card in the run's folder.

    Raises: NlpcliError when the deciding metric is not measured, for a model that can't be built, and for a checkpoint
    that does not fit it, before anything is written or removed.
    """
    check_metric(run.config, prepared.measured)
    run = replace(run, machine=prepared_together(run.folder, run.machine, prepared.fingerprint))
    from nlpcli.training.checkpoint import Progress
    from nlpcli.training.training_loop import Trainer
    from nlpcli.training.training_loop_types import Outcome

    if run.request.in_place_of_training is not None:
        run.request.in_place_of_training(
            PreparedRun(run.config, prepared.fingerprint, lambda kind: _trainer(run, prepared, kind))
        )
        return Outcome(Progress(), {}, "none", "not trained")
    with ExitStack() as stack:
        if (
            run.request.resume and not process_rank()
        ):  # before its checkpoint is read; a new one has no folder before it begins
            stack.enter_context(locked_folder(run.folder))
        return _train(run, prepared, _trainer(run, prepared, Trainer), stack)


def _train(run: TrainingRun, prepared: PreparedTraining, trainer: Trainer, stack: ExitStack) -> Outcome:
    """`train`, with what `stack` holds until it ends: the lock on the run's folder."""
    from nlpcli.models.build import count_parameters
    from nlpcli.models.model_folder import read_info
    from nlpcli.training.schedule import is_rising

    config, model = run.config, cast("AnyModel", trainer.model)

    def begin() -> None:
        if not run.request.resume:
            stack.enter_context(locked_folder(run.folder))
        _begin(run, prepared, model)

    outcome = trainer.fit(resume=run.request.resume, begin=begin)
    if config.training.max_minutes and is_rising(config.training, outcome.progress.step):
        run.listener.note(
            f"warning: training ended at step {outcome.progress.step:,}, before the learning rate reached its peak at "
            f"step {config.training.warmup_steps:,}; train longer, or set a smaller training.warmup_steps"
        )
    if trainer.processes.first:
        facts = CardFacts(
            run.request.command, count_parameters(model), run.machine, prepared.fingerprint, prepared.signatures,
            signature(read_info(run.folder), config.model),
        )  # fmt: skip
        card = card_of(config, run.folder, outcome, facts)
        write_atomic(run.folder / CARD, card)
    trainer.processes.wait()
    return outcome


def _trainer(run: TrainingRun, prepared: PreparedTraining, kind: type[TrainerT]) -> TrainerT:
    """The loop with its model. Raises: NlpcliError for a model that can't be built."""
    from nlpcli.models.performer_feature_redraw import redraws
    from nlpcli.objectives.head_penalty import HeadPenalty
    from nlpcli.runs.model_size_check import check_size
    from nlpcli.training.training_loop_types import Evaluation, ModelToTrain

    config, machine, preparation = run.config, run.machine, prepared.preparation
    whole = config.tuning.mode == "all" and not config.tuning.lora_rank and machine.device.type == "cpu"
    resumed = run.folder if run.request.resume else None
    check_size(config.model, prepared.tokenizer.vocab_size, whole=whole, resumed=resumed)
    model = _built(prepared, config)
    objective = prepared.objective
    if config.training.head_penalty is not None:
        objective = HeadPenalty(objective, config.training.head_penalty)
    trained = _provenance(run, prepared, model)
    sharded = sharded_among(model, config, machine.device)
    redrawing = config.training.redraw_features
    before_step = redraws(model, redrawing) if redrawing else None
    return kind(
        ModelToTrain(
            model, config.model.d_model, preparation.scales(model), preparation.plan(model), before_step, sharded
        ),
        objective,
        config.training,
        Evaluation(
            prepared.evaluate, lambda *best: _keep(run, prepared, trained, *best), lambda: prepared.dev_outputs.samples
        ),
        machine=machine,
        run=run.folder,
        observer=run.listener,
        data=prepared.fingerprint,
    )


def _built(prepared: PreparedTraining, config: RunConfig) -> AnyModel:
    """The model, with activation checkpointing and compilation as in `config`."""
    import torch

    from nlpcli.models.layer_groups import compile_layers
    from nlpcli.training.activation_checkpointing import checkpoint_activations

    torch.manual_seed(config.training.seed)
    model = prepared.build()
    if config.training.compile:
        compile_layers(model)
    if config.training.activation_checkpointing:
        checkpoint_activations(model)
    return model


def _begin(run: TrainingRun, prepared: PreparedTraining, model: AnyModel) -> None:
    """Opens the folder, with the configuration and the tokenizers in it."""
    from nlpcli.models.build import count_parameters
    from nlpcli.models.model_folder import SOURCE_TOKENIZER, save_tokenizer
    from nlpcli.training.optimizer import OPTIMIZERS

    open_run(run.folder, run.request, _as_computed(run.config, run.machine))
    run.listener.opened(run.folder)
    optimizer = OPTIMIZERS[run.config.training.optimizer]
    parameters = counted(count_parameters(model), "parameter")
    run.listener.note(f"model: {parameters}; device: {run.machine.describe()}; optimizer: {optimizer}")
    save_tokenizer(run.folder, prepared.tokenizer)
    if prepared.source_tokenizer is not None:
        save_tokenizer(run.folder, prepared.source_tokenizer, SOURCE_TOKENIZER)


def _as_computed(config: RunConfig, machine: Machine) -> RunConfig:
    """The configuration with the precision that was chosen, which a resumed run keeps."""
    training = config.training.model_copy(update={"precision": machine.precision})
    return config.model_copy(update={"training": training})


def _provenance(run: TrainingRun, prepared: PreparedTraining, model: AnyModel) -> dict[str, Any]:
    """The inputs of the model's signature. The weights that a resumed run started from may be gone by now."""
    from nlpcli.models.build import count_parameters
    from nlpcli.models.model_folder import DESCRIPTION, read_info

    config, init = run.config, None
    if run.request.resume and (run.folder / DESCRIPTION).is_file():
        init = (read_info(run.folder).get("trained") or {}).get("init")
    if init is None and config.init:
        init = weights_digest(Path(config.init))
    return provenance(
        config, data=prepared.fingerprint, parameters=count_parameters(model), precision=run.machine.precision,
        init=init,
    )  # fmt: skip


def _keep(
    run: TrainingRun,
    prepared: PreparedTraining,
    trained: Mapping[str, Any],
    weights: Mapping[str, Any],
    metrics: Mapping[str, float],
    progress: Progress,
) -> None:
    """Puts the best weights so far into the folder, with their metrics and outputs."""
    from nlpcli.models.model_folder import save_model

    info = {
        **prepared.info,
        "step": progress.step,
        "metrics": {name: round(float(value), 6) for name, value in metrics.items()},
        "signatures": dict(prepared.signatures),
        "trained": dict(trained),
    }
    save_model(
        run.folder, weights=weights, config=run.config.model, tokenizer=prepared.tokenizer,
        source_tokenizer=prepared.source_tokenizer, info=info,
    )  # fmt: skip
    write_outputs(run.folder, prepared.dev_outputs, progress.step)


def record_of(run: Path, outcome: Outcome) -> dict[str, Any]:
    """How a run ended, as plain data: seconds, the scores of the best checkpoint, and the best value of each metric."""
    from nlpcli.evaluation import Score
    from nlpcli.models.model_folder import read_info

    signatures = read_info(run).get("signatures") or {}
    scores = [Score(name, value, signatures.get(name, "")) for name, value in outcome.metrics.items()]
    best = [
        Score(name, entry["value"], signatures.get(name, ""), details={"step": entry["step"]})
        for name, entry in outcome.progress.best.items()
    ]
    return {
        "run": str(run),
        "best_checkpoint": outcome.kept,
        "stopped": outcome.reason,
        "steps": outcome.progress.step,
        "tokens": outcome.progress.tokens,
        "seconds": round(outcome.progress.seconds, 2),
        "scores": [score.as_dict() for score in scores],
        "best": [score.as_dict() for score in best],
    }
