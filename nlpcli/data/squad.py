"""Questions about contexts, in the format of SQuAD 1.1 (Rajpurkar et al. 2016) and 2.0 (Rajpurkar et al. 2018)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from nlpcli.data.examples import Answer, Example
from nlpcli.data.json_objects import begins_list, parse_object, read_objects
from nlpcli.data.opening import shown
from nlpcli.data.readers import blank
from nlpcli.data.tables import as_text, begin
from nlpcli.errors import NlpcliError

OnBad = Callable[[NlpcliError], None]


def read_questions(path: Path | str, *, labelled: bool = True, on_bad: OnBad | None = None) -> Iterator[Example]:
    """Questions with their contexts and answers: texts = (question, context), label = the answers, id = the question's.

    SQuAD's JSON (articles, paragraphs, questions; read as a whole), or JSON lines, or a list of objects, with
    `question`, `context`, `id` and `answers`: a list of {"text", "answer_start"}, or one of texts beside one of starts
    (lines in constant memory). A question
    marked `is_impossible`, or with an empty list of answers, has the label (); plausible answers are no answers.
    labelled: without it answers may be missing, and then the label is None.
    on_bad: what is done with the error of a question whose answers don't stand in its context at their starts, or that
    is marked as impossible and answered; that question is left out. None: it is raised.

    Raises: NlpcliError naming the file, and the line or the question, for what is not in this format.
    """
    first, lines = begin(path)
    if begins_list(first):
        found = _of_objects(lines, path)
    elif _is_one_record(first):
        found = _of_lines(lines, path)
    else:
        found = _of_articles(lines, path)
    empty = True
    for record, context, place in found:
        empty = False
        try:
            example = _example(record, context, place, labelled=labelled)
        except BadAnswer as error:
            if on_bad is None:
                raise
            on_bad(error)
            continue
        yield example
    if empty:
        raise NlpcliError(f"{shown(path)}: no questions in it")


class BadAnswer(NlpcliError):
    """An answer that its context does not bear out."""


def parse_question(record: dict[str, Any], *, place: str, labelled: bool = False) -> Example:
    """One JSON object with `question` and `context`. Raises: NlpcliError as `read_questions`."""
    return _example(record, _member(record, "context", str, place), place, labelled=labelled)


Found = Iterator[tuple[dict[str, Any], str, str]]
"""Questions with their contexts and places."""


def _is_one_record(first: str) -> bool:
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "data" not in record


def _of_lines(lines: Iterable[tuple[int, str]], path: Path | str) -> Found:
    for number, line in lines:
        if not blank(line):
            place = f"{shown(path)}:{number}"
            record = parse_object(line, place)
            yield record, _member(record, "context", str, place), place


def _of_objects(lines: Iterable[tuple[int, str]], path: Path | str) -> Found:
    for record, place in read_objects(iter(lines), path):
        yield record, _member(record, "context", str, place), place


def _of_articles(lines: Iterable[tuple[int, str]], path: Path | str) -> Found:
    place = shown(path)
    text, begun = [], 1
    for number, line in lines:
        begun = number if not text else begun
        text.append(line)
    try:
        data = json.loads("".join(text))
    except json.JSONDecodeError as error:
        raise NlpcliError(
            f"{place}:{begun + error.lineno - 1}: not valid JSON ({error.msg})",
            hint="SQuAD's format is one JSON object; JSON lines have one object a line",
        ) from error
    except (ValueError, RecursionError) as error:
        raise NlpcliError(f"{place}: not valid JSON ({error})") from error
    if not isinstance(data, dict) or not isinstance(data.get("data"), list):
        raise NlpcliError(f"{place}: not SQuAD's format", hint='it looks like {"data": [{"paragraphs": [...]}]}')
    for a, article in enumerate(data["data"], start=1):
        where = f"{place}, article {a}"
        for p, paragraph in enumerate(_member(article, "paragraphs", list, where), start=1):
            where = f"{place}, article {a}, paragraph {p}"
            context = _member(paragraph, "context", str, where)
            for question in _member(paragraph, "qas", list, where):
                name = question.get("id", "") if isinstance(question, dict) else ""
                yield question, context, f"{place}, question {name}" if name else where


def _example(record: Any, context: str, place: str, *, labelled: bool) -> Example:
    question = as_text(_member(record, "question", str, place), "the question", place)
    id = as_text(record.get("id", ""), "the id", place)
    context = as_text(context, "the context", place)
    answers = _answers(record, place)
    impossible = record.get("is_impossible", False) is True
    if answers is None and impossible:
        answers = ()
    if answers is None and labelled:
        raise NlpcliError(f"{place}: no answers", hint="a question without an answer has an empty list of them")
    if answers and impossible:
        raise BadAnswer(f"{place}: marked as impossible, but it has the answer '{answers[0].text[:40]}'")
    for answer in answers or ():
        _check(answer, context, place)
    return Example((question, context), answers, place, id)


def _answers(record: dict[str, Any], place: str) -> tuple[Answer, ...] | None:
    found = record.get("answers")
    if found is None:
        return None
    if isinstance(found, dict):
        texts, starts = (_member(found, key, list, place) for key in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise NlpcliError(f"{place}: {len(texts)} texts of answers, but {len(starts)} starts")
        found = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(found, list):
        raise NlpcliError(f"{place}: 'answers' is no list")
    return tuple(_answer(answer, place) for answer in found)


def _answer(answer: Any, place: str) -> Answer:
    text = as_text(_member(answer, "text", str, place), "an answer", place)
    start = answer.get("answer_start")
    try:
        return Answer(text, int(start))
    except (TypeError, ValueError) as error:
        raise NlpcliError(f"{place}: 'answer_start' is {json.dumps(start)[:40]}, not a number") from error


def _check(answer: Answer, context: str, place: str) -> None:
    if not answer.text:
        raise BadAnswer(f"{place}: an empty answer")
    there = context[answer.start : answer.start + len(answer.text)] if answer.start >= 0 else ""
    if there == answer.text:
        return
    shown_text = answer.text if len(answer.text) <= 60 else f"{answer.text[:60]}…"
    if answer.start < 0 or answer.start >= len(context):
        raise BadAnswer(
            f"{place}: the answer '{shown_text}' starts at {answer.start}, outside its context of {len(context)} "
            "characters"
        )
    nearest = _nearest_start(answer, context)
    raise BadAnswer(
        f"{place}: the answer '{shown_text}' does not stand in its context at {answer.start}, there is '{there[:60]}'",
        hint="it does not stand in the context at all" if nearest is None else f"it stands at {nearest}",
    )


def _nearest_start(answer: Answer, context: str) -> int | None:
    before, after = (
        context.rfind(answer.text, 0, answer.start + len(answer.text)),
        context.find(answer.text, answer.start),
    )
    found = [start for start in (before, after) if start >= 0]
    return min(found, key=lambda start: abs(start - answer.start)) if found else None


def _member(record: Any, key: str, kind: type, place: str) -> Any:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        what = {str: "a text", list: "a list"}[kind]
        problem = "there is no" if value is None else f"it is not {what}:"
        raise NlpcliError(f"{place}: {problem} '{key}'", hint=f"questions need '{key}', {what}")
    return value
