"""A run's state on disk, from which it is resumed: weights, optimizer, random states, data position.

Tensors are safetensors, the rest is YAML. A checkpoint folder is written aside and renamed, so it is whole or absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from nlpcli.config.files import new_directory, plain_name, sha256_file, write_atomic
from nlpcli.config.loading import Strict, dump_yaml, load_yaml, parse
from nlpcli.errors import NlpcliError, RunFailed
from nlpcli.models.model_folder import Shape, load_weights, stored_shapes, unshared
from nlpcli.training.optimizer import OptimizerGroup, memories
from nlpcli.training.random_state import random_state, set_random_state

FOLDER = "checkpoints"
_NEEDED = ("model", "optimizer", "random")


@dataclass
class LogWindow:
    """The values for the next line of the log, so that a resumed run writes the same line as an uninterrupted one.

    loss: sum over `count` predictions. grad_norm, lr: of the last step. sums: further measures, [sum, divisor].
    """

    loss: float = 0.0
    count: int = 0
    grad_norm: float = 0.0
    lr: float = 0.0
    sums: dict[str, list[int | float]] = field(default_factory=dict)


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0
    epoch: int = 0
    position: int = 0  # entries of the epoch's plan already used
    tokens: int = 0
    seconds: float = 0.0
    flops: float = 0.0  # floating-point operations of all steps, estimated from those counted
    flops_per_token: float = 0.0  # of the first step, and of the first in which other parameters learn
    learning: int = 0  # parameters that learned then, of a run that trains them by a plan
    best: dict[str, dict[str, int | float]] = field(default_factory=dict)  # metric -> {"value", "step"}
    kept: dict[str, int | float] = field(default_factory=dict)  # all metrics of the weights that were kept
    stale: int = 0  # evaluations since the deciding metric improved
    evaluated: int = -1  # step of the last evaluation
    averaged_from: int = 0  # the first step whose weights are in the average of the optimizer asgd; 0: not known yet
    history: list[float] = field(default_factory=list)  # the deciding metric of all evaluations, of the same optimizer
    data: str = ""  # fingerprint of what was trained on
    skipped: int = 0  # steps without a change of the weights, because the loss or the gradient was not finite
    skipped_in_a_row: int = 0
    loss_scale: float = 0.0  # of training in float16, and the steps since it was changed; 0: none
    loss_scale_steps: int = 0
    parts: int = 1  # in which the rows of each batch are computed, because memory does not hold them together
    window: LogWindow = field(default_factory=LogWindow)


def tensors_of(weights: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Detached copies on the CPU, shared matrices once."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in unshared(weights).items()}


def save_checkpoint(
    run: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | OptimizerGroup,
    progress: Progress,
    average: Mapping[str, torch.Tensor] | None,
    carry: Sequence[torch.Tensor] | None,
    keep: int,
) -> Path:
    """Writes `checkpoints/step-N`, then removes later ones, of a course the run has left, and all but `keep` in all.

    carry: what a model with memory hands from the last batch to the next.

    Later ones are there when the newest was damaged and the run was resumed from the one before it.
    """
    path = run / FOLDER / _name(progress.step)
    parts = {"model": tensors_of(model.state_dict()), "optimizer": _optimizer_tensors(optimizer)}
    parts["random"] = random_state(_device_of(model))
    if average is not None:
        parts["average"] = tensors_of(average)
    if carry is not None:
        parts["carry"] = {str(i): tensor.detach().cpu().contiguous() for i, tensor in enumerate(carry)}
    with new_directory(path, replace=True) as folder:
        digests = {}
        for name, tensors in parts.items():
            content = save(tensors)
            digests[name] = hashlib.sha256(content).hexdigest()
            _write_verified(folder / f"{name}.safetensors", content, digests[name])
        write_atomic(folder / "state.yaml", dump_yaml({"progress": asdict(progress), "sha256": digests}))
    for other in newer_checkpoints(run, progress.step):
        shutil.rmtree(other, ignore_errors=True)
    remove_older(run, progress.step, keep)
    return path


def remove_older(run: Path, step: int, keep: int) -> None:
    """Removes the checkpoints up to a step but for the last `keep` of them.

    Done after a checkpoint is written, and when a run is resumed: it may have been killed in between.
    """
    older = [path for path in checkpoints(run) if path.name <= _name(step)]
    for other in older[:-keep]:
        shutil.rmtree(other, ignore_errors=True)


def _write_verified(file: Path, content: bytes, digest: str) -> None:
    """Writes a file and reads it again from the disk. Raises: RunFailed when it is not what was written."""
    with open(file, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
        if hasattr(os, "posix_fadvise"):  # what is read next comes from the disk, not from memory
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if sha256_file(file) != digest:
        raise RunFailed(
            f"{file.parent.parent}: the new checkpoint can't be read again as it was written, so the one before stays",
            hint="check the disk, then resume the run",
        )


def _name(step: int) -> str:
    return f"step-{step:08d}"


def checkpoints(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted((Path(run) / FOLDER).glob("step-[0-9]*"))


def newer_checkpoints(run: Path, step: int) -> list[Path]:
    """The checkpoints of later steps, which `load_checkpoint` passed over because they are damaged."""
    return [path for path in checkpoints(run) if path.name > _name(step)]


def load_checkpoint(
    run: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | OptimizerGroup,
    average: dict[str, torch.Tensor] | None,
) -> tuple[Progress, list[torch.Tensor] | None]:
    """Puts the newest whole checkpoint of `run` into the model, the optimiser and the random states.

    Returns: how far the run is, and the carry. Raises: NlpcliError when there is none, or it does not fit the model.
    """
    found = checkpoints(run)
    for path in reversed(found):
        state = _state(path)
        parts = None if state is None else _read(path, state)
        if state is None or parts is None:
            continue
        load_weights(model, parts["model"], str(path))
        device = _device_of(model)
        try:
            _load_rest(parts, device, optimizer, average)
            return state.progress, _carry(parts, device)
        except (KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
            raise NlpcliError(
                f"{path}: the checkpoint does not fit this run ({' '.join(str(error).split())})",
                hint="remove it to resume from the checkpoint before it, or start a new run with another --out",
            ) from None
    what = "all checkpoints are damaged" if found else "the run has no checkpoint to resume from"
    raise NlpcliError(f"{run}: {what}", hint="start a new run with another --out")


def _load_rest(
    parts: Mapping[str, Mapping[str, torch.Tensor]],
    device: torch.device,
    optimizer: torch.optim.Optimizer | OptimizerGroup,
    average: dict[str, torch.Tensor] | None,
) -> None:
    """Everything but the weights. Raises: whatever torch and dictionaries raise for tensors of another run."""
    _load_optimizer(optimizer, parts["optimizer"])
    set_random_state(device, parts["random"])
    if average is not None:  # one that was requested only now begins with the weights of now
        saved = parts.get("average", parts["model"])
        for name, tensor in average.items():
            tensor.copy_(saved[name])


def _carry(parts: Mapping[str, Mapping[str, torch.Tensor]], device: torch.device) -> list[torch.Tensor] | None:
    if "carry" not in parts:
        return None
    return [parts["carry"][str(i)].to(device) for i in range(len(parts["carry"]))]


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


class _State(Strict):
    """The contents of `state.yaml`: how far the run was, and the digest of each file of tensors beside it."""

    model_config = ConfigDict(allow_inf_nan=True)  # the perplexity of a bad model is

    progress: Progress
    sha256: dict[str, str]

    @model_validator(mode="after")
    def _is_possible(self) -> _State:
        progress = self.progress
        counts = (
            progress.step, progress.epoch, progress.position, progress.tokens, progress.stale, progress.learning,
            progress.averaged_from,
        )  # fmt: skip
        if min(counts) < 0 or not all(0 <= x < math.inf for x in (progress.seconds, progress.flops)):
            raise ValueError("its progress is not valid")
        if progress.parts < 1 or progress.loss_scale_steps < 0 or not 0 <= progress.loss_scale < math.inf:
            raise ValueError("its number of parts or its loss scale is not valid")
        if not all(entry.keys() == {"value", "step"} for entry in progress.best.values()):
            raise ValueError("the step of a best value is missing")
        if not set(_NEEDED) <= self.sha256.keys() <= {*_NEEDED, "average", "carry"}:
            raise ValueError("it names files that no checkpoint has")
        return self


def _state(path: Path) -> _State | None:
    """The description of a checkpoint, None when it is damaged or is that of another step."""
    try:
        state = parse(_State, load_yaml(path / "state.yaml"), str(path / "state.yaml"))
    except NlpcliError:
        return None
    return state if path.name == _name(state.progress.step) else None


def _read(path: Path, state: _State) -> dict[str, dict[str, torch.Tensor]] | None:
    """The tensors of a checkpoint, or None when a digest does not agree."""
    try:
        files = {name: path / plain_name(f"{name}.safetensors", str(path)) for name in state.sha256}
        if any(sha256_file(files[name]) != digest for name, digest in state.sha256.items()):
            return None
        return {name: load_file(file) for name, file in files.items()}
    except (OSError, NlpcliError, SafetensorError):
        return None


def stored_model(run: Path) -> tuple[Path, dict[str, Shape]] | None:
    """The newest checkpoint's file of weights that can be read, and the shapes in it."""
    for path in reversed(checkpoints(run)):
        with contextlib.suppress(NlpcliError):
            return path / "model.safetensors", stored_shapes(path / "model.safetensors")
    return None


def _optimizer_tensors(optimizer: torch.optim.Optimizer | OptimizerGroup) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value.detach().cpu().contiguous()
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }


def _load_optimizer(optimizer: torch.optim.Optimizer | OptimizerGroup, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises: ValueError for tensors that are not the optimizer's, which its kernels would take for such."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    remembered = memories(optimizer)
    for number, values in state.items():
        if not 0 <= number < len(remembered):
            raise ValueError(f"the optimizer has no parameter {number}")
        shapes = {name: tensor.shape for name, tensor in values.items() if tensor.is_floating_point()}
        if shapes != remembered[number]:
            raise ValueError(f"the optimizer's state of parameter {number} has other names, shapes or types")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
