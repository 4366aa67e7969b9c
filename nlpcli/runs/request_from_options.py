"""From the options of a training command, by name, to a `Request`: what is taken where an option is not given.

The command line and the Python API share it. `given` are the parameters of `nlpcli pretrain` or `nlpcli finetune` by
name; what is None, or not there, was not given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nlpcli import presets
from nlpcli.config.loading import apply_overrides
from nlpcli.config.multi_task import MIXTURE_TASK
from nlpcli.config.number_parsing import parse_int
from nlpcli.errors import NlpcliError
from nlpcli.runs.finetuning.finetune import DEFAULT_TASK, default_preset, defaults
from nlpcli.runs.resolve_settings import LIMITS
from nlpcli.runs.training_request import Request
from nlpcli.tasks import TASKS

Notify = Callable[[str], None]

_LIMITS = ("max_steps", "max_epochs", "max_minutes", "max_tokens")
AUTO = "auto"
"""The size of batches that is to be found."""
_LOOP = (*_LIMITS, "batch_tokens", "lr", "seed", "device", "precision", "threads")


# --- pretraining -------------------------------------------------------------------------------------------------


def pretraining_request(given: Mapping[str, Any], *, command: str, notify: Notify) -> Request:
    """The request of `nlpcli pretrain`. command: the call, as the model card shows it; `notify` reports the defaults.

    Raises: NlpcliError for an unknown objective or preset.
    """
    from nlpcli.runs.pretraining import DEFAULT_OBJECTIVE
    from nlpcli.runs.pretraining import default_preset as preset_for
    from nlpcli.runs.pretraining.pretrain import without_model

    model, config, resume = given.get("model"), given.get("config"), bool(given.get("resume"))
    preset, data, documents = given.get("preset"), given.get("data"), given.get("documents")
    chosen, noise = _objective(given.get("objective"), given.get("noise"), notify)
    if not resume:
        chosen = chosen or _base_settings(given, None).get("objective")
        chosen = chosen or (_objective_of("noise.kinds") if noise else None)
    if not resume and config is None and preset is None:
        if chosen is None:
            chosen = DEFAULT_OBJECTIVE
            notify(f"objective: {chosen} (the default)")
        preset = preset_for(chosen, noise, given.get("overrides") or ())
        notify(f"{'preset' if model is None else 'training settings of the preset'}: {preset} (the default)")
    if not resume and not data:
        data, documents = _sample_text(documents, chosen, _base_settings(given, config or preset), notify)
    base = None
    if model is not None and not resume and config is None:
        assert preset is not None  # as chosen above
        base = without_model(preset)
    return _request(
        given,
        command=command,
        default=preset_for(DEFAULT_OBJECTIVE),
        preset=preset if model is None else None,
        base=base,
        init=None if model is None else str(model),
        objective=chosen,
        data__train=data,
        data__dev=given.get("dev"),
        data__documents=documents,
        data__field=given.get("field"),
        data__sentences=given.get("sentences"),
        data__context=given.get("context"),
        data__document_mask=given.get("document_mask"),
        noise__kinds=noise,
        model__attention=list(given.get("attention") or []),
    )


def _sample_text(
    documents: str | None, objective: str | None, settings: Mapping[str, Any], notify: Notify
) -> tuple[list[str] | None, str | None]:
    """The sample and how documents stand in it, where `settings` name no text; their settings of documents are kept."""
    from nlpcli.data.sample_data import sample_file
    from nlpcli.runs.pretraining import DEFAULT_OBJECTIVE, spec_of

    if _chosen_in(settings, "train"):
        return None, documents
    data = str(sample_file("tinyshakespeare.txt.gz"))
    usual = spec_of(objective or settings.get("objective") or DEFAULT_OBJECTIVE).sample_documents
    documents = documents or _chosen_in(settings, "documents")
    notify(f"data: {data} (the sample data of nlpcli), data.documents: {documents or usual}")
    return [data], documents or usual


def _objective_of(setting: str) -> str:
    """The objective to which an option for this setting belongs."""
    from nlpcli.runs.pretraining import OBJECTIVES

    return next(name for name in OBJECTIVES if setting in OBJECTIVES.load(name).options)


def _objective(objective: str | None, noise: str | None, notify: Notify) -> tuple[str | None, str | None]:
    """The objective of this name or synonym, and the noise that goes with it where none was given."""
    from nlpcli.runs.pretraining import OBJECTIVES, parse, synonyms

    if objective is None:
        return None, noise
    meant = None if objective in OBJECTIVES else synonyms().get(objective.lower())
    if meant is None:
        parse(objective)
        return objective, noise
    found, usual = meant
    noise = noise or usual
    notify(f"objective: {found} ({objective})" + (f", noise: {noise}" if usual else ""))
    return found, noise


# --- fine-tuning -------------------------------------------------------------------------------------------------


def finetuning_request(given: Mapping[str, Any], *, command: str, notify: Notify) -> Request:
    """The request of `nlpcli finetune`. command: the call, as the model card shows it; `notify` reports the defaults.

    Raises: NlpcliError for an unknown task or preset, and for a task without a sample when no data are named.
    """
    resume, config, mixture = bool(given.get("resume")), given.get("config"), given.get("mixture")
    train, dev = given.get("train"), given.get("dev")
    chosen = _task(given.get("task"), notify)
    if not resume:
        chosen = chosen or _base_settings(given, None).get("task")
    if not resume and config is None and chosen is None:
        chosen = MIXTURE_TASK if mixture else DEFAULT_TASK
        notify(f"task: {chosen} (the default)")
    named = bool(resume or train or mixture)
    start = _Start(chosen, given.get("model"), config, resume)
    if not named and not _chosen_in(_base_settings(given, start.base), "train"):
        start = replace(start, sample=True)
    _report_model(start, notify)
    if start.sample:
        train, held_out = _sample_examples(chosen or _base_settings(given, start.base).get("task") or DEFAULT_TASK)
        dev = dev or held_out
        notify(f"data: {' and '.join(train)} (the sample data of nlpcli)")
    return _task_request(
        given,
        start,
        command=command,
        task=chosen,
        data__train=list(train or []),
        data__dev=list(dev or []),
        data__mixture=None if mixture is None else str(mixture),
        training__metric="mean" if mixture and not resume else None,
    )


def suite_request(given: Mapping[str, Any], task: str, *, command: str) -> Request:
    """The request of `nlpcli finetune --suite` for one task of the suite, without its data."""
    return _task_request(given, _Start(task, given.get("model"), given.get("config"), resume=False), command=command)


def report_suite_model(given: Mapping[str, Any], notify: Notify) -> None:
    """Reports which preset a suite begins with, where no model was named."""
    _report_model(_Start("classify", given.get("model"), given.get("config"), resume=False), notify)


@dataclass(frozen=True)
class _Start:
    """The start of a run of `nlpcli finetune`: a folder, a preset, a file, or the default of the task."""

    task: str | None
    model: str | None
    config: Path | None
    resume: bool
    sample: bool = False  # it is trained on the sample data

    @property
    def init(self) -> str | None:
        """The folder of a model that was trained before."""
        return self.model if self.model is not None and Path(self.model).is_dir() else None

    @property
    def preset(self) -> str | None:
        return None if self.init is not None else self.model

    @property
    def default(self) -> str | None:
        """The preset when nothing was named."""
        if self.resume or self.config is not None or self.model is not None:
            return None
        return default_preset(self.task, sample=self.sample)

    @property
    def base(self) -> str | Path | None:
        return self.config or self.preset or self.default

    def defaults(self) -> dict[str, Any] | None:
        """The training settings of the task, which a file may change; none for a resumed run and for presets that
        are made for translation."""
        file = {} if self.config is None else presets.load(self.config)
        task = self.task or file.get("task")
        init = self.init or file.get("init")
        if self.resume or task is None or (init is None and TASKS.load(task).parallel_text):
            return None
        return defaults(task, init=init)


def _report_model(start: _Start, notify: Notify) -> None:
    """Reports which preset is taken where none was named."""
    if start.default is not None:
        random = "" if TASKS.load(start.task or DEFAULT_TASK).parallel_text else ", with random weights"
        notify(f"model: {start.default} (the default{random})")


def _task_request(given: Mapping[str, Any], start: _Start, *, command: str, **more: Any) -> Request:
    return _request(
        given,
        command=command,
        default=start.default or "",
        preset=start.preset,
        base=start.defaults(),
        init=start.init,
        examples__text=given.get("text"),
        examples__text2=given.get("text2"),
        examples__label=given.get("label"),
        examples__choices=list(given.get("choices") or []),
        examples__format=given.get("format"),
        examples__header=given.get("header"),
        model__attention=list(given.get("attention") or []),
        head__objective=given.get("objective"),
        head__prefix=given.get("prefix"),
        tuning__mode=given.get("tune"),
        tuning__fresh=given.get("fresh") or None,
        tuning__lora_rank=given.get("lora"),
        tuning__source_layers=given.get("source_layers"),
        tuning__layer_decay=given.get("layer_decay"),
        alignment__links=None if given.get("align_train") is None else str(given["align_train"]),
        alignment__dev_links=None if given.get("align_dev") is None else str(given["align_dev"]),
        training__batch_size=given.get("batch_size"),
        training__patience=given.get("patience"),
        **more,
    )


def _task(task: str | None, notify: Notify) -> str | None:
    """The task of this name or synonym. Raises: NlpcliError for an unknown one."""
    found = None if task is None else TASKS.check(task)
    if found != task:
        notify(f"task: {found} ({task})")
    return found


def _sample_examples(task: str | None) -> tuple[list[str], list[str]]:
    """Sample data for a task: training files and dev files."""
    from nlpcli.data.sample_data import sample_file

    sample = TASKS.load(str(task)).sample_data
    if sample is None:
        raise NlpcliError(f"the task {task} needs training and dev examples", hint="name them: --train FILE --dev FILE")
    return [str(sample_file(name)) for name in sample.train], [str(sample_file(name)) for name in sample.dev]


# --- both --------------------------------------------------------------------------------------------------------


def _request(
    given: Mapping[str, Any],
    *,
    command: str,
    default: str,
    preset: str | None,
    base: Mapping[str, Any] | None,
    **values: Any,
) -> Request:
    """The user's request: `values`, and those of `given` that all training shares."""
    loop = {name: given.get(name) for name in _LOOP}
    loop |= _batch_tokens(loop["batch_tokens"])
    chosen = _settings(**values, **{f"training__{name}": value for name, value in loop.items()})
    if any(given.get(name) is not None for name in _LIMITS):  # a requested limit replaces all there were
        chosen["training"] |= {name: given.get(name) for name in LIMITS}
    return Request(
        default=default,
        preset=preset,
        base=base,
        config=given.get("config"),
        settings=chosen,
        overrides=given.get("overrides") or (),
        out=given.get("out"),
        tokenizer=given.get("tokenizer"),
        source_tokenizer=given.get("source_tokenizer"),
        resume=bool(given.get("resume")),
        overwrite=bool(given.get("overwrite")),
        command=command,
    )


def _batch_tokens(value: int | str | None) -> dict[str, Any]:
    """The settings for `--batch-tokens`. Raises: NlpcliError for what is neither a number of at least 1 nor `auto`."""
    if value == AUTO:
        return {"batch_tokens": None, "fit_memory": "search"}
    number = parse_int(value) if isinstance(value, str) else value
    if value is not None and (number is None or number < 1):
        raise NlpcliError(
            f"--batch-tokens must be a number of at least 1 or '{AUTO}', not '{value}'", hint="such as: 4096"
        )
    return {"batch_tokens": number}


def _settings(**values: Any) -> dict[str, Any]:
    """The options that were given, nested as in the configuration: training__lr=1 becomes {"training": {"lr": 1}}."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if value is None or value == []:
            continue
        section, _, name = key.rpartition("__")
        (result.setdefault(section, {}) if section else result)[name] = value
    return result


def _base_settings(given: Mapping[str, Any], base: str | Path | None) -> dict[str, Any]:
    """The settings of `base`, a preset or a file, with those of --set laid over them, nested as in a run's."""
    return apply_overrides(presets.load(base) if base is not None else {}, given.get("overrides") or ())


def _chosen_in(settings: Mapping[str, Any], key: str) -> Any:
    """The value of data.KEY in `settings`, None where it is not set."""
    data = settings.get("data")
    return data.get(key) if isinstance(data, dict) else None
