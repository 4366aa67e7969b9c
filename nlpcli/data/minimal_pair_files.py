"""Minimal pairs: an acceptable sentence beside one that differs from it in a single point and is unacceptable.

BLiMP (Warstadt et al. 2020) is distributed as one file of JSON lines for each paradigm, a kind of pair that is made by
one template; paradigms belong to a phenomenon, and phenomena to a field of linguistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nlpcli.data.columns import squashed
from nlpcli.data.open_text import STDIN, check_opens, display_name, inner_suffix
from nlpcli.data.readers import blank
from nlpcli.data.table_rows import Row, as_text, read_rows
from nlpcli.errors import NlpcliError

_GOOD = ("sentencegood", "good", "acceptable", "grammatical")
_BAD = ("sentencebad", "bad", "unacceptable", "ungrammatical")
_PARADIGM, _PHENOMENON, _FIELD = ("uid", "paradigm"), ("linguisticsterm", "phenomenon"), ("field",)
_NAMES = frozenset((*_GOOD, *_BAD))
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".tsv", ".csv")


@dataclass(frozen=True)
class MinimalPair:
    """good, bad: the sentences. paradigm: BLiMP's UID, or the name of the file. phenomenon, field: None where the file
    names none. place: file and line."""

    good: str
    bad: str
    paradigm: str
    phenomenon: str | None
    field: str | None
    place: str


def pair_files(names: Iterable[Path | str]) -> list[str]:
    """The files that are named, and in place of a folder the files of pairs in it, by name.

    Raises: NlpcliError for a file that is not there, and for a folder without such files.
    """
    found: list[str] = []
    for name in names:
        if str(name) == STDIN or not Path(name).is_dir():
            check_opens(name)
            found.append(str(name))
            continue
        inside = sorted(
            str(path) for path in Path(name).iterdir() if path.is_file() and inner_suffix(path) in _SUFFIXES
        )
        if not inside:
            raise NlpcliError(
                f"{name} contains no file of minimal pairs (.jsonl, .tsv or .csv)",
                hint="name the folder that holds the files themselves, such as data/ of BLiMP",
            )
        found += inside
    return found


def read_pairs(names: Iterable[Path | str]) -> Iterator[MinimalPair]:
    """The pairs in files and folders of them, in constant memory; files may be compressed.

    JSON lines have BLiMP's fields `sentence_good`, `sentence_bad` and, where there are any, `UID`, `linguistics_term`
    and `field`. Tables have columns with these names, or without a header two columns, the acceptable sentence first.
    BLiMP spells one field in two ways, `syntax/semantics` and `syntax_semantics`; both are the latter here.

    Raises: NlpcliError, with file and line, for anything that is not a pair.
    """
    for name in pair_files(names):
        for row in read_rows(name, "auto", _is_header):
            yield _pair(row, _stem(name))


def _is_header(cells: Sequence[str]) -> bool:
    return bool(_NAMES & {squashed(cell) for cell in cells})


def _stem(name: str) -> str:
    """`adjunct_island` of `data/adjunct_island.jsonl.gz`."""
    stem = display_name(name) if name == STDIN else Path(name).name
    suffix = inner_suffix(name)
    return stem[: stem.lower().rindex(suffix)] if suffix in _SUFFIXES and suffix else stem


def _pair(row: Row, stem: str) -> MinimalPair:
    if row.names is None:
        if len(row.cells) != 2:
            raise NlpcliError(
                f"{row.place}: a minimal pair without a header needs 2 columns, but there are {len(row.cells)}",
                hint="put the acceptable sentence first, then a tab, then the unacceptable one",
            )
        good, bad = row.cells
        cells: dict[str, object] = {}
    else:
        cells = {squashed(name): cell for name, cell in zip(row.names, row.cells, strict=False)}
        good, bad = _wanted(cells, _GOOD, row), _wanted(cells, _BAD, row)
    sentences = (
        as_text(good, "the acceptable sentence", row.place),
        as_text(bad, "the unacceptable sentence", row.place),
    )
    for sentence, kind in zip(sentences, ("acceptable", "unacceptable"), strict=True):
        if blank(sentence):
            raise NlpcliError(f"{row.place}: the {kind} sentence is blank")
    field = _named(cells, _FIELD, row.place)
    return MinimalPair(
        *sentences,
        paradigm=_named(cells, _PARADIGM, row.place) or stem,
        phenomenon=_named(cells, _PHENOMENON, row.place),
        field=field and field.replace("/", "_"),
        place=row.place,
    )


def _wanted(cells: dict[str, object], names: Sequence[str], row: Row) -> object:
    for name in names:
        if name in cells:
            return cells[name]
    field = "sentence_good" if names is _GOOD else "sentence_bad"
    raise NlpcliError(
        f"{row.place}: there is no field '{field}'", hint=f"the fields are: {', '.join(row.names or ()) or 'none'}"
    )


def _named(cells: dict[str, object], names: Sequence[str], place: str) -> str | None:
    for name in names:
        if cells.get(name) not in (None, ""):
            return as_text(cells[name], f"the field '{name}'", place)
    return None
