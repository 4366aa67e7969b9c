"""Links between the words of sentence pairs, from a file in Pharaoh format: what guided alignment learns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.data.open_text import display_name
from nlpcli.data.readers import read_lines
from nlpcli.errors import NlpcliError
from nlpcli.evaluation.alignment_error_rate import Links, parse_links

Texts = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class WordLinks:
    """The links of all pairs: (links, 2), source word and target word, from 0; those of pair i begin at `starts[i]`."""

    pairs: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, index: int) -> np.ndarray:
        """The links (k, 2) of one pair."""
        return self.pairs[self.starts[index] : self.starts[index + 1]]

    @property
    def fingerprint(self) -> str:
        """Identifies these links."""
        return hashlib.sha256(self.starts.tobytes() + self.pairs.tobytes()).hexdigest()[:16]

    @classmethod
    def read(cls, path: str, texts: Texts) -> WordLinks:
        """All links of a file, sure and possible; a blank line is a pair without links.

        Raises: NlpcliError as `read_links`, and for a file without any link.
        """
        lines = [np.array(sorted(links.possible), dtype=np.int32).reshape(-1, 2) for links in read_links(path, texts)]
        starts = np.concatenate([[0], np.cumsum([len(line) for line in lines], dtype=np.int64)])
        if not starts[-1]:
            raise NlpcliError(f"{display_name(path)} contains no links", hint="a line lists links such as 0-0 1-2")
        return cls(np.concatenate(lines), starts)


def read_links(path: str, texts: Texts) -> list[Links]:
    """The links of each of `texts`, one line a pair, words counted from 0.

    Raises: NlpcliError, naming file and line, for anything that is not a link, for a link to a word that a text does
    not have, and for another number of lines.
    """
    found: list[Links] = []
    number = 0
    for number, line in enumerate(read_lines(path), start=1):
        if number <= len(texts):
            place = f"{display_name(path)}:{number}"
            links = parse_links(line, place)
            _check(links, texts[number - 1], place)
            found.append(links)
    if number != len(texts):
        raise NlpcliError(
            f"{display_name(path)} has {counted(number, 'line')}, but there are {counted(len(texts), 'sentence pair')}",
            hint="write one line of links for each pair; leave it blank where there are none",
        )
    return found


def _check(links: Links, texts: tuple[str, str], place: str) -> None:
    counts = [len(text.split()) for text in texts]
    for link in sorted(links.possible):
        for word, count, side in zip(link, counts, ("source", "target"), strict=True):
            if word >= count:
                raise NlpcliError(
                    f"{place}: the link {link[0]}-{link[1]} is outside of the pair, whose {side} has "
                    f"{counted(count, 'word')}, counted from 0",
                    hint="words are what white space separates; links are source-target, counted from 0",
                )
