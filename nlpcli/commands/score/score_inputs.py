"""The inputs of metrics, read from files: lines, labels, numbers, tagged sentences, answers to questions,
word alignments.

Every kind of item (`Metric.needs`) has one reader here for each format that can hold it. Errors name file and line,
so that what a metric is given can be scored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from nlpcli.config.counting import counted
from nlpcli.config.number_parsing import parse_float
from nlpcli.data.label_text import stripped
from nlpcli.data.open_text import STDIN, display_name, inner_suffix
from nlpcli.data.readers import read_lines
from nlpcli.errors import NlpcliError, unknown
from nlpcli.evaluation.score import ANSWERS, LABELS, LINKS, NUMBERS, TAGS, TEXT_PAIRS, Metric, without_blanks
from nlpcli.evaluation.trn_format import in_order, parse_trn

if TYPE_CHECKING:
    from nlpcli.data.examples import Example

FORMATS = ("auto", "lines", "trn", "conll", "conllu", "squad")
HOLDING = {
    "lines": (TEXT_PAIRS, LABELS, NUMBERS, TAGS, ANSWERS, LINKS),
    "trn": (TEXT_PAIRS,),
    "conll": (TAGS,),
    "conllu": (TAGS,),
    "squad": (ANSWERS,),
}
"""The kinds of items that a format can hold."""

_CONLL = {".conll": "conll", ".conllu": "conllu", ".iob": "conll", ".iob2": "conll", ".bio": "conll"}
_LINE_BY_LINE = "line n is scored against line n of the reference; write a blank line where a reference is missing"


@dataclass(frozen=True)
class Items:
    """The contents of a file: one item for each example, and the place of each."""

    path: str
    items: list[Any]
    places: list[str]


@dataclass(frozen=True)
class Paths:
    """The files of a call."""

    references: tuple[str, ...]
    baseline: str | None
    systems: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """References first, so that they give the order, then the baseline, then the systems."""
        return (*self.references, *([] if self.baseline is None else [self.baseline]), *self.systems)


@dataclass(frozen=True)
class Inputs:
    """The files of a call as items of one kind, all of the same number."""

    references: list[Items]
    baseline: Items | None
    systems: list[Items]

    def check(self, metric: Metric) -> None:
        """Refuses items that a metric does not accept. Raises: NlpcliError as its `check`, with file and line."""
        accept = getattr(metric, "check", None)
        if accept is None:
            return
        for text in self.references:
            _check_items(text, getattr(metric, "check_reference", accept))
        for text in (*([] if self.baseline is None else [self.baseline]), *self.systems):
            _check_items(text, accept)


def _check_items(text: Items, accept: Callable[[Any], None]) -> None:
    for item, place in zip(text.items, text.places, strict=True):
        try:
            accept(item)
        except NlpcliError as error:
            raise NlpcliError(f"{place}: {error.message}", hint=error.hint) from error


class Files:
    """The files of a call; each is opened once, whatever is made of it. texts: the lines of some, by name.

    Raises: NlpcliError for an unknown format, and standard input named twice.
    """

    def __init__(self, paths: Paths, format: str, texts: Mapping[str, Sequence[str]] | None = None) -> None:
        if format not in FORMATS:
            raise unknown("format", format, FORMATS)
        if paths.all.count(STDIN) > 1:
            raise NlpcliError("standard input can be read only once, as the hypotheses or as a reference")
        self.paths = paths
        self._format = format
        self._lines: dict[str, list[str]] = {name: list(lines) for name, lines in (texts or {}).items()}

    def format_for(self, needs: str) -> str:
        """The format in which items of this kind are read; `auto` goes by the name of the first reference."""
        if self._format != "auto":
            return self._format
        suffix = inner_suffix(self.paths.references[0]) if self.paths.references else ""
        if suffix in _CONLL:
            return _CONLL[suffix]
        return "squad" if suffix == ".json" else "lines"

    def read(self, needs: str, metric: str) -> Inputs:
        """All files as items of this kind. Raises: NlpcliError for missing files or files that do not fit together."""
        format = self.format_for(needs)
        if needs not in HOLDING[format]:
            raise NlpcliError(
                f"the metric {metric} can't be computed from files of the format {format}",
                hint="add --format lines to read them line by line" if needs in HOLDING["lines"] else None,
            )
        found = _READERS[format](self, needs)
        _check_numbers(found, format)
        if needs == TEXT_PAIRS:
            found = _with_missing(found, len(self.paths.references))
        if needs == TAGS:
            _check_tags(found)
        count = len(self.paths.references)
        baseline = None if self.paths.baseline is None else found[count]
        return Inputs(found[:count], baseline, found[len(found) - len(self.paths.systems) :])

    def lines(self, path: str) -> list[str]:
        """The lines of a file, read once. Raises: NlpcliError for an empty one."""
        if path not in self._lines:
            self._lines[path] = list(read_lines(path))
        if not self._lines[path]:
            raise empty_file(path)
        return self._lines[path]

    def portions(self, size: int) -> Iterator[dict[str, list[str]]]:
        """So many lines of each file at a time, by name; the last portion may have fewer. Read once, and not kept.

        Raises: NlpcliError for an empty file, and for files of different lengths, which are read to their ends.
        """
        paths = list(dict.fromkeys(self.paths.all))
        streams = {path: iter(self._lines[path]) if path in self._lines else read_lines(path) for path in paths}
        before = 0
        while True:
            portion = {}
            for path, stream in streams.items():
                portion[path] = list(islice(stream, size))
                if not before and not portion[path]:
                    raise empty_file(path)
            if len({len(lines) for lines in portion.values()}) > 1:
                totals = {path: before + len(portion[path]) + sum(1 for _ in streams[path]) for path in paths}
                check_counts([(display_name(path), totals[path]) for path in paths])
            if not portion[paths[0]]:
                return
            yield portion
            before += size


def empty_file(path: str) -> NlpcliError:
    """The error for a file without lines."""
    return NlpcliError(f"{display_name(path)} is empty, so there is nothing to score")


# Lines


def _read_lines(files: Files, needs: str) -> list[Items]:
    parse = _PARSERS[needs]
    _check_numbers([Items(display_name(path), files.lines(path), []) for path in files.paths.all], "lines")
    found = []
    for path in files.paths.all:
        name = display_name(path)
        places = [f"{name}:{number}" for number in range(1, len(files.lines(path)) + 1)]
        items = [parse(line, place) for line, place in zip(files.lines(path), places, strict=True)]
        found.append(Items(name, items, places))
    if needs == ANSWERS:
        for reference in found[: len(files.paths.references)]:
            reference.items[:] = [(line,) if line.strip() else () for line in reference.items]
    return found


def _label(line: str, place: str) -> str:
    label = stripped(line)
    if not label:
        raise NlpcliError(f"{place}: the label is missing")
    return label


def _number(line: str, place: str) -> float:
    number = parse_float(line)
    if number is None:
        raise NlpcliError(
            f"{place}: '{line.strip()[:40]}' is not a {'number' if _is_finite(line) else 'finite number'}"
        )
    return number


def _is_finite(line: str) -> bool:
    """Whether a text that is not a number is not even `nan`, `inf` or a number beyond the range of floats."""
    try:
        return math.isfinite(float(line))
    except ValueError:
        return True


def _links(line: str, place: str) -> Any:
    from nlpcli.evaluation.alignment_error_rate import parse_links

    return parse_links(line, place)


_PARSERS: dict[str, Callable[[str, str], Any]] = {
    TEXT_PAIRS: lambda line, place: line,
    ANSWERS: lambda line, place: line,
    LABELS: _label,
    NUMBERS: _number,
    TAGS: lambda line, place: tuple(line.split()),
    LINKS: _links,
}


# Other formats


def _read_transcripts(files: Files, needs: str) -> list[Items]:
    utterances = [(path, parse_trn(files.lines(path), display_name(path))) for path in files.paths.all]
    order_path, order = utterances[0]
    return [
        Items(display_name(path), in_order(found, display_name(path), order, display_name(order_path)), list(order))
        for path, found in utterances
    ]


def _read_columns(files: Files, needs: str) -> list[Items]:
    from nlpcli.data.columns import Columns
    from nlpcli.data.conll import read_tagged

    columns = Columns(format=files.format_for(needs))
    texts = [list(read_tagged(path, columns)) for path in files.paths.all]
    first, *others = texts
    for text in others:
        for example, reference in zip(text, first, strict=False):  # unequal numbers are refused later
            _check_words(example, reference)
    return [
        Items(display_name(path), [example.label for example in text], [example.place for example in text])
        for path, text in zip(files.paths.all, texts, strict=True)
    ]


def _check_words(example: Example, right: Example) -> None:
    if len(example.texts) != len(right.texts):
        raise NlpcliError(
            f"{example.place}: the sentence has {counted(len(example.texts), 'word')}, but in {right.place} it has "
            f"{len(right.texts):,}"
        )
    for number, (word, expected) in enumerate(zip(example.texts, right.texts, strict=True), start=1):
        if word != expected:
            raise NlpcliError(
                f"{example.place}: word {number} of the sentence is '{word}', but in {right.place} it is '{expected}'"
            )


def _read_answers(files: Files, needs: str) -> list[Items]:
    """The answers of a SQuAD data set, and predictions {id: answer} in its order."""
    from nlpcli.data.squad import read_answers

    first, *others = files.paths.references
    if others:
        raise NlpcliError(
            "a SQuAD data set already contains all references of its questions",
            hint=f"leave out --ref {display_name(others[0])}",
        )
    questions = list(read_answers(first))
    places = [question.place for question in questions]
    found = [Items(display_name(first), [question.texts for question in questions], places)]
    for path in files.paths.all[1:]:
        answers = _predictions("\n".join(files.lines(path)), display_name(path))
        if not any(question.id in answers for question in questions):
            raise NlpcliError(f"{display_name(path)}: none of its ids belongs to a question of {display_name(first)}")
        found.append(Items(display_name(path), [answers.get(question.id) for question in questions], places))
    return found


def _predictions(text: str, name: str) -> dict[str, str]:
    try:
        answers = json.loads(text)
    except json.JSONDecodeError as error:
        raise NlpcliError(f"{name}:{error.lineno}: the file is not valid JSON ({error})") from error
    except (ValueError, RecursionError) as error:
        what = "too many nested brackets" if isinstance(error, RecursionError) else "a number with too many digits"
        raise NlpcliError(f"{name} is not valid JSON ({what})") from error
    if not isinstance(answers, dict):
        raise NlpcliError(f"{name} is not a JSON object of ids and answers", hint='write {"id": "answer", ...}')
    for id, answer in answers.items():
        if not isinstance(answer, str):
            raise NlpcliError(f"{name}: the answer to question '{id}' is {json.dumps(answer)[:40]}, not a string")
    return answers


_READERS: dict[str, Callable[[Files, str], list[Items]]] = {
    "lines": _read_lines,
    "trn": _read_transcripts,
    "conll": _read_columns,
    "conllu": _read_columns,
    "squad": _read_answers,
}


def _with_missing(found: list[Items], references: int) -> list[Items]:
    """The same with None for each reference that is missing: a blank line in one of several reference sets."""
    lines = without_blanks([text.items for text in found[:references]])
    first = [replace(text, items=items) for text, items in zip(found, lines, strict=False)]
    return [*first, *found[references:]]


# Do they belong together?


def _check_numbers(found: Sequence[Items], format: str) -> None:
    check_counts([(text.path, len(text.items)) for text in found], format)


def check_counts(counts: Sequence[tuple[str, int]], format: str = "lines") -> None:
    """Raises: NlpcliError unless files, given by name, have as many lines or sentences as the first one."""
    what, hint = ("sentence", None) if format in ("conll", "conllu") else ("line", _LINE_BY_LINE)
    (first, expected), *others = counts
    for name, number in others:
        if number != expected:
            raise NlpcliError(
                f"{name} has {counted(number, what)}, but {first} has {counted(expected, what)}", hint=hint
            )


def _check_tags(found: Sequence[Items]) -> None:
    first, *others = found
    for other in others:
        for tags, place, wanted, reference in zip(other.items, other.places, first.items, first.places, strict=True):
            if len(tags) != len(wanted):
                raise NlpcliError(
                    f"{place}: the sentence has {counted(len(tags), 'tag')}, but in {reference} it has {len(wanted):,}",
                    hint="write the tags of each sentence on one line; add --format conll if the tags are in columns",
                )
