"""The inputs and the result of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from nlpcli.training.checkpoint import Progress
from nlpcli.training.distributed.sharding import ShardedModel
from nlpcli.training.freezing import Plan
from nlpcli.training.optimizer import Scales


@dataclass(frozen=True)
class Outcome:
    """The end of a run: the best value of the model selection metric, its step, and the reason for stopping."""

    progress: Progress
    metrics: dict[str, float]  # of the weights that were kept
    kept: str  # "step N" or "average of the last k evaluations"
    reason: str


@dataclass(frozen=True)
class ModelToTrain:
    """A model, and how its parameters are trained.

    d_model: the width for schedules. scales: a factor of the learning rate for each parameter. plan: the steps in which
    each parameter is trained. before_step: called before each step with the number of finished steps. sharded: the
    model if its weights are divided among several processes.
    """

    model: nn.Module
    d_model: int
    scales: Scales | None = None
    plan: Plan | None = None
    before_step: Callable[[int], None] | None = None
    sharded: ShardedModel | None = None


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a model on the dev set, and the use of its result.

    evaluate(model) gives the metrics, among them the deciding one; keep(weights, metrics, progress) is called with a
    state dict whenever that one improves (without metrics on an interrupt before the first evaluation), and writes what
    the run leaves behind; adapters of low rank are merged into it. samples() gives some outputs of the latest
    evaluation, for a reader.
    """

    evaluate: Callable[[nn.Module], dict[str, float]]
    keep: Callable[[Mapping[str, Any], Mapping[str, float], Progress], None]
    samples: Callable[[], Sequence[Mapping[str, Any]]] = lambda: ()

    def measured_only(self) -> Evaluation:
        """The same, without saved weights and samples."""

        def keep(weights: Mapping[str, Any], metrics: Mapping[str, float], progress: Progress) -> None: ...

        return replace(self, keep=keep, samples=lambda: ())
