"""The request of a training command, and the listener to the progress of its run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nlpcli.config.schema import RunConfig
from nlpcli.training.observer import Observer


@dataclass(frozen=True)
class PreparedRun:
    """A run whose data are read and which could begin.

    config: resolved. data: the fingerprint of the training data. trainer(kind): the loop, of the class `kind`.
    """

    config: RunConfig
    data: str
    trainer: Callable[[Any], Any]  # a subclass of `Trainer` and an object of it


@dataclass(frozen=True)
class Request:
    """A user's request to a training command."""

    default: str  # the preset when neither one nor a file is named
    preset: str | None = None
    base: Mapping[str, Any] | None = None  # what a task is trained with: beneath a file, or above a preset's model
    config: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # from options, nested as in RunConfig
    overrides: Iterable[str] = ()  # "a.b=c"
    out: Path | None = None
    tokenizer: Path | None = None
    source_tokenizer: Path | None = None  # of a new source encoder
    resume: bool = False
    overwrite: bool = False
    command: str = ""
    in_place_of_training: Callable[[PreparedRun], None] | None = None  # nothing is then trained or written


class Listener(Observer, Protocol):
    """Receives the events of a run; also the loop's observer."""

    def opened(self, run: Path) -> None: ...
