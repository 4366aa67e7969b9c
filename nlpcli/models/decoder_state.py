"""The decoding state: the text read so far, and the encoder output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nlpcli.attention.core import DecodingState
from nlpcli.attention.key_value_cache import KeyValue
from nlpcli.attention.masks import AttentionMask


@dataclass
class Memory:
    """The encoder output: states (batch, m, d_model), mask (batch, m) True where there is a token, or None."""

    states: Tensor
    mask: Tensor | None


@dataclass
class CrossMemory:
    """The inputs of cross-attention: for each layer keys and values, and the mask of padding."""

    layers: list[KeyValue]
    mask: AttentionMask | None
    width: int = 1  # consecutive rows that share one source

    def select(self, index: Tensor, width: int) -> CrossMemory:
        sources = torch.div(index[::width], self.width, rounding_mode="floor")
        unchanged = sources.numel() == self.layers[0].key.size(0) and bool(
            (sources == torch.arange(sources.numel(), device=sources.device)).all()
        )
        if unchanged:
            return CrossMemory(self.layers, self.mask, width)
        mask = self.mask
        if mask is not None:
            assert mask.keys is not None  # it is that of padding
            mask = AttentionMask(keys=mask.keys.index_select(0, sources))
        return CrossMemory([item.select(sources) for item in self.layers], mask, width)


@dataclass
class DecoderState:
    """The decoding state: the state of each layer's self-attention, and the inputs of cross-attention."""

    length: int
    layers: list[DecodingState]
    memory: CrossMemory | None = None

    def select(self, index: Tensor, width: int) -> DecoderState:
        layers = [state.select(index) for state in self.layers]
        return DecoderState(self.length, layers, None if self.memory is None else self.memory.select(index, width))

    def bytes(self) -> int:
        """The memory that the target read so far takes."""
        return sum(state.bytes() for state in self.layers)
