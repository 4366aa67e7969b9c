"""The file with the tasks of multi-task training."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from nlpcli.config.loading import Strict, load_yaml, parse
from nlpcli.config.number_parsing import parse_float
from nlpcli.config.task_settings import ExamplesConfig, HeadConfig

_NAME = re.compile(r"[A-Za-z0-9_-]+")
TEXT_SETTINGS = ("prefix", "max_target", "measure", "no_repeat_ngram")
"""The settings of tasks that generate text, which stand beside their files; those of other tasks stand in `head`."""
MIXTURE_TASK = "text-to-text"
"""The task of a mixture, and of a task in it, when none is named."""


class MixedTask(ExamplesConfig):
    """One of several tasks. Columns, prefix, measure and the settings of a head mean what they mean of a task alone."""

    task: str = MIXTURE_TASK
    train: list[str] = Field(min_length=1)
    dev: list[str] = Field(min_length=1)
    prefix: str = ""
    max_target: Annotated[int, Field(ge=1)] = 128
    measure: Literal["auto", "rouge", "bleu", "accuracy", "exact-match"] = "auto"
    no_repeat_ngram: Annotated[int, Field(ge=0)] = 0
    weight: Annotated[float, Field(gt=0)] = 1.0
    head: HeadConfig = HeadConfig()

    @field_validator("train", "dev", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("text", "text2", "label", "id", mode="before")
    @classmethod
    def _by_number(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class MixtureConfig(Strict):
    """Several tasks, and how often each is sampled (Raffel et al. 2020, section 3.5.2).

    mixing: proportional to the number of examples, where at most `limit` count; temperature:T, where those numbers are
    raised to 1/T; or equal.
    """

    mixing: str = "proportional"
    limit: Annotated[int, Field(ge=1)] | None = None
    tasks: dict[str, MixedTask] = Field(min_length=1)

    @field_validator("tasks")
    @classmethod
    def _names(cls, tasks: dict[str, MixedTask]) -> dict[str, MixedTask]:
        for name in tasks:
            if not _NAME.fullmatch(name):
                raise ValueError(f"'{name}' can't be the name of a task; use letters, digits, '-' and '_'")
        return tasks

    @field_validator("mixing")
    @classmethod
    def _mixing(cls, mixing: str) -> str:
        if not _temperature(mixing) > 0:
            raise ValueError("choose proportional, equal or temperature:T, such as temperature:2")
        return mixing

    @property
    def temperature(self) -> float:
        """T: 1 for proportional, infinite for equal mixing."""
        return _temperature(self.mixing)

    @property
    def files(self) -> list[str]:
        """All that is read."""
        return [path for task in self.tasks.values() for path in (*task.train, *task.dev)]


def _temperature(mixing: str) -> float:
    """T, or 0 for anything that is not mixing."""
    kind, colon, number = mixing.partition(":")
    if not colon:
        return {"proportional": 1.0, "equal": math.inf}.get(kind, 0.0)
    return parse_float(number) or 0.0 if kind == "temperature" else 0.0


def load_mixture(path: Path | str) -> MixtureConfig:
    """The tasks in a YAML file; the files named there are found as from the working directory.

    Raises: NlpcliError for what can't be read, is unknown or contradicts itself.
    """
    return parse(MixtureConfig, load_yaml(Path(path), pipe=True), str(path))
