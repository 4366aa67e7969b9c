"""Averages of weights: a running one over all steps, and the mean of the last few evaluations'."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from nlpcli.config.files import check_regular, write_atomic
from nlpcli.training.checkpoint import FOLDER, tensors_of


class RunningAverage:
    """w̄ ← d·w̄ + (1 - d)·w after each step, with d = min(decay, (1 + step) / (10 + step)) so that the start fades.

    Only of what takes a gradient when this is made.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.weights = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), list(self.parameters.values()), 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside and its own again afterwards."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self.parameters.items():
            own = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(own)


class Snapshots:
    """The weights at the last `keep` evaluations, on disk, and their mean (Vaswani et al. 2017, section 6.1)."""

    def __init__(self, run: Path, keep: int) -> None:
        self.folder = Path(run) / FOLDER / "average"
        self.keep = keep

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"))

    @property
    def count(self) -> int:
        return len(self.files)

    def add(self, model: nn.Module, step: int) -> None:
        for file in self.files:
            if int(file.stem.removeprefix("step-")) > step:  # of a run that was resumed before them
                file.unlink(missing_ok=True)
        write_atomic(self.folder / f"step-{step:08d}.safetensors", save(tensors_of(model.state_dict())))
        for file in self.files[: -self.keep]:
            file.unlink(missing_ok=True)

    def average(self) -> dict[str, torch.Tensor]:
        files = self.files
        total: dict[str, torch.Tensor] = {}
        for file in files:
            check_regular(file)
            for name, tensor in load_file(file).items():
                total[name] = total[name] + tensor.double() if name in total else tensor.double()
        return {name: (tensor / len(files)).float() for name, tensor in total.items()}
