"""JSON objects in text: one a line, or a whole file that is a list of them; and the values under their keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, overload

from nlpcli.config.json_errors import json_reason
from nlpcli.data.open_text import display_name, inner_suffix
from nlpcli.errors import NlpcliError, nearest
from nlpcli.escaping import shortened

_SHOWN_KEYS, _SHOWN_CHARACTERS = 20, 40
_LINE_HINT = "each line must be one JSON object"

Line = tuple[int, str]


def parse_object(text: str, place: str, *, numbers: bool = False, hint: str = _LINE_HINT) -> dict[str, Any]:
    """One JSON object. numbers: as numbers; otherwise they are the strings that they are in the text.

    Raises: NlpcliError for text that is not JSON or not an object, and for a key that stands twice in an object.
    """
    try:
        record = _decoder(numbers).decode(text)
    except _Twice as error:
        raise error.at(place) from None
    except (ValueError, RecursionError) as error:
        raise NlpcliError(f"{place}: this is not valid JSON ({json_reason(error)})", hint=hint) from error
    return _checked(record, place)


@overload
def read_objects(
    lines: Iterable[Line], path: Path | str, *, numbers: bool = False, blank_lines: Literal[False] = False
) -> Iterator[tuple[dict[str, Any], str]]: ...


@overload
def read_objects(
    lines: Iterable[Line], path: Path | str, *, numbers: bool = False, blank_lines: bool
) -> Iterator[tuple[dict[str, Any] | None, str]]: ...


def read_objects(
    lines: Iterable[Line], path: Path | str, *, numbers: bool = False, blank_lines: bool = False
) -> Iterator[tuple[dict[str, Any] | None, str]]:
    """The objects in numbered lines with the place of each: JSON lines, as they come; or a whole file at once that is a
    list of objects, or, where its name ends with .json, an object that holds one such list (or is the only record).

    blank_lines: each blank line between JSON lines gives None with its place; else it is skipped.
    Raises: NlpcliError as `parse_object`, naming file and line.
    """
    lines, last, first = iter(lines), 0, None
    for last, line in lines:
        if not _is_blank(line):
            first = (last, line)
            break
    if first is None:
        yield from ((None, f"{display_name(path)}:{number}") for number in range(1, last + 1) if blank_lines)
        return
    begun, is_list = [first], first[1].lstrip().startswith("[")
    if not is_list and inner_suffix(path) == ".json":
        begun += _up_to_text(lines)
        is_list = _is_blank(begun[-1][1]) or len(begun) == 1 or not _is_object(first[1])
    lines = chain(begun, lines)
    if is_list:
        yield from _in_document((line for line in lines if not _is_blank(line[1])), path, numbers=numbers)
        return
    if blank_lines:
        yield from ((None, f"{display_name(path)}:{number}") for number in range(1, first[0]))
    for number, line in lines:
        place = f"{display_name(path)}:{number}"
        if not _is_blank(line):
            yield parse_object(line, place, numbers=numbers), place
        elif blank_lines:
            yield None, place


def begins_list(first: str) -> bool:
    """Whether a first line begins a list of JSON objects."""
    text = first.strip()
    return text.startswith("[") and text[1:].lstrip()[:1] in ("{", "")


def member(record: Mapping[str, Any], name: str) -> Any:
    """The value under a key; else the one at a path, whose keys (and places in lists, from 0) points separate.

    Of `data.text` a key that is spelled so counts first, then `text` in `data`.
    Raises: KeyError for anything that is not there.
    """
    if name in record:
        return record[name]
    return _at(record, name.split("."))


def text_member(record: Mapping[str, Any], name: str, place: str, *, hint: str = "") -> str:
    """The text that `member` finds. hint: is added to the list of the fields.

    Raises: NlpcliError, naming `place`, for a field that is not there or that holds no Unicode text.
    """
    try:
        text = member(record, name)
    except KeyError:
        near = nearest(name, record)
        there = f"the fields are: {shown_keys(list(record))}{hint}"
        raise NlpcliError(
            f"{place}: there is no field '{name}'", hint=f"did you mean '{near}'?" if near else there
        ) from None
    if not isinstance(text, str):
        raise NlpcliError(f"{place}: the field '{name}' must be text, not {shortened(json.dumps(text), 40)}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise NlpcliError(f"{place}: the field '{name}' contains half of a surrogate pair, which is not valid Unicode")
    return text


def shown_keys(keys: Sequence[str]) -> str:
    """Keys as a sentence shows them: on one line, and not without end."""
    some = [" ".join(key.split())[:_SHOWN_CHARACTERS] for key in keys[:_SHOWN_KEYS]]
    return ", ".join(some) + (", …" if len(keys) > len(some) else "") or "none"


class _Twice(ValueError):
    """A key that stands twice in one object. places: of both among its keys, from 1."""

    def __init__(self, key: str, places: tuple[int, int]) -> None:
        super().__init__(key)
        self.key, self.places = key, places

    def at(self, place: str) -> NlpcliError:
        first, second = self.places
        return NlpcliError(
            f"{place}: the key '{shown_keys([self.key])}' occurs twice in an object, as key number {first} and "
            f"{second}",
            hint="give each key of an object a different name",
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        places: dict[str, int] = {}
        for place, (key, _) in enumerate(pairs, start=1):
            if key in places:
                raise _Twice(key, (places[key], place))
            places[key] = place
    return found


_AS_WRITTEN = json.JSONDecoder(object_pairs_hook=_unique, parse_float=str, parse_int=str, parse_constant=str)
_AS_NUMBERS = json.JSONDecoder(object_pairs_hook=_unique)


def _decoder(numbers: bool) -> json.JSONDecoder:
    return _AS_NUMBERS if numbers else _AS_WRITTEN


def _checked(record: object, place: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise NlpcliError(
            f"{place}: this is not a JSON object", hint='each line must look like {"text": "...", "label": "..."}'
        )
    return record


def _is_blank(line: str) -> bool:
    return not line or line.isspace()


def _up_to_text(lines: Iterator[Line]) -> Iterator[Line]:
    """The next line with text, behind the blank lines before it."""
    for number, line in lines:
        yield number, line
        if not _is_blank(line):
            return


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _at(value: object, parts: Sequence[str]) -> Any:
    if not parts:
        return value
    if isinstance(value, list) and parts[0].isdecimal() and int(parts[0]) < len(value):
        return _at(value[int(parts[0])], parts[1:])
    if isinstance(value, dict):
        for end in range(len(parts), 0, -1):
            key = ".".join(parts[:end])
            if key in value:
                try:
                    return _at(value[key], parts[end:])
                except KeyError:
                    continue
    raise KeyError(".".join(parts))


def _in_document(lines: Iterable[Line], path: Path | str, *, numbers: bool) -> Iterator[tuple[dict[str, Any], str]]:
    """The records of a file that is one JSON value, read as a whole."""
    numbered = list(lines)
    text = "\n".join(line.rstrip("\r\n") for _, line in numbered)
    line_of = _LineOf([number for number, _ in numbered])
    name, decoder = display_name(path), _decoder(numbers)
    if text.lstrip().startswith("["):
        yield from _listed(text, decoder, lambda at: f"{name}:{line_of(text, at)}")
        return
    place = f"{name}:{numbered[0][0]}"
    try:
        document = decoder.decode(text)
    except _Twice as error:
        raise error.at(name) from None
    except json.JSONDecodeError as error:
        where = f"{name}:{line_of(text, error.pos)}"
        raise NlpcliError(f"{where}: this is not valid JSON ({error.msg})", hint=_FILE_HINT) from error
    except (ValueError, RecursionError) as error:
        raise NlpcliError(f"{name}: this is not valid JSON ({json_reason(error)})", hint=_FILE_HINT) from error
    document = _checked(document, place)
    lists = [key for key, value in document.items() if isinstance(value, list) and value and _all_objects(value)]
    if len(lists) > 1:
        raise NlpcliError(
            f"{name} contains several lists of records: {shown_keys(lists)}",
            hint="save the list that you need in a separate file",
        )
    if not lists:
        yield document, place
    for number, record in enumerate(document[lists[0]] if lists else (), start=1):
        yield record, f"{name}, record {number} of '{shown_keys(lists)}'"


_FILE_HINT = "a .json file must contain a list of objects, or one object on each line"


def _all_objects(values: Sequence[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _listed(text: str, decoder: json.JSONDecoder, place: Callable[[int], str]) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a list, each as soon as it is parsed."""
    at = _skip(text, text.index("[") + 1)
    while text[at : at + 1] != "]":
        begun = at
        try:
            record, at = decoder.raw_decode(text, at)
        except _Twice as error:
            raise error.at(place(begun)) from None
        except (ValueError, RecursionError) as error:
            where = place(error.pos if isinstance(error, json.JSONDecodeError) else begun)
            raise NlpcliError(f"{where}: this is not valid JSON ({json_reason(error)})", hint=_FILE_HINT) from error
        if not isinstance(record, dict):
            raise NlpcliError(f"{place(begun)}: this item of the list is not a JSON object", hint=_FILE_HINT)
        yield record, place(begun)
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise NlpcliError(
                f"{place(at)}: this is not valid JSON (a comma or the end of the list is missing)", hint=_FILE_HINT
            )
    if _skip(text, at + 1) < len(text):
        raise NlpcliError(f"{place(at)}: there is text after the end of the list", hint=_FILE_HINT)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


class _LineOf:
    """The number of the line at a place of the text, for places that only grow."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers
        self._at = self._lines = 0

    def __call__(self, text: str, at: int) -> int:
        at = max(at, self._at)
        self._lines += text.count("\n", self._at, at)
        self._at = at
        return self._numbers[min(self._lines, len(self._numbers) - 1)]
