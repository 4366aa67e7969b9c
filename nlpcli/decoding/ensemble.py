"""Several translation models that choose each token together: the mean of their probabilities.

p(y_t | y_<t, x) = 1/N Σ_i p_i(y_t | y_<t, x)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from nlpcli.models.packed_decoder import packed

if TYPE_CHECKING:
    from nlpcli.decoding.translation_model import TranslationModel


class Ensemble:
    """A `Decodable` that reads a source first. Its models have one vocabulary; a state holds one state of each.

    max_length: the smallest that a model has positions for.
    """

    def __init__(self, models: Sequence[TranslationModel]) -> None:
        self.models = list(models)
        self._decoders = [cast("TranslationModel", packed(model)) for model in models]
        limits = [model.max_length for model in models if model.max_length is not None]
        self.max_length = min(limits) if limits else None

    def parameters(self) -> Any:
        """Those of all models."""
        return (parameter for model in self.models for parameter in model.parameters())

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> list[Any]:
        """The encoder outputs of each model for sources (batch, m); mask (batch, m): True where there is a token."""
        return [decoder.encode(source, source_mask) for decoder in self._decoders]

    def init_state(self, memory: Sequence[Any]) -> list[Any]:
        """The state before the first token; memory: as `encode` gives it."""
        return [decoder.init_state(own) for decoder, own in zip(self._decoders, memory, strict=True)]

    def step(self, tokens: Tensor, state: Sequence[Any]) -> tuple[Tensor, list[Any]]:
        """Logarithms of the mean probabilities (rows, vocab), and the states; see `Decodable`."""
        total: Tensor | None = None
        states = []
        for decoder, own in zip(self._decoders, state, strict=True):
            logits, after = decoder.step(tokens, own)
            probabilities = logits.softmax(dim=-1, dtype=torch.float32)
            total = probabilities if total is None else total.add_(probabilities)
            states.append(after)
        assert total is not None  # there are models
        return total.div_(len(states)).log_(), states

    def reorder(self, state: Sequence[Any], index: Tensor, width: int = 1) -> list[Any]:
        """See `Decodable`."""
        return [decoder.reorder(own, index, width) for decoder, own in zip(self._decoders, state, strict=True)]
