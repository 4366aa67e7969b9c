"""Text to text: any task whose input and output are texts.

p(y | x) = Π_t p(y_t | y_<t, x), trained by cross-entropy; a prefix before x names the task (Raffel et al.
2020, section 2.4): `summarize: `, `cola sentence: `. A decoder reads x and y in one stream, with a prompt for y between
them, such as GPT-2's `TL;DR:` (Radford et al. 2019, section 3.6), the prefix "{text} TL;DR:" here; only y is learned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from torch import Tensor, nn

from nlpcli.config.counting import counted
from nlpcli.data.examples import Columns, Example, read_texts
from nlpcli.errors import NlpcliError, unknown
from nlpcli.evaluation.generated_text_metrics import MEASURES, generated_text_scores, stored_measures
from nlpcli.objectives.objective import Loss
from nlpcli.objectives.source_target_batches import PairBatch, pair_batch, stream_batch
from nlpcli.objectives.source_target_loss import pair_loss, stream_loss
from nlpcli.tasks.input_layout import Layout
from nlpcli.tasks.task import TEXT_COLUMNS, Context, Prediction, Stored, Task

if TYPE_CHECKING:
    from nlpcli.evaluation import Resampling, Score
    from nlpcli.models.transformer import Decoder, EncoderDecoder


class Generator(Protocol):
    """Writes the outputs."""

    @property
    def signature(self) -> str:
        """How."""
        ...

    def __call__(self, model: nn.Module, source: Tensor, mask: Tensor | None) -> list[list[int]]:
        """source (rows, m) ids, mask (rows, m) or None -> ids of each target, without start and end."""
        ...


_PLACES = re.compile(r"\{text2?\}")


@dataclass(frozen=True)
class TextToTextSettings:
    """How a task is put: what stands before a source, how long a target may be, and what outputs are measured by.

    prefix: text before the source; with `{text}` in it, and `{text2}` for the second text of a pair, it is the whole
    source instead: "sentence1: {text} sentence2: {text2}". Without, a pair is one text after the other.
    max_target: in tokens. measure: one of MEASURES. no_repeat_ngram: no n-gram of so many tokens is written twice.
    Line breaks count as spaces, so that a text is the same in a line and in a JSON string.
    """

    prefix: str = ""
    max_target: int = 128
    measure: str = "rouge"
    no_repeat_ngram: int = 0

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise unknown("measure", self.measure, MEASURES)
        places = _PLACES.findall(self.prefix)
        if places and "{text}" not in places:
            raise NlpcliError(
                f"the template '{self.prefix}' contains {{text2}} but not {{text}}",
                hint="write {text} where the first text belongs",
            )

    @property
    def pairs(self) -> bool:
        """Whether there is a place for a second text."""
        return "{text2}" in self.prefix

    @property
    def framed(self) -> bool:
        """Whether words of the prefix stand behind a text."""
        return bool(_PLACES.search(self.prefix))

    def source(self, texts: Sequence[str]) -> str:
        """The model's input for an example with these texts."""
        if not self.framed:
            return one_line(self.prefix + " ".join(texts))
        named = {"{text}": texts[0], "{text2}": texts[-1]}
        return one_line(_PLACES.sub(lambda place: named[place.group()], self.prefix))


@dataclass(frozen=True)
class TextItem:
    """Source and target ids without the target's start and without ends; target () where it is not known."""

    source: tuple[int, ...]
    target: tuple[int, ...] = ()
    in_stream: bool = False

    @property
    def size(self) -> int:
        """The tokens of the longer side, end included, as batches are measured; those of both sides in one stream."""
        if self.in_stream:
            return len(self.source) + len(self.target)
        return max(len(self.source), len(self.target)) + 1


class TextToText(Task[TextItem, PairBatch, list[int]]):
    """See the module.

    wording: the prompt of the task. generator: writes the outputs; a caller that needs outputs sets it first.
    cut_sources, cut_targets: how many texts of those encoded were longer than allowed and lost their ends.
    """

    name: ClassVar[str] = "text-to-text"
    kinds: ClassVar[tuple[str, ...]] = ("encoder-decoder", "decoder")
    columns: ClassVar[frozenset[str]] = TEXT_COLUMNS
    answer: ClassVar[str] = "text"
    options: ClassVar[frozenset[str]] = frozenset({"prefix", "max_target", "measure", "no_repeat_ngram"})
    possible_measures: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys(name for names in MEASURES.values() for name in names)
    )
    generates: ClassVar[bool] = True
    default_preset: ClassVar[str] = "t5-nano"
    training_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "data": {"max_length": 512},
        "training": {"label_smoothing": 0.1},
    }

    def __init__(self, context: Context, wording: TextToTextSettings) -> None:
        self.context = context
        self.tokenizer = context.tokenizer
        self.wording = wording
        self.generator: Generator | None = None
        self.cut_sources = self.cut_targets = 0
        special = context.tokenizer.special
        special.check("eos")
        self.in_stream = context.model.kind == "decoder"
        if self.in_stream:
            if context.model.has_memory:
                raise NlpcliError(
                    f"the task text-to-text does not support models of the family {context.model.family}",
                    hint="choose a model of the family transformer",
                )
            self.layout = Layout((special.eos,), (), (special.eos,))  # the end of one document begins the next
            self.start: list[int] = []
        else:
            self.layout = Layout.of(context.model, special, context.info)
            self.start = list(context.info.get("target_start") or [special.bos])

    @classmethod
    def create(
        cls,
        examples: Sequence[Example],
        context: Context,
        *,
        prefix: str = "",
        max_target: int = 128,
        measure: str = "auto",
        no_repeat_ngram: int = 0,
    ) -> TextToText:
        wording = TextToTextSettings(prefix, max_target, "rouge" if measure == "auto" else measure, no_repeat_ngram)
        task = cls(context, wording)
        for example in examples:
            task.check(example)
        return task

    @classmethod
    def restore(cls, description: Mapping[str, Any], context: Context) -> TextToText:
        return cls(context, TextToTextSettings(**description))

    def describe(self) -> dict[str, Any]:
        return dict(vars(self.wording))

    @property
    def measures(self) -> tuple[str, ...]:
        return MEASURES[self.wording.measure]

    @property
    def notes(self) -> list[str]:  # type: ignore[override]  # it changes while texts are encoded
        """Notes about the texts encoded so far."""
        cut = (("source", self.cut_sources), ("target", self.cut_targets))
        return [
            f"{counted(count, name)} {'was' if count == 1 else 'were'} longer than the maximum length and truncated"
            for name, count in cut
            if count
        ]

    @staticmethod
    def read(path: str, columns: Columns, *, labelled: bool = True) -> Iterator[Example]:
        """Several references stand in several columns, whose names commas divide, or in one as a JSON list."""
        return read_texts(path, columns, labelled=labelled, names=False)

    @classmethod
    def vocabulary_texts(cls, example: Example) -> Sequence[str]:
        return (*example.texts, *references(example))

    def check(self, example: Example) -> None:
        found = references(example)
        if not found or not all(isinstance(text, str) for text in found):
            raise NlpcliError(
                f"{example.place}: the target text is missing", hint="name the column of the targets with --label"
            )
        self._complete(example)

    def _complete(self, example: Example) -> None:
        if self.wording.pairs and len(example.texts) < 2:
            raise NlpcliError(
                f"{example.place}: the second text is missing, but the template '{self.wording.prefix}' needs it",
                hint="separate the two texts of a line by a tab, or name the column with --text2",
            )

    def parse(self, line: str) -> Example:
        return Example(tuple(line.split("\t", 1)) if self.wording.pairs else (line,))

    def encode(self, examples: Sequence[Example]) -> list[list[TextItem]]:
        """An item of each example; of several references the first is learned.

        Raises: NlpcliError for an example that lacks its second text.
        """
        for example in examples:
            self._complete(example)
        room, limit = self._room()
        sources = self.tokenizer.encode([self.wording.source(example.texts) for example in examples])
        targets = self.tokenizer.encode([one_line((*references(example), "")[0]) for example in examples])
        for example, source in zip(examples, sources, strict=True):
            self.context.report_cut(example, room, len(source))
        self.cut_sources += sum(len(source) > room for source in sources)
        self.cut_targets += sum(len(target) > limit for target in targets)
        if self.wording.framed:
            sources = [
                self._fitted(example.texts, room) if len(source) > room else source
                for example, source in zip(examples, sources, strict=True)
            ]
        return [
            [TextItem((*self.layout.start, *source[:room]), tuple(target[:limit]), self.in_stream)]
            for source, target in zip(sources, targets, strict=True)
        ]

    def _room(self) -> tuple[int, int]:
        """The most tokens of a source and of a target. Raises: NlpcliError when there is no room for them."""
        longest = self.context.max_length
        limit = min(self.wording.max_target, longest - len(self.start))
        if self.in_stream:
            limit = min(limit, longest // 2)
            longest -= limit
        if limit < 1:
            raise NlpcliError(
                f"data.max_length is {self.context.max_length}, so no tokens of a target fit",
                hint="set a larger data.max_length",
            )
        return self.layout.room(1, longest), limit

    def _fitted(self, texts: Sequence[str], room: int) -> list[int]:
        """The ids of a source whose texts lose their ends, the longest one first, and whose prefix stays whole."""
        texts = list(texts)
        while True:
            [ids] = self.tokenizer.encode([self.wording.source(texts)])
            encoded = self.tokenizer.encode(texts)
            longest = max(range(len(texts)), key=lambda i: len(encoded[i]))
            if len(ids) <= room or not encoded[longest]:
                return ids
            left = max(len(encoded[longest]) - (len(ids) - room), 0)
            [shorter] = self.tokenizer.decode([encoded[longest][:left]])
            texts[longest] = shorter if len(shorter) < len(texts[longest]) else ""

    def collate(self, items: Sequence[TextItem]) -> PairBatch:
        pairs = [(item.source, item.target) for item in items]
        if self.in_stream:
            return stream_batch(pairs, self.tokenizer.special)
        return pair_batch(pairs, self.tokenizer.special, self.start)

    def loss(self, model: nn.Module, batch: PairBatch) -> Loss:
        settings = self.context.loss_settings
        if self.in_stream:
            return stream_loss(cast("Decoder", model), batch, settings)
        return pair_loss(cast("EncoderDecoder", model), batch, settings)

    def outputs(self, model: nn.Module, batch: PairBatch) -> list[list[int]]:
        assert self.generator is not None, "the task has no generator"
        return self.generator(model, batch.source, batch.source_mask)

    def prediction(self, example: Example, items: Sequence[TextItem], outputs: Sequence[list[int]]) -> Prediction:
        return {"text": self.tokenizer.decode([list(outputs[0])])[0].strip(" \r\n")}

    def line(self, prediction: Prediction, top: int | None = None) -> str:
        return one_line(prediction["text"]).replace("\t", " ")

    def scores(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], resampling: Resampling | None = None
    ) -> dict[str, Score]:
        assert self.generator is not None, "the task has no generator"
        written = [self.line(prediction) for prediction in predictions]
        scores = generated_text_scores(self.wording.measure, written, list(map(references, examples)), resampling)
        how = self.generator.signature
        return {name: replace(score, signature=f"{score.signature}|{how}") for name, score in scores.items()}

    def stored_outputs(
        self, examples: Sequence[Example], predictions: Sequence[Prediction]
    ) -> tuple[list[tuple[Any, Any]], Stored]:
        texts = [list(references(example)) for example in examples]
        outputs = [self.line(prediction) for prediction in predictions]
        return list(zip(texts, outputs, strict=True)), stored_measures(self.wording.measure, texts)

    def displayed(self, example: Example, prediction: Prediction) -> tuple[str, str]:
        return " | ".join(references(example)), self.line(prediction)

    def mistake(self, example: Example, prediction: Prediction) -> tuple[float, str, str]:
        """1 - ROUGE-L of the text."""
        from nlpcli.evaluation.rouge import rouge

        right = references(example)
        score = max(rouge([prediction["text"]], [[reference]], "rougeL").value for reference in right)
        return 1.0 - score / 100, " | ".join(right), prediction["text"]


def references(example: Example) -> tuple[str, ...]:
    """All right answers of an example, () where none is known; a blank one beside others is a missing one."""
    if example.label is None:
        return ()
    if isinstance(example.label, str):
        return (example.label,)
    found = tuple(example.label)
    return tuple(text for text in found if not isinstance(text, str) or text.strip()) or found[:1]


def one_line(text: str) -> str:
    """Line breaks, with the space around them, become one space."""
    return re.sub(r"\s*[\r\n]\s*", " ", text)
