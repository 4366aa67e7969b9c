"""Looking at a decoder's attention to its source: word alignments, and what the coverage penalty needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from nlpcli.attention.recording import Recorder
from nlpcli.errors import NlpcliError
from nlpcli.text import Tokenizer

Alignment = tuple[tuple[int, int], ...]


def cross_attentions(model: Any) -> list[Any]:
    """The attention layers of `model` that look at the source, first to last; each can record its weights.

    Raises: NlpcliError when there are none.
    """
    found = [module for name, module in model.named_modules() if name.split(".")[-1] == "cross_attention"]
    found = [module for module in found if hasattr(module, "recorder")]
    if not found:
        raise NlpcliError("this model shows no attention to its source, so there are no alignments to take from it")
    return found


def choose_layer(model: Any, layer: int | None) -> Any:
    """The cross-attention of decoder layer `layer`, counted from 1; the last but one by default (Garg et al. 2019).

    Raises: NlpcliError for a layer that is not there.
    """
    layers = cross_attentions(model)
    if layer is None:
        return layers[max(0, len(layers) - 2)]
    if not 1 <= layer <= len(layers):
        raise NlpcliError(f"there is no decoder layer {layer}", hint=f"choose a layer from 1 to {len(layers)}")
    return layers[layer - 1]


@contextmanager
def recording(attention: Any) -> Iterator[list[Tensor]]:
    """The list that receives the weights of every call of `attention` inside the `with`."""
    attention.recorder = weights = Recorder()
    try:
        yield weights
    finally:
        attention.recorder = None


class Attending:
    """A `Decodable` that also tells where it looks: `step_with_attention`, on top of an encoder–decoder's own steps."""

    def __init__(self, model: Any, layer: int | None = None) -> None:
        self.model = model
        self.attention = choose_layer(model, layer)
        self.max_length = model.max_length
        self.step = model.step
        self.reorder = model.reorder
        self.parameters = model.parameters

    def step_with_attention(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any, Tensor]:
        """As `step`, and the weights (rows, source positions), averaged over heads and summed over tokens (rows, n)."""
        with recording(self.attention) as recorded:
            logits, state = self.model.step(tokens, state)
        weights = recorded[0].mean(1)  # (sources, width * n, source positions)
        rows, n = tokens.shape
        return logits, state, weights.reshape(rows, n, weights.shape[-1]).sum(1)


@torch.inference_mode()
def piece_alignments(
    model: Any, source: Tensor, source_mask: Tensor, prefixes: Sequence[Sequence[int]], *, layer: int | None, pad: int
) -> list[list[int]]:
    """For every target piece the source position it looks at most, by a pass over source and hypothesis together.

    source, source_mask (batch, m), whose last real position (eos) is never chosen; prefixes: bos and target pieces. A
    piece's weights are those of the step that predicts it, averaged over the heads of one layer (Garg et al. 2019). The
    step that reads it looks ahead already: only in the first layer is it the better choice (Chen et al. 2020).
    """
    target = torch.full((len(prefixes), max(map(len, prefixes))), pad, device=source.device)
    for row, ids in zip(target, prefixes, strict=True):
        row[: len(ids)] = torch.tensor(list(ids), device=source.device)
    with recording(choose_layer(model, layer)) as recorded:
        model(source, source_mask, target)
    weights = recorded[0].mean(1)  # (batch, target positions, source positions)
    real = source_mask.clone()
    real.scatter_(1, source_mask.sum(1, keepdim=True) - 1, False)
    best = weights.masked_fill(~real[:, None], -1.0).argmax(-1).tolist()
    return [row[: len(ids) - 1] for row, ids in zip(best, prefixes, strict=True)]


def word_alignment(
    tokenizer: Tokenizer,
    source_ids: Sequence[int],
    target_ids: Sequence[int],
    looked_at: Sequence[int],
    *,
    source_tokenizer: Tokenizer | None = None,
) -> Alignment:
    """Pairs (source word, target word), from 0: some piece of the latter looks at some piece of the former.

    looked_at: places in source_ids; one below 0 stands before them and is of no word. source_tokenizer: of the source,
    where it is another one.
    """
    source_word = _words(source_tokenizer or tokenizer, source_ids)
    target_word = _words(tokenizer, target_ids)
    pairs = {(source_word[i], word) for i, word in zip(looked_at, target_word, strict=True) if i >= 0}
    return tuple(sorted((i, j) for i, j in pairs if i >= 0 and j >= 0))


def _words(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """The number of the word each piece belongs to, -1 for blanks before the first."""
    return [number - 1 for number in accumulate(tokenizer.word_starts(ids))]


def pharaoh(alignment: Alignment) -> str:
    """`0-0 1-2`: source word, target word."""
    return " ".join(f"{source}-{target}" for source, target in alignment)
