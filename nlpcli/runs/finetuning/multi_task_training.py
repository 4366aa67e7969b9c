"""Fine-tuning for several tasks at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.counting import counted
from nlpcli.config.multi_task import TEXT_SETTINGS, MixedTask, MixtureConfig, load_mixture
from nlpcli.config.schema import RunConfig
from nlpcli.config.task_settings import ExamplesConfig, HeadConfig
from nlpcli.errors import NlpcliError, unknown
from nlpcli.runs.decoding_settings import tuned_info
from nlpcli.runs.dev_samples import DevOutputs, digest
from nlpcli.runs.finetuning.example_reading import (
    Cuts,
    read_labelled,
    warn_blank_texts,
    warn_shared_examples,
    warn_similar_labels,
    warn_unknown_labels,
)
from nlpcli.runs.finetuning.task_training import (
    UNUSED,
    Measured,
    check_kind,
    columns_of,
    fingerprint,
    max_length_of,
    prepare_generation,
    texts_of,
    with_metric,
)
from nlpcli.runs.init_from_model import body_config, info_of, open_initial_model
from nlpcli.runs.model_preparation import ModelPreparation
from nlpcli.runs.resolve_settings import warn_unused
from nlpcli.runs.run_folder import choose_run
from nlpcli.runs.train import PreparedTraining, TrainingRun, train
from nlpcli.runs.training_request import Listener, Request
from nlpcli.runs.training_tokenizer import tokenizer_of
from nlpcli.tasks import TASKS

if TYPE_CHECKING:
    from torch import nn

    from nlpcli.tasks.task import Context, Task

MEAN = "mean"
"""The mean of all tasks' deciding metrics."""

_UNUSED = (
    *UNUSED, "data.train", "data.dev", "tuning.balance",
    *(f"head.{name}" for name in HeadConfig.model_fields),
    *(f"examples.{name}" for name in ExamplesConfig.model_fields),
)  # fmt: skip


def run_mixture(request: Request, config: RunConfig, listener: Listener) -> tuple[Path, Any]:
    """Trains one model for the tasks in the file `config.data.mixture`. Returns: the run directory and the `Outcome`.

    Raises: NlpcliError for wrong settings or data of one of them, before anything is written.
    """
    from nlpcli.layers.vocabulary_loss import LossSettings
    from nlpcli.tasks.task import Context
    from nlpcli.training.device import prepare

    assert config.data.mixture is not None  # `finetune` runs no other configuration here
    mixture = load_mixture(config.data.mixture)
    kinds = [kind_of(f"{config.data.mixture}: tasks.{name}", part) for name, part in mixture.tasks.items()]
    for kind in kinds:
        check_kind(kind, config)
    warn_unused(config, _UNUSED, listener)
    folder = choose_run(request, config, "mixture")
    sets = {name: _Examples(name, settings, listener.note) for name, settings in mixture.tasks.items()}
    machine = prepare(config.training.device, config.training.precision, config.training.threads)
    start = open_initial_model(config.init) if config.init and not request.resume else None
    known = start.info if start else info_of(folder)
    tokenizer = tokenizer_of(
        request, config, start, folder, lambda: chain.from_iterable(e.texts() for e in sets.values()), listener
    )
    body = body_config(config.model)
    preparation = ModelPreparation(config, start, tokenizer, listener, roles=not all(kind.generates for kind in kinds))
    cuts = Cuts()
    context = Context(preparation.tokenizer, body, known, max_length_of(config), cuts, LossSettings.of(config.training))
    tasks = {name: examples.task(context, config) for name, examples in sets.items()}
    objective = _mixed(sets, tasks, mixture, config, listener)
    measured = MeasuredMixture(
        {name: Measured(task, sets[name].dev, machine.device, config=config.training)
         for name, task in tasks.items()}
    )  # fmt: skip
    cuts.report(listener.note)
    all_tasks = _AllTasks(tasks)
    config = with_metric(config.model_copy(update={"model": body}), MEAN)
    outcome = train(
        TrainingRun(request, config, folder, machine, listener),
        PreparedTraining(
            objective, preparation.tokenizer, lambda: preparation.build(body, all_tasks), preparation,
            info=all_tasks.info(context, config, sets), evaluate=measured, measured=measured.names(),
            signatures=measured.signatures, dev_outputs=measured.dev_outputs,
            fingerprint=fingerprint(chain.from_iterable(e.train for e in sets.values())),
        ),
    )  # fmt: skip
    return folder, outcome


def kind_of(place: str, settings: MixedTask) -> Any:
    """The class of one of several tasks. Raises: NlpcliError, naming the place, for a task or a setting of another."""
    try:
        kind = TASKS.load(settings.task)
    except NlpcliError as error:
        raise NlpcliError(f"{place}: {error.message}", hint=error.hint) from None
    if not kind.mixes:
        raise NlpcliError(
            f"{place}: the task {settings.task} can't be trained together with others",
            hint=f"train it alone with: nlpcli finetune --task {settings.task}",
        )
    if kind.generates and "head" in settings.model_fields_set:
        raise NlpcliError(
            f"{place}: the task {settings.task} has no section 'head'", hint="write its settings next to 'train'"
        )
    named = [name for name in TEXT_SETTINGS if name in settings.model_fields_set]
    if named and not kind.generates:
        raise NlpcliError(
            f"{place}: '{named[0]}' is a setting of tasks that generate text, but this task is '{settings.task}'",
            hint=f"leave out '{named[0]}'",
        )
    return kind


def _mixed(
    sets: Mapping[str, _Examples],
    tasks: Mapping[str, Any],
    mixture: MixtureConfig,
    config: RunConfig,
    listener: Listener,
) -> Any:
    """All training examples, sampled with the rates of the mixture."""
    from nlpcli.tasks.multi_task import Mixture, mixing_rates

    parts = [sets[name].part(task) for name, task in tasks.items()]
    rates = mixing_rates([len(examples.train) for examples in sets.values()], mixture.temperature, mixture.limit)
    for part, rate in zip(parts, rates, strict=True):
        own = sets[part.name]
        listener.note(
            f"{part.name}: {counted(len(own.train), 'training example')}, {counted(len(own.dev), 'dev example')}, "
            f"sampled at a rate of {rate:.1%}"
        )
        for note in part.task.notes:
            listener.note(f"{part.name}: {note}")
    training = config.training
    return Mixture(
        parts, rates, batch_size=training.batch_size, batch_tokens=training.batch_tokens, seed=training.seed,
        like_length=training.batching == "length",
    )  # fmt: skip


class _Examples:
    """One task's examples, and how it is made of them."""

    def __init__(self, name: str, settings: MixedTask, notify: Callable[[str], None]) -> None:
        self.name = name
        self.settings = settings
        self.kind = TASKS.load(settings.task)
        self.columns = ExamplesConfig(**{key: getattr(settings, key) for key in ExamplesConfig.model_fields})
        self.warn = lambda text: notify(f"warning: {name}: {text}")
        self.train = self._read(settings.train, notify, learnt=True)
        self.dev = self._read(settings.dev, notify, learnt=False)

    def _read(self, paths: Sequence[str], notify: Callable[[str], None], *, learnt: bool) -> list[Any]:
        columns = columns_of(self.columns)
        found = [
            example for path in paths for example in read_labelled(self.kind, path, columns, notify, learnt=learnt)
        ]
        if not found:
            raise NlpcliError(f"{', '.join(paths)}: the data contains no examples for the task '{self.name}'")
        return found

    def texts(self) -> Any:
        return texts_of(self.kind, self.train)

    def task(self, context: Context, config: RunConfig) -> Any:
        own = self.settings if self.kind.generates else self.settings.head
        options = {name: getattr(own, name) for name in self.kind.options if hasattr(own, name)}
        task = self.kind.create(self.train, context, **options)
        warn_unknown_labels(task, self.dev, self.warn, shown=1)
        warn_similar_labels(task, self.warn)
        warn_blank_texts(self.dev, self.warn)
        warn_shared_examples(self.dev, self.train, self.warn)
        prepare_generation(task, config)
        return task

    def part(self, task: Task) -> Any:
        from nlpcli.tasks.multi_task import Part

        items = [item for group in task.encode(self.train) for item in group]
        return Part(self.name, task, items, self.settings.weight)


class _AllTasks:
    """All tasks as one, to build a model for and to describe it."""

    def __init__(self, tasks: Mapping[str, Any]) -> None:
        self.tasks = tasks
        self.heads = {name: task.head() for name, task in tasks.items() if task.head()}

    def head(self) -> dict[str, Any]:
        return {"heads": self.heads} if self.heads else {}

    def describe(self) -> dict[str, Any]:
        return {name: {"task": task.name, "problem": task.describe()} for name, task in self.tasks.items()}

    def info(self, context: Context, config: RunConfig, sets: Mapping[str, _Examples]) -> dict[str, Any]:
        """For model.yaml. Without heads it is a text-to-text model, which takes sources with their prefixes, too."""
        parts = {
            name: {**described, "columns": sets[name].columns.model_dump()}
            for name, described in self.describe().items()
        }
        longest = max(self.tasks.values(), key=lambda task: task.wording.max_target if task.generates else 0)
        known = tuned_info(context.info, config.decoding, longest)
        info = {**known, "max_length": context.max_length, "parts": parts}
        if any(task.generates for task in self.tasks.values()):
            info["decoding"] = config.decoding.model_dump()
        if self.heads:
            return {**info, "task": "mixture", "problem": {}, "head": self.head()}
        most = max(task.wording.max_target for task in self.tasks.values())
        return {**info, "task": next(iter(self.tasks.values())).name, "problem": {"max_target": most}}


class MeasuredMixture:
    """Each task's metrics under `<task>_<metric>`, the mean of the deciding ones, and the mean of the losses."""

    def __init__(self, tasks: Mapping[str, Measured]) -> None:
        self.tasks = dict(tasks)
        self.signatures: dict[str, str] = {}
        self.dev_outputs = DevOutputs()

    def names(self) -> tuple[str, ...]:
        return (
            "loss",
            MEAN,
            *(f"{name}_{metric}" for name, own in self.tasks.items() for metric in own.task.measures_on(own.examples)),
            *(f"{name}_loss" for name in self.tasks),
        )

    def __call__(self, model: nn.Module) -> dict[str, float]:
        from nlpcli.tasks.multi_task import model_for

        found: dict[str, float] = {}
        deciding = []
        for name, own in self.tasks.items():
            values = own(model_for(model, name))
            found |= {f"{name}_{metric}": value for metric, value in values.items()}
            self.signatures.update({f"{name}_{metric}": text for metric, text in own.signatures.items()})
            deciding.append(values[own.task.measures_on(own.examples)[0]])
        self._show()
        losses = [found[f"{name}_loss"] for name in self.tasks]
        return {"loss": sum(losses) / len(losses), MEAN: sum(deciding) / len(deciding), **found}

    def _show(self) -> None:
        """The dev samples and outputs of all tasks, each item with its task as its part."""
        samples: list[dict[str, Any]] = []
        outputs: list[dict[str, Any]] = []
        measures: dict[str, dict[str, Any]] = {}
        for name, own in self.tasks.items():
            samples += [{"part": name, **sample} for sample in own.dev_outputs.samples]
            outputs += [{"part": name, **output} for output in own.dev_outputs.outputs]
            measures |= {f"{name}_{metric}": {**how, "part": name} for metric, how in own.dev_outputs.measures.items()}
        self.dev_outputs.fill(samples, outputs, measures, digest(own.data for own in self.tasks.values()))


def choose_part(info: Mapping[str, Any], model: nn.Module, name: str | None) -> tuple[dict[str, Any], Any]:
    """As `part_of`, and the part of the model for that task; all of it for None.

    Raises: NlpcliError as `part_of`.
    """
    from nlpcli.tasks.multi_task import model_for

    return part_of(info, name), model if name is None else model_for(model, name)


def part_of(info: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """The contents that model.yaml would have for the task `name` alone; all of it for None.

    Raises: NlpcliError for a name that the model doesn't have, and when one of several heads has to be chosen.
    """
    parts = info.get("parts") or {}
    if name is None:
        if info["task"] == "mixture":
            raise NlpcliError(
                "this model was trained on several tasks, so one must be chosen",
                hint=f"use --task {' or '.join(parts)}",
            )
        return dict(info)
    if not parts:
        raise NlpcliError(
            f"this model was trained on one task only, so --task {name} has no effect", hint="leave out --task"
        )
    if name not in parts:
        raise unknown("task of this model", name, parts)
    return {**info, **parts[name]}
