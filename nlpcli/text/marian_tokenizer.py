"""The tokenizer of Marian's published translators: two SentencePiece models, of source and target, and one vocabulary.

A text is cut by the source's model, ids are written as text by the target's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import sentencepiece

from nlpcli.errors import NlpcliError
from nlpcli.text.detokenization import SPACE_MARK, printable, word_starts
from nlpcli.text.offsets import Encoded, Span
from nlpcli.text.special_tokens import SpecialTokens
from nlpcli.text.tokenizer_model import TrainingOptions
from nlpcli.text.vocabulary_limits import no_sampling

if TYPE_CHECKING:
    import numpy as np

_ERRORS_ONLY = 2


class MarianModel:
    """vocabulary: token to id. source, target: SentencePiece models. special: the ids that no text may have.

    A text that begins with a code of the vocabulary such as `>>fr<<` begins with its id, which chooses the language
    in a model that writes several.
    """

    file_name: ClassVar[str] = "marian.json"
    lossless = False

    def __init__(self, vocabulary: dict[str, int], source: bytes, target: bytes, special: SpecialTokens) -> None:
        sentencepiece.set_min_log_level(_ERRORS_ONLY)
        self.vocabulary, self.source, self.target, self._special = vocabulary, source, target, special
        self._reader = sentencepiece.SentencePieceProcessor(model_proto=source)
        self._writer = sentencepiece.SentencePieceProcessor(model_proto=target)
        self._raw = [""] * (max(vocabulary.values()) + 1)
        for token, id_ in vocabulary.items():
            self._raw[id_] = token
        self.pieces = [printable(token.replace(" ", SPACE_MARK)) for token in self._raw]
        self.surfaces = [token.replace(SPACE_MARK, " ").encode() for token in self._raw]
        self._unk = special.unk
        hidden = special.all()
        self._ids = {token: id_ for token, id_ in vocabulary.items() if id_ not in hidden}
        self._codes = {token for token in self._ids if token.startswith(">>") and token.endswith("<<")}

    @classmethod
    def train(cls, texts: Iterable[str], options: TrainingOptions) -> MarianModel:
        raise NlpcliError("a tokenizer of type marian can't be trained; it comes with its model")

    @classmethod
    def from_bytes(cls, data: bytes, options: TrainingOptions) -> MarianModel:
        content = json.loads(data)
        source, target = (base64.b64decode(content[name], validate=True) for name in ("source", "target"))
        return cls(content["vocabulary"], source, target, options.special)

    def to_bytes(self) -> bytes:
        models = {"source": self.source, "target": self.target}
        spelled = {name: base64.b64encode(proto).decode() for name, proto in models.items()}
        return json.dumps({"vocabulary": self.vocabulary, **spelled}).encode()

    def for_targets(self) -> MarianModel:
        """The model that cuts texts as those are cut that are to be written."""
        return MarianModel(self.vocabulary, self.target, self.target, self._special)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> list[int]:
        code, end, rest = text.partition("<<")
        code += end
        first = [self._ids[code]] if code in self._codes else []
        tokens = self._reader.encode(rest if first else text, out_type=str)
        return [*first, *(self._ids.get(token, self._unk) for token in tokens)]

    def encode_with_offsets(self, texts: Sequence[str]) -> Encoded:
        all_spans = []
        for text in texts:
            code, end, rest = text.partition("<<")
            code += end
            before = len(code) if code in self._codes else 0
            read = rest if before else text
            places = [before + place for place in self._reader.normalize(read, with_offsets=True)[1]]
            spans: list[Span] = [(0, before)] if before else []
            start = 0
            for token in self._reader.encode(read, out_type=str):
                # a mark of a space that was put in, or that stands for several, has the place behind them
                inner = start + 1 if token.startswith(SPACE_MARK) and len(token) > 1 else start
                spans.append((places[inner], max(places[start + len(token)], places[inner])))
                start += len(token)
            all_spans.append(spans)
        return self.encode(texts), all_spans

    def sample(self, texts: Sequence[str], strength: float, rng: np.random.Generator) -> list[list[int]]:
        raise no_sampling("marian")

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        written = [self._writer.decode([self._raw[id_] for id_ in sequence]) for sequence in ids]
        return [text.replace(SPACE_MARK, " ").strip() for text in written]

    def word_starts(self, ids: Sequence[int]) -> list[bool]:
        return word_starts([self.surfaces[id_] for id_ in ids])
