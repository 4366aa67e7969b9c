"""Error messages for a damaged or malicious `tokenizer.json`, from failures of the `tokenizers` library."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nlpcli.errors import NlpcliError

MOST_GROWTH = 1000


@contextmanager
def library_errors() -> Iterator[None]:
    """Turns the library's plain exceptions, and Rust's panics, which are not an `Exception`, into an `NlpcliError`."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise NlpcliError(
            f"tokenizer.json: its rules can't be applied ({error})",
            hint="the file may be damaged; get it again from where the model comes from",
        ) from None


def check_rules(content: Mapping[str, Any]) -> None:
    """Raises: NlpcliError if the rules of a `tokenizer.json` could need more memory than any machine has."""
    for name in ("normalizer", "decoder"):
        growth = 1
        for part in _parts(content.get(name)):
            growth *= max(1, _growth(part))
            if growth > MOST_GROWTH:
                raise NlpcliError(f"tokenizer.json: the {name} can make a text more than {MOST_GROWTH:,} times longer")
            _check_charsmap(part)


def _parts(part: Any) -> Iterator[Mapping[str, Any]]:  # whatever the file has
    """A rule and all that are in it."""
    waiting = [part]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            yield one
            waiting += [inner for listed in one.values() if isinstance(listed, list) for inner in listed]


def _growth(part: Mapping[str, Any]) -> int:
    """How many times longer a rule makes a text at most; a pattern may fit a single character."""
    added = part.get({"Prepend": "prepend", "Replace": "content"}.get(str(part.get("type")), ""))
    if not isinstance(added, str):
        return 1
    pattern = part.get("pattern")
    text = pattern.get("String") if isinstance(pattern, Mapping) else None
    return -(-len(added) // max(1, len(text))) if isinstance(text, str) else 1 + len(added)


def _check_charsmap(part: Mapping[str, Any]) -> None:
    charsmap = part.get("precompiled_charsmap")
    if isinstance(charsmap, str):
        try:
            data = base64.b64decode(charsmap)
        except (binascii.Error, ValueError):
            return  # the library reports it
        if not is_charsmap(data):
            raise NlpcliError("tokenizer.json: the compiled rules of the normalizer are damaged")


def is_charsmap(data: bytes) -> bool:
    """Whether SentencePiece's compiled rules are as long as they claim: the size of a trie, the trie, and texts."""
    return not data or (len(data) > 4 and int.from_bytes(data[:4], "little") <= len(data) - 4)
