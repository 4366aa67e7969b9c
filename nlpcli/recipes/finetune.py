"""Fine-tuning: from examples of a task to a model that does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlpcli.errors import NlpcliError
from nlpcli.recipes.run import Listener, Request, check_one_vocabulary, resolve
from nlpcli.tasks import TASKS

DEFAULTS = {
    "data": {"max_length": 128, "dev_fraction": 0.1},
    "training": {
        "max_epochs": 3.0,
        "batch_size": 32,
        "schedule": "linear",
        "warmup_steps": 0,
        "warmup_fraction": 0.1,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
    },
}
"""What tasks are trained with unless said otherwise (Devlin et al. 2019, appendix A.3)."""

LEARNING_RATES = {"init": 5e-5, "scratch": 5e-4}
"""Peak rates for a model that was trained before, and for one that begins with random weights."""

_OF_TASK: dict[str, dict[str, Any]] = {
    "span": {"data": {"max_length": 384}},
    "translation": {"data": {"dev_fraction": 0.05}},  # nothing is held out of two files: as if it were unsaid
    "text-to-text": {"data": {"max_length": 512}, "training": {"label_smoothing": 0.1}},
}


def finetune(request: Request, listener: Listener) -> tuple[Path, Any]:
    """Trains a model for a task. Returns: the run directory and the `Outcome`.

    Raises: NlpcliError for wrong settings or data, RunFailed when training diverges, KeyboardInterrupt after it saved.
    """
    config = resolve(request)
    config = config.model_copy(update={"task": config.task or "translation"})
    TASKS.check(config.task)
    if config.task == "translation":
        from nlpcli.recipes.finetuning.translation import translation

        return translation(request, config, listener)
    check_one_vocabulary(config, config.task)
    if config.data.mixture is not None:
        if config.task != "text-to-text":
            raise NlpcliError(
                f"a mixture is not learnt with --task {config.task}",
                hint="leave --task out; the file of the mixture says what each of its tasks is",
            )
        from nlpcli.recipes.finetuning.mixture import run_mixture

        return run_mixture(request, config, listener)
    from nlpcli.recipes.finetuning.supervised import run_task

    return run_task(request, config, listener)


def defaults(task: str, *, scratch: bool) -> dict[str, Any]:
    """What a task is trained with unless said otherwise; scratch: for a model that begins with random weights."""
    from nlpcli.config.loading import merge

    base = merge(merge({}, DEFAULTS), _OF_TASK.get(task, {}))
    base["training"]["lr"] = LEARNING_RATES["scratch" if scratch else "init"]
    if task == "translation":
        del base["training"]["batch_size"], base["data"]["dev_fraction"]
    else:
        base["training"]["metric"] = "auto"
    return base
