"""Normal forms of tokens, in which the tokens of different kinds of tokenizers can be compared.

`▁dog` of SentencePiece, `Ġdog` of byte-level BPE and `dog` of WordPiece are all "dog" at the start of a word; `dog`,
`dog` and `##dog` are all "dog" inside of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from nlpcli.text.byte_bpe import byte_alphabet
from nlpcli.text.detokenization import SPACE_MARK
from nlpcli.text.huggingface_tokenizer import parse
from nlpcli.text.tokenizer import Tokenizer
from nlpcli.text.wordpiece import CONTINUATION

START, INSIDE, END, BYTE = "start", "inside", "end", "byte"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_BYTE_OF = {char: value for value, char in enumerate(byte_alphabet())}


class Spelling(NamedTuple):
    """text: in UTF-8, or part of it, without a space or mark before. place: at the `start` of a word, `inside` of one
    (or of no telling where), at the `end` of one for the kind that marks ends (GPT), or a single `byte` that is no
    character."""

    text: bytes
    place: str


def spellings(tokenizer: Tokenizer) -> list[Spelling | None]:
    """The normal form of every id; None for special and unused ids."""
    read = _reader(tokenizer)
    special = tokenizer.special.all()
    tokens = tokenizer.model.pieces
    found = [None if id_ in special or not token else read(token) for id_, token in enumerate(tokens)]
    return found + [None] * (tokenizer.vocab_size - len(tokens))


def words_of(tokenizer: Tokenizer) -> dict[int, str]:
    """The ids whose tokens are the start of a word, and with luck all of it, with their text."""
    return {
        id_: spelling.text.decode("utf-8", "replace")
        for id_, spelling in enumerate(spellings(tokenizer))
        if spelling is not None and spelling.place == START and spelling.text
    }


def _reader(tokenizer: Tokenizer) -> Callable[[str], Spelling]:
    if tokenizer.kind == "wordpiece":
        return lambda token: _prefixed(token, CONTINUATION)
    if tokenizer.kind == "byte-bpe":
        return _of_bytes
    if tokenizer.kind == "words":
        return _of_words
    if tokenizer.kind == "huggingface":
        return _huggingface_reader(tokenizer.model.to_bytes())
    return _marked  # SentencePiece's way: unigram, bpe, marian; and characters, where the space is a token


def _huggingface_reader(data: bytes) -> Callable[[str], Spelling]:
    content = parse(data)
    kind = content["model"]["type"]
    if kind == "WordPiece":
        prefix = content["model"]["continuing_subword_prefix"]
        return lambda token: _prefixed(token, prefix)
    if kind == "WordLevel":
        return _of_words
    decoder = content["decoder"] or {"type": None}
    decoders = {part["type"]: part for part in decoder.get("decoders", [decoder])}
    if "ByteLevel" in decoders:
        return _of_bytes
    if "BPEDecoder" in decoders:
        suffix = decoders["BPEDecoder"]["suffix"]
        return lambda token: _suffixed(token, suffix)
    return _marked


def _prefixed(token: str, prefix: str) -> Spelling:
    if token.startswith(prefix) and token != prefix:
        return Spelling(token.removeprefix(prefix).encode(), INSIDE)
    return Spelling(token.encode(), START)


def _suffixed(token: str, suffix: str) -> Spelling:
    if token.endswith(suffix):
        return Spelling(token.removesuffix(suffix).encode(), END)
    return Spelling(token.encode(), INSIDE)


def _of_words(token: str) -> Spelling:
    return _byte(token) or Spelling(token.encode(), START)


def _marked(token: str) -> Spelling:
    if token.startswith(SPACE_MARK):
        return Spelling(token[1:].replace(SPACE_MARK, " ").encode(), START)
    return _byte(token) or Spelling(token.replace(SPACE_MARK, " ").encode(), INSIDE)


def _of_bytes(token: str) -> Spelling:
    if not all(char in _BYTE_OF for char in token):  # a word of its own beside the bytes' tokens
        return Spelling(token.encode(), INSIDE)
    text = bytes(_BYTE_OF[char] for char in token)
    if text.startswith(b" "):
        return Spelling(text[1:], START)
    if len(text) == 1 and (text[0] >= 0x80 or text[0] < 0x20):
        return Spelling(text, BYTE)
    return Spelling(text, INSIDE)


def _byte(token: str) -> Spelling | None:
    found = _BYTE.fullmatch(token)
    return Spelling(bytes([int(found[1], 16)]), BYTE) if found else None
