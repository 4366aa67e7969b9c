"""Multiple choice: which of its candidates continues, answers or explains a text.

p(k | x, c_1 … c_n) = softmax_k(w h(x, c_k)), trained by cross-entropy: each candidate is read beside the text and has
one score (Radford et al. 2018, section 3.3; Devlin et al. 2019, section 4.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from nlpcli.config.counting import counted
from nlpcli.data.examples import Columns, Example, read_choices
from nlpcli.data.label_text import UnknownLabel
from nlpcli.errors import NlpcliError
from nlpcli.objectives.objective import Loss
from nlpcli.tasks.task import TEXT_COLUMNS, Context, Prediction, Stored, Task
from nlpcli.tasks.text_batches import HEAD_OPTIONS, RowsBatch, RowsItem, TextReader, head_family, text_head

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score


class Choice(Task[RowsItem, RowsBatch, Tensor]):
    """See the module. style: the data's format for the correct candidate, a key of `STYLES`."""

    name: ClassVar[str] = "choice"
    columns: ClassVar[frozenset[str]] = TEXT_COLUMNS | {"choices"}
    answer: ClassVar[str] = "label"
    ranks: bool = True
    options: ClassVar[frozenset[str]] = frozenset({*HEAD_OPTIONS, "truncate"})
    possible_measures: ClassVar[tuple[str, ...]] = ("accuracy",)

    def __init__(self, context: Context, style: str, *, head: Mapping[str, Any], truncate: str = "longest") -> None:
        self.context = context
        self.style = style
        self._head = dict(head)
        self.reader = TextReader(context, truncate=truncate)

    @classmethod
    def create(
        cls,
        examples: Sequence[Example],
        context: Context,
        *,
        truncate: str = "longest",
        **head: Any,
    ) -> Choice:
        style = style_of(examples)
        settings = text_head(context, 1, **head)
        if head_family(context) == "big_bird":
            settings.pop("activation", None)  # it scores choices through its pooler, which has tanh
        return cls(context, style, head=settings, truncate=truncate)

    @classmethod
    def restore(cls, description: Mapping[str, Any], context: Context) -> Choice:
        return cls(context, description["labels_are"], head={}, truncate=description["truncate"])

    def describe(self) -> dict[str, Any]:
        return {"labels_are": self.style, "truncate": self.reader.truncate}

    def head(self) -> dict[str, Any]:
        return self._head

    @staticmethod
    def read(path: str, columns: Columns, *, labelled: bool = True) -> Iterator[Example]:
        return read_choices(path, columns, labelled=labelled)

    def check(self, example: Example) -> None:
        if self._right(example) is None:
            raise UnknownLabel(
                f"{example.place}: the label '{example.label}' is not one of the {len(example.texts) - 1} candidates",
                hint=f"the labels of the training examples were {_SPOKEN[self.style]}",
            )

    def choice_in(self, example: Example) -> str | None:
        """The text of the right candidate; None where the label is none of them."""
        right = self._right(example)
        return None if right is None else example.texts[1 + right]

    def reference_in(self, example: Example) -> str:
        """As `choice_in`; where the label is none of the candidates, a text that no candidate has."""
        found = self.choice_in(example)
        if found is None:
            found = str(example.label)
            while found in example.texts[1:]:
                found += "?"
        return found

    def _right(self, example: Example) -> int | None:
        return None if example.label is None else place_of(str(example.label), example.texts[1:], self.style)

    def parse(self, line: str) -> Example:
        """The text and its candidates, which tabs divide. Raises: NlpcliError for less than two candidates."""
        fields = tuple(line.split("\t"))
        if len(fields) < 3:
            raise NlpcliError(
                f"at least 2 candidates are needed, but '{line[:40]}' has {counted(len(fields) - 1, 'candidate')}",
                hint="write the text and its candidates in one line, separated by tabs",
            )
        return Example(fields)

    def encode(self, examples: Sequence[Example]) -> list[list[RowsItem]]:
        pairs = [
            replace(example, texts=(example.texts[0], candidate))
            for example in examples
            for candidate in example.texts[1:]
        ]
        rows = iter(self.reader.rows(pairs))
        return [
            [RowsItem(tuple(next(rows)[0] for _ in example.texts[1:]), self._right(example))] for example in examples
        ]

    def collate(self, items: Sequence[RowsItem]) -> RowsBatch:
        targets = [item.target for item in items]
        return self.reader.collate(items, None if None in targets else torch.tensor(targets))

    def loss(self, model: nn.Module, batch: RowsBatch) -> Loss:
        assert batch.targets is not None, "examples without labels have no loss"
        losses = nn.functional.cross_entropy(self._scores(model, batch), batch.targets, reduction="sum")
        return Loss(losses, losses.detach(), batch.count)

    def outputs(self, model: nn.Module, batch: RowsBatch) -> list[Tensor]:
        probabilities = self._scores(model, batch).softmax(dim=-1).cpu()
        return [row[:count] for row, count in zip(probabilities, batch.counts, strict=True)]

    @staticmethod
    def _scores(model: nn.Module, batch: RowsBatch) -> Tensor:
        """(items, most candidates), -inf where an item has fewer."""
        parts = model(batch.rows).float()[:, 0].split(batch.counts)
        return nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=-torch.inf)

    def prediction(self, example: Example, items: Sequence[RowsItem], outputs: Sequence[Tensor]) -> Prediction:
        """label: as the data writes it; choice: the candidate's text; probabilities: in the candidates' order."""
        probabilities = outputs[0].tolist()
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        candidates = example.texts[1:]
        return {
            "label": STYLES[self.style](best, candidates),
            "choice": candidates[best],
            "probability": probabilities[best],
            "probabilities": probabilities,
            "candidates": list(candidates),
        }

    def line(self, prediction: Prediction, top: int | None = None) -> str:
        """The likeliest candidates as the data names them, each with its probability."""
        probabilities, candidates = prediction["probabilities"], prediction["candidates"]
        ranked = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])[: top or 1]
        written = [(STYLES[self.style](i, candidates), probabilities[i]) for i in ranked]
        return "\t".join(f"{' '.join(label.split())}\t{probability:.4f}" for label, probability in written)

    def scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], resampling: Resampling | None = None
    ) -> dict[str, Score]:
        from nlpcli.evaluation.classification_metrics import accuracy

        return {"accuracy": accuracy(*self.compared_labels(examples, predictions), resampling)}

    def stored_outputs(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[tuple[Any, Any]], Stored]:
        """Places of candidates, from 0; -1 for a label that is none of them."""
        pairs = []
        for example, prediction in zip(examples, predictions, strict=True):
            reference = self.choice_in(example)
            place = -1 if reference is None else list(example.texts[1:]).index(reference)
            pairs.append((place, prediction["candidates"].index(prediction["choice"])))
        return pairs, {"accuracy": ("accuracy", {})}

    def displayed(self, example: Example, prediction: Prediction) -> tuple[str, str]:
        return self.choice_in(example) or str(example.label), prediction["choice"]

    def mistake(self, example: Example, prediction: Prediction) -> tuple[float, str, str]:
        """1 - the probability of the right candidate."""
        reference, predicted = self.choice_in(example), prediction["choice"]
        if reference is None:
            return 1.0, str(example.label), predicted
        probability = prediction["probabilities"][prediction["candidates"].index(reference)]
        return 0.0 if predicted == reference else 1.0 - probability, reference, predicted

    def compared_labels(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[str], list[str]]:
        """The texts of candidates."""
        references = [self.reference_in(example) for example in examples]
        return references, [prediction["choice"] for prediction in predictions]


STYLES: dict[str, Callable[[int, Sequence[str]], str]] = {
    "texts": lambda place, candidates: candidates[place],
    "numbers from 0": lambda place, candidates: str(place),
    "numbers from 1": lambda place, candidates: str(place + 1),
    "letters": lambda place, candidates: chr(ord("A") + place),
    "small letters": lambda place, candidates: chr(ord("a") + place),
}
"""How the place of a candidate is written, in the order in which they are tried."""

_SPOKEN = {
    "texts": "texts of candidates",
    "numbers from 0": "numbers counted from 0",
    "numbers from 1": "numbers counted from 1",
    "letters": "letters, with A for the first candidate",
    "small letters": "letters, with a for the first candidate",
}


def place_of(label: str, candidates: Sequence[str], style: str) -> int | None:
    """The place, from 0, of the candidate that a label names; None where it names none."""
    label = label.strip()
    for place in range(len(candidates)):
        if STYLES[style](place, candidates).strip() == label:
            return place
    return None


def style_of(examples: Sequence[Example]) -> str:
    """The first way of naming candidates in which every label names one; numbers count from 0 if a 0 is among them.

    Raises: NlpcliError, naming the place, where there is none: for the first label that doesn't go with most.
    """
    wrong: dict[str, Example] = {}
    for style in STYLES:
        for example in examples:
            if example.label is None:
                raise NlpcliError(f"{example.place}: the label is missing")
            if place_of(str(example.label), example.texts[1:], style) is None:
                wrong[style] = example
                break
        else:
            if style == "numbers from 0" and not any(str(example.label).strip() == "0" for example in examples):
                continue
            return style
    counts = {style: _fitting(examples, style) for style in STYLES}
    likely = max(counts, key=counts.__getitem__)
    example = wrong[likely]
    raise NlpcliError(
        f"{example.place}: the label '{example.label}' is not one of the {len(example.texts) - 1} candidates",
        hint="a label is a candidate's text, its number (from 0 or from 1) or its letter",
    )


def _fitting(examples: Sequence[Example], style: str) -> int:
    return sum(place_of(str(example.label), example.texts[1:], style) is not None for example in examples)
