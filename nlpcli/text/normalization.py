"""Normalization of a text before tokenization. The default is none, so that nothing is lost."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import partial

from nlpcli.errors import unknown


def _identity(text: str) -> str:
    return text


def _nfkc_casefold(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


NORMALIZATIONS: dict[str, Callable[[str], str]] = {
    "identity": _identity,
    "nfc": partial(unicodedata.normalize, "NFC"),
    "nfkc": partial(unicodedata.normalize, "NFKC"),
    "nfkc_cf": _nfkc_casefold,
}


def normalizer(name: str, *, lowercase: bool = False) -> Callable[[str], str]:
    """The function str -> str of that name: Unicode's normal forms (UAX #15), `nfkc_cf` with case folding.

    Raises: NlpcliError for an unknown name.
    """
    if name not in NORMALIZATIONS:
        raise unknown("normalization", name, NORMALIZATIONS)
    normal = NORMALIZATIONS[name]
    if not lowercase:
        return normal
    if normal is _identity:
        return str.lower
    return lambda text: normal(text).lower()
