"""One body under the heads of several tasks, which are learnt at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from nlpcli.models.backbone import Backbone
from nlpcli.models.model_with_head import WithHead


class WithHeads(nn.Module):
    """Hard parameter sharing (Caruana 1997): all weights but those of the heads belong to all tasks.

    heads: the settings of `WithHead` of each task that has a head, by its name.
    """

    def __init__(self, body: Backbone, heads: Mapping[str, Mapping[str, Any]], *, width: int) -> None:
        super().__init__()
        self.body = body
        self.tasks = nn.ModuleDict({name: WithHead(body, width=width, **head) for name, head in heads.items()})

    def task_heads(self) -> Mapping[str, WithHead]:
        """See `Backbone.task_heads`."""
        return {f"tasks.{name}.": cast("WithHead", part) for name, part in self.tasks.items()}

    def of(self, task: str) -> nn.Module:
        """The body with the task's head; the body alone for a task without one."""
        if task not in self.tasks:
            return self.body
        return self.tasks[task]
