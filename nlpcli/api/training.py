"""`pretrain` and `finetune`: what the commands of these names do, as functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.api.arguments import PathLike, assignments, exclusive, given, path, paths, python_names, say
from nlpcli.api.results import Progress, Run
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.training.checkpoint import Progress as LoopProgress
    from nlpcli.training.training_loop import Outcome


def pretrain(
    objective: str | None = None,
    *,
    data: PathLike | Iterable[PathLike] | None = None,
    dev: PathLike | Iterable[PathLike] | None = None,
    preset: PathLike | None = None,
    model: PathLike | None = None,
    config: PathLike | None = None,
    tokenizer: PathLike | None = None,
    out: PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    noise: str | None = None,
    documents: str | None = None,
    field: str | None = None,
    sentences: str | None = None,
    context: int | None = None,
    document_mask: bool | None = None,
    attention: str | Iterable[str] | None = None,
    max_steps: int | None = None,
    max_epochs: float | None = None,
    max_minutes: float | None = None,
    max_tokens: int | None = None,
    batch_tokens: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Trains a model on raw text with a self-supervised objective, as `nlpcli pretrain` does.

    objective: clm, mlm, nsp, sop, denoise, gap-sentences or plm, or a sum as in `mlm=1+nsp=0.5`; None: clm. data: text
    files, folders or globs; None: the Shakespeare that comes with nlpcli. model: a run or a Hugging Face folder to go
    on from. settings: any setting by its dotted name, as in {"training.lr": 1e-3}. progress: is called after some
    steps and after each evaluation. The other arguments are named and explained as the options of the command.

    Raises: NlpcliError for wrong arguments or data; RunFailed when training diverges; KeyboardInterrupt after it saved.
    """
    exclusive(model=model, preset=preset)
    exclusive(config=config, preset=preset)
    options = given(
        attention=[attention] if isinstance(attention, str) else list(attention or []) or None,
        objective=objective, data=paths(data), dev=paths(dev), preset=_text(preset), model=path(model),
        config=path(config), tokenizer=path(tokenizer), out=path(out), resume=resume or None,
        overwrite=overwrite or None, noise=noise, documents=documents, field=field, sentences=sentences,
        context=context, document_mask=document_mask, max_steps=max_steps, max_epochs=max_epochs,
        max_minutes=max_minutes, max_tokens=max_tokens, batch_tokens=batch_tokens, lr=lr, seed=seed, device=device,
        precision=precision, threads=threads, overrides=assignments(settings) or None,
    )  # fmt: skip
    with python_names():
        from nlpcli.runs.pretraining.pretrain import pretrain as recipe
        from nlpcli.runs.training_requests import pretraining_request

        request = pretraining_request(options, command=_call("pretrain", options, settings), say=say)
        return _run(*recipe(request, _Listener(progress)))


def finetune(
    task: str | None = None,
    *,
    train: PathLike | Iterable[PathLike] | None = None,
    dev: PathLike | Iterable[PathLike] | None = None,
    model: PathLike | None = None,
    preset: PathLike | None = None,
    config: PathLike | None = None,
    tokenizer: PathLike | None = None,
    out: PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    text: str | None = None,
    text2: str | None = None,
    label: str | None = None,
    choices: Iterable[str] | None = None,
    format: str | None = None,
    header: str | None = None,
    objective: str | None = None,
    prefix: str | None = None,
    mixture: PathLike | None = None,
    source_layers: int | None = None,
    source_tokenizer: PathLike | None = None,
    tune: str | None = None,
    lora: int | None = None,
    layer_decay: float | None = None,
    fresh: bool = False,
    batch_size: int | None = None,
    patience: int | None = None,
    attention: str | Iterable[str] | None = None,
    max_steps: int | None = None,
    max_epochs: float | None = None,
    max_minutes: float | None = None,
    max_tokens: int | None = None,
    batch_tokens: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Trains a model for a task on examples, as `nlpcli finetune` does.

    task: classify, multi-label, regress, choice, tag, span, similarity, text-to-text or translation; None:
    translation. train, dev: files of examples, for translation (source, target); without them the sample of the task
    that comes with nlpcli. model: what it begins with, a run or a Hugging Face folder; preset: a preset or a YAML file,
    with random weights. settings, progress: as in `pretrain`. The other arguments are named and explained as the
    options of the command.

    Raises: NlpcliError for wrong arguments or data; RunFailed when training diverges; KeyboardInterrupt after it saved.
    """
    exclusive(model=model, preset=preset)
    exclusive(mixture=mixture, train=train)
    exclusive(resume=resume, fresh=fresh)
    if preset is not None and Path(preset).is_dir():
        raise NlpcliError(f"{preset} is a folder, not a preset", hint="give the folder as model")
    options = given(
        attention=[attention] if isinstance(attention, str) else list(attention or []) or None,
        task=task, train=paths(train), dev=paths(dev), model=_text(model if preset is None else preset),
        config=path(config), tokenizer=path(tokenizer), out=path(out), resume=resume or None,
        overwrite=overwrite or None, text=text, text2=text2, label=label, choices=list(choices or []) or None,
        format=format, header=header, objective=objective, prefix=prefix, mixture=path(mixture),
        source_layers=source_layers, source_tokenizer=path(source_tokenizer), tune=tune, lora=lora,
        layer_decay=layer_decay, fresh=fresh or None, batch_size=batch_size, patience=patience, max_steps=max_steps,
        max_epochs=max_epochs, max_minutes=max_minutes, max_tokens=max_tokens, batch_tokens=batch_tokens, lr=lr,
        seed=seed, device=device, precision=precision, threads=threads, overrides=assignments(settings) or None,
    )  # fmt: skip
    with python_names():
        from nlpcli.runs.finetuning.finetune import finetune as recipe
        from nlpcli.runs.training_requests import finetuning_request

        request = finetuning_request(options, command=_call("finetune", options, settings), say=say)
        return _run(*recipe(request, _Listener(progress)))


class _Listener:
    """Hands what a run reports to a callback, and its notes to the log."""

    def __init__(self, progress: Callable[[Progress], None] | None) -> None:
        self._progress = progress
        self._share = 0.0

    def note(self, text: str) -> None:
        say(text)

    def opened(self, run: Path) -> None:
        say(f"run: {run}")

    def started(self, progress: LoopProgress, share: float) -> None:
        self._share = share

    def stepped(self, progress: LoopProgress, share: float, loss: float, lr: float, speed: float) -> None:
        self._share = share
        self._report(Progress(progress.step, progress.epoch, share, loss=float(loss), lr=float(lr), speed=float(speed)))

    def evaluated(self, progress: LoopProgress, metrics: Mapping[str, float], improved: bool) -> None:
        self._report(Progress(progress.step, progress.epoch, self._share, metrics=dict(metrics), improved=improved))

    def stopped(self, progress: LoopProgress, reason: str) -> None:
        say(f"stopped after step {progress.step:,}: {reason}")

    def _report(self, progress: Progress) -> None:
        if self._progress is not None:
            self._progress(progress)


def _run(path: Path, outcome: Outcome) -> Run:
    progress = outcome.progress
    best = {name: entry["value"] for name, entry in progress.best.items()}
    return Run(
        path=Path(path), best_checkpoint=outcome.kept, stopped=outcome.reason, steps=progress.step,
        tokens=progress.tokens, seconds=round(progress.seconds, 2), metrics=outcome.metrics, best=best,
    )  # fmt: skip


def _text(value: PathLike | None) -> str | None:
    return None if value is None else str(Path(value)) if not isinstance(value, str) else value


def _call(name: str, options: Mapping[str, Any], settings: Mapping[str, object] | None) -> str:
    """The call as it can be typed again."""
    shown = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    shown.pop("overrides", None)
    shown |= given(settings=dict(settings) if settings else None)
    return f"nlpcli.{name}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
