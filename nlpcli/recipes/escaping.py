"""Any text as part of a page in Markdown."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"[\\`*_\[\]>|#~$&]|<(?!\s)")


def escaped(text: str) -> str:
    """`text` on one line, with a backslash before every character that would mean something to Markdown."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
