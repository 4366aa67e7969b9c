"""Reading the labelled examples of a task's file, for training or evaluation, and the warnings about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError
from nlpcli.escaping import shortened

if TYPE_CHECKING:
    from nlpcli.data.examples import Columns, Example
    from nlpcli.data.label_text import UnknownLabel
    from nlpcli.data.train_dev_overlap import Shared
    from nlpcli.tasks.task import Task

Notify = Callable[[str], None]


def read_labelled(
    kind: Task | type[Task], path: str, columns: Columns, notify: Notify, *, learnt: bool = True
) -> Iterator[Any]:
    """The examples in a file. kind: a task, or its class. learnt: True for training examples, False for a dev set.

    Training questions whose answers are not in their contexts are left out; at the end `notify` receives their number
    and the first problem. `notify` also receives the separator of a table, unless it is a comma. A dev set keeps every
    question, because its score depends only on the texts of the answers.

    Raises: NlpcliError with file and line for what can't be read.
    """
    from nlpcli.data.table_rows import separator_note

    if note := separator_note(path, columns.format):
        notify(note)
    if not learnt:
        yield from kind.read_dev(path, columns)
        return
    bad: list[NlpcliError] = []
    yield from kind.read_training(path, columns, bad.append)
    if bad:
        such = "" if len(bad) == 1 else "the first one: "
        notify(f"left out {counted(len(bad), 'question')}: {such}{bad[0].message}")


def unknown_labels(task: Task, examples: Sequence[Any]) -> list[UnknownLabel | None]:
    """For each example the problem with its label, None if the task has this label.

    Raises: NlpcliError, naming the place, for anything that is not a label of such a task, and where no label is known.
    """
    from nlpcli.data.label_text import UnknownLabel

    found: list[UnknownLabel | None] = []
    for example in examples:
        try:
            task.check(example)
            found.append(None)
        except UnknownLabel as error:
            found.append(error)
    if found and None not in found:
        raise NlpcliError(
            f"{examples[0].place}: the model was trained with none of the {counted(len(found), 'label')} of the data",
            hint="name the column of the labels with --label, or check the file",
        )
    return found


def warn_unknown_labels(task: Task, examples: Sequence[Any], warn: Notify, *, shown: int = 5) -> None:
    """Warns of unknown labels: a message with the place for each of the first `shown`, and the number of the others.

    Raises: NlpcliError as `unknown_labels`.
    """
    errors = [error for error in unknown_labels(task, examples) if error is not None]
    have = "has" if len(errors) - shown == 1 else "have"
    more = (
        f" ({counted(len(errors) - shown, 'more example')} {have} unknown labels)" if len(errors) > shown == 1 else ""
    )
    for error in errors[:shown]:
        warn(f"{error.message}; {error.effect}{more}")
    if len(errors) > shown > 1:
        warn(f"{counted(len(errors) - shown, 'more example')} {have} unknown labels")


class Cuts:
    """Counts the examples whose texts are cut. See `nlpcli.tasks.task.OnCut`."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self._last = ""

    def __call__(self, example: Example, room: int, tokens: int) -> None:
        if example.place and example.place == self._last:  # another candidate, or the second text, of the same one
            return
        self._last = example.place
        self.first = self.first or f"{example.place} ({counted(tokens, 'token')}, truncated to {room:,})"
        self.count += 1

    def report(self, notify: Notify) -> None:
        """Reports the number of cut examples, if there are any."""
        if self.count:
            are = " is too long for the model: " if self.count == 1 else "s are too long for the model, such as "
            notify(f"{self.count:,} example{are}{self.first}")


def warn_shared_examples(dev: Sequence[Any], train: Sequence[Any], warn: Notify) -> None:
    """Warns of dev examples whose texts are also in the training data."""
    from nlpcli.data.train_dev_overlap import Placed, shared

    sides = ((Placed(example.texts, example.place) for example in examples) for examples in (dev, train))
    if found := shared(*sides):
        warn(shared_words(found, "examples"))


def shared_words(shared: Shared, what: str) -> str:
    """A sentence about a `Shared`. what: the noun for the dev items, in the plural."""
    count = f"all {shared.total:,}" if shared.count == shared.total else f"{shared.count:,} of {shared.total:,}"
    are = (
        f"{count} dev {what} {'is' if shared.count == 1 else 'are'}" if shared.total > 1 else f"the dev {what[:-1]} is"
    )
    return (
        f"{are} also in the training data, so the dev scores are too high; "
        f"the first one is {shared.held_out}, in the training data {shared.training}"
    )


def warn_blank_texts(examples: Sequence[Any], warn: Notify) -> None:
    """Warns of examples without text."""
    blank = [example for example in examples if not has_text(example)]
    if blank:
        count = counted(len(blank), "example")
        warn(f"{count} {'has' if len(blank) == 1 else 'have'} no text but {'is' if len(blank) == 1 else 'are'} scored; "
             f"the first is {blank[0].place}")  # fmt: skip


def warn_similar_labels(task: Task, warn: Notify) -> None:
    """Warns of two labels that a reader can't distinguish, if any."""
    from nlpcli.data.label_text import look_alike

    if pair := look_alike(task.labels):
        one, other = (shortened(ascii(label), 80) for label in pair)
        warn(f"the labels {one} and {other} look the same, but they are different classes")


def has_text(example: Example) -> bool:
    """Whether any of an example's texts is more than white space."""
    return any(text and not text.isspace() for text in example.texts)


def check_columns(task: Task, given: Mapping[str, Any]) -> None:
    """Raises: NlpcliError if a named column is not read by the task."""
    for name in ("text", "text2", "label", "choices"):
        if given.get(name) and name not in task.columns:
            raise NlpcliError(f"--{name} has no effect on a model for {task.name}", hint=f"leave out --{name}")
