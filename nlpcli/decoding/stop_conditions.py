"""When a text ends: conditions of greedy search and sampling, and a model that joins several ends for beams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nlpcli.text import Tokenizer

if TYPE_CHECKING:  # conditions are made where torch may not be needed at all
    from torch import Tensor

    from nlpcli.models.decodable import Decodable


@dataclass(frozen=True)
class Stop:
    """found(ids): whether a text ends there; ids: its last new ids, at most `looks_back` of them."""

    found: Callable[[Sequence[int]], bool]
    looks_back: int


@dataclass(frozen=True)
class StopConditions:
    """When greedy search and sampling end a text.

    - eos: the id that ends a text, or several;
    - max_length: the most new tokens, of all texts or of each;
    - room_for_end: the end comes on top of `max_length`, otherwise it is one of the tokens;
    - stop: what else ends a text, its last tokens included.
    """

    eos: int | Sequence[int] | None
    max_length: int | Sequence[int]
    room_for_end: bool = False
    stop: Stop | None = None

    @property
    def ends(self) -> tuple[int, ...]:
        """All ids that end a text."""
        return () if self.eos is None else (self.eos,) if isinstance(self.eos, int) else tuple(self.eos)


class EndingAtTexts:
    """A `Decodable` whose end is its own or any token that begins with one of some texts.

    P(end) = P(eos) + Σ P(token), over these tokens, which are then never written. end: the id that represents all of
    them, None where there is none. Texts that no token begins with are not known here.
    """

    def __init__(self, model: Decodable, tokenizer: Tokenizer, texts: Sequence[str], eos: int | None) -> None:
        self.model, self.max_length = model, model.max_length
        self.parameters = getattr(model, "parameters", tuple)  # by which the searches find the device
        spellings = tokenizer.decode([[id_] for id_ in range(tokenizer.vocab_size)])
        found = [id_ for id_, spelling in enumerate(spellings) if spelling.startswith(tuple(texts))]
        self._ends = found if eos is None else [eos, *found]
        self.end = self._ends[0] if self._ends else None

    def step(self, tokens: Tensor, state: object) -> tuple[Tensor, object]:
        """See `Decodable.step`."""
        import torch

        logits, state = self.model.step(tokens, state)
        if len(self._ends) > 1:
            ends = torch.tensor(self._ends, device=logits.device)
            together = logits[:, ends].float().logsumexp(1).to(logits.dtype)
            logits[:, ends] = -torch.inf
            logits[:, self.end] = together
        return logits, state

    def reorder(self, state: object, index: Tensor, width: int = 1) -> object:
        """See `Decodable.reorder`."""
        return self.model.reorder(state, index, width)
