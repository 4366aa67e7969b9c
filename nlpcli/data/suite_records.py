"""How records of SuperGLUE and Russian SuperGLUE that are not pairs of texts become texts.

The questions of one paragraph, and the candidates for one gap, are an example each; their ids are `paragraph:question:
answer` and `passage:query:candidate`, so that those that belong together are found again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from nlpcli.config.counting import counted
from nlpcli.config.number_parsing import parse_int
from nlpcli.data.examples import Example, as_label
from nlpcli.data.table_rows import as_text
from nlpcli.errors import NlpcliError
from nlpcli.escaping import quoted

Record = dict[str, Any]
_Kind = TypeVar("_Kind")

_ENGLISH = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}
_RUSSIAN = {"cause": "Что было причиной этого?", "effect": "Что случилось в результате?"}
_GAP = "@placeholder"


def copa(record: Record, place: str) -> Iterator[Example]:
    """COPA: texts = (premise and question, first choice, second choice), label "0" or "1".

    Source: the questions are those of Roemmele et al. 2011, section 2.
    """
    return _alternatives(record, place, _ENGLISH)


def parus(record: Record, place: str) -> Iterator[Example]:
    """PARus: as COPA, with the questions in Russian."""
    return _alternatives(record, place, _RUSSIAN)


def wic(record: Record, place: str) -> Iterator[Example]:
    """WiC, RUSSE: texts = ("word: sentence1", sentence2); whether the word has the same sense in both."""
    word, first, second = (_text(record, key, place) for key in ("word", "sentence1", "sentence2"))
    yield Example((f"{word}: {first}", second), _label(record, place), place, _idx(record, place))


def wsc(record: Record, place: str) -> Iterator[Example]:
    """WSC, RWSD: texts = (the text with the pronoun between asterisks, the noun); whether the one stands for the other.

    The pronoun is `span2_text` at word `span2_index`, or the occurrence nearest to that word; a pronoun that the text
    doesn't have is not marked, but put after the text.

    Source: the marks are those of Raffel et al. 2020, section 2.4 and appendix D.
    """
    target = _member(record, "target", dict, place)
    text = _text(record, "text", place)
    noun, pronoun = _text(target, "span1_text", place), _text(target, "span2_text", place)
    marked = _marked(text, pronoun, _number(target, "span2_index", place))
    yield Example((marked, noun), _label(record, place), place, _idx(record, place))


def multirc(record: Record, place: str) -> Iterator[Example]:
    """MultiRC, MuSeRC: texts = (paragraph, "question answer") for each answer of each question; whether it is right."""
    passage = _member(record, "passage", dict, place)
    paragraph = re.sub(r"</?b>", "", re.sub(r"<br>", " ", _text(passage, "text", place)))
    for question in _member(passage, "questions", list, place):
        text = _text(question, "question", place)
        for answer in _member(question, "answers", list, place):
            id = ":".join(_idx(part, place) for part in (record, question, answer))
            yield Example((paragraph, f"{text} {_text(answer, 'text', place)}"), _label(answer, place), place, id)


def record(record: Record, place: str) -> Iterator[Example]:
    """ReCoRD: texts = (passage, query with a candidate in its gap) for each entity of the passage; "true" or "false".

    The candidates are the different texts of the passage's entities, in their order; the offset of an entity's end is
    that of its last character.
    """
    return _filled(record, place, last=1)


def rucos(record: Record, place: str) -> Iterator[Example]:
    """RuCoS: as ReCoRD, but the offset of an entity's end is that of the character after it."""
    return _filled(record, place, last=0)


def _alternatives(record: Record, place: str, questions: Mapping[str, str]) -> Iterator[Example]:
    kind = _text(record, "question", place)
    if kind not in questions:
        raise NlpcliError(f"{place}: 'question' must be 'cause' or 'effect', not {quoted(kind)}")
    premise, *choices = (_text(record, key, place) for key in ("premise", "choice1", "choice2"))
    yield Example((f"{premise} {questions[kind]}", *choices), _label(record, place), place, _idx(record, place))


def _filled(record: Record, place: str, *, last: int) -> Iterator[Example]:
    passage = _member(record, "passage", dict, place)
    text = _text(passage, "text", place)
    candidates: dict[str, None] = {}
    for entity in _member(passage, "entities", list, place):
        start, end = _number(entity, "start", place), _number(entity, "end", place) + last
        if not 0 <= start < end <= len(text):
            raise NlpcliError(
                f"{place}: the entity from character {start} to {end} is outside its passage of "
                f"{counted(len(text), 'character')}"
            )
        candidates.setdefault(text[start:end])
    shown = re.sub(r"\s*@highlight\s*", " ", text).strip()
    for query in _member(record, "qas", list, place):
        question, right = _text(query, "query", place), None
        if query.get("answers") is not None:
            right = {_text(answer, "text", place) for answer in _member(query, "answers", list, place)}
        group = f"{_idx(record, place)}:{_idx(query, place)}"
        for candidate in candidates:
            label = None if right is None else "true" if candidate in right else "false"
            yield Example((shown, question.replace(_GAP, candidate)), label, place, f"{group}:{candidate}")


def _marked(text: str, span: str, word: int) -> str:
    starts = [found.start() for found in re.finditer(r"\S+", text)]
    wanted = starts[word] if 0 <= word < len(starts) else 0
    found = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(span)}(?!\w)", text, re.IGNORECASE)]
    if not found:
        return f"{text} *{span}*"
    start, end = min(found, key=lambda place: abs(place[0] - wanted))
    return f"{text[:start]}*{text[start:end]}*{text[end:]}"


def _label(record: Record, place: str) -> str | None:
    label = as_label(record.get("label"), "the label", place)
    if isinstance(label, tuple):
        raise NlpcliError(f"{place}: the label must be text, not a list")
    return label


def _idx(record: object, place: str) -> str:
    return as_text(record.get("idx", "") if isinstance(record, dict) else "", "'idx'", place)


def _text(record: object, key: str, place: str) -> str:
    return as_text(_member(record, key, str, place), f"'{key}'", place)


def _number(record: object, key: str, place: str) -> int:
    value = record.get(key) if isinstance(record, dict) else None
    number = parse_int(value) if isinstance(value, str) else None
    if number is None:
        raise NlpcliError(f"{place}: '{key}' must be a whole number, not {quoted(value)}")
    return number


def _member(record: object, key: str, kind: type[_Kind], place: str) -> _Kind:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        names: dict[type, str] = {str: "text", list: "a list", dict: "a JSON object"}
        what = names[kind]
        problem = "is missing" if value is None else f"must be {what}, not {quoted(value)}"
        raise NlpcliError(f"{place}: the field '{key}' {problem}")
    return value
