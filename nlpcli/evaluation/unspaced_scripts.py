"""Texts whose script puts no spaces between words, for metrics that count what stands between spaces."""

from __future__ import annotations

import re
from collections.abc import Sequence

EAST_ASIAN = "Chinese or Japanese"
SOUTHEAST_ASIAN = "Thai, Lao, Khmer or Burmese"

_SCRIPTS = {
    EAST_ASIAN: re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"),  # kana and ideographs
    SOUTHEAST_ASIAN: re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"),
}
_WORD = {EAST_ASIAN: 3, SOUTHEAST_ASIAN: 8}  # characters; the mean between spaces is greater in a text that isn't cut
SAMPLE = 200
"""Lines enough to see in which script a text is written."""


def unspaced_script(lines: Sequence[str | None]) -> str | None:
    """`EAST_ASIAN` or `SOUTHEAST_ASIAN` if most characters are of such a script and no spaces part its words."""
    words = [word for line in lines[:SAMPLE] for word in (line or "").split()]
    characters = sum(map(len, words))
    for name, script in _SCRIPTS.items():
        found = [len(script.findall(word)) for word in words]
        if 2 * sum(found) > characters and sum(found) > _WORD[name] * sum(map(bool, found)):
            return name
    return None
