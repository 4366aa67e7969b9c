"""Opening a tokenizer, of its own folder or of a model's, and describing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlpcli.models.model_folder import DESCRIPTION as MODEL
from nlpcli.models.model_folder import no_tokenizer
from nlpcli.runs.open_model import is_huggingface
from nlpcli.text import Tokenizer, load_tokenizer
from nlpcli.text.detokenization import BYTE_PIECES

_SHOWN_TOKENS = 20


def open_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer in a folder of its own, in a run's folder or in one of Hugging Face.

    Raises: NlpcliError as `load_tokenizer`.
    """
    inner = directory / "tokenizer"
    if is_huggingface(directory):
        from nlpcli.convert.tokenizer_in import read_json, read_tokenizer

        return read_tokenizer(directory, read_json(directory / "config.json"))
    if not (directory / "tokenizer.yaml").exists() and (inner / "tokenizer.yaml").exists():
        return load_tokenizer(inner)
    if (directory / MODEL).exists() and not (directory / "tokenizer.yaml").exists():
        raise no_tokenizer(directory)
    return load_tokenizer(directory)


def describe(tokenizer: Tokenizer) -> dict[str, Any]:
    """The description of a tokenizer: kind, size, special ids, options, fingerprint, and some of its tokens."""
    hidden = {*tokenizer.special.names.values(), *BYTE_PIECES}
    learned = [token for token in map(tokenizer.id_to_piece, range(tokenizer.vocab_size)) if token not in hidden]
    step = max(1, len(learned) // _SHOWN_TOKENS)
    settings = tokenizer.settings
    return {
        "kind": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "special": {name: id_ for id_, name in sorted(tokenizer.special.names.items())},
        "normalization": settings.normalization,
        "lowercase": settings.lowercase,
        "byte_fallback": settings.byte_fallback,
        "character_coverage": settings.character_coverage,
        "lossless": tokenizer.lossless,
        "trained": tokenizer.trained,
        "fingerprint": tokenizer.fingerprint,
        "example_tokens": learned[::step][:_SHOWN_TOKENS],
    }
