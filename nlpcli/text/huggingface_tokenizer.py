"""Any tokenizer that the `tokenizers` library can run, from its own file `tokenizer.json`.

The file is kept as it came. What differs from the library's way: the spelling of a special token in a text is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tokenizers import Tokenizer

from nlpcli.errors import NlpcliError
from nlpcli.escaping import quoted
from nlpcli.text.byte_bpe import byte_alphabet
from nlpcli.text.detokenization import SPACE_MARK, printable, word_starts
from nlpcli.text.offsets import Encoded, encode_by_library
from nlpcli.text.special_tokens import SpecialTokens
from nlpcli.text.tokenizer_model import TrainingOptions
from nlpcli.text.tokenizers_errors import check_rules, library_errors
from nlpcli.text.tokenizers_threads import quiet_threads
from nlpcli.text.vocabulary_limits import no_sampling
from nlpcli.text.word_cache import WordCache

if TYPE_CHECKING:
    import numpy as np

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class HuggingFaceModel:
    """data: the content of a `tokenizer.json`. special: the ids that no text may have."""

    file_name: ClassVar[str] = "tokenizer.json"

    def __init__(self, data: bytes, special: SpecialTokens) -> None:
        quiet_threads()
        self._data = data
        content = parse(data)
        self.raw_tokens = vocabulary(content)
        self.pieces = [printable(token.replace(" ", SPACE_MARK)) for token in self.raw_tokens]
        restricted = _restricted(content, special)
        with library_errors():
            self._core = Tokenizer.from_str(json.dumps(restricted))
        self._words = WordCache(self._core) if _is_bert(restricted) else None
        self._prefix = ""
        if content["model"]["type"] == "WordPiece":
            self._prefix = content["model"]["continuing_subword_prefix"]
        self.surfaces = [] if self._prefix else _surfaces(self.raw_tokens, content)
        self._blanks = frozenset(
            id_
            for id_, token in enumerate([] if self._prefix else self.raw_tokens)
            if token and not token.strip(SPACE_MARK)
        )
        self.lossless = _is_lossless(content)

    @classmethod
    def train(cls, texts: Iterable[str], options: TrainingOptions) -> HuggingFaceModel:
        raise NlpcliError("a tokenizer of type huggingface can't be trained; it comes with its model")

    @classmethod
    def from_bytes(cls, data: bytes, options: TrainingOptions) -> HuggingFaceModel:
        return cls(data, options.special)

    def to_bytes(self) -> bytes:
        return self._data

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        with library_errors():
            if self._words is not None:
                return self._words.encode(texts)
            return [found.ids for found in self._core.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_offsets(self, texts: Sequence[str]) -> Encoded:
        with library_errors():
            all_ids, all_spans = encode_by_library(self._core, texts)
        blanks = self._blanks
        if blanks:  # the library gives a lone space mark the offsets of the character after the space
            for ids, spans in zip(all_ids, all_spans, strict=True):
                if not blanks.isdisjoint(ids):
                    for place, id_ in enumerate(ids):
                        if id_ in blanks:
                            spans[place] = (spans[place][0], spans[place][0])
        return all_ids, all_spans

    def sample(self, texts: Sequence[str], strength: float, rng: np.random.Generator) -> list[list[int]]:
        raise no_sampling("huggingface")

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        with library_errors():
            return self._core.decode_batch(list(map(list, ids)), skip_special_tokens=False)

    def word_starts(self, ids: Sequence[int]) -> list[bool]:
        if self._prefix:
            return [not self.raw_tokens[id_].startswith(self._prefix) for id_ in ids]
        return word_starts([self.surfaces[id_] for id_ in ids])


def parse(data: bytes) -> dict[str, Any]:
    """The content of a `tokenizer.json`, in today's form where it was written by an old version of the library."""
    content = json.loads(data)
    check_rules(content)
    if (
        "type" not in content["model"]
        or not {"added_tokens", "normalizer", "pre_tokenizer", "decoder"} <= content.keys()
    ):
        with library_errors():
            content = json.loads(Tokenizer.from_str(data.decode()).to_str())
    return content


_MOST_IDS = 2**24  # the largest published vocabularies have a million tokens


def vocabulary(content: dict[str, Any]) -> list[str]:
    """The spelling of every id of a `tokenizer.json`, "" where it leaves a gap."""
    vocab = content["model"]["vocab"]
    named = dict(enumerate(text for text, _ in vocab)) if isinstance(vocab, list) else {}
    if isinstance(vocab, dict):
        named = {id_: text for text, id_ in vocab.items()}
    named |= {token["id"]: token["content"] for token in content["added_tokens"]}
    wrong = next((id_ for id_ in named if not isinstance(id_, int) or not 0 <= id_ < _MOST_IDS), None)
    if wrong is not None:
        raise NlpcliError(f"tokenizer.json: {quoted(wrong)} is not possible as the id of a token")
    return [named.get(id_, "") for id_ in range(max(named) + 1)]


def _restricted(content: dict[str, Any], special: SpecialTokens) -> dict[str, Any]:
    """The same tokenizer without a way from a text to a special id: the library would look for their spellings first,
    and a unigram model would take a special token for any other. A token with a space in it is never met, because
    all these models see texts without spaces."""
    hidden = special.all()
    added = [token for token in content["added_tokens"] if token["id"] not in hidden]
    model = dict(content["model"])
    vocab = model["vocab"]
    if isinstance(vocab, list):
        model["vocab"] = [[f" {text}" if id_ in hidden else text, score] for id_, (text, score) in enumerate(vocab)]
    else:
        model["vocab"] = {f" {text}" if id_ in hidden else text: id_ for text, id_ in vocab.items()}
        unk = model.get("unk_token")
        if unk is not None and vocab.get(unk) in hidden:
            model["unk_token"] = f" {unk}"
    restricted = {"added_tokens": added, "model": model, "truncation": None, "padding": None, "post_processor": None}
    return content | restricted


def _parts(content: dict[str, Any], name: str, inner: str) -> list[dict[str, Any]]:
    """The normalizers, pre-tokenizers or decoders in their order, those in a sequence one by one."""
    part = content.get(name)
    if part is None:
        return []
    return part[inner] if part["type"] == "Sequence" else [part]


def _surfaces(tokens: Sequence[str], content: dict[str, Any]) -> list[bytes]:
    """The bytes that each token decodes to, with a space where a word begins or has ended."""
    decoders = {part["type"]: part for part in _parts(content, "decoder", "decoders")}
    if "ByteLevel" in decoders:
        byte_of = {char: value for value, char in enumerate(byte_alphabet())}
        return [bytes(byte_of[char] for char in token if char in byte_of) for token in tokens]
    if "BPEDecoder" in decoders:
        suffix = decoders["BPEDecoder"]["suffix"]
        return [token.replace(suffix, " ").encode() for token in tokens]
    spelled = [token.replace(SPACE_MARK, " ").encode() for token in tokens]
    if "ByteFallback" in decoders:
        for id_, token in enumerate(tokens):
            if found := _BYTE.fullmatch(token):
                spelled[id_] = bytes([int(found[1], 16)])
    return spelled


def _is_bert(content: dict[str, Any]) -> bool:
    """Whether the words between spaces are cut as BERT does it, each independently of the others."""
    parts = [content["model"], content["normalizer"] or {}, content["pre_tokenizer"] or {}]
    types = [part.get("type") for part in parts]
    return types == ["WordPiece", "BertNormalizer", "BertPreTokenizer"] and not content["added_tokens"]


def _is_lossless(content: dict[str, Any]) -> bool:
    cuts = _parts(content, "pre_tokenizer", "pretokenizers")
    return (
        content["normalizer"] is None
        and len(cuts) == 1
        and cuts[0]["type"] == "ByteLevel"
        and not cuts[0]["add_prefix_space"]
        and not any(token["lstrip"] or token["rstrip"] for token in content["added_tokens"] if not token["special"])
    )
