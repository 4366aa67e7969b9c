"""The one interface of all tokenizers, and the folder a tokenizer is kept in.

A folder holds `tokenizer.yaml` (what it is, with a digest) and the file of the library that does the cutting.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.files import read_regular, write_atomic
from nlpcli.config.loading import Strict, dump_yaml, load_yaml, parse
from nlpcli.errors import NlpcliError
from nlpcli.text.normalization import normalizer
from nlpcli.text.offsets import Encoded, moved_back, origins, trimmed
from nlpcli.text.special_tokens import SpecialTokens
from nlpcli.text.tokenizer_kinds import KINDS
from nlpcli.text.tokenizer_model import TokenizerModel, TrainingOptions

if TYPE_CHECKING:
    import numpy as np

DESCRIPTION = "tokenizer.yaml"
_FORMAT = 1
_SURROGATE = re.compile("[\ud800-\udfff]")


class TokenizerSettings(Strict):
    """What, beside the library's file, determines a tokenizer's behaviour."""

    kind: str
    normalization: str = "identity"
    lowercase: bool = False
    byte_fallback: bool = True
    character_coverage: float = 1.0


class Tokenizer:
    """Texts to ids and back, with named special ids.

    kind: a name of `KINDS`. model: what cuts the texts. vocab_size: the number of ids. special: the ids with a role.
    fingerprint: SHA-256 of all that determines the behaviour; the same before and after saving.
    trained: for the reader, what it was trained on (lines, versions).
    """

    def __init__(
        self,
        settings: TokenizerSettings,
        model: TokenizerModel,
        special: SpecialTokens,
        trained: dict[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self.kind = settings.kind
        self.special = special
        self.trained = dict(trained or {})
        self.model = model
        # BERT's lowercasing belongs to its way of finding words, so the wordpiece model does its own
        outside = settings.lowercase and settings.kind != "wordpiece"
        self._normalize = None
        if settings.normalization != "identity" or outside:
            self._normalize = normalizer(settings.normalization, lowercase=outside)
        self._tokens = list(model.pieces)
        # a model may have ids beyond its tokenizer's; they are special and spelled out, so that no text has them
        self._tokens += [""] * (max(special.names) + 1 - len(self._tokens))
        for id_, name in special.names.items():
            self._tokens[id_] = name
        self._ids = {token: id_ for id_, token in enumerate(self._tokens)}
        self._ids |= {name: id_ for id_, name in special.names.items()}
        self.vocab_size = len(self._tokens)
        self.fingerprint = _fingerprint(settings, special, model.to_bytes())

    @property
    def lossless(self) -> bool:
        """Whether decode(encode(text)) is the text, for every Unicode text."""
        return self.model.lossless and self._normalize is None

    def encode(
        self, texts: Sequence[str], *, sampling: float = 0.0, rng: np.random.Generator | None = None
    ) -> list[list[int]]:
        """The ids of each text, without bos or eos.

        sampling: 0 gives the best segmentation. Above 0 one is sampled: for unigram with probability proportional to
        P(tokens)^sampling (Kudo 2018, eq. 8), for the BPE kinds every merge is left out with this probability
        (Provilkov et al. 2020). All randomness comes from `rng`.

        Raises: NlpcliError for a lone surrogate, which no Unicode text holds, and where sampling is not possible.
        """
        texts = self._prepared(texts)
        if sampling <= 0.0:
            return self.model.encode(texts)
        if rng is None:
            raise ValueError("sampling needs a random generator")
        return self.model.sample(texts, sampling, rng)

    def for_targets(self) -> Tokenizer:
        """The tokenizer that cuts what a model is to write: this one, or Marian's other half, with the same ids."""
        other_half = getattr(self.model, "for_targets", None)
        if other_half is None:
            return self
        return Tokenizer(self.settings, other_half(), self.special, self.trained)

    def encode_with_offsets(self, texts: Sequence[str]) -> Encoded:
        """The ids of each text as from `encode`, and for each id its span of characters (start, end).

        Spans don't begin or end with white space, and that of a token which is nothing else is empty. They come in
        order; tokens that share a character, as bytes do, or parts of one that was normalised, all have it.

        Raises: NlpcliError for a lone surrogate.
        """
        normal = self._prepared(texts)
        all_ids, all_spans = self.model.encode_with_offsets(normal)
        if self._normalize is not None:
            for number, (text, changed) in enumerate(zip(texts, normal, strict=True)):
                origin = origins(text, self._normalize, changed)
                if origin is not None:
                    all_spans[number] = moved_back(all_spans[number], origin)
        return all_ids, [trimmed(text, spans) for text, spans in zip(texts, all_spans, strict=True)]

    def _prepared(self, texts: Sequence[str]) -> list[str]:
        texts = texts if isinstance(texts, list) else list(texts)
        if self._normalize is not None:
            texts = [self._normalize(text) for text in texts]
        wrong = lone_surrogate(texts)
        if wrong is not None:
            raise wrong
        return texts

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence; special ids are left out. Raises: NlpcliError for an id out of the vocabulary."""
        special = self.special.all()
        plain = []
        for sequence in ids:
            if sequence and not 0 <= min(sequence) <= max(sequence) < self.vocab_size:
                wrong = next(id_ for id_ in sequence if not 0 <= id_ < self.vocab_size)
                raise NlpcliError(f"the id {wrong} is not in the vocabulary (0 to {self.vocab_size - 1})")
            if not special.isdisjoint(sequence):
                sequence = [id_ for id_ in sequence if id_ not in special]
            plain.append(sequence)
        return self.model.decode(plain)

    def id_to_piece(self, id: int) -> str:
        """The printable spelling of an id: it holds neither space nor control character."""
        return self._tokens[id]

    def surface(self, id: int) -> bytes | None:
        """The text that an ordinary token adds, with a space where a word begins or has ended; None where a text is not
        the concatenation of its tokens (words, WordPiece)."""
        surfaces = getattr(self.model, "surfaces", ())
        return surfaces[id] if id < len(surfaces) else None

    def piece_to_id(self, token: str) -> int:
        """The id of a spelling, unk when there is none."""
        return self._ids.get(token, self.special.unk)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def word_starts(self, ids: Sequence[int]) -> list[bool]:
        """Where words begin. A special id is a word of its own, and the next token begins one.

        For all kinds but wordpiece there is exactly one True for each whitespace-separated word; for wordpiece one
        for each of BERT's words, which punctuation marks are as well.
        """
        special = self.special.all()
        starts: list[bool] = []
        run: list[int] = []
        for id_ in ids:
            if id_ in special:
                starts += [*self.model.word_starts(run), True]
                run = []
            else:
                run.append(id_)
        return starts + self.model.word_starts(run)

    def save(self, directory: Path) -> None:
        """Writes the tokenizer's files into `directory`, which is made when it is not there."""
        directory = Path(directory)
        data = self.model.to_bytes()
        write_atomic(directory / self.model.file_name, data)
        description = {
            "format": _FORMAT,
            **self.settings.model_dump(),
            "vocab_size": self.vocab_size,
            "special": self.special.as_dict(),
            "file": self.model.file_name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "fingerprint": self.fingerprint,
            "trained": self.trained,
        }
        write_atomic(directory / DESCRIPTION, dump_yaml(description))


class _Special(Strict):
    pad: int
    unk: int
    bos: int
    eos: int
    cls: int
    sep: int
    mask: int
    sentinels: tuple[int, ...] = ()
    spellings: tuple[tuple[int, str], ...] = ()
    absent: tuple[str, ...] = ()


class _Description(TokenizerSettings):
    format: int
    vocab_size: int
    special: _Special
    file: str
    sha256: str
    fingerprint: str
    trained: dict[str, Any]


def load_tokenizer(directory: Path | str) -> Tokenizer:
    """The tokenizer kept in a folder. Raises: NlpcliError when there is none, or when a file of it is damaged."""
    directory = Path(directory)
    path = directory / DESCRIPTION
    if not path.is_file():
        raise NlpcliError(
            f"{directory} contains no tokenizer ({DESCRIPTION} is missing)",
            hint="train one with: nlpcli tokenize train --type unigram --vocab-size 8000 --out DIR FILE",
        )
    description = parse(_Description, load_yaml(path), str(path))
    if description.format != _FORMAT:
        raise NlpcliError(
            f"{path}: this version of nlpcli does not support tokenizer format {description.format}",
            hint="install a newer version of nlpcli",
        )
    kind = KINDS.load(description.kind)
    data = _read(directory / kind.file_name)
    if hashlib.sha256(data).hexdigest() != description.sha256:
        raise _damaged(directory / kind.file_name, "its SHA-256 checksum differs from the one in tokenizer.yaml")
    settings = TokenizerSettings(**description.model_dump(include=set(TokenizerSettings.model_fields)))
    special = SpecialTokens(**description.special.model_dump())
    try:
        model = kind.from_bytes(data, _options(settings, special))
        tokenizer = Tokenizer(settings, model, special, description.trained)
    except NlpcliError:
        raise
    except Exception as error:  # libraries raise what they like for a file they can't read
        raise _damaged(directory / kind.file_name, str(error)) from None
    if tokenizer.fingerprint != description.fingerprint or tokenizer.vocab_size != description.vocab_size:
        raise _damaged(path, "its settings were changed after it was saved")
    return tokenizer


def _options(settings: TokenizerSettings, special: SpecialTokens) -> TrainingOptions:
    return TrainingOptions(
        vocab_size=None,
        special=special,
        byte_fallback=settings.byte_fallback,
        character_coverage=settings.character_coverage,
        lowercase=settings.lowercase,
    )


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise _damaged(path, error.strerror or "the file can't be read") from None


def _damaged(path: Path, why: str) -> NlpcliError:
    return NlpcliError(f"{path}: the tokenizer is damaged ({why})", hint="copy the tokenizer again, or train it again")


def lone_surrogate(texts: Sequence[str]) -> NlpcliError | None:
    """The error for the first lone surrogate in the texts, if there is one."""
    with suppress(UnicodeEncodeError):
        "".join(texts).encode()
        return None
    for number, text in enumerate(texts, 1):
        if not text.isascii() and (found := _SURROGATE.search(text)):
            code, column = ord(found.group()), found.start() + 1
            return NlpcliError(
                f"text {number}: character {column} is half of a surrogate pair (U+{code:04X}), not valid Unicode"
            )
    return None


def _fingerprint(settings: TokenizerSettings, special: SpecialTokens, data: bytes) -> str:
    digest = hashlib.sha256(json.dumps([settings.model_dump(), special.as_dict()], sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()
