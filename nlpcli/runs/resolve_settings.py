"""The configuration of a training run: preset, file and options as one, checked."""

from __future__ import annotations

import operator
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nlpcli import presets
from nlpcli.config.folder_lock import check_unlocked
from nlpcli.config.loading import apply_overrides, load_yaml, merge, parse
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.runs.model_card import CARD
from nlpcli.runs.run_folder import CONFIG, TOKENIZERS, check_run_to_resume, has_checkpoint
from nlpcli.runs.training_request import Listener, Request

LIMITS = ("max_steps", "max_epochs", "max_minutes", "max_tokens", "max_flops")
FALLING = ("linear", "cosine", "wsd")
SCHEDULED_SAMPLING = tuple(f"training.scheduled_sampling{part}" for part in ("", "_batches", "_floor"))
"""The settings that only translation reads."""


_OF_A_MODEL = ("description", "source", "model", "tokenizer", "head")
"""The sections of a preset that a task takes, which is trained in a way of its own."""
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
    "alignment": {"links", "dev_links"},
}


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
    data = _searched(data, None, None)
    base = parse(RunConfig, data, source)
    if request.resume:
        _check_command(request, command, base)
    merge(data, request.settings)
    tokens = (data.get("training") or {}).get("batch_tokens")
    data = _searched(apply_overrides(data, request.overrides), tokens, base if request.resume else None)
    if data.get("init") and not request.resume:
        data["model"] = merge(_shape_of(data["init"]), data.get("model") or {})
    config = parse(RunConfig, data, "the configuration")
    _check_device(config.training.device, config.training.precision)
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


def _searched(data: dict[str, Any], tokens: Any, base: RunConfig | None) -> dict[str, Any]:
    """Takes `batch_tokens: auto` for fit_memory: search with the size before it, `tokens`; None: the default.

    base: of a resumed run, whose size of batches stays.
    """
    training = data.get("training")
    if not isinstance(training, dict):
        return data
    if training.get("batch_tokens") == "auto":
        training = {**training, "batch_tokens": tokens, "fit_memory": "search"}
        if tokens in (None, "auto"):
            del training["batch_tokens"]
    if base is not None and training.get("fit_memory") == "search":
        training = {**training, "batch_tokens": base.training.batch_tokens, "fit_memory": "found"}
    return {**data, "training": training}


def _preset(request: Request) -> tuple[dict[str, Any], str]:
    """The preset of a run without a configuration file."""
    if request.base is not None and "init" in request.settings:
        return merge({}, request.base), "the defaults of the task"
    name = request.preset or request.default
    data, source = presets.load(name), f"preset '{name}'"
    if request.base is None:
        return data, source
    kept: dict[str, Any] = {key: data[key] for key in _OF_A_MODEL if key in data}
    return merge(kept, request.base), source


def _shape_of(path: str) -> dict[str, Any]:
    from nlpcli.runs.init_from_model import open_initial_model

    return open_initial_model(str(path)).config.model_dump()


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


def _check_device(name: str, precision: str) -> None:
    """Raises: NlpcliError for a device that this machine does not have, and for a precision that is not for it."""
    if name not in ("auto", "cpu") or precision == "float16":
        from nlpcli.training.device import check_precision, choose_device

        check_precision(precision, choose_device(name))


def from_the_start(request: Request, command: str = "finetune") -> Request:
    """The request to start a resumed run again, with its configuration, because it has no checkpoint yet.

    Its tokenizer is the one in its folder, unless that is the tokenizer of the model it begins with.
    Raises: NlpcliError as `resolve`.
    """
    run = request.out
    if not request.resume or run is None or not _ended_early(run):
        return request
    stored = _check_resumable(request) / CONFIG
    base = parse(RunConfig, load_yaml(stored), str(stored))
    _check_command(request, command, base)
    check_unlocked(run)
    own = not base.init or base.tuning.new_tokenizer
    tokenizer, source = (run / name if own and (run / name).is_dir() else None for name in TOKENIZERS)
    training = request.settings.get("training") or {}
    settings = dict(request.settings)
    if training.get("fit_memory") == "search":  # was found before, and is in the configuration
        settings["training"] = {name: value for name, value in training.items() if name != "fit_memory"}
    return replace(
        request, preset=None, base=None, config=stored, tokenizer=tokenizer, source_tokenizer=source, resume=False,
        overwrite=True, settings=settings,
    )  # fmt: skip


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
    if not has_checkpoint(request.out) and not _ended_early(request.out):
        raise NlpcliError(
            f"{request.out} contains no checkpoint to resume from", hint="start a new run with another --out"
        )
    return request.out


def _ended_early(run: Path) -> bool:
    """Whether a run ended before its first checkpoint, which is written before any weights."""
    made = any((run / name).exists() for name in (CARD, "model.safetensors"))
    return (run / CONFIG).is_file() and not has_checkpoint(run) and not made


def _check_command(request: Request, command: str, base: RunConfig) -> None:
    """Raises: NlpcliError for a run that another command resumes."""
    own = "finetune" if base.task else "pretrain"
    if command != own:
        what = f"a fine-tuning run (task {base.task})" if base.task else f"a pretraining run ({base.objective})"
        raise NlpcliError(
            f"{request.out} is {what}, which 'nlpcli {command}' can't resume",
            hint=f"use: nlpcli {own} --resume --out {shlex.quote(str(request.out))}",
        )


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
                f"{name} of a resumed run can't be changed from {_yaml_text(old)} to {_yaml_text(new)}",
                hint="start a new run with another --out",
            )


def _yaml_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def has_changes(request: Request) -> bool:
    """Whether the call has other limits than the run that it resumes."""
    assert request.out is not None  # the folder of the run that is resumed
    own = parse(RunConfig, load_yaml(request.out / CONFIG), str(request.out / CONFIG))
    requested = resolve(request).training
    return any(getattr(requested, name) != getattr(own.training, name) for name in (*LIMITS, "patience"))


def check_metric(config: RunConfig, measured: Sequence[str]) -> None:
    """Raises: NlpcliError when the metric that selects the model is not among those that are measured."""
    if config.training.metric not in ("auto", *measured):
        raise NlpcliError(
            f"training.metric '{config.training.metric}' is not measured in this run",
            hint=f"choose one of: {', '.join(measured)}",
        )


def check_one_vocabulary(config: RunConfig, what: str) -> None:
    """Refuses a model that reads sources with a tokenizer of their own for `what`, which has one tokenizer."""
    if config.model.source_encoder_layers:
        raise NlpcliError(
            f"{what} uses one tokenizer, but a new source encoder (source_layers) needs a tokenizer of its own",
            hint="leave out source_layers, or use: nlpcli finetune --task translation",
        )


def warn_unused(config: RunConfig, keys: Iterable[str], listener: Listener) -> None:
    """Reports those of `keys` that were set although they have no effect on this kind of run."""
    default = RunConfig()
    names = [key.split(".") for key in keys]
    changed = [
        f"{section}.{key}"
        for section, key in names
        if getattr(getattr(config, section), key) != getattr(getattr(default, section), key)
    ]
    if changed:
        listener.note(f"these settings have no effect on this run: {', '.join(changed)}")
