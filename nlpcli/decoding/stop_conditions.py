"""Searches that end at a text: a beam knows one end only, and here it learns the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nlpcli.models.decodable import Decodable
from nlpcli.text import Tokenizer


class EndingAtTexts:
    """A `Decodable` whose end is its own or any piece that begins with one of some texts.

    P(end) = P(eos) + Σ P(piece), over these pieces, which are then never written. end: the id that stands for all of
    them, None where there is none. Texts that no piece begins with are not known here.
    """

    def __init__(self, model: Decodable, tokenizer: Tokenizer, texts: Sequence[str], eos: int | None) -> None:
        self.model, self.max_length = model, model.max_length
        self.parameters = getattr(model, "parameters", tuple)  # which tell the searches where to compute
        spellings = tokenizer.decode([[id_] for id_ in range(tokenizer.vocab_size)])
        found = [id_ for id_, spelling in enumerate(spellings) if spelling.startswith(tuple(texts))]
        self._pieces = found if eos is None else [eos, *found]
        self.end = self._pieces[0] if self._pieces else None

    def step(self, tokens: Tensor, state: object) -> tuple[Tensor, object]:
        """See `Decodable.step`."""
        logits, state = self.model.step(tokens, state)
        if len(self._pieces) > 1:
            pieces = torch.tensor(self._pieces, device=logits.device)
            together = logits[:, pieces].float().logsumexp(1).to(logits.dtype)
            logits[:, pieces] = -torch.inf
            logits[:, self.end] = together
        return logits, state

    def reorder(self, state: object, index: Tensor, width: int = 1) -> object:
        """See `Decodable.reorder`."""
        return self.model.reorder(state, index, width)
