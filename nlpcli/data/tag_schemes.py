"""Entities written as one tag a word: reading, checking and rewriting them.

A tag is `O`, or a prefix and a type (`B-PER`), or a prefix alone (an entity without a type, which is then `_`). With
an entity of type X over n words:

    BIO (IOB2)   B-X I-X ... I-X
    IOB1         I-X ... I-X; the first word is B-X only where an entity of type X ends right before it
    IOE2         I-X ... I-X E-X
    IOE1         I-X ... I-X; the last word is E-X only where an entity of type X begins right after it
    IOBES        B-X I-X ... E-X, a single word S-X (BIOES)
    BILOU        B-X I-X ... L-X, a single word U-X

Sources: Ramshaw and Marcus 1995 (IOB1); Tjong Kim Sang and Veenstra 1999 (IOB2, IOE1, IOE2); Ratinov and Roth 2009
(BILOU).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError, unknown

SCHEMES = ("BIO", "IOBES", "BILOU", "IOE2", "IOB1", "IOE1")
"""The schemes, in the order in which they are tried by `detect_scheme`."""

_NAMES = {"IOB2": "BIO", "BIOES": "IOBES", "IOB": "IOB1", "IOE": "IOE1"}
_PREFIXES = frozenset("BIELSU")
_BEGINNING, _ENDING = frozenset("BSU"), frozenset("ESLU")  # prefixes that always begin, or end, an entity
_NO_TYPE = "_"


class Entity(NamedTuple):
    """An entity of the words start to end, end not included."""

    type: str
    start: int
    end: int


class TagProblem(NamedTuple):
    """A tag that its scheme would not write there, and the one that it would."""

    position: int
    tag: str
    expected: str

    def __str__(self) -> str:
        if self.expected:
            return f"word {self.position + 1} has the tag '{self.tag}', but '{self.expected}' is expected"
        return f"word {self.position + 1} has the tag '{self.tag}', which is not a valid tag"


def split_tag(tag: str) -> tuple[str, str]:
    """Prefix and type of a tag; ("O", "") outside. Raises: NlpcliError for anything else."""
    if tag == "O":
        return "O", ""
    if tag[:1] in _PREFIXES and (len(tag) == 1 or (tag[1] == "-" and len(tag) > 2)):
        return tag[0], tag[2:] or _NO_TYPE
    raise NlpcliError(
        f"'{tag}' is not a valid tag",
        hint="a tag is O, or a prefix (B, I, E, S, L or U), a hyphen and a type, such as B-PER",
    )


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of one sentence, whatever the scheme, in order.

    Read as conlleval and seqeval read them: every word that is not O belongs to an entity, and a new one begins at
    B, S and U, after E, S, L and U, after O, and where the type changes. So wrong sequences have entities, too: an I
    after O begins one. (L and U, which seqeval's default mode lacks, count as E and S.)

    Raises: NlpcliError for a tag of another shape.
    """
    found: list[Entity] = []
    before, kind, start = "O", "", 0
    for position, tag in enumerate(tags):
        prefix, type_ = split_tag(tag)
        opens = prefix in _BEGINNING or before == "O" or before in _ENDING or type_ != kind
        if before != "O" and (prefix == "O" or opens):
            found.append(Entity(kind, start, position))
        if prefix != "O" and opens:
            start = position
        before, kind = prefix, type_
    if before != "O":
        found.append(Entity(kind, start, len(tags)))
    return found


def write_tags(entities: Sequence[Entity], length: int, scheme: str) -> list[str]:
    """The tags of a sentence of `length` words with these entities, in order and without overlap.

    Raises: NlpcliError for an unknown scheme or entities that overlap or leave the sentence.
    """
    scheme = scheme_name(scheme)
    tags = ["O"] * length
    last: Entity | None = None
    for number, entity in enumerate(entities):
        if entity.start < (last.end if last else 0) or not entity.start < entity.end <= length:
            raise NlpcliError(
                f"the entity {entity.type} (words {entity.start + 1} to {entity.end}) overlaps another one, "
                f"or is not inside its sentence of {counted(length, 'word')}"
            )
        following = entities[number + 1] if number + 1 < len(entities) else None
        letters = _letters(
            entity.end - entity.start,
            scheme,
            after_same=last is not None and (last.type, last.end) == (entity.type, entity.start),
            before_same=following is not None and (following.type, following.start) == (entity.type, entity.end),
        )
        suffix = "" if entity.type == _NO_TYPE else f"-{entity.type}"
        tags[entity.start : entity.end] = [letter + suffix for letter in letters]
        last = entity
    return tags


def check_tags(tags: Sequence[str], scheme: str) -> list[TagProblem]:
    """Where a sentence is not written as the scheme writes the entities that it is read as; [] for a valid one.

    Raises: NlpcliError for an unknown scheme.
    """
    scheme = scheme_name(scheme)
    shapeless = [TagProblem(position, tag, "") for position, tag in enumerate(tags) if not _is_tag(tag)]
    if shapeless:
        return shapeless
    expected = write_tags(entities(tags), len(tags), scheme)
    return [
        TagProblem(position, tag, right)
        for position, (tag, right) in enumerate(zip(tags, expected, strict=True))
        if tag != right
    ]


def strict_entities(tags: Sequence[str], scheme: str) -> list[Entity]:
    """Only those entities that are written exactly as the scheme writes them (seqeval's strict mode)."""
    found = entities(tags)
    written, expected = list(tags), write_tags(found, len(tags), scheme)
    return [entity for entity in found if written[entity.start : entity.end] == expected[entity.start : entity.end]]


def convert_scheme(tags: Sequence[str], source: str | None, target: str) -> list[str]:
    """The same entities in another scheme. With source None the tags are taken as they are read, errors and all.

    Raises: NlpcliError for an unknown scheme and for tags that the source scheme would not write.
    """
    if source is not None:
        problems = check_tags(tags, source)
        if problems:
            raise NlpcliError(f"the tags are not valid {scheme_name(source)}: {problems[0]}")
    return write_tags(entities(tags), len(tags), target)


def detect_scheme(sentences: Iterable[Sequence[str]]) -> str | None:
    """The first of `SCHEMES` in which all sentences are valid; None if they are in none."""
    left = list(SCHEMES)
    for tags in sentences:
        left = [scheme for scheme in left if not check_tags(tags, scheme)]
        if not left:
            return None
    return left[0]


def scheme_name(name: str) -> str:
    """One of `SCHEMES` from a usual name of it. Raises: NlpcliError."""
    upper = name.upper()
    upper = _NAMES.get(upper, upper)
    if upper not in SCHEMES:
        raise unknown("tag scheme", name, SCHEMES)
    return upper


def _letters(length: int, scheme: str, *, after_same: bool, before_same: bool) -> str:
    """The prefixes of an entity, one a word. after_same, before_same: whether an entity of its type touches it."""
    if scheme in ("IOBES", "BILOU"):
        inside, end, single = ("I", "E", "S") if scheme == "IOBES" else ("I", "L", "U")
        return single if length == 1 else "B" + inside * (length - 2) + end
    letters = "I" * length
    if scheme == "BIO" or (scheme == "IOB1" and after_same):
        letters = "B" + letters[1:]
    if scheme == "IOE2" or (scheme == "IOE1" and before_same):
        letters = letters[:-1] + "E"
    return letters


def _is_tag(tag: str) -> bool:
    return tag == "O" or (tag[:1] in _PREFIXES and (len(tag) == 1 or (tag[1] == "-" and len(tag) > 2)))
