"""The tags of training examples: which there are, and how they mark entities, if they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nlpcli.config.counting import counted
from nlpcli.data.examples import Example
from nlpcli.data.tag_schemes import (
    SCHEMES,
    check_tags,
    convert_scheme,
    detect_scheme,
    entities,
    scheme_name,
    split_tag,
)
from nlpcli.errors import NlpcliError, nearest

_UNCHANGED = ("BIO", "IOBES", "BILOU")  # a prefix marks the start of an entity, so that each tag has one meaning
_NEARLY_ALL = 0.95  # of the words' tags: the others count as mistakes
_SHOWN = 5
_LETTERS = {"BIO": "BI", "IOBES": "BIES", "BILOU": "BILU"}


@dataclass(frozen=True)
class Tags:
    """names: all tags a model can give. scheme: in which tags mark entities, one of BIO, IOBES and BILOU, or None.

    Tags that mark entities are rewritten in this scheme, whatever scheme they come in, as conlleval reads them.
    """

    names: list[str]
    scheme: str | None

    @classmethod
    def found(cls, examples: Sequence[Example], scheme: str = "auto") -> tuple[Tags, list[str]]:
        """The tags of training examples, and remarks on them.

        scheme: the one to write them in, `none` for tags that mark no entities; `auto`: that of the examples, BIO for
        IOB1, IOE1 and IOE2, where the tag of a word alone does not mark the start of an entity.

        Raises: NlpcliError, naming the place, for examples without tags, with one tag only, for a scheme that the tags
            don't follow, and, with `auto`, for the few tags that mark no entities where nearly all others do.
        """
        for example in examples:
            _check_length(example)
        sentences = [example.label for example in examples]
        different = {tag: example for example in reversed(examples) for tag in example.label}
        if len(different) < 2:
            where = f"{examples[0].place}: " if examples else ""
            raise NlpcliError(
                f"{where}all words of the training examples have the same tag '{next(iter(different), '')}'",
                hint="name the column of the tags with --label",
            )
        if scheme == "auto":
            _check_slips(examples)
        if scheme == "none" or (scheme == "auto" and not _mark_entities(different)):
            return cls(sorted(different), None), []
        for tag, example in different.items():
            if not _is_entity_tag(tag):
                raise NlpcliError(
                    f"{example.place}: the tag '{tag}' is not a tag of the scheme {scheme}",
                    hint="use --set head.scheme=none if the tags are not entity tags",
                )
        written = detect_scheme(sentences)
        notes = []
        if written is None:
            written, note = _nearest_scheme(examples)
            notes.append(note)
        chosen = (written if written in _UNCHANGED else "BIO") if scheme == "auto" else scheme_name(scheme)
        if chosen != written:
            notes.append(f"the tags use the scheme {written}; the model uses {chosen} in training and in its output")
        types = sorted({entity.type for tags in sentences for entity in entities(tags)})
        suffixes = ["" if kind == "_" else f"-{kind}" for kind in types]
        return cls(["O", *(letter + suffix for suffix in suffixes for letter in _LETTERS[chosen])], chosen), notes

    def of(self, example: Example) -> list[str]:
        """The tags of an example in this scheme. Raises: NlpcliError, naming its place, for tags of no entities."""
        _check_length(example)
        if self.scheme is None:
            return list(example.label)
        try:
            return convert_scheme(example.label, None, self.scheme)
        except NlpcliError as error:
            raise NlpcliError(f"{example.place}: {error}") from None


def _check_length(example: Example) -> None:
    if not isinstance(example.label, (tuple, list)):
        raise NlpcliError(f"{example.place}: the tags are missing")
    if len(example.label) != len(example.texts):
        raise NlpcliError(
            f"{example.place}: the sentence has {counted(len(example.texts), 'word')} "
            f"but {counted(len(example.label), 'tag')}"
        )


def _is_entity_tag(tag: str) -> bool:
    try:
        split_tag(tag)
    except NlpcliError:
        return False
    return True


def _mark_entities(tags: Iterable[str]) -> bool:
    """Whether all are O or have a prefix, and some a type as well: a part of speech may be called S or I."""
    return all(map(_is_entity_tag, tags)) and any("-" in tag for tag in tags)


def _check_slips(examples: Sequence[Example]) -> None:
    """Raises: NlpcliError, naming them, for some tags that mark no entities where nearly all others do."""
    counts = Counter(tag for example in examples for tag in example.label)
    proper = [tag for tag in counts if _is_entity_tag(tag)]
    right, total = sum(counts[tag] for tag in proper), sum(counts.values())
    if right == total or right < _NEARLY_ALL * total or not any(tag.startswith(("B-", "I-")) for tag in proper):
        return
    slips = [
        (tag, f"'{tag}' ({example.place}, word {number})")
        for example in examples
        for number, tag in enumerate(example.label, 1)
        if tag not in proper
    ]
    shown = ", ".join(place for _, place in slips[:_SHOWN])
    more = f" and {len(slips) - _SHOWN:,} more" if len(slips) > _SHOWN else ""
    are = "is not an entity tag" if len(slips) == 1 else "are not entity tags"
    near = nearest(slips[0][0], [tag for tag in proper if tag != "O"])
    meant = f"did you mean '{near}'? " if near else ""
    raise NlpcliError(
        f"{shown}{more} {are}, but nearly all other tags are",
        hint=f"{meant}if not, --set head.scheme=none accepts any tags",
    )


def _nearest_scheme(examples: Sequence[Example]) -> tuple[str, str]:
    """The scheme with the fewest tags that it would not write, and a sentence about them."""
    problems = {
        scheme: [(example, found) for example in examples if (found := check_tags(example.label, scheme))]
        for scheme in SCHEMES
    }
    counts = {scheme: sum(len(found) for _, found in some) for scheme, some in problems.items()}
    best = min(SCHEMES, key=lambda scheme: counts[scheme])
    example, found = problems[best][0]
    many = f"{counted(counts[best], 'tag')} {'is' if counts[best] == 1 else 'are'}"
    return best, f"{many} not valid in the scheme {best} and read as conlleval reads them; {example.place}: {found[0]}"
