"""Text to ids and back: `load_tokenizer`, `train_tokenizer`, the table of kinds, and what every tokenizer can do.

Nothing heavy is imported until one of the names is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nlpcli.text.tokenizer_kinds import TOKENIZERS

if TYPE_CHECKING:
    from nlpcli.text.special_tokens import SpecialTokens
    from nlpcli.text.tokenizer import Tokenizer, load_tokenizer
    from nlpcli.text.tokenizer_training import train_tokenizer

__all__ = ["TOKENIZERS", "SpecialTokens", "Tokenizer", "load_tokenizer", "train_tokenizer"]

_HOMES = {
    "SpecialTokens": "nlpcli.text.special_tokens",
    "Tokenizer": "nlpcli.text.tokenizer",
    "load_tokenizer": "nlpcli.text.tokenizer",
    "train_tokenizer": "nlpcli.text.tokenizer_training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
