"""What every training command does around the loop: the configuration, the run directory, the model card."""

from __future__ import annotations

import operator
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nlpcli import presets
from nlpcli.config.counting import counted
from nlpcli.config.files import AlreadyThere, write_atomic, write_new
from nlpcli.config.grid import slug
from nlpcli.config.leftovers import is_free, sweep
from nlpcli.config.loading import apply_overrides, dump_yaml, load_yaml, merge, parse
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError, nearest
from nlpcli.runs.dev_samples import OUTPUTS, Shown, write_outputs
from nlpcli.runs.model_card import CARD, card_of

if TYPE_CHECKING:
    from nlpcli.data.shard_set import ShardSet
    from nlpcli.models.build import AnyModel
    from nlpcli.objectives.objective import Objective
    from nlpcli.text import Tokenizer
    from nlpcli.training.checkpoint import Progress
    from nlpcli.training.device import Machine
    from nlpcli.training.freezing import Plan
    from nlpcli.training.optimizer import Scales
    from nlpcli.training.training_loop import Outcome

CONFIG = "config.yaml"
LIMITS = ("max_steps", "max_epochs", "max_minutes", "max_tokens", "max_flops")
_OF_A_MODEL = ("description", "source", "model", "tokenizer", "head")
"""The sections of a preset that a task takes, which is trained in a way of its own."""
FALLING = ("linear", "cosine", "wsd")
_FREE = {  # what a resumed run may change: nothing that decides what is learnt, and by what it is measured
    "model": {
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "input_dropout",
        "hidden_dropout",
        "embedding_dropout",
        "weight_dropout",
        "activation_regularization",
        "temporal_activation_regularization",
    },
    "tokenizer": set(),
    "data": {"train", "dev", "mixture", "field", "column", "max_length", "subword_sampling", "workers"},
    "noise": set(),
    "examples": {"format", "header", "id"},
    "head": {"dropout", "threshold"},
    "tuning": set(),
}


class Listener(Protocol):
    """Is told what a run does; also the loop's observer."""

    def note(self, text: str) -> None: ...

    def opened(self, run: Path) -> None: ...

    def started(self, progress: Progress, share: float) -> None: ...

    def stepped(self, progress: Progress, share: float, loss: float, lr: float, speed: float) -> None: ...

    def evaluated(self, progress: Progress, metrics: Mapping[str, float], improved: bool) -> None: ...

    def stopped(self, progress: Progress, reason: str) -> None: ...


class Preparation(Protocol):
    """What the loop needs of `nlpcli.runs.model_preparation.ModelPreparation`."""

    def plan(self, model: AnyModel) -> Plan | None:
        """Which weights are trained when."""
        ...

    def scales(self, model: AnyModel) -> Scales | None:
        """What the learning rate of each weight is multiplied with."""
        ...


@dataclass(frozen=True)
class Request:
    """What a user asked a training command for."""

    default: str  # the preset when neither one nor a file is named
    preset: str | None = None
    base: Mapping[str, Any] | None = None  # what a task is trained with: beneath a file, or above a preset's model
    config: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # from options, nested as in RunConfig
    overrides: Iterable[str] = ()  # "a.b=c"
    out: Path | None = None
    tokenizer: Path | None = None
    source_tokenizer: Path | None = None  # of a new source encoder
    resume: bool = False
    overwrite: bool = False
    command: str = ""


def resolve(request: Request, command: str = "finetune") -> RunConfig:
    """Preset, then file, then options, then `--set`; a resumed run begins with its own configuration.

    command: what trains it, which must be what trained a run that is resumed.
    Raises: NlpcliError for what is unknown, contradicts itself, or would make of a resumed run another one.
    """
    if request.config is not None and request.preset is not None:
        raise NlpcliError(
            "a preset and --config can't be used together", hint="write 'extends: PRESET' into the configuration file"
        )
    if request.resume:
        stored = _check_resumable(request) / CONFIG
        data, source = load_yaml(stored), str(stored)
    elif request.config is not None:
        data, source = merge(merge({}, request.base or {}), presets.load(request.config)), str(request.config)
    else:
        data, source = _preset(request)
    base = parse(RunConfig, data, source)
    if request.resume:
        _check_command(request, command, base)
    merge(data, request.settings)
    data = apply_overrides(data, request.overrides)
    if data.get("init") and not request.resume:
        data["model"] = merge(_shape_of(data["init"]), data.get("model") or {})
    config = parse(RunConfig, data, "the configuration")
    _check_device(config.training.device)
    if request.resume:
        check_same_task(base, config)
    else:
        config = _with_source_encoder(config)
    training = config.training
    if training.schedule in FALLING and not any(getattr(training, name) for name in LIMITS):
        raise NlpcliError(
            f"training.schedule '{training.schedule}' needs to know when training ends, but no limit is set",
            hint=f"set one of: {', '.join(f'training.{name}' for name in LIMITS)}",
        )
    return config


def _check_device(name: str) -> None:
    """Raises: NlpcliError for a device that this machine does not have."""
    if name not in ("auto", "cpu"):
        from nlpcli.training.device import choose_device

        choose_device(name)


def check_metric(config: RunConfig, measured: Sequence[str]) -> None:
    """Raises: NlpcliError when the metric that selects the model is not among those that are measured."""
    if config.training.metric not in ("auto", *measured):
        raise NlpcliError(
            f"training.metric '{config.training.metric}' is not measured in this run",
            hint=f"choose one of: {', '.join(measured)}",
        )


def _preset(request: Request) -> tuple[dict[str, Any], str]:
    """What a run is based on when no file says it."""
    if request.base is not None and "init" in request.settings:
        return merge({}, request.base), "the defaults of the task"
    name = request.preset or request.default
    data, source = presets.load(name), f"preset '{name}'"
    if request.base is None:
        return data, source
    kept: dict[str, Any] = {key: data[key] for key in _OF_A_MODEL if key in data}
    return merge(kept, request.base), source


def _shape_of(path: str) -> dict[str, Any]:
    from nlpcli.runs.init_from_model import open_start

    return open_start(str(path)).config.model_dump()


def _with_source_encoder(config: RunConfig) -> RunConfig:
    """The model as `tuning` has it. Raises: NlpcliError when it shall learn in stages and nothing of it comes first."""
    layers = config.tuning.source_layers
    if config.tuning.mode == "stages" and not (layers or config.model.source_encoder_layers):
        raise NlpcliError(
            "tuning.mode 'stages' trains a new source encoder first, but this model has none",
            hint="add one with tuning.source_layers (nlpcli finetune --source-layers), or choose another tuning.mode",
        )
    if not layers:
        return config
    model = {**config.model.model_dump(), "source_layers": layers, "source_vocab_size": None}
    return config.model_copy(update={"model": parse(ModelConfig, model, "the model with a new source encoder")})


def check_one_vocabulary(config: RunConfig, what: str) -> None:
    """Refuses a model that reads sources with a tokenizer of their own for `what`, which has one tokenizer."""
    if config.model.source_encoder_layers:
        raise NlpcliError(
            f"{what} uses one tokenizer, but a new source encoder (source_layers) needs a tokenizer of its own",
            hint="leave out source_layers, or use: nlpcli finetune --task translation",
        )


def check_run_to_resume(out: Path) -> None:
    """Raises: NlpcliError where there is no run."""
    if not out.exists():
        near = nearest(out.name, [path.name for path in out.parent.glob("*") if (path / CONFIG).is_file()])
        hint = f"did you mean '{out.parent / near}'?" if near else "leave out --resume to start a new run"
        raise NlpcliError(f"{out} does not exist, so there is no run to resume", hint=hint)
    if out.is_file():
        raise NlpcliError(f"{out} is a file, not the folder of a run", hint="name a run's folder with --out")
    if is_free(out) and any(out.iterdir()):  # leftovers
        raise NlpcliError(
            f"{out} contains nothing to resume, because the run has not saved anything yet",
            hint="run the same command without --resume",
        )
    if not (out / CONFIG).is_file():
        raise NlpcliError(f"{out} is not the folder of a run ({CONFIG} is missing)", hint=_other_run(out))


def _other_run(folder: Path) -> str:
    """Which run may be meant by a folder that is none: those in it, or the one that it is a part of."""
    seeds = sorted(folder.glob(f"seed-*/{CONFIG}"))
    if seeds:
        place = shlex.quote(str(folder))
        return f"it contains one run for each seed: nlpcli finetune --resume --seeds {len(seeds)} --out {place}"
    below = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    if below:
        return f"name one of the runs in it, such as {below[0]}"
    above = next((path for path in folder.resolve().parents[:2] if (path / CONFIG).is_file()), None)
    return f"name the run with --out: {above}" if above else "name a run's folder with --out"


def _check_command(request: Request, command: str, base: RunConfig) -> None:
    """Raises: NlpcliError for a run that another command resumes."""
    own = "finetune" if base.task else "pretrain"
    if command != own:
        what = f"a fine-tuning run (task {base.task})" if base.task else f"a pretraining run ({base.objective})"
        raise NlpcliError(
            f"{request.out} is {what}, which 'nlpcli {command}' can't resume",
            hint=f"use: nlpcli {own} --resume --out {shlex.quote(str(request.out))}",
        )


def _check_resumable(request: Request) -> Path:
    """The folder of the run. Raises: NlpcliError where there is none to resume, and for options that change it."""
    if request.out is None:
        raise NlpcliError("--resume needs the folder of the run", hint="name it with --out")
    refused = {
        "a preset": request.preset,
        "--config": request.config,
        "--tokenizer": request.tokenizer,
        "--source-tokenizer": request.source_tokenizer,
        "--overwrite": request.overwrite,
    }
    for name, value in refused.items():
        if value:
            raise NlpcliError(
                f"{name} and --resume can't be used together, because a resumed run keeps its configuration",
                hint="leave it out, or change single settings with --set",
            )
    check_run_to_resume(request.out)
    if not has_checkpoint(request.out):
        raise NlpcliError(
            f"{request.out} contains no checkpoint to resume from", hint="start a new run with another --out"
        )
    return request.out


def has_checkpoint(run: Path) -> bool:
    """Whether a run has something to be resumed from."""
    return any((run / "checkpoints").glob("step-[0-9]*"))


def has_changes(request: Request) -> bool:
    """Whether the call has other limits than the run that it resumes."""
    assert request.out is not None  # the folder of the run that is resumed
    own = parse(RunConfig, load_yaml(request.out / CONFIG), str(request.out / CONFIG))
    asked = resolve(request).training
    return any(getattr(asked, name) != getattr(own.training, name) for name in (*LIMITS, "patience"))


def check_same_task(base: RunConfig, config: RunConfig) -> None:
    """Refuses what the weights, the ids, the optimiser's state or the best measures so far were not made for."""
    fixed = [f"{section}.{key}" for section, free in _FREE.items()
             for key in type(getattr(base, section)).model_fields if key not in free]  # fmt: skip
    for name in ("init", "task", "objective", "training.optimizer", *fixed):
        old, new = (operator.attrgetter(name)(settings) for settings in (base, config))
        if old != new:
            if name == "init":
                name, old = "the initial model (--model)", old or "none"
            raise NlpcliError(
                f"{name} of a resumed run can't be changed from {_shown(old)} to {_shown(new)}",
                hint="start a new run with another --out",
            )


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


SCHEDULED_SAMPLING = tuple(f"training.scheduled_sampling{part}" for part in ("", "_batches", "_floor"))
"""The settings that only translation reads."""


def tell_unused(config: RunConfig, keys: Iterable[str], listener: Listener) -> None:
    """Says which of `keys`, which mean nothing to this kind of run, were set all the same."""
    default = RunConfig()
    names = [key.split(".") for key in keys]
    changed = [
        f"{section}.{key}"
        for section, key in names
        if getattr(getattr(config, section), key) != getattr(getattr(default, section), key)
    ]
    if changed:
        listener.note(f"these settings have no effect on this run: {', '.join(changed)}")


def choose_run(request: Request, config: RunConfig, what: str) -> Path:
    """The folder the run will have: `--out`, or one under runs/ that is named after `what` is trained and the model.

    Nothing is written yet, so that a run refused for its data leaves nothing behind.
    Raises: NlpcliError when the folder holds a run and neither resume nor overwrite is asked, or holds something else.
    """
    out = request.out or _next_free(Path("runs"), f"{what}-{model_name(request, config).removeprefix(f'{what}-')}")
    if request.resume:
        return out
    if out.exists() and not out.is_dir():
        raise NlpcliError(f"{out} is a file, not a folder")
    if not is_free(out):
        is_run = (out / CONFIG).exists()
        if not (is_run and request.overwrite):
            if not is_run:
                raise NlpcliError(f"{out} is not empty, and it is not the folder of a run", hint="choose another --out")
            raise NlpcliError(
                f"{out} already contains a run",
                hint="choose another --out, resume the run with --resume, or replace it with --overwrite",
            )
    return out


def model_name(request: Request, config: RunConfig) -> str:
    """What the model of a run is called: after the file of its settings, the model it begins with, or its preset.

    Of a model that is a run of ours the number at the end is left out: `mlm-roberta-nano` for runs/mlm-roberta-nano-1.
    """
    if request.config is not None:
        name = request.config.stem
    elif config.init:
        name = re.sub(r"-\d+$", "", Path(config.init).resolve().name)
    else:
        name = Path(request.preset or request.default).stem
    return slug(name) or "model"


def open_run(run: Path, request: Request, config: RunConfig) -> None:
    """Puts the resolved configuration into the run directory; of a run that is overwritten, the rest goes.

    Raises: NlpcliError when another process has begun a run there since the folder was chosen.
    """
    for folder in (run, run / "checkpoints", run / "checkpoints" / "average"):
        sweep(folder)
    content = dump_yaml(config.model_dump())
    if request.resume or request.overwrite:
        if not request.resume:
            _clear(run)
        write_atomic(run / CONFIG, content)
        return
    try:
        write_new(run / CONFIG, content)
    except AlreadyThere:
        hint = "run the command again; it chooses a new folder" if request.out is None else "choose another --out"
        raise NlpcliError(f"another run has started in the folder {run}", hint=hint) from None


def _next_free(root: Path, stem: str) -> Path:
    number = 1
    while os.path.lexists(root / f"{stem}-{number}"):
        number += 1
    return root / f"{stem}-{number}"


def _clear(run: Path) -> None:
    """Removes what a run consists of, and nothing else.

    The card goes first, so that what is left is not taken for finished; the configuration stays until it is replaced,
    so that the folder is a run's at any moment.
    """
    import shutil

    for name in (CARD, "model.yaml", "model.safetensors", "metrics.jsonl", "samples.jsonl", OUTPUTS):
        (run / name).unlink(missing_ok=True)
    for name in ("checkpoints", "tokenizer", "source-tokenizer", "tensorboard"):
        shutil.rmtree(run / name, ignore_errors=True)


def get_tokenizer(
    request: Request, texts: Callable[[], Iterable[str]], config: RunConfig, run: Path, listener: Listener
) -> Any:
    """The tokenizer that was given, the run's own when it is resumed, or one trained on `texts`."""
    from nlpcli.models.model_folder import TOKENIZER
    from nlpcli.runs.open_tokenizer import open_tokenizer
    from nlpcli.runs.tokenizer_cache import trained_tokenizer
    from nlpcli.text import load_tokenizer

    if request.resume:
        return load_tokenizer(run / TOKENIZER)
    if request.tokenizer is not None:
        return open_tokenizer(Path(request.tokenizer))
    return trained_tokenizer(texts, config.tokenizer, listener.note)


MEASURED = ("loss", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
"""The metrics that `text_metrics` gives."""


def text_metrics(
    losses: Iterable[Any],
    shards: ShardSet,
    tokenizer: Tokenizer,
    signatures: dict[str, str],
    *,
    window: int | None = None,
    stride: int | None = None,
    memory: str = "",
    streams: int = 1,
) -> dict[str, float]:
    """Loss, perplexity per token, word and byte, and bits per byte of the text in `shards`; `signatures` says how.

    losses: the `Loss` parts that together cover the text once; window, stride, memory, streams: how it was cut and what
    was remembered, see `Protocol`.
    """
    from nlpcli.evaluation.perplexity import Protocol, perplexity

    nats, tokens = 0.0, 0
    for loss in losses:
        nats += float(loss.nll)
        tokens += loss.count
    protocol = Protocol(window, stride, f"{tokenizer.kind}-{tokenizer.vocab_size}", memory, streams)
    scores = perplexity(
        nats, tokens=tokens, words=max(1, shards.text_words), bytes=max(1, shards.text_bytes), protocol=protocol
    )
    signatures.update({name: score.signature for name, score in scores.items()})
    return {name: score.value for name, score in scores.items()}


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


def train(
    *,
    request: Request,
    config: RunConfig,
    run: Path,
    task: Objective[Any, Any],
    tokenizer: Tokenizer,
    machine: Machine,
    info: Mapping[str, Any],
    evaluate: Callable[[Any], dict[str, float]],
    measured: Sequence[str],
    signatures: Mapping[str, str],
    listener: Listener,
    data_fingerprint: str,
    build: Callable[[], Any] | None = None,
    preparation: Preparation | None = None,
    source_tokenizer: Tokenizer | None = None,
    shown: Shown | None = None,
) -> Any:
    """Builds the model, trains it, and leaves a model directory with its card in `run`.

    build: makes the model where it is not simply that of the configuration with new weights; preparation: which of its
    weights are trained when, and at which rate (`nlpcli.runs.model_preparation.ModelPreparation`); source_tokenizer:
    of sources that are read with another tokenizer. `measured` are the names of what `evaluate` gives; `signatures`
    says for each how, and may be filled meanwhile, as `shown` is with outputs.
    Raises: NlpcliError when the deciding metric is not among them, for a model that can't be built, and for a
    checkpoint that does not fit it, before anything is written or removed.
    """
    check_metric(config, measured)
    import torch

    from nlpcli.models.build import build_model, count_parameters
    from nlpcli.models.layer_groups import compile_layers
    from nlpcli.models.model_folder import SOURCE_TOKENIZER, save_model, save_tokenizer
    from nlpcli.objectives.head_penalty import HeadPenalty
    from nlpcli.runs.model_size import check_size
    from nlpcli.training.optimizer import OPTIMIZERS
    from nlpcli.training.training_loop import Trainer

    shown = shown or Shown()
    whole = config.tuning.mode == "all" and not config.tuning.lora_rank and machine.device.type == "cpu"
    check_size(config.model, tokenizer.vocab_size, whole=whole, resumed=run if request.resume else None)
    torch.manual_seed(config.training.seed)
    model = build() if build else build_model(config.model, tokenizer.vocab_size)
    if config.training.compile:
        compile_layers(model)

    def begin() -> None:
        open_run(run, request, config)
        listener.opened(run)
        optimizer = OPTIMIZERS[config.training.optimizer]
        parameters = counted(count_parameters(model), "parameter")
        listener.note(f"model: {parameters}; device: {machine.describe()}; optimizer: {optimizer}")
        save_tokenizer(run, tokenizer)
        if source_tokenizer is not None:
            save_tokenizer(run, source_tokenizer, SOURCE_TOKENIZER)

    def keep(weights: Mapping[str, Any], metrics: Mapping[str, float], progress: Progress) -> None:
        save_model(
            run, weights=weights, config=config.model, tokenizer=tokenizer, source_tokenizer=source_tokenizer,
            info={
                **info,
                "step": progress.step,
                "metrics": {name: round(float(value), 6) for name, value in metrics.items()},
                "signatures": dict(signatures),
            },
        )  # fmt: skip
        write_outputs(run, shown, progress.step)

    if config.training.head_penalty is not None:
        task = HeadPenalty(task, config.training.head_penalty)
    trainer = Trainer(
        model=model, task=task, settings=config.training, machine=machine, run=run, evaluate=evaluate, keep=keep,
        observer=listener, d_model=config.model.d_model, data=data_fingerprint,
        scales=None if preparation is None else preparation.scales(model),
        plan=None if preparation is None else preparation.plan(model),
        samples=lambda: shown.samples,
    )  # fmt: skip
    outcome = trainer.fit(resume=request.resume, begin=begin)
    card = card_of(
        request.command, config, run, outcome, count_parameters(model), machine, data_fingerprint, signatures
    )
    write_atomic(run / CARD, card)
    return outcome
