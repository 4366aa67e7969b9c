"""Reads a SentencePiece model file field by field (protocol buffers' wire format)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

UNIGRAM, BPE = 1, 2
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3  # fields of ModelProto in sentencepiece_model.proto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class SentencePieceFile:
    """pieces: (spelling, score) of every id. model_type: `UNIGRAM`, `BPE` or another number.
    normalization: the compiled rules that rewrite a text, empty for none."""

    pieces: list[tuple[str, float]]
    model_type: int
    unk: int
    normalization: bytes


def parse_spm(data: bytes) -> SentencePieceFile:
    """Raises: ValueError when the data is not a SentencePiece model."""
    pieces: list[tuple[str, float]] = []
    trainer: dict[int, int | bytes] = {}
    rules: dict[int, int | bytes] = {}
    for field, value in _fields(data):
        if field == _PIECE:
            piece = dict(_fields(_message(value)))
            score = struct.unpack("<f", _message(piece.get(2, bytes(4))))[0]
            pieces.append((_message(piece.get(1, b"")).decode(), score))
        elif field == _TRAINER:
            trainer = dict(_fields(_message(value)))
        elif field == _NORMALIZER:
            rules = dict(_fields(_message(value)))
    if not pieces:
        raise ValueError("the file contains no tokens")
    model_type, unk = trainer.get(3, UNIGRAM), trainer.get(40, 0)
    return SentencePieceFile(pieces, int(model_type), int(unk), _message(rules.get(2, b"")))


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a field contains a number instead of a message")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and content of each field."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield field, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"the wire type {wire} is unknown")
        if at + size > len(data):
            raise ValueError("the file ends too early")
        yield field, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("the file ends too early")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
