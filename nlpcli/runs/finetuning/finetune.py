"""Fine-tuning: from examples of a task to a model that does it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from nlpcli.errors import NlpcliError
from nlpcli.runs.multi_process_run import after_restart
from nlpcli.runs.resolve_settings import check_one_vocabulary, from_the_start, resolve
from nlpcli.runs.run_folder import has_checkpoint
from nlpcli.runs.training_request import Listener, Request
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
"""The default training settings of tasks (Devlin et al. 2019, appendix A.3)."""

SCRATCH_RATE = 5e-4
"""The peak rate for a model that begins with random weights."""

DEFAULT_TASK = "translation"
"""The task when none is named."""


def default_preset(task: str | None, *, sample: bool = False) -> str:
    """The preset of a task when no model is named. sample: for the sample data, which is small."""
    kind = TASKS.load(task or DEFAULT_TASK)
    return (kind.sample_preset if sample else None) or kind.default_preset


def finetune(request: Request, listener: Listener) -> tuple[Path, Any]:
    """Trains a model for a task. Returns: the run directory and the `Outcome`.

    Raises: NlpcliError for wrong settings or data, RunFailed when training diverges, KeyboardInterrupt after it saved.
    """
    request = from_the_start(after_restart(request, has_checkpoint))
    config = resolve(request)
    if config.training.fit_memory == "search":
        from nlpcli.runs.automatic_batch_size import fit_batch

        request = fit_batch(request, config, listener, finetune)
        config = resolve(request)
    task = TASKS.check(config.task or DEFAULT_TASK)
    config = config.model_copy(update={"task": task})
    kind = TASKS.load(task)
    if kind.parallel_text:
        from nlpcli.runs.finetuning.translation_training import translation

        return translation(request, config, listener)
    check_one_vocabulary(config, task)
    if config.data.mixture is not None:
        if not kind.generates:
            raise NlpcliError(
                f"--mixture and --task {config.task} can't be used together",
                hint="leave --task out; the mixture file names its tasks",
            )
        from nlpcli.runs.finetuning.multi_task_training import run_mixture

        return run_mixture(request, config, listener)
    from nlpcli.runs.finetuning.task_training import run_task

    return run_task(request, config, listener)


def defaults(task: str, *, init: str | None) -> dict[str, Any]:
    """The default training settings of a task; init: the folder of the model it begins with, if any."""
    from nlpcli.config.loading import merge
    from nlpcli.runs.init_from_model import open_initial_model

    kind = TASKS.load(task)
    base = merge(merge({}, DEFAULTS), kind.training_defaults)
    base["training"]["lr"] = SCRATCH_RATE if init is None else rate_for(open_initial_model(init).config.d_model)
    if kind.parallel_text:
        del base["training"]["batch_size"], base["data"]["dev_fraction"]
    else:
        base["training"]["metric"] = "auto"
    return base


def use_of(run: Path) -> str:
    """A command that uses the finished model in `run`."""
    from nlpcli.models.model_folder import read_info

    task = read_info(run)["task"]
    use = "nlpcli predict --model {run} --task NAME FILE" if task == "mixture" else TASKS.load(task).use
    return use.format(run=shlex.quote(str(run)))


def rate_for(width: int) -> float:
    """The peak rate for a pretrained model: BERT's 5e-5 at its width of 768, more for narrower ones.

    5e-5 · (768 / width)^1.3: 1.2e-4 at 384, 5e-4 at 128; rule of thumb of our own.
    """
    return float(f"{5e-5 * (768 / width) ** 1.3:.1e}")
