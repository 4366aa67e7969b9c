"""Questions about contexts, in the format of SQuAD 1.1 (Rajpurkar et al. 2016) and 2.0 (Rajpurkar et al. 2018)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nlpcli.config.counting import counted
from nlpcli.config.json_errors import json_reason
from nlpcli.config.number_parsing import parse_int
from nlpcli.data.examples import Answer, Example, blank_example
from nlpcli.data.json_objects import begins_list, parse_object, read_objects
from nlpcli.data.open_text import display_name
from nlpcli.data.readers import blank
from nlpcli.data.table_rows import as_text, begin
from nlpcli.errors import NlpcliError
from nlpcli.escaping import shortened

OnBad = Callable[[NlpcliError], None]


def read_questions(
    path: Path | str,
    *,
    labelled: bool = True,
    spans: bool = True,
    on_bad: OnBad | None = None,
    blank_lines: bool = False,
) -> Iterator[Example]:
    """Questions with their contexts and answers: texts = (question, context), label = the answers, id = the question's.

    SQuAD's JSON (articles, paragraphs, questions; read as a whole), or JSON lines, or a list of objects, with
    `question`, `context`, `id` and `answers`: a list of {"text", "answer_start"}, or one of texts beside one of starts
    (lines in constant memory). A question
    marked `is_impossible`, or with an empty list of answers, has the label (); plausible answers are not answers.
    labelled: without it answers may be missing, and then the label is None.
    spans: whether answers are to be learnt, so that each must stand in its context at its start. Without it, or without
    `labelled`, their texts are what counts, as in SQuAD's scripts: an answer starts where its text stands nearest to
    the start in the file, if any, and answers to a question that is marked as impossible are answers.
    on_bad: what is done with the error of a question whose answers don't stand in its context at their starts, or that
    is marked as impossible and answered; that question is left out. None: it is raised.
    blank_lines: whether a blank line between JSON lines is an example without text; else it is skipped.

    Raises: NlpcliError naming the file, and the line or the question, for anything that is not in this format.
    """
    for record, context, place in _records(path, blank_lines=blank_lines):
        if record is None:
            yield blank_example(place)
            continue
        try:
            example = _example(record, context, place, labelled=labelled, spans=labelled and spans)
        except BadAnswer as error:
            if on_bad is None:
                raise
            on_bad(error)
            continue
        yield example


@dataclass(frozen=True)
class RightAnswers:
    """A question's id, the texts of all right answers to it (none: it has no answer), and its place in the file."""

    id: str
    texts: tuple[str, ...]
    place: str


def read_answers(path: Path | str) -> Iterator[RightAnswers]:
    """The right answers in a file as `read_questions` reads it: questions, contexts and starts are not checked.

    Raises: NlpcliError naming the file, and the line or the question, for anything that is not in this format.
    """
    for record, _, place in _records(path, contexts=False):
        if not isinstance(record, dict):
            raise _bad_member(None, "answers", list, place)
        answers = _answers(record, place, labelled=True) or ()
        yield RightAnswers(_id(record, place), tuple(text for text, _ in answers), place)


class BadAnswer(NlpcliError):
    """An answer that its context does not bear out."""


def parse_question(record: dict[str, Any], *, place: str, labelled: bool = False) -> Example:
    """One JSON object with `question` and `context`. Raises: NlpcliError as `read_questions`."""
    return _example(record, _member(record, "context", str, place), place, labelled=labelled, spans=labelled)


_Kind = TypeVar("_Kind")

Records = Iterator[tuple[dict[str, Any] | None, str, str]]
"""Questions with their contexts and places; None for a blank line."""

Answers = list[tuple[str, Any]]
"""The texts of answers, and their starts as they are in the file."""


def _records(path: Path | str, *, contexts: bool = True, blank_lines: bool = False) -> Records:
    first, lines = begin(path, blank_lines=blank_lines)
    empty = True
    of_lines = not first or _is_one_record(first)
    read = _of_objects if begins_list(first) else _of_lines if of_lines else _of_articles
    for found in read(lines, path, contexts=contexts):
        if found[0] is not None or blank_lines:
            empty = False
            yield found
    if empty:
        raise NlpcliError(f"{display_name(path)} contains no questions")


def _is_one_record(first: str) -> bool:
    try:
        record = json.loads(first, parse_int=str)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "data" not in record


def _of_lines(lines: Iterable[tuple[int, str]], path: Path | str, *, contexts: bool) -> Records:
    last = 0
    for number, line in lines:
        for skipped in range(1, number if not last else 1):
            yield None, "", f"{display_name(path)}:{skipped}"
        last = number
        place = f"{display_name(path)}:{number}"
        if blank(line):
            yield None, "", place
            continue
        record = parse_object(line, place)
        needed = contexts or "answers" not in record  # what has neither is not a question
        yield record, _member(record, "context", str, place) if needed else "", place


def _of_objects(lines: Iterable[tuple[int, str]], path: Path | str, *, contexts: bool) -> Records:
    for record, place in read_objects(iter(lines), path):
        needed = contexts or "answers" not in record
        yield record, _member(record, "context", str, place) if needed else "", place


def _of_articles(lines: Iterable[tuple[int, str]], path: Path | str, *, contexts: bool) -> Records:
    place = display_name(path)
    text: list[str] = []
    begun = 1
    for number, line in lines:
        begun = number if not text else begun
        text.append(line)
    try:
        data = json.loads("".join(text), parse_int=str)
    except json.JSONDecodeError as error:
        raise NlpcliError(
            f"{place}:{begun + error.lineno - 1}: this is not valid JSON ({error.msg})",
            hint="a SQuAD file is one JSON object; a file of JSON lines has one object on each line",
        ) from error
    except (ValueError, RecursionError) as error:
        raise NlpcliError(f"{place}: this is not valid JSON ({json_reason(error)})") from error
    if not isinstance(data, dict) or not isinstance(data.get("data"), list):
        raise NlpcliError(
            f"{place} is not in SQuAD's format",
            hint='a file in this format looks like {"data": [{"paragraphs": [...]}]}',
        )
    for a, article in enumerate(data["data"], start=1):
        where = f"{place}, article {a}"
        for p, paragraph in enumerate(_member(article, "paragraphs", list, where), start=1):
            where = f"{place}, article {a}, paragraph {p}"
            context = _member(paragraph, "context", str, where) if contexts else ""
            for question in _member(paragraph, "qas", list, where):
                name = question.get("id", "") if isinstance(question, dict) else ""
                yield question, context, f"{place}, question {name}" if name else where


def _example(record: dict[str, Any], context: str, place: str, *, labelled: bool, spans: bool) -> Example:
    question = as_text(_member(record, "question", str, place), "the question", place)
    context = as_text(context, "the context", place)
    pairs = _answers(record, place, labelled=labelled, spans=spans)
    if pairs is None:
        answers = None
    elif spans:
        answers = tuple(_span(text, start, context, place) for text, start in pairs)
    else:
        answers = tuple(Answer(text, _nearest_start(text, _start(start), context)) for text, start in pairs)
    if spans and answers and _impossible(record):
        raise BadAnswer(
            f"{place}: the question is marked as impossible, but it has the answer '{shortened(answers[0].text, 40)}'"
        )
    return Example((question, context), answers, place, _id(record, place))


def _id(record: dict[str, Any], place: str) -> str:
    return as_text(record.get("id", ""), "the id", place)


def _impossible(record: dict[str, Any]) -> bool:
    return record.get("is_impossible", False) is True


def _answers(record: dict[str, Any], place: str, *, labelled: bool, spans: bool = False) -> Answers | None:
    found = record.get("answers")
    if found is None and _impossible(record):
        return []
    if found is None and labelled:
        raise NlpcliError(
            f"{place}: the field 'answers' is missing", hint="it is an empty list for a question without an answer"
        )
    if found is None:
        return None
    if isinstance(found, dict):  # texts beside starts
        texts, starts = _member(found, "text", list, place), found.get("answer_start")
        if not isinstance(starts, list) or len(starts) != len(texts):
            if spans:
                entries = counted(len(texts), "entry", "entries")
                there = f"has {len(starts)}" if isinstance(starts, list) else "is missing"
                raise NlpcliError(f"{place}: 'answers.text' has {entries}, but 'answers.answer_start' {there}")
            starts = [None] * len(texts)
        found = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(found, list):
        raise NlpcliError(f"{place}: 'answers' must be a list")
    texts = [as_text(_member(answer, "text", str, place), "an answer", place) for answer in found]
    return [(text, answer.get("answer_start")) for text, answer in zip(texts, found, strict=True)]


def _start(value: object) -> int | None:
    """A start as JSON has it, None for anything that is not a whole number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return parse_int(value) if isinstance(value, str) else None


def _span(text: str, value: object, context: str, place: str) -> Answer:
    """The answer to learn. Raises: BadAnswer where it does not stand in its context at its start."""
    start = _start(value)
    if start is None:
        raise NlpcliError(f"{place}: 'answer_start' must be a whole number, not {shortened(json.dumps(value), 40)}")
    if not text:
        raise BadAnswer(f"{place}: the answer is empty")
    there = context[start : start + len(text)] if start >= 0 else ""
    if there == text:
        return Answer(text, start)
    shown_text = shortened(text, 60)
    if start < 0 or start >= len(context):
        raise BadAnswer(
            f"{place}: 'answer_start' of the answer '{shown_text}' is {start}, which is outside its context of "
            f"{counted(len(context), 'character')}"
        )
    nearest = _nearest_start(text, start, context)
    raise BadAnswer(
        f"{place}: the context has '{shortened(there, 60)}' at character {start}, not the answer '{shown_text}'",
        hint="the context does not contain this answer"
        if nearest is None
        else f"the answer begins at {nearest}: correct 'answer_start'",
    )


def _nearest_start(text: str, start: int | None, context: str) -> int | None:
    """Where a text stands in its context nearest to a start, or first; None where it is empty or nowhere."""
    start = min(max(start or 0, 0), len(context))
    found = [context.rfind(text, 0, start + len(text)), context.find(text, start)] if text else []
    return min((place for place in found if place >= 0), key=lambda place: abs(place - start), default=None)


def _member(record: object, key: str, kind: type[_Kind], place: str) -> _Kind:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise _bad_member(value, key, kind, place)
    return value


def _bad_member(value: object, key: str, kind: type, place: str) -> NlpcliError:
    """The error for the value of a field that is not a `kind`, or None where it is missing."""
    what = "text" if kind is str else "a list"
    problem = "is missing" if value is None else f"must be {what}, not {shortened(json.dumps(value), 40)}"
    return NlpcliError(
        f"{place}: the field '{key}' {problem}", hint=None if value is not None else f"it must be {what}"
    )
