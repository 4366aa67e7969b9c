"""Byte-pair merges over the bytes of the text (Radford et al. 2019, section 2.2), through `tokenizers`.

Every text has a segmentation, because all 256 bytes are tokens; there is no unknown character.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from nlpcli.text.bpe_dropout import MergeDropout, uniform
from nlpcli.text.detokenization import join_surfaces, word_starts
from nlpcli.text.offsets import Encoded, encode_by_library
from nlpcli.text.tokenizer_model import TrainingOptions
from nlpcli.text.tokenizers_threads import quiet_threads
from nlpcli.text.trainer_process import train
from nlpcli.text.vocabulary_limits import no_text, too_large, too_small

if TYPE_CHECKING:
    import numpy as np

_BYTES = 256


def learn(texts: Iterator[str], settings: Mapping[str, Any]) -> bytes:
    """The library's tokenizer of `size` ids; those with `names` come first."""
    quiet_threads()
    learner = _tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=settings["size"],
        special_tokens=settings["names"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return learner.to_str().encode()


class ByteBpeModel:
    """Ids in this order: special tokens, the 256 bytes, merges by falling frequency. Tokens print a space as Ġ."""

    file_name: ClassVar[str] = "tokenizer.json"
    lossless = True

    def __init__(self, core: Tokenizer) -> None:
        quiet_threads()
        self._core = core
        model = json.loads(core.to_str())["model"]
        vocabulary: dict[str, int] = model["vocab"]
        self.pieces = sorted(vocabulary, key=vocabulary.__getitem__)
        if vocabulary[self.pieces[-1]] != len(vocabulary) - 1:
            raise ValueError("its ids are not consecutive")
        byte_of = {char: value for value, char in enumerate(byte_alphabet())}
        self.surfaces = [bytes(byte_of[char] for char in token if char in byte_of) for token in self.pieces]
        self._merges = [(left, right) for left, right in model["merges"]]
        self._vocabulary = vocabulary
        self._dropout: MergeDropout | None = None

    @classmethod
    def train(cls, texts: Iterable[str], options: TrainingOptions) -> ByteBpeModel:
        """Raises: NlpcliError for no text, or a vocabulary size below the bytes or above what the text gives."""
        quiet_threads()
        size = options.vocab_size
        assert size is not None
        least = len(options.special.all()) + _BYTES
        if size < least:
            raise too_small(size, least, "the special tokens and bytes")
        # no token of the byte alphabet holds a space, so that no merge can end in the spelling of a special token
        names = [f" {options.special.names[id_]}" for id_ in sorted(options.special.names)]
        learned = json.loads(train(learn, texts, {"size": size, "names": names}))["model"]
        if not learned["merges"] and size > least:
            raise no_text()
        if len(learned["vocab"]) < size:
            raise too_large(size, len(learned["vocab"]))
        merges = [tuple(merge) for merge in learned["merges"]]
        return cls(_tokenizer(models.BPE(vocab=learned["vocab"], merges=merges)))

    @classmethod
    def from_bytes(cls, data: bytes, options: TrainingOptions) -> ByteBpeModel:
        return cls(Tokenizer.from_str(data.decode()))

    def to_bytes(self) -> bytes:
        return self._core.to_str().encode()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self._core.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_offsets(self, texts: Sequence[str]) -> Encoded:
        return encode_by_library(self._core, texts)

    def sample(self, texts: Sequence[str], strength: float, rng: np.random.Generator) -> list[list[int]]:
        if self._dropout is None:
            self._dropout = MergeDropout(self._ranked())
        split, id_of, uniforms = self._core.pre_tokenizer.pre_tokenize_str, self._vocabulary, uniform(rng)
        words = ([[id_of[char] for char in word] for word, _ in split(text)] for text in texts)
        return [self._dropout.encode(word, strength, uniforms) for word in words]

    def _ranked(self) -> dict[tuple[int, int], tuple[int, int]]:
        id_of = self._vocabulary
        return {
            (id_of[left], id_of[right]): (rank, id_of[left + right]) for rank, (left, right) in enumerate(self._merges)
        }

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return [join_surfaces(self.surfaces, sequence) for sequence in ids]

    def word_starts(self, ids: Sequence[int]) -> list[bool]:
        return word_starts([self.surfaces[id_] for id_ in ids])


def _tokenizer(model: models.Model) -> Tokenizer:
    core = Tokenizer(model)
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    core.decoder = decoders.ByteLevel()
    return core


def byte_alphabet() -> list[str]:
    """The printable character of each byte: itself where it is printable, else one from U+0100 on."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [value for value in range(_BYTES) if value not in shown]
    spelled = {value: chr(value) for value in shown} | {value: chr(_BYTES + n) for n, value in enumerate(hidden)}
    return [spelled[value] for value in range(_BYTES)]
