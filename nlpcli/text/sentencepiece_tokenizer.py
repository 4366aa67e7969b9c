"""SentencePiece (Kudo & Richardson 2018): the unigram language model (Kudo 2018) and byte-pair merges (Sennrich 2016).

The library writes a space as U+2581 and so mistakes that character in a text for a space. Here U+2581 is spelled with
an escape character of a private plane before the library sees the text, and the escape character as well, so that
every text comes back as it was.
"""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import sentencepiece

from nlpcli.errors import NlpcliError
from nlpcli.text.bpe_dropout import MergeDropout, uniform
from nlpcli.text.detokenization import BYTE_PIECES, SPACE_MARK, join_surfaces, printable, word_starts
from nlpcli.text.offsets import Encoded, Span, moved_back
from nlpcli.text.subword_regularization import UnigramLattice
from nlpcli.text.tokenizer_model import TrainingOptions
from nlpcli.text.trainer_process import train
from nlpcli.text.vocabulary_limits import no_text, too_large, too_small

if TYPE_CHECKING:
    import numpy as np

ESCAPE = "\U000f2581"
_ESCAPED = str.maketrans({SPACE_MARK: ESCAPE + "1", ESCAPE: ESCAPE + "0"})
_UNESCAPED = {ESCAPE + "1": SPACE_MARK, ESCAPE + "0": ESCAPE}
_ESCAPE_PATTERN = re.compile(f"{ESCAPE}[01]")

_WORD = re.compile(f"{SPACE_MARK}[^{SPACE_MARK}]*")
_UNKNOWN_PENALTY = 10.0  # the library's: how much less probable than the rarest token an unknown character is

_LONGEST_SENTENCE = 4192  # bytes; the library's trainer leaves out what is longer
_THREADS = 4  # fixed, because the order of additions shows in the last digits of the scores
_ERRORS_ONLY = 2


def learn(sentences: Iterator[str], settings: Mapping[str, Any]) -> bytes:
    """The model that the library trains on sentences with its own settings."""
    sentencepiece.set_min_log_level(_ERRORS_ONLY)
    written = io.BytesIO()
    # a list, because an interrupt must not come up inside the library
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(list(sentences)), model_writer=written, **settings)
    return written.getvalue()


class _SentencePieces(ABC):
    """Common to both kinds; `model_type` is the library's name of the algorithm."""

    file_name: ClassVar[str] = "sentencepiece.model"
    model_type: ClassVar[str]

    def __init__(self, proto: bytes, *, lossless: bool) -> None:
        sentencepiece.set_min_log_level(_ERRORS_ONLY)
        self._proto = proto
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        self.lossless = lossless
        self._first_byte = self._processor.piece_to_id(BYTE_PIECES[0]) if lossless else None
        raw = [self._processor.id_to_piece(id_) for id_ in range(self._processor.vocab_size())]
        self.pieces = [printable(token) for token in raw]
        self.surfaces = [
            bytes([BYTE_PIECES.index(token)])
            if self._processor.is_byte(id_)
            else token.replace(SPACE_MARK, " ").encode()
            for id_, token in enumerate(raw)
        ]

    @classmethod
    def train(cls, texts: Iterable[str], options: TrainingOptions) -> _SentencePieces:
        """Raises: NlpcliError when the vocabulary size does not fit the text; it names the limit."""
        settings = {
            "model_type": cls.model_type,
            "vocab_size": options.vocab_size,
            "character_coverage": options.character_coverage,
            "byte_fallback": options.byte_fallback,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "add_dummy_prefix": True,
            "max_sentence_length": _LONGEST_SENTENCE,
            "num_threads": _THREADS,
            "minloglevel": _ERRORS_ONLY,
            **_special_arguments(options),
        }
        try:
            proto = train(learn, _sentences(texts), settings)
        except RuntimeError as error:
            raise _explained(str(error), options) from None
        return cls(proto, lossless=options.byte_fallback)

    @classmethod
    def from_bytes(cls, data: bytes, options: TrainingOptions) -> _SentencePieces:
        return cls(data, lossless=options.byte_fallback)

    def to_bytes(self) -> bytes:
        return self._proto

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._processor.encode(_escaped(texts), out_type=int, num_threads=1)

    def encode_with_offsets(self, texts: Sequence[str]) -> Encoded:
        escaped = _escaped(texts)
        all_ids = self._processor.encode(escaped, out_type=int, num_threads=1)
        all_tokens = self._processor.encode(escaped, out_type=str, num_threads=1)
        all_spans = []
        for text, changed, ids, tokens in zip(texts, escaped, all_ids, all_tokens, strict=True):
            spans = self._spans(ids, tokens)
            all_spans.append(spans if changed == text else moved_back(spans, _origins(text)))
        return all_ids, all_spans

    def _spans(self, ids: Sequence[int], tokens: Sequence[str]) -> list[Span]:
        """Tokens laid end to end are the text, with a space before it."""
        spans: list[Span] = []
        place, left = -1, 0  # left: bytes that the character at `place` still lacks
        for id_, token in zip(ids, tokens, strict=True):
            if self._first_byte is not None and self._first_byte <= id_ < self._first_byte + 256:
                left = (left or _length(id_ - self._first_byte)) - 1
                spans.append((place, place + 1))
                place += left == 0
            else:
                spans.append((max(place, 0), place + len(token)))
                place += len(token)
        return spans

    def sample(self, texts: Sequence[str], strength: float, rng: np.random.Generator) -> list[list[int]]:
        uniforms = uniform(rng)
        # no token goes over a space, so that the words of a text are independent of each other
        words = (_WORD.findall(SPACE_MARK + _escape(text).replace(" ", SPACE_MARK)) if text else [] for text in texts)
        return [self._spell_out(self._sample(found, strength, uniforms)) for found in words]

    @abstractmethod
    def _sample(self, words: list[str], strength: float, uniforms: Iterator[float]) -> Iterable[int]:
        """The ids of the words; a character that is not a token is -1 minus its code point."""

    def _spell_out(self, ids: Iterable[int]) -> list[int]:
        """Characters without a token as bytes, or a run of them as one unk, as the library has it."""
        spelled: list[int] = []
        unknown_before = False
        for id_ in ids:
            unknown = id_ < 0
            if not unknown:
                spelled.append(id_)
            elif self._first_byte is not None:
                spelled += [self._first_byte + value for value in chr(-1 - id_).encode()]
            elif not unknown_before:
                spelled.append(self._processor.unk_id())
            unknown_before = unknown
        return spelled

    def _learned(self) -> dict[str, tuple[int, float]]:
        """Spelling to (id, score) of all tokens that a text can be made of."""
        core = self._processor
        return {
            core.id_to_piece(id_): (id_, core.get_score(id_))
            for id_ in range(core.vocab_size())
            if not (core.is_byte(id_) or core.is_control(id_) or core.is_unknown(id_))
        }

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [_unescape(join_surfaces(self.surfaces, sequence).removeprefix(" ")) for sequence in ids]

    def word_starts(self, ids: Sequence[int]) -> list[bool]:
        return word_starts([self.surfaces[id_] for id_ in ids])


class UnigramModel(_SentencePieces):
    """Tokens with probabilities; a text is cut where the product is largest (Kudo 2018)."""

    model_type = "unigram"
    _lattice: UnigramLattice | None = None

    def _sample(self, words: list[str], strength: float, uniforms: Iterator[float]) -> Iterable[int]:
        if self._lattice is None or self._lattice.strength != strength:
            learned = self._learned()
            unknown = min(score for _, score in learned.values()) - _UNKNOWN_PENALTY
            self._lattice = UnigramLattice(learned, unknown, strength)
        return self._lattice.draw(words, uniforms)


class BpeModel(_SentencePieces):
    """Tokens made by merging the most frequent pair again and again (Sennrich et al. 2016)."""

    model_type = "bpe"
    _dropout: MergeDropout | None = None

    def _sample(self, words: list[str], strength: float, uniforms: Iterator[float]) -> Iterable[int]:
        if self._dropout is None:
            self._ids = {token: id_ for token, (id_, _) in self._learned().items()}
            self._dropout = MergeDropout(self._ranked())
        id_of = self._ids.get
        symbols = ([id_of(char, -1 - ord(char)) for char in word] for word in words)
        return self._dropout.encode(symbols, strength, uniforms)

    def _ranked(self) -> dict[tuple[int, int], tuple[float, int]]:
        """Any two tokens may merge whose union is a token; the union's score gives the rank."""
        learned = self._learned()
        return {
            (learned[token[:cut]][0], learned[token[cut:]][0]): (-score, id_)
            for token, (id_, score) in learned.items()
            for cut in range(1, len(token))
            if token[:cut] in learned and token[cut:] in learned
        }


def _escaped(texts: Sequence[str]) -> list[str]:
    whole = "".join(texts)
    return [_escape(text) for text in texts] if SPACE_MARK in whole or ESCAPE in whole else list(texts)


def _escape(text: str) -> str:
    return text.translate(_ESCAPED) if SPACE_MARK in text or ESCAPE in text else text


def _origins(text: str) -> list[Span]:
    """The span in `text` of each character of the escaped text."""
    return [(i, i + 1) for i, char in enumerate(text) for _ in range(2 if char in (SPACE_MARK, ESCAPE) else 1)]


def _length(byte: int) -> int:
    """The bytes of a character in UTF-8 that begins with this one."""
    return 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4


def _unescape(text: str) -> str:
    if ESCAPE not in text:
        return text
    return _ESCAPE_PATTERN.sub(lambda found: _UNESCAPED[found.group()], text)


def _special_arguments(options: TrainingOptions) -> dict[str, object]:
    special = options.special
    names = special.names
    roles = {"pad": special.pad, "unk": special.unk, "bos": special.bos, "eos": special.eos}
    arguments: dict[str, object] = {f"{role}_id": id_ for role, id_ in roles.items()}
    arguments |= {f"{role}_piece": names[id_] for role, id_ in roles.items()}
    arguments["control_symbols"] = [names[id_] for id_ in sorted(names) if id_ not in roles.values()]
    return arguments


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    """Lines no longer than the trainer takes, cut at spaces where there are any."""
    for text in texts:
        for line in _escape(text).split("\n"):
            data = line.encode()
            if len(data) <= _LONGEST_SENTENCE:
                if line:
                    yield line
                continue
            start = 0
            while start < len(data):
                end = _cut(data, start)
                yield data[start:end].decode()
                start = end


def _cut(data: bytes, start: int) -> int:
    """The end of a stretch from `start`: the last space within reach, or the last border between characters."""
    end = start + _LONGEST_SENTENCE
    if end >= len(data):
        return len(data)
    space = data.rfind(b" ", start + 1, end)
    if space > 0:
        return space
    while data[end] & 0xC0 == 0x80:
        end -= 1
    return end


def _explained(message: str, options: TrainingOptions) -> NlpcliError:
    """The library's error in the user's terms."""
    size = options.vocab_size or 0
    if found := re.search(r"Vocabulary size too high.*?<= (\d+)", message):
        return too_large(size, int(found[1]))
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        named = (
            "the special tokens, bytes and characters" if options.byte_fallback else "the special tokens and characters"
        )
        return too_small(size, int(found[1]), named, coverage=options.character_coverage)
    if "sentences_.empty()" in message:
        return no_text()
    return NlpcliError(f"SentencePiece could not train a tokenizer: {message}")
