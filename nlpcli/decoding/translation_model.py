"""The methods of an encoder-decoder that translation and word alignment use, besides its steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from nlpcli.attention.hooks import Recordable
from nlpcli.models.decodable import Decodable


class TranslationModel(Decodable, Protocol):
    """A `Decodable` that reads a source first."""

    @property
    def output_weight(self) -> Tensor:
        """(vocab, d_model)"""
        ...

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> object:
        """The decoder's input from sources (batch, m); the mask (batch, m) is True where there is a token."""
        ...

    def init_state(
        self,
        memory: Any,  # what `encode` has returned: each model has a class of its own for it
    ) -> object:
        """The decoding state before the first token."""
        ...

    def hidden(self, source: Tensor, source_mask: Tensor | None, target: Tensor) -> Tensor:
        """The decoder's states (batch, n, d_model) that predict what follows each token of the targets (batch, n)."""
        ...

    def attention_sites(self) -> Mapping[str, Sequence[Recordable]]:
        """See `nlpcli.models.backbone.Backbone.attention_sites`."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of any module."""
        ...
