"""`pretrain` and `finetune`: what the commands of these names do, as functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.api.arguments import PathLike, assignments, exclusive, given, notify, path, paths, python_names
from nlpcli.api.options import FinetuneOptions, PretrainOptions, takes
from nlpcli.api.results import Progress, Run
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from nlpcli.training.checkpoint import Progress as LoopProgress
    from nlpcli.training.training_loop_types import Outcome


@takes(PretrainOptions)
def pretrain(
    objective: str | None = None,
    *,
    data: PathLike | Iterable[PathLike] | None = None,
    dev: PathLike | Iterable[PathLike] | None = None,
    preset: PathLike | None = None,
    model: PathLike | None = None,
    out: PathLike | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Unpack[PretrainOptions],
) -> Run:
    """Trains a model on raw text with a self-supervised objective, as `nlpcli pretrain` does.

    objective: clm, mlm, nsp, sop, denoise, gap-sentences or plm, or a sum as in `mlm=1+nsp=0.5`; None: clm. data: text
    files, folders or globs; None: the Shakespeare that comes with nlpcli. model: a run or a Hugging Face folder to go
    on from. settings: any setting by its dotted name, as in {"training.lr": 1e-3}. progress: is called after some
    steps and after each evaluation. The other arguments are named and explained as the options of the command.

    Raises: NlpcliError for wrong arguments or data; RunFailed when training diverges; KeyboardInterrupt after it saved.
    """
    exclusive(model=model, preset=preset)
    exclusive(config=options.get("config"), preset=preset)
    arguments = given(
        objective=objective, data=paths(data), dev=paths(dev), preset=_text(preset), model=path(model), out=path(out),
        overrides=assignments(settings) or None, **_as_typed(options),
    )  # fmt: skip
    with python_names():
        from nlpcli.runs.pretraining.pretrain import pretrain as recipe
        from nlpcli.runs.request_from_options import pretraining_request

        request = pretraining_request(arguments, command=_call("pretrain", arguments, settings), notify=notify)
        return _run(*recipe(request, _Listener(progress)))


@takes(FinetuneOptions)
def finetune(
    task: str | None = None,
    *,
    train: PathLike | Iterable[PathLike] | None = None,
    dev: PathLike | Iterable[PathLike] | None = None,
    model: PathLike | None = None,
    preset: PathLike | None = None,
    out: PathLike | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Unpack[FinetuneOptions],
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
    exclusive(mixture=options.get("mixture"), train=train)
    exclusive(resume=options.get("resume"), fresh=options.get("fresh"))
    if preset is not None and Path(preset).is_dir():
        raise NlpcliError(f"{preset} is a folder, not a preset", hint="give the folder as model")
    arguments = given(
        task=task, train=paths(train), dev=paths(dev), model=_text(model if preset is None else preset), out=path(out),
        overrides=assignments(settings) or None, **_as_typed(options),
    )  # fmt: skip
    with python_names():
        from nlpcli.runs.finetuning.finetune import finetune as recipe
        from nlpcli.runs.request_from_options import finetuning_request

        request = finetuning_request(arguments, command=_call("finetune", arguments, settings), notify=notify)
        return _run(*recipe(request, _Listener(progress)))


_FILES = ("config", "tokenizer", "mixture", "align_train", "align_dev")
_LISTS = ("attention", "choices")
_SWITCHES = ("resume", "overwrite", "fresh")


def _as_typed(options: Mapping[str, object]) -> dict[str, Any]:
    """Options as the command line would have them: files as paths, one or several values as a list, switches that are
    off left out."""
    typed: dict[str, Any] = dict(options)
    typed |= {name: path(typed[name]) for name in _FILES if name in typed}
    for name in _LISTS:
        if name in typed:
            value = typed[name]
            typed[name] = ([value] if isinstance(value, str) else list(value or [])) or None
    typed |= {name: typed[name] or None for name in _SWITCHES if name in typed}
    return typed


class _Listener:
    """Hands what a run reports to a callback, and its notes to the log."""

    def __init__(self, progress: Callable[[Progress], None] | None) -> None:
        self._progress = progress
        self._share = 0.0

    def note(self, text: str) -> None:
        notify(text)

    def opened(self, run: Path) -> None:
        notify(f"run: {run}")

    def started(self, progress: LoopProgress, share: float) -> None:
        self._share = share

    def stepped(self, progress: LoopProgress, share: float, loss: float, lr: float, speed: float) -> None:
        self._share = share
        self._report(Progress(progress.step, progress.epoch, share, loss=float(loss), lr=float(lr), speed=float(speed)))

    def evaluated(self, progress: LoopProgress, metrics: Mapping[str, float], improved: bool) -> None:
        self._report(Progress(progress.step, progress.epoch, self._share, metrics=dict(metrics), improved=improved))

    def stopped(self, progress: LoopProgress, reason: str) -> None:
        notify(f"stopped after step {progress.step:,}: {reason}")

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
