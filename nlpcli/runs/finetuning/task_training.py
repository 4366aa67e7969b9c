"""Fine-tuning for any task that reads labelled examples: one way for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.config.schema import RunConfig, TrainingConfig
from nlpcli.config.task_settings import ALIGNMENT_SETTINGS, ExamplesConfig, HeadConfig, TuningConfig
from nlpcli.data.progress import followed
from nlpcli.errors import NlpcliError
from nlpcli.runs.decoding_settings import tuned_info
from nlpcli.runs.dev_samples import DevOutputs
from nlpcli.runs.finetuning.example_reading import (
    Cuts,
    read_labelled,
    unknown_labels,
    warn_blank_texts,
    warn_shared_examples,
    warn_similar_labels,
    warn_unknown_labels,
)
from nlpcli.runs.finetuning.task_samples import task_outputs, task_samples
from nlpcli.runs.init_from_model import body_config, info_of, open_initial_model
from nlpcli.runs.model_preparation import ModelPreparation
from nlpcli.runs.resolve_settings import SCHEDULED_SAMPLING, check_metric, warn_unused
from nlpcli.runs.run_folder import choose_run
from nlpcli.runs.train import PreparedTraining, TrainingRun, train
from nlpcli.runs.training_request import Listener, Request
from nlpcli.runs.training_tokenizer import tokenizer_of
from nlpcli.tasks import TASKS

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nlpcli.data.examples import Columns
    from nlpcli.evaluation import Resampling, Score
    from nlpcli.tasks.supervised_objective import SupervisedObjective
    from nlpcli.tasks.task import Context, Task
    from nlpcli.tasks.text_to_text import TextToText
    from nlpcli.training.training_loop_types import Outcome

UNUSED = ("data.documents", "data.field", "data.column", "data.context", "data.eval_stride", "data.sentences",
           "data.format", "data.document_mask", "data.subword_sampling", *SCHEDULED_SAMPLING,
           *ALIGNMENT_SETTINGS)  # fmt: skip


class Scoring(Protocol):
    """The metrics of predictions, where they are not a task's usual ones: their names, the one for selection first."""

    names: tuple[str, ...]

    def __call__(
        self, task: Task, examples: Sequence[Any], predictions: Sequence[Any], resampling: Resampling | None = None
    ) -> dict[str, Score]: ...


@dataclass(frozen=True)
class Examples:
    """Examples that were already read. dev: () if a part of `train` becomes the dev set."""

    train: Sequence[Any]
    dev: Sequence[Any] = ()
    scoring: Scoring | None = None


def run_task(
    request: Request, config: RunConfig, listener: Listener, given: Examples | None = None
) -> tuple[Path, Outcome]:
    """Trains a model for the task of `config`. Returns: the run directory and the `Outcome`.

    given: the examples, where they are not to be read from the files that `config` names.

    Raises: NlpcliError for wrong settings or data, before anything is written.
    """
    from nlpcli.layers.vocabulary_loss import LossSettings
    from nlpcli.tasks.task import Context
    from nlpcli.training.device import prepare

    assert config.task is not None  # `finetune` runs no other configuration here
    kind = TASKS.load(config.task)
    check_kind(kind, config)
    _warn_unread_settings(config, kind, listener)
    if given is None:
        check_metric(config, ("loss", *kind.possible_measures))
    folder = choose_run(request, config, config.task)
    given = given or Examples(*read_examples(kind, config, columns_of(config.examples), listener))
    examples, dev = held_out(given, config)
    machine = prepare(config.training.device, config.training.precision, config.training.threads)
    start = open_initial_model(config.init) if config.init and not request.resume else None
    known = start.info if start else info_of(folder)
    tokenizer = tokenizer_of(request, config, start, folder, lambda: texts_of(kind, examples), listener)
    body = body_config(config.model)
    preparation = ModelPreparation(config, start, tokenizer, listener, roles=not kind.generates)
    cuts = Cuts()
    context = Context(preparation.tokenizer, body, known, max_length_of(config), cuts, LossSettings.of(config.training))
    task = _checked_task(kind, config, context, examples, dev, sampled=not given.dev, warn=warner(listener))
    objective = _objective(task, examples, config)
    for note in task.notes:
        listener.note(note)
    listener.note(
        f"{counted(len(examples), 'training example')}, {counted(len(dev), 'dev example')}" + _labels_note(task)
    )
    measured = Measured(task, dev, machine.device, config=config.training, scoring=given.scoring)
    if not task.generates:  # whose cut texts are among the notes
        cuts.report(listener.note)
    names = given.scoring.names if given.scoring else task.measures_on(dev)
    config = with_metric(config.model_copy(update={"model": body}), names[0])
    outcome = train(
        TrainingRun(request, config, folder, machine, listener),
        PreparedTraining(
            objective, preparation.tokenizer, lambda: preparation.build(body, task), preparation,
            info=_info(task, context, config), evaluate=measured, measured=("loss", *names),
            signatures=measured.signatures, dev_outputs=measured.dev_outputs, fingerprint=fingerprint(examples),
        ),
    )  # fmt: skip
    return folder, outcome


def _checked_task(
    kind: type[Task],
    config: RunConfig,
    context: Context,
    examples: list[Any],
    dev: list[Any],
    *,
    sampled: bool,
    warn: Callable[[str], None],
) -> Any:
    """The task that `examples` make; problems in them and in the dev set go to `warn`."""
    options = {name: getattr(config.head, name) for name in kind.options}
    task = _task_of(lambda some: kind.create(some, context, **options), examples, dev, sampled=sampled, warn=warn)
    warn_similar_labels(task, warn)
    warn_blank_texts(dev, warn)
    warn_shared_examples(dev, examples, warn)
    return task


def _objective(task: Task, examples: list[Any], config: RunConfig) -> SupervisedObjective:
    """The training examples, encoded, in batches; balanced by their labels where that is configured."""
    from nlpcli.tasks.supervised_objective import SupervisedObjective

    items = task.encode(examples)
    prepare_generation(task, config)
    classes = [e.label for e, group in zip(examples, items, strict=True) for _ in group]
    return SupervisedObjective(
        task,
        [item for group in items for item in group],
        batch_size=config.training.batch_size,
        batch_tokens=config.training.batch_tokens,
        seed=config.training.seed,
        classes=classes if config.tuning.balance else None,
        like_length=config.training.batching == "length",
    )


def _info(task: Task, context: Context, config: RunConfig) -> dict[str, Any]:
    """For model.yaml: what the model does, and how its texts are read."""
    info = {**tuned_info(context.info, config.decoding, task), "task": task.name, "problem": task.describe(),
            "columns": config.examples.model_dump(), "max_length": context.max_length}  # fmt: skip
    if task.head():
        info["head"] = task.head()
    elif task.generates:
        info["decoding"] = config.decoding.model_dump()
    return info


def with_metric(config: RunConfig, deciding: str) -> RunConfig:
    """`config` with `deciding` as the metric that decides, where none was chosen."""
    if config.training.metric != "auto":
        return config
    return config.model_copy(update={"training": config.training.model_copy(update={"metric": deciding})})


def check_kind(kind: type[Task], config: RunConfig) -> None:
    """Raises: NlpcliError when the task can't stand on this kind of model."""
    model = config.model
    if model.kind not in kind.kinds:
        raise NlpcliError(
            f"the task {kind.name} needs a model of kind {' or '.join(kind.kinds)}, not {model.kind}",
            hint="choose another model with --model",
        )


def columns_of(examples: ExamplesConfig) -> Any:
    from nlpcli.data.examples import Columns

    return Columns(**{**examples.model_dump(), "choices": tuple(examples.choices)})


def read_examples(
    kind: type[Task], config: RunConfig, columns: Columns, listener: Listener
) -> tuple[list[Any], list[Any]]:
    """The training examples and those of the dev files, if any.

    Training questions whose answers are not in their contexts are left out, which is reported to the listener.

    Raises: NlpcliError with file and line, and when there are none.
    """
    if not config.data.train:
        raise NlpcliError(f"the task {config.task} needs training examples", hint="use --train FILE --dev FILE")
    examples, dev = (
        [example for path in paths for example in read_labelled(kind, path, columns, listener.note, learnt=learnt)]
        for paths, learnt in ((config.data.train, True), (config.data.dev, False))
    )
    if config.data.dev and not dev:
        raise NlpcliError(f"{', '.join(config.data.dev)}: the dev set contains no examples")
    return examples, dev


def held_out(given: Examples, config: RunConfig) -> tuple[list[Any], list[Any]]:
    """The training examples and the dev examples, which are sampled from the former if there are no dev files.

    Raises: NlpcliError when there are none.
    """
    examples = list(given.train)
    if not examples:
        raise NlpcliError(f"{', '.join(config.data.train)}: the training data contains no examples")
    if given.dev:
        return examples, list(given.dev)
    held = max(1, round(len(examples) * config.data.dev_fraction))
    if held >= len(examples):
        raise NlpcliError(
            f"{counted(len(examples), 'example')} can't be split into a training and a dev set",
            hint="name a dev set with --dev",
        )
    order = np.random.default_rng(len(examples)).permutation(len(examples))
    chosen = set(order[:held].tolist())
    return (
        [e for i, e in enumerate(examples) if i not in chosen],
        [e for i, e in enumerate(examples) if i in chosen],
    )


def warner(listener: Listener) -> Callable[[str], None]:
    """A function that passes warnings to a listener."""
    return lambda text: listener.note(f"warning: {text}")


def _task_of(
    create: Callable[[Sequence[Any]], Any],
    examples: list[Any],
    dev: list[Any],
    *,
    sampled: bool,
    warn: Callable[[str], None],
) -> Any:
    """The task that `examples` make; `warn` reports labels that only the dev set has.

    sampled: whether the dev examples were sampled from the examples.

    Raises: NlpcliError for errors in the data, and where they lack something only without the sampled ones.
    """
    try:
        task = create(examples)
        warn_unknown_labels(task, dev, warn, shown=1)
        return task
    except NlpcliError as error:
        if not sampled:
            raise
        create([*examples, *dev])  # what is wrong with all of them is reported first
        raise NlpcliError(
            f"{error.message} after {len(dev):,} of {counted(len(examples) + len(dev), 'example')} "
            f"{'was' if len(dev) == 1 else 'were'} randomly chosen as the dev set",
            hint="add more examples, or name a dev set with --dev",
        ) from None


class Measured:
    """A model's loss and scores on the dev set; `dev_outputs` contains its predictions.

    The loss is that of examples with a label of the task.
    """

    def __init__(
        self,
        task: Task,
        examples: Sequence[Any],
        device: torch.device,
        *,
        config: TrainingConfig,
        scoring: Scoring | None = None,
    ) -> None:
        self.task = task
        self.scoring = scoring
        self.examples = examples
        self.items = task.encode(examples)
        unknown = unknown_labels(task, examples)  # which have no loss
        self.learnable = [item for group, no in zip(self.items, unknown, strict=True) if no is None for item in group]
        self.device = device
        self.batch_tokens = config.batch_tokens
        self.signatures: dict[str, str] = {}
        self.dev_outputs = DevOutputs(config.samples)
        self.data = fingerprint(examples)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        from nlpcli.tasks.supervised_objective import batches_of, predict_items

        flat = [item for group in self.items for item in group]
        nats, count = 0.0, 0
        batches = batches_of(self.learnable, max_tokens=self.batch_tokens)
        for batch in followed(batches, "computing the loss", len(batches)):
            loss = self.task.loss(model, self.task.collate([self.learnable[i] for i in batch]).to(self.device))
            nats, count = nats + float(loss.nll), count + loss.count
        outputs = iter(predict_items(self.task, model, flat, self.device, batch_tokens=self.batch_tokens))
        predictions = [
            self.task.prediction(example, group, [next(outputs) for _ in group])
            for example, group in zip(self.examples, self.items, strict=True)
        ]
        if self.scoring is None:
            scores = self.task.scores(self.examples, predictions)
        else:
            scores = self.scoring(self.task, self.examples, predictions)
        self.signatures.update({name: score.signature for name, score in scores.items()})
        samples = task_samples(self.task, self.examples, predictions, self.dev_outputs.chosen(len(predictions)))
        self.dev_outputs.fill(samples, *task_outputs(self.task, self.examples, predictions), self.data)
        return {"loss": nats / max(count, 1), **{name: score.value for name, score in scores.items()}}


def fingerprint(examples: Iterable[Any]) -> str:
    """A digest of what is trained on."""
    import hashlib

    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr((example.texts, example.label)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _labels_note(task: Task) -> str:
    from nlpcli.data.label_text import join_labels

    labels = task.labels
    if not labels:
        return ""
    shown = join_labels(labels[:8], ", ") + (", …" if len(labels) > 8 else "")
    return f"; {counted(len(labels), 'label')}: {shown}"


def max_length_of(config: RunConfig) -> int:
    """The most tokens of a sequence that the model can read and the settings allow."""
    model = config.model
    return min(config.data.max_length, model.position_limit or config.data.max_length)


def texts_of(kind: Task | type[Task], examples: Iterable[Any]) -> Iterator[str]:
    """The texts that a tokenizer for a task, or its class, is trained on."""
    for example in examples:
        yield from kind.vocabulary_texts(example)


def _warn_unread_settings(config: RunConfig, kind: type[Task], listener: Listener) -> None:
    unread = [f"head.{name}" for name in HeadConfig.model_fields if name not in kind.options]
    unread += [f"examples.{name}" for name in ("text", "text2", "label", "choices") if name not in kind.columns]
    if not kind.generates:
        from nlpcli.layers.vocabulary_loss import LossSettings

        unread += [f"training.{setting.name}" for setting in fields(LossSettings)]
    warn_unused(config, (*UNUSED, *unread, *without_effect(config.tuning)), listener)


def without_effect(tuning: TuningConfig) -> list[str]:
    """The settings of `tuning` that mean nothing beside the others."""
    unread = [] if tuning.lora_rank else ["lora_alpha", "lora_dropout", "lora_targets"]
    if tuning.mode != "gradual":
        unread.append("unfreeze_steps")
    if tuning.mode != "stages":
        unread.append("stage_steps")
    if tuning.mode == "head":
        unread += ["layer_decay", "freeze_embeddings"]
    return [f"tuning.{name}" for name in unread]


def prepare_generation(task: Task, config: RunConfig) -> None:
    """Gives a task that writes text what it writes with."""
    if task.generates:
        from nlpcli.runs.finetuning.task_generator import BeamGenerator

        writer = cast("TextToText", task)  # as of all tasks that generate
        writer.generator = BeamGenerator(
            config.decoding, writer, beam_size=config.training.bleu_beam_size,
            generation=tuned_info(writer.context.info, config.decoding, writer).get("generation"),
        )  # fmt: skip
