"""The places of special tokens in a model's input for a task: as in its pretraining.

    BERT         cls A sep           cls A sep B sep            segments 0, 1
    RoBERTa      cls A sep           cls A sep sep B sep
    XLNet        A sep cls           A sep B sep cls            segments 0, 1, 2
    GPT          bos A cls           bos A sep B cls            start, delimiter, extract
    BART         bos A eos           bos A eos eos B eos
    T5           A eos               A eos B eos
    hierarchical cls A sep A sep     cls A sep A sep B sep      a sep behind each sentence
    word2vec     A                   A B

Sources: Devlin et al. 2019, figure 4; Liu et al. 2019; Yang et al. 2019, section 2.5; Radford et al. 2018, figure 1;
Lewis et al. 2020; Raffel et al. 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlpcli.config.counting import counted
from nlpcli.config.model_settings import ModelConfig
from nlpcli.errors import NlpcliError
from nlpcli.models.padded_batch import Row
from nlpcli.tasks.sentence_boundaries import SentenceBorders
from nlpcli.text.offsets import Encoded
from nlpcli.text.special_tokens import SpecialTokens

if TYPE_CHECKING:
    from nlpcli.text import Tokenizer

_DOUBLED = ("roberta", "xlm-roberta", "mpnet", "longformer", "bart")


@dataclass(frozen=True)
class Layout:
    """The special tokens before, between and after texts. segments: of each text, and of what stands after the last.

    summary: which state represents the text, see `nlpcli.models.heads.pooled`. empty: the input for an
    empty text. sentences: for a model that distinguishes the sentences of a text; each of them ends with the token
    that is also `end`.
    """

    start: tuple[int, ...]
    between: tuple[int, ...]
    end: tuple[int, ...]
    segments: tuple[int, int, int] = (0, 0, 0)
    summary: str = "first"
    empty: tuple[int, ...] = ()
    sentences: SentenceBorders | None = None

    @classmethod
    def of(cls, model: ModelConfig, special: SpecialTokens, info: Mapping[str, Any]) -> Layout:
        """The layout of a model's pretraining, or of its fine-tuning in another program, which is then in `info`.

        Raises: NlpcliError for a tokenizer without the tokens it needs.
        """
        if "layout" in info:
            stored = info["layout"].items()
            fields: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in stored
            }
            return cls(**fields)
        if model.static:
            return cls((), (), (), summary="mean", empty=(special.unk,))
        doubled = 2 if info.get("read_from") in _DOUBLED else 1
        if model.permutes:
            special.check("sep", "cls")
            return cls((), (special.sep,), (special.sep, special.cls), (0, 1, 2), "last")
        if model.kind == "encoder":
            special.check("cls", "sep")
            if model.sentence_splitting is not None:
                borders = SentenceBorders(special.sep, model.sentence_splitting)
                return cls((special.cls,), (special.sep,), (special.sep,), sentences=borders)
            second = 1 if model.segment_count > 1 else 0
            end, summary = (special.sep,), model.text_pooling or "first"
            return cls((special.cls,), (special.sep,) * doubled, end, (0, second, second), summary)
        if model.kind == "decoder":
            special.check("sep", "cls")
            start = () if "bos" in special.absent else (special.bos,)
            return cls(start, (special.sep,), (special.cls,), summary="last")
        start = tuple(info.get("source_start", ()))
        return cls(start, (special.eos,) * doubled, (special.eos,), summary=model.text_summary)

    def encode(self, tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without the special tokens around it; a model that needs them has sentences marked."""
        return tokenizer.encode(texts) if self.sentences is None else self.sentences.encode(tokenizer, texts)

    def encode_with_offsets(self, tokenizer: Tokenizer, texts: Sequence[str]) -> Encoded:
        """As `encode`, and the span of each id in its text."""
        if self.sentences is None:
            return tokenizer.encode_with_offsets(texts)
        return self.sentences.encode_with_offsets(tokenizer, texts)

    def room(self, texts: int, max_length: int) -> int:
        """How many tokens of the texts fit. Raises: NlpcliError when not one of each does."""
        room = max_length - len(self.start) - len(self.end) - (texts - 1) * len(self.between)
        if room < texts:
            raise NlpcliError(
                f"a maximum length of {counted(max_length, 'token')} leaves no room for the text beside the special "
                "tokens",
                hint="set the maximum length (data.max_length or --max-length) to at least "
                f"{max_length - room + texts}",
            )
        return room

    def row(self, *texts: Sequence[int]) -> Row:
        """One or more texts, without special tokens, as a model reads them."""
        ids, kinds = list(self.start), [self.segments[0]] * len(self.start)
        for number, text in enumerate(texts):
            kind = self.segments[min(number, 1)]
            if number:
                ids += self.between
                kinds += [self.segments[0]] * len(self.between)
            ids += text
            kinds += [kind] * len(text)
        ids += self.end
        kinds += [self.segments[min(len(texts) - 1, 1)]] * len(self.end)
        if self.segments[2] == 2:
            kinds[-1] = 2
        if not ids:
            return Row(self.empty, [self.segments[0]] * len(self.empty))
        numbers = None if self.sentences is None else self.sentences.numbers(ids, self.start + self.end)
        return Row(ids, kinds, numbers)

    def first(self) -> int:
        """The place at which the first text begins."""
        return len(self.start)


def cut(texts: Sequence[Sequence[int]], room: int, how: str = "longest") -> list[Sequence[int]]:
    """Texts that together have at most `room` tokens; what is cut off are ends.

    longest: always of the text that is longest then; first, second: of that text alone, as far as it goes.
    """
    lengths = [len(text) for text in texts]
    over = sum(lengths) - room
    if over > 0 and how != "longest" and len(texts) > 1:
        place = 0 if how == "first" else 1
        taken = min(over, max(lengths[place] - 1, 0))
        lengths[place] -= taken
        over -= taken
    while over > 0:
        order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], -i))
        longest = order[0]
        next_length = lengths[order[1]] if len(order) > 1 else 0
        taken = min(over, max(lengths[longest] - next_length, 1))
        lengths[longest] -= taken
        over -= taken
    return [text[:length] for text, length in zip(texts, lengths, strict=True)]
