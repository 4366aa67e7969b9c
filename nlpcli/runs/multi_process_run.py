"""A run in several processes: the first one prepares it, and the others wait for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nlpcli.errors import NlpcliError
from nlpcli.training.distributed.environment import may_restart, process_count, restarts

if TYPE_CHECKING:
    import torch

    from nlpcli.config.schema import RunConfig
    from nlpcli.models.build import AnyModel
    from nlpcli.runs.training_request import Request
    from nlpcli.training.device import Machine
    from nlpcli.training.distributed.sharding import ShardedModel


def after_restart(request: Request, has_checkpoint: Callable[[Path], bool]) -> Request:
    """The request of a command that torchrun has started again: to resume the run, where it has a checkpoint.

    Raises: NlpcliError for a run without --out that torchrun may restart, because it could not be found again.
    """
    if not may_restart() or request.resume:
        return request
    if request.out is None:
        raise NlpcliError(
            "torchrun restarts this run when a process fails, but the folder of the run is not named",
            hint="name it with --out, or leave out --max-restarts",
        )
    if not restarts():
        return request
    if has_checkpoint(request.out):
        return replace(
            request, resume=True, overwrite=False, preset=None, config=None, tokenizer=None, source_tokenizer=None
        )
    return replace(request, overwrite=True)


def agreed_folder(choose: Callable[[], Path]) -> Path:
    """The folder that the first process chooses.

    The others wait here until it has prepared its data, so that they find the tokenizer and the encoded text in the
    cache. Raises: NlpcliError as `choose`; ProcessLost where the first process has ended.
    """
    if process_count() == 1:
        return choose()
    from nlpcli.training.distributed.processes import processes

    together = processes()
    return choose() if together.first else Path(together.from_first(str))


def prepared_together(folder: Path, machine: Machine, fingerprint: str) -> Machine:
    """Lets the other processes prepare the run in `folder`, and waits for them.

    Returns: the machine with the precision of the first process.
    Raises: NlpcliError when they have other data.
    """
    if process_count() == 1:
        return machine
    from nlpcli.training.distributed.processes import processes

    together = processes()
    if together.first:
        together.from_first(lambda: str(folder))
    precision, reason, data = together.from_first(lambda: [machine.precision, machine.reason, fingerprint])
    if together.sums(float(data != fingerprint))[0]:
        raise NlpcliError(
            "the processes do not read the same training data", hint="give all machines the same files and settings"
        )
    return replace(machine, precision=precision, reason=reason)


def sharded_among(model: AnyModel, config: RunConfig, device: torch.device) -> ShardedModel | None:
    """The model divided among several processes, if training.parallel is set to it.

    Raises: NlpcliError for settings that need whole weights in each process.
    """
    if config.training.parallel != "fsdp" or process_count() == 1:
        return None
    for setting, chosen, usual in (
        ("training.optimizer=muon", config.training.optimizer == "muon", "training.optimizer=adamw"),
        (f"tuning.mode={config.tuning.mode}", config.tuning.mode in ("gradual", "stages"), "tuning.mode=all"),
        ("training.compile=true", config.training.compile, "training.compile=false"),
        ("training.precision=float16", config.training.precision == "float16", "training.precision=bfloat16"),
    ):
        if chosen:
            raise NlpcliError(
                f"training.parallel=fsdp can't be used with {setting}", hint=f"set training.parallel=ddp or {usual}"
            )
    from nlpcli.training.distributed.processes import processes
    from nlpcli.training.distributed.sharding import ShardedModel

    return ShardedModel(model, device, processes())
