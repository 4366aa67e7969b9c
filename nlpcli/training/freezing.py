"""Freezing of a model's parameters: none, all but the head, gradual unfreezing from the top, or parts at first.

The trained parameters depend on nothing but how far the run is, so that a resumed run trains the same ones. Frozen
parameters have no gradient: they cost no backward pass, the optimizer changes neither them nor its state for them, and
they do not decay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError, unknown
from nlpcli.layers.module_name_patterns import fitting
from nlpcli.models.backbone import FINAL, HEAD
from nlpcli.models.layer_groups import Group, depth_groups
from nlpcli.training.checkpoint import Progress

MODES = ("all", "head", "gradual", "stages")


@dataclass(frozen=True)
class Stage:
    """Part of a model, described in words."""

    name: str
    parameters: frozenset[nn.Parameter]


class Plan:
    """Stages in their order, and which of them a step is in. The last one lasts.

    stage_of(progress): the number of the stage, beyond the last one where there is none left. still: whether what is
    not trained works as it will when the model is used, without dropout. Only parameters that take a gradient when the
    plan is made are ever trained.
    """

    def __init__(
        self, model: nn.Module, stages: Sequence[Stage], stage_of: Callable[[Progress], int], *, still: bool = False
    ) -> None:
        self.model = model
        self.trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.stages = [Stage(stage.name, stage.parameters & frozenset(self.trainable)) for stage in stages]
        for stage in self.stages:
            if not stage.parameters:
                raise NlpcliError(
                    f"{stage.name} can't be trained, because none of its parameters is trainable",
                    hint="set tuning.mode=all",
                )
        self._stage_of = stage_of
        self._still = still
        self._begun: int | None = None

    def begin_step(self, progress: Progress) -> str | None:
        """Prepares the model, which is in training mode, for the step after `progress`.

        Returns: in words what is trained from here on, None where nothing changes.
        """
        number = min(self._stage_of(progress), len(self.stages) - 1)
        stage = self.stages[number]
        message = None
        if number != self._begun:
            self._begun = number
            for parameter in self.trainable:
                parameter.requires_grad_(parameter in stage.parameters)
            count = sum(parameter.numel() for parameter in stage.parameters)
            total = sum(parameter.numel() for parameter in self.model.parameters())
            trained = f"{count:,} of {counted(total, 'parameter')}"
            message = f"training {stage.name} from step {progress.step + 1:,}: {trained}"
        if self._still:
            for part in self.model.children():
                if not any(parameter.requires_grad for parameter in part.parameters()):
                    part.eval()
        return message


def make_plan(
    model: nn.Module, mode: str, *, every: int | None = None, first: Sequence[str] = (), first_steps: int = 0
) -> Plan | None:
    """The plan of a mode; None for "all", where there is nothing to plan.

    head: only what stands on the body, which works without dropout, as fixed features. gradual: the head first, then
    with each epoch, or with every `every` steps, one group more from the top (Howard and Ruder 2018, section 3.3;
    groups: `nlpcli.models.layer_groups.depth_groups`, the last norm and the pooler together with the head). stages: for
    `first_steps` steps only the parameters whose names fit one of the patterns `first`, then all (Lewis et al. 2020,
    section 3.4).

    Raises: NlpcliError for an unknown mode, and one that leaves nothing to train.
    """
    if mode == "all":
        return None
    if mode == "head":
        return Plan(model, [_head(model)], lambda progress: 0, still=True)
    if mode == "gradual":
        return Plan(model, _from_the_top(model), lambda progress: progress.step // every if every else progress.epoch)
    if mode == "stages":
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        fits = set(fitting(names, first, "parameter"))
        named = model.named_parameters(remove_duplicate=False)
        chosen = frozenset(parameter for name, parameter in named if name in fits)
        stages = [Stage("the new parameters", chosen), Stage("all parameters", frozenset(model.parameters()))]
        return Plan(model, stages, lambda progress: int(progress.step >= first_steps))
    raise unknown("tuning mode", mode, MODES)


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Takes parameters whose names fit one of `patterns` out of training for good; matrices that are shared, whole.

    Returns: the names of what is frozen. Raises: NlpcliError for a pattern that fits nothing.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = fitting(parameters, patterns, "parameter")
    for name in names:
        parameters[name].requires_grad_(False)
    return names


def _head(model: nn.Module) -> Stage:
    found = [group for group in depth_groups(model) if group.name == HEAD]
    return Stage("only the head", frozenset(found[0].parameters if found else ()))


def _from_the_top(model: nn.Module) -> list[Stage]:
    """The stages of unfreezing: each with one group more than the one before."""
    groups = _joined(depth_groups(model))
    stages: list[Stage] = []
    chosen: frozenset[nn.Parameter] = frozenset()
    names: list[str] = []
    for group in reversed(groups):
        chosen |= frozenset(group.parameters)
        if any(parameter.requires_grad for parameter in group.parameters):
            names.append(group.name)
            stages.append(Stage(", ".join(names), chosen))
    if stages:
        stages[-1] = Stage("all parameters", chosen)
    return stages


def _joined(groups: Sequence[Group]) -> list[Group]:
    """The groups with `final` in one with the head above it, or with the layer below where there is no head."""
    joined: list[Group] = []
    for group in groups:
        before = joined[-1] if joined else None
        if before is not None and (before.name == FINAL or (group.name == FINAL and group is groups[-1])):
            name = group.name if before.name == FINAL else before.name
            joined[-1] = Group(name, before.parameters + group.parameters)
        else:
            joined.append(group)
    return joined
