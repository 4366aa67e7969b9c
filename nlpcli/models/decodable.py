"""The interface of models that greedy search, beam search and sampling use."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Decodable(Protocol):
    """A model that continues sequences token by token. Its memory is an argument, never hidden on the module."""

    max_length: int | None  # longest sequence it has positions for, None when there is no limit

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:  # each model has states of its own
        """Reads tokens (rows, n) after what `state` has read: logits (rows, vocab) for what follows, and the new state.

        The state handed in must not be used again; the logits belong to the caller, who may overwrite them.
        """
        ...

    def reorder(self, state: Any, index: Tensor, width: int = 1) -> Any:  # as above
        """The state whose row i is row index[i] of `state`: selects, repeats or drops rows.

        Afterwards every `width` consecutive rows belong to one source, in the order the sources had.
        """
        ...
