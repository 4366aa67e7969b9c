"""Transcripts in the trn format of the NIST tools: the words of one utterance a line, then its id in parentheses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nlpcli.errors import NlpcliError

_UTTERANCE = re.compile(r"(.*?)\s*\(([^()\s]+)\)\s*", re.DOTALL)


def parse_trn(lines: Iterable[str], path: str) -> dict[str, str]:
    """The words of each utterance by its id, which is folded to lower case as sclite does.

    Blank lines and comments (`;;`) carry no utterance. Raises: NlpcliError with file and line for a line without an id
    or an id that was there before.
    """
    utterances: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";;"):
            continue
        found = _UTTERANCE.fullmatch(line)
        if found is None:
            raise NlpcliError(f"{path}:{number}: the line does not end with an utterance id in parentheses")
        words, identity = found.groups()
        if identity.lower() in utterances:
            raise NlpcliError(f"{path}:{number}: the utterance id '{identity}' occurs a second time")
        utterances[identity.lower()] = words
    return utterances


def in_order(utterances: dict[str, str], path: str, order: Iterable[str], order_path: str) -> list[str]:
    """The utterances in the order of another file's ids. Raises: NlpcliError when an id stands in one file only."""
    order = list(order)
    for identity in order:
        if identity not in utterances:
            raise NlpcliError(f"utterance '{identity}' of {order_path} is missing from {path}")
    known = set(order)
    for identity in utterances:
        if identity not in known:
            raise NlpcliError(f"utterance '{identity}' of {path} is missing from {order_path}")
    return [utterances[identity] for identity in order]
