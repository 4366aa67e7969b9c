"""The worst mistakes: the wrong answers with the highest confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nlpcli.data.examples import Example


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction and its reference. error: larger is worse; each task's `mistake` defines it."""

    place: str
    error: float
    expected: str
    predicted: str
    text: str


class TaskWithMistakes(Protocol):
    """The methods of a task that `mistakes` uses."""

    def mistake(self, example: Example, prediction: Mapping[str, Any]) -> tuple[float, str, str]:
        """The confidence in a wrong answer (0 for a right one), the reference and the output."""
        ...

    def text_of(self, example: Example) -> str: ...


def mistakes(
    task: TaskWithMistakes, examples: Sequence[Any], predictions: Sequence[Mapping[str, Any]], count: int
) -> list[Mistake]:
    """The `count` worst of a task's wrong predictions, the worst first."""
    found = []
    for example, prediction in zip(examples, predictions, strict=True):
        error, reference, output = task.mistake(example, prediction)
        if error > 0:
            found.append(Mistake(example.place, error, reference, output, task.text_of(example)))
    return sorted(found, key=lambda mistake: -mistake.error)[:count]
