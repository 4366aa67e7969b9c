"""Files of word vectors in word2vec's text format as models, and the token embeddings of models as such files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Core

from nlpcli.data.word_vectors import WordVectors, read_word_vectors, write_word_vectors
from nlpcli.errors import NlpcliError
from nlpcli.text import SpecialTokens, Tokenizer
from nlpcli.text.huggingface_tokenizer import HuggingFaceModel
from nlpcli.text.token_normalization import words_of
from nlpcli.text.tokenizer import TokenizerSettings

if TYPE_CHECKING:
    import torch

_HAN = r"\x{3040}-\x{30ff}\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}\x{20000}-\x{3ffff}"  # and kana
_RUN = rf"(?![{_HAN}])[\p{{L}}\p{{N}}_](?:(?![{_HAN}])[\p{{L}}\p{{N}}\p{{M}}_])*"
_WORD = rf"[{_HAN}]\p{{M}}*|{_RUN}(?:['’\-]{_RUN})*|[^\s\p{{L}}\p{{N}}_]"


@dataclass(frozen=True)
class VectorsModel:
    """A file of vectors as a model of the family word-vectors; config, weights and info as a model folder has them."""

    config: dict[str, Any]
    weights: Mapping[str, torch.Tensor]
    tokenizer: Tokenizer
    info: dict[str, Any]


def read_vectors_model(path: Path) -> VectorsModel:
    """The vectors of a text file as a model: a word is found as it is spelled, in lower case where the whole file is.

    Words are runs of letters and digits, also joined by apostrophes and hyphens (don't, well-known), single characters
    of Han and kana, and single signs. How frequent they are is taken from their order, as word2vec, GloVe and fastText
    write them, by Zipf's law: the r-th word has a share in proportion to 1/r.

    Raises: NlpcliError as `read_word_vectors`.
    """
    import torch

    special = SpecialTokens.first()
    vectors = read_word_vectors(path, lambda word: not any(map(str.isspace, word)))
    words = _without(vectors, set(special.names.values()))
    if not words:
        raise NlpcliError(f"{path} contains no words", hint="each line must be a word and its numbers")
    first = len(special.all())
    matrix = np.zeros((first + len(words), vectors.width), dtype=np.float32)
    matrix[first:] = vectors.matrix[[vectors.places[word] for word in words]]
    frequencies = np.zeros(len(matrix))
    frequencies[first:] = 1 / np.arange(1, len(words) + 1)
    frequencies /= frequencies.sum()
    return VectorsModel(
        config={"family": "word-vectors", "kind": "encoder", "d_model": vectors.width, "output_vectors": False},
        weights={
            "embedding.tokens.weight": torch.from_numpy(matrix),
            "frequencies": torch.from_numpy(frequencies.astype(np.float32)),
        },
        tokenizer=_tokenizer(words, special),
        info={"task": "encoder"},
    )


def write_token_vectors(path: Path, weight: torch.Tensor, tokenizer: Tokenizer) -> int:
    """Writes the vectors (vocab, width) of the tokens that are words, or begin one, and returns how many these are."""
    words = {id_: word for id_, word in words_of(tokenizer).items() if not any(map(str.isspace, word))}
    if not words:
        raise NlpcliError(
            f"no token of this model's tokenizer ({tokenizer.kind}) begins a word, so there are no vectors of words"
        )
    write_word_vectors(path, list(words.values()), weight[list(words)].float().cpu().numpy())
    return len(words)


def _without(vectors: WordVectors, names: set[str]) -> list[str]:
    """The words that are not names of special tokens."""
    return [word for word in vectors.places if word not in names]


def _tokenizer(words: Sequence[str], special: SpecialTokens) -> Tokenizer:
    names = [special.names[id_] for id_ in sorted(special.names)]
    vocabulary = {token: id_ for id_, token in enumerate([*names, *words])}
    core = Core(models.WordLevel(vocabulary, unk_token=special.names[special.unk]))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD), "removed", invert=True)
    content = json.loads(core.to_str())
    content["added_tokens"] = [
        {"id": id_, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for id_, name in enumerate(names)
    ]  # fmt: skip
    model = HuggingFaceModel(json.dumps(content, ensure_ascii=False).encode(), special)
    lowercase = not any(word != word.lower() for word in words)
    return Tokenizer(TokenizerSettings(kind="huggingface", lowercase=lowercase, byte_fallback=False), model, special)
