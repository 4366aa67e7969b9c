"""The columns of a table, or keys of a JSON object, that contain the parts of an example."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nlpcli.config.counting import counted
from nlpcli.config.number_parsing import parse_float, parse_int
from nlpcli.errors import NlpcliError, nearest, unknown

FORMATS = ("auto", "tsv", "csv", "jsonl", "labeled-lines", "lines", "conll", "conllu", "squad")
HEADERS = ("auto", "yes", "no")

PAIRS = (
    ("sentence1", "sentence2"), ("texta", "textb"), ("text1", "text2"), ("premise", "hypothesis"),
    ("question1", "question2"), ("sentencea", "sentenceb"), ("#1string", "#2string"), ("question", "sentence"),
    ("question", "passage"), ("question", "context"), ("query", "passage"), ("query", "document"), ("s1", "s2"),
    ("text", "textpair"), ("text", "hypothesis"), ("anchor", "positive"),
)  # fmt: skip
"""Usual names of two texts that are read together, as `squashed` writes them; the first pair that is there counts."""

TEXTS = (
    "text", "sentence", "texta", "review", "dialogue", "article", "document", "content", "source", "input", "comment",
    "tweet", "utterance", "message", "question", "query", "title", "premise", "context",
)  # fmt: skip
"""Usual names of a single text, the likeliest first."""

LABELS = ("label", "labels", "goldlabel")
"""Usual names of what is to be predicted: before any of `TARGETS`."""

TARGETS = (
    "class", "category", "target", "score", "similarity", "quality", "isduplicate", "relatednessscore",
    "entailmentjudgment", "sentiment", "polarity", "acceptable", "acceptability", "emotion", "emotions", "intent",
    "rating", "stars", "relation", "summary", "highlights", "translation", "answer", "answerkey", "output", "reference",
)  # fmt: skip
"""More of them; where several are there, the user has to choose one."""

IDS = ("id", "idx", "index", "guid", "pairid", "fname")

_SHOWN_NAMES, _SHOWN_CHARACTERS = 20, 40
_FEWER = 2  # a column of labels has at most 1/2 as many different values as one of texts


@dataclass(frozen=True)
class Columns:
    """Which columns hold what, by name (header, JSON key) or by number counted from 1; None: found by usual names.

    format: one of FORMATS; `auto` goes by the file's name, then by its first line. header: whether the first row of a
    table names the columns; `auto`: it does if a column is selected by a name, or if two of its cells are usual names,
    or one that could hardly be data, such as `label` or `sentence1` (of one column: if it is any usual name).
    label: several columns by commas ("summary1,summary2") make a label of several parts. blank_lines: whether a blank
    line between rows is an example without text, as filters need it; else it is skipped.

    Raises: NlpcliError for a format or a header that is none of these, and for a column 0.
    """

    format: str = "auto"
    header: str = "auto"
    text: str | None = None
    text2: str | None = None
    label: str | None = None
    choices: tuple[str, ...] = ()
    id: str | None = None
    blank_lines: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("format", self.format, FORMATS)
        if self.header not in HEADERS:
            raise unknown("header setting", self.header, HEADERS)
        for name in self.named:
            if column_number(name) == 0:
                raise NlpcliError(f"there is no column {name}: columns are numbered from 1")

    @property
    def named(self) -> list[str]:
        """All requested columns."""
        label = self.label.split(",") if self.label else []
        return [name for name in (self.text, self.text2, *label, *self.choices, self.id) if name]

    def is_header(self, cells: Sequence[str]) -> bool:
        """Whether the first row of a table holds names."""
        if self.header != "auto":
            return self.header == "yes"
        if any(column_number(name) is None for name in self.named):
            return True
        names = {squashed(cell) for cell in cells}
        return bool(names & _SURE) or len(names & _KNOWN) >= min(2, len(cells))


@dataclass(frozen=True)
class CellRoles:
    """Which cells of a row hold what, counted from 0: texts, label (several: one of parts; None: no label), id."""

    texts: tuple[int, ...]
    label: tuple[int, ...] | None = None
    id: int | None = None

    @property
    def last(self) -> int:
        return max((*self.texts, *(self.label or ()), -1 if self.id is None else self.id))


def squashed(name: str) -> str:
    """A name without what names of the same column differ in: `Sentence_A` and `sentence-a`."""
    return re.sub(r"[^\w#]|_", "", name.lower())


def column_number(name: str) -> int | None:
    """The number, from 1, by which a column is selected; None where it is selected by its name."""
    return parse_int(name) if name.isascii() and name.isdecimal() else None


_KNOWN = frozenset(name for pair in PAIRS for name in pair).union(TEXTS, LABELS, TARGETS, IDS)
_SURE = frozenset(name for pair in PAIRS[:7] for name in pair if name not in ("premise", "hypothesis")).union(LABELS)


def usual_names(cells: Sequence[str]) -> int:
    """How many of the cells are usual names of columns."""
    return len({squashed(cell) for cell in cells} & _KNOWN)


def find(wanted: str, names: Sequence[str] | None, width: int, place: str) -> int:
    """The column with a name, or with a number counted from 1.

    Raises: NlpcliError for a column that is not there, or there twice.
    """
    if names is not None:
        found = [i for i, name in enumerate(names) if name == wanted]
        found = found or [i for i, name in enumerate(names) if name.lower() == wanted.lower()]
        if len(found) > 1:
            raise ambiguous(found, names, place, None)
        if found:
            return found[0]
    number = column_number(wanted)
    if number is not None:
        if number > width:
            raise NlpcliError(f"{place}: there is no column {wanted}; the row has {counted(width, 'column')}")
        return number - 1
    if names is None:
        raise NlpcliError(
            f"{place}: there is no column '{wanted}', because the table has no header",
            hint="give the number of the column, from 1",
        )
    near = nearest(wanted, names)
    raise NlpcliError(
        f"{place}: there is no column '{wanted}'; the columns are: {listed(names)}",
        hint=f"did you mean '{near}'?" if near else None,
    )


def by_names(columns: Columns, names: Sequence[str], *, texts: int | None, labelled: bool, place: str) -> CellRoles:
    """The places by the names of a header or of a JSON object.

    texts: how many there have to be; None: 2 if text2 is named, or if text is not and a usual pair is there; else 1.

    Raises: NlpcliError for a column that is not there, and where it is ambiguous which is meant.
    """
    width, usual = len(names), UsualColumns(names, place)
    first = None if columns.text is None else find(columns.text, names, width, place)
    second = None if columns.text2 is None else find(columns.text2, names, width, place)
    taken = {i for i in (first, second) if i is not None}
    found: tuple[int | None, ...] | None
    if texts == 1 or (texts is None and first is not None and second is None):
        found = (usual.first(TEXTS, taken, "--text") if first is None else first,)
    elif first is not None and second is not None:
        found = (first, second)
    else:
        found = usual.pair((first, second))
        if found is None and second is not None:
            found = (usual.first(TEXTS, taken, "--text"), second)
        elif found is None and texts is None:
            found = (usual.first(TEXTS, taken, "--text"),)
    places = tuple(i for i in found or () if i is not None)
    if found is None or len(places) < len(found):
        what = "the second text" if found is None and taken else "the texts" if found is None else "the text"
        raise _unclear_column(what, names, place, "--text2" if taken else "--text")
    id = find(columns.id, names, width, place) if columns.id else usual.first(IDS, set(places), None)
    label = _label(columns, names, usual, set(places), labelled=labelled, place=place)
    return CellRoles(places, label, id)


def by_numbers(
    columns: Columns, rows: Sequence[Sequence[str]], *, texts: int | None, labelled: bool, place: str
) -> CellRoles:
    """The places in a table without header, whose first rows are given.

    The columns that are not named are, from left to right, text, second text and label, as far as these are not named;
    two columns: text, label. But the label comes first where the first of them clearly holds labels: numbers only,
    beside other columns with other cells; or single words, with at most half as many different ones as the last
    column has different cells. Columns that are left over are an error unless all that is needed is named.

    Raises: NlpcliError for a column that is not there, and where it is ambiguous which is meant.
    """
    width = len(rows[0])
    named = {"text": columns.text, "text2": columns.text2}
    places: dict[str, Any] = {role: find(name, None, width, place) for role, name in named.items() if name is not None}
    if columns.label is not None:
        places["label"] = tuple(find(name, None, width, place) for name in columns.label.split(","))
    id = find(columns.id, None, width, place) if columns.id else None
    taken = {places.get("text"), places.get("text2"), *places.get("label", ()), id}
    rest = [i for i in range(width) if i not in taken]
    roles = ["text", "text2", "label"] if texts == 2 or "text2" in places else ["text", "label"]
    roles = [role for role in roles if role not in places]
    if texts is None and "text" in roles and "text2" not in places and len(rest) == len(roles) + 1:
        roles.insert(1, "text2")
    if len(rest) < len(roles) and "label" in roles:
        roles.remove("label")
    if roles == ["label"] and len(rest) > 1 and not labelled:
        roles = []
    if roles and len(rest) != len(roles):
        raise NlpcliError(
            f"{place}: the table has {counted(width, 'column')} and no header, so it is not clear what each contains",
            hint="give the numbers of the columns, such as --text 1 --label 2",
        )
    if roles and roles[-1] == "label" and len(roles) > 1 and _holds_labels(rows, rest[0], rest[-1]):
        roles = ["label", *roles[:-1]]
    places |= {role: (i,) if role == "label" else i for role, i in zip(roles, rest, strict=False)}
    if labelled and "label" not in places:
        raise NlpcliError(
            f"{place}: the label is missing; the row has only {counted(width, 'column')}",
            hint="put labels into a separate column; if the first word of each line is its label, use --format "
            "labeled-lines",
        )
    return CellRoles(tuple(places[role] for role in ("text", "text2") if role in places), places.get("label"), id)


def listed(names: Sequence[str]) -> str:
    """Names as a sentence shows them: on one line, and not without end."""
    some = [" ".join(name.split())[:_SHOWN_CHARACTERS] for name in names[:_SHOWN_NAMES]]
    return ", ".join(some) + (", …" if len(names) > len(some) else "") or "none"


class UsualColumns:
    """The columns that are found by usual names; a name that several columns have picks none of them."""

    def __init__(self, names: Sequence[str], place: str) -> None:
        self.names, self.place = names, place
        self._places: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            self._places.setdefault(squashed(name), []).append(i)

    def first(self, wanted: Iterable[str], taken: Collection[int], option: str | None) -> int | None:
        """The column with the first of the names that one has, `taken` ones left out; None where none has one.

        Raises: NlpcliError where several columns have it; without `option`, which names one, it is None then, too.
        """
        for name in wanted:
            found = [i for i in self._places.get(name, ()) if i not in taken]
            if len(found) > 1 and option is not None:
                raise ambiguous(found, self.names, self.place, option)
            if found:
                return found[0] if len(found) == 1 else None
        return None

    def all(self, wanted: Iterable[str], taken: Collection[int], option: str | None) -> list[int]:
        """The columns that have any of the names, one for each. Raises: NlpcliError as `first`."""
        found = (self.first([name], taken, option) for name in wanted)
        return [i for i in found if i is not None]

    def pair(self, explicit: Sequence[int | None]) -> tuple[int, int] | None:
        """The first pair of usual names that is there and has the requested columns. Raises: as `first`."""
        for names in PAIRS:
            places = [self._places.get(name, []) for name in names]
            if not all(places) or any(i is not None and i not in p for i, p in zip(explicit, places, strict=True)):
                continue
            for option, i, found in zip(("--text", "--text2"), explicit, places, strict=True):
                if i is None and len(found) > 1:
                    raise ambiguous(found, self.names, self.place, option)
            first, second = (found[0] if i is None else i for i, found in zip(explicit, places, strict=True))
            return first, second
        return None


def ambiguous(places: Sequence[int], names: Sequence[str], place: str, option: str | None) -> NlpcliError:
    """The error for columns, from 0, that all have the wanted name. option: the option that names one; None: the call
    gives the name itself, so its number goes in the same place."""
    numbers = [str(i + 1) for i in places]
    which = f"{', '.join(numbers[:-1])} and {numbers[-1]}"
    different = list(dict.fromkeys(names[i] for i in places))
    both = "both" if len(places) == 2 else "all"
    problem = f"are {both} named '{listed(different)}'"
    if len(different) > 1:
        problem = f"have names that mean the same: {listed(different)}"
    hint = f"choose one by its number, such as {option} {numbers[0]}"
    if option is None:
        hint = f"give the number of a column instead of its name: {' or '.join(numbers)}"
    return NlpcliError(f"{place}: columns {which} {problem}", hint=hint)


def _label(
    columns: Columns, names: Sequence[str], usual: UsualColumns, taken: set[int], *, labelled: bool, place: str
) -> tuple[int, ...] | None:
    if columns.label is not None:
        whole = columns.label in names or "," not in columns.label
        parts = [columns.label] if whole else columns.label.split(",")
        if not labelled and not any(part in names or column_number(part) is not None for part in parts):
            return None
        return tuple(find(part, names, len(names), place) for part in parts)
    option = "--label" if labelled else None
    sure = usual.first(LABELS, taken, option)
    if sure is not None:
        return (sure,)
    found = usual.all(TARGETS, taken, option)
    if len(found) == 1:
        return (found[0],)
    if len(found) > 1 and labelled:
        several = listed([names[i] for i in found])
        raise NlpcliError(f"{place}: several columns could be the label: {several}", hint="choose one with --label")
    references = [i for i, name in enumerate(names) if re.fullmatch(r"(summary|reference)\d+", squashed(name))]
    if references and not found:
        return tuple(references)
    if labelled:
        raise _unclear_column("the label", names, place, "--label")
    return None


def _unclear_column(what: str, names: Sequence[str], place: str, option: str) -> NlpcliError:
    return NlpcliError(
        f"{place}: it is not clear which column contains {what}; the columns are: {listed(names)}",
        hint=f"name the column with {option}",
    )


def _holds_labels(rows: Sequence[Sequence[str]], first: int, last: int) -> bool:
    left = [row[first] for row in rows if len(row) > max(first, last)]
    right = [row[last] for row in rows if len(row) > max(first, last)]
    if any(len(cell.split()) != 1 for cell in left):
        return False
    if all(parse_float(cell) is not None for cell in left):
        return not all(parse_float(cell) is not None for cell in right)
    return len(set(left)) * _FEWER <= len(set(right))
