"""A fine-tuned model's predictions for the dev set: samples for a reader, and all outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlpcli.data.examples import Example
    from nlpcli.tasks.task import Prediction, Task


def task_samples(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction], chosen: Iterable[int]
) -> Iterator[dict[str, Any]]:
    """The chosen examples: the text, the reference, the output, and the output's probability where it is known."""
    for place in chosen:
        example, prediction = examples[place], predictions[place]
        reference, output = task.displayed(example, prediction)
        sample = {"text": task.text_of(example), "reference": reference, "output": output}
        if isinstance(prediction.get("probability"), float):
            sample["probability"] = round(prediction["probability"], 3)
        yield sample


def task_outputs(
    task: Task, examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[list[dict[str, Any]], Mapping[str, dict[str, Any]]]:
    """The reference and the output of each example, and the metrics of the task that follow from them."""
    pairs, measures = task.stored_outputs(examples, predictions)
    named = {name: {"metric": metric, "options": options} for name, (metric, options) in measures.items()}
    if task.generates:
        for how in named.values():
            how["suffix"] = task.generator.signature
    return [{"reference": reference, "output": output} for reference, output in pairs], named
