"""WordPiece as BERT has it (Devlin et al. 2019; Wu et al. 2016, section 4.1), through `tokenizers`.

Words are found as BERT finds them: control characters out, a space around every Chinese character and punctuation
mark, in the lowercased form accents stripped too. A word is cut greedily into the longest pieces, those after the first
written with `##`; a word that can't be cut, or that is longer than the model's limit, is unk. So decoding gives the
words back, not the text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from nlpcli.config.counting import counted
from nlpcli.text.offsets import Encoded, encode_by_library
from nlpcli.text.tokenizer_model import TrainingOptions
from nlpcli.text.tokenizers_threads import quiet_threads
from nlpcli.text.trainer_process import train
from nlpcli.text.vocabulary_limits import most_frequent, no_sampling, no_text, too_large, too_small
from nlpcli.text.word_cache import WordCache

if TYPE_CHECKING:
    import numpy as np

CONTINUATION = "##"
LONGEST_WORD = 1000
"""In characters, of the words that a tokenizer trained here cuts; BERT's own, and those read from elsewhere, have 100.

The time for a word grows with the third power of its length: 0.1 s for 1,000 characters, 2 minutes for 10,000.
"""
_LONG_WORD = 100
_REPEATED = 1000  # copies of a word handed to the trainer at once


def learn(texts: Iterator[str], settings: Mapping[str, Any]) -> bytes:
    """The library's tokenizer of `size` ids, of which those with `names` come first."""
    quiet_threads()
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings["size"], special_tokens=settings["names"], show_progress=False
    )
    learner = _tokenizer(models.WordPiece(unk_token="<unk>"), lowercase=settings["lowercase"])
    learner.train_from_iterator(texts, trainer)
    return learner.to_str().encode()


class WordPieceModel:
    """Ids in this order: special tokens, `##` characters, characters, merges by falling frequency."""

    file_name: ClassVar[str] = "tokenizer.json"
    lossless = False

    def __init__(self, core: Tokenizer, note: str | None = None) -> None:
        """note: a remark on the text it was trained on."""
        quiet_threads()
        self._core = core
        self.note = note
        vocabulary = core.get_vocab()
        self.pieces = sorted(vocabulary, key=vocabulary.__getitem__)
        if vocabulary[self.pieces[-1]] != len(vocabulary) - 1:
            raise ValueError("its ids are not consecutive")
        self._words = WordCache(core)
        self._continues = [piece.startswith(CONTINUATION) for piece in self.pieces]

    @classmethod
    def train(cls, texts: Iterable[str], options: TrainingOptions) -> WordPieceModel:
        """Raises: NlpcliError for no text, or a vocabulary size that is below the characters or above what there is."""
        quiet_threads()
        size = options.vocab_size
        assert size is not None
        words = _words(texts, options)
        if not words:
            raise no_text()
        first = {word[0] for word in words}
        continuing = sorted({char for word in words for char in word[1:]})
        names = [options.special.names[id_] for id_ in sorted(options.special.names)]
        # named beforehand, or the library would number them by the order of a hash table
        reserved = names + [CONTINUATION + char for char in continuing]
        least = len(reserved) + len(first.union(continuing))
        if size < least:
            raise too_small(size, least, "the special tokens and characters", coverage=options.character_coverage)
        settings = {"size": size, "names": reserved, "lowercase": options.lowercase}
        learned = json.loads(train(learn, _repeated(words), settings))["model"]["vocab"]
        if len(learned) < size:
            raise too_large(size, len(learned))
        unk = options.special.names[options.special.unk]
        model = models.WordPiece(vocab=learned, unk_token=unk, max_input_chars_per_word=LONGEST_WORD)
        return cls(_tokenizer(model, lowercase=options.lowercase), _note(words))

    @classmethod
    def from_bytes(cls, data: bytes, options: TrainingOptions) -> WordPieceModel:
        return cls(Tokenizer.from_str(data.decode()))

    def to_bytes(self) -> bytes:
        return self._core.to_str().encode()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._words.encode(texts)

    def encode_with_offsets(self, texts: Sequence[str]) -> Encoded:
        return encode_by_library(self._core, texts)

    def sample(self, texts: Sequence[str], strength: float, rng: np.random.Generator) -> list[list[int]]:
        raise no_sampling("wordpiece")

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return self._core.decode_batch(list(map(list, ids)), skip_special_tokens=False)

    def word_starts(self, ids: Sequence[int]) -> list[bool]:
        return [not self._continues[id_] for id_ in ids]


def _tokenizer(model: models.WordPiece, *, lowercase: bool) -> Tokenizer:
    core = Tokenizer(model)
    core.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix=CONTINUATION, cleanup=True)
    return core


def _note(words: dict[str, int]) -> str | None:
    """A remark on words that are too long to be words."""
    long = [word for word in words if len(word) > _LONG_WORD]
    if not long:
        return None
    lost = sum(len(word) > LONGEST_WORD for word in long)
    verbs = "has more than {}, and becomes" if lost == 1 else "have more than {}, and become"
    unknown = f"; {lost:,} of them {verbs.format(f'{LONGEST_WORD:,}')} <unk>" if lost else ""
    many = f"{counted(len(long), 'word')} {'has' if len(long) == 1 else 'have'}"
    return (
        f"{many} more than {_LONG_WORD} characters{unknown}; "
        "wordpiece separates words at spaces, so use unigram or bpe for text without spaces (Thai, Lao, Khmer)"
    )


def _words(texts: Iterable[str], options: TrainingOptions) -> dict[str, int]:
    """BERT's words with their counts, sorted. A character beyond the coverage ends a word and is left out."""
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(text.split(" "))
    normalize = normalizers.BertNormalizer(lowercase=options.lowercase).normalize_str
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    words: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for word, _ in split(normalize(chunk)):
            words[word] += count
            for char in word:
                characters[char] += count
    rare = characters.keys() - set(most_frequent(characters, options.character_coverage))
    if rare:
        spaces = str.maketrans(dict.fromkeys(rare, " "))
        whole, words = words, Counter()
        for word, count in whole.items():
            for part in word.translate(spaces).split():
                words[part] += count
    return dict(sorted(words.items()))


def _repeated(words: dict[str, int]) -> Iterator[str]:
    """Every word as often as it was counted, in pieces of bounded size."""
    for word, count in words.items():
        for start in range(0, count, _REPEATED):
            yield " ".join([word] * min(_REPEATED, count - start))
