"""WikiText's files as plain documents: one paragraph a line, a blank line between articles, headings left out.

    python benchmarks/pretraining/prepare.py wikitext-2/train.txt > train.txt

Its marks of tokenisation inside words and numbers (` @-@ `, ` @,@ `, ` @.@ `) are undone. `<unk>` becomes one
character: cut into three pieces, one word in twenty would have pieces that anyone could guess from the other two.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from nlpcli.data.readers import read_lines

UNKNOWN = "¤"
_TITLE = re.compile(r"= [^=].*[^=] =|= [^=] =")
_HEADING = re.compile(r"=( =)* .* (= )*=")
_MARK = re.compile(r" @([-,.])@ ")


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """The paragraphs of the articles in `lines`; an empty one before each article but the first."""
    begun = False
    for line in lines:
        text = line.strip()
        if _TITLE.fullmatch(text):
            if begun:
                yield ""
            begun = False
        elif text and not _HEADING.fullmatch(text):
            begun = True
            yield _MARK.sub(r"\1", text).replace("<unk>", UNKNOWN)


if __name__ == "__main__":
    for paragraph in paragraphs(read_lines(Path(sys.argv[1]))):
        print(paragraph)
