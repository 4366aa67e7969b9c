"""How probable a masked language model finds whole texts: the pseudo-log-likelihood.

PLL(x) = Σ_t log p(x_t | x without x_t)                                            (Salazar et al. 2020, eq. 1)

in nats: each token is masked in turn. A word of several tokens is overrated by that, since its other tokens give it
away; the variant

PLL-word-l2r(x) = Σ_w Σ_t log p(w_t | x without w_t, w_t+1 … of the word w)      (Kauf and Ivanova 2023, section 3)

masks the rest of the word as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nlpcli.decoding.likelihood import target_logprobs
from nlpcli.decoding.prefixes import device_of
from nlpcli.text.word_starts import WordStarts

if TYPE_CHECKING:
    from nlpcli.models.transformer import Encoder
    from nlpcli.text import Tokenizer
    from nlpcli.text.special_tokens import SpecialTokens

WordEnds = Callable[[Sequence[int]], list[int]]
"""(n) ids -> for each the position after the last token that is masked with it, from 1 to n."""


@torch.inference_mode()
def pseudo_log_likelihoods(
    model: Encoder,
    texts: Sequence[Sequence[int]],
    special: SpecialTokens,
    *,
    word_ends: WordEnds | None = None,
    batch_tokens: int = 4096,
) -> list[float]:
    """The PLL of each text, in nats, in the order of the texts; that of a text without tokens is 0.

    model: with a head for masked tokens, in evaluation mode. texts: ids without special tokens, which are put around
    them as `[CLS] x [SEP]`. word_ends: for PLL-word-l2r, see `WordTails`; None: each token is masked alone.
    batch_tokens: tokens read at once, unless a text alone has more. Texts of one length are read together, so that
    there is no padding; neither that nor the batch enters a number but through the rounding of float32.
    """
    found = [0.0] * len(texts)
    by_length: dict[int, list[int]] = {}
    for place, ids in enumerate(texts):
        by_length.setdefault(len(ids), []).append(place)
    device = device_of(model)
    for length, places in sorted(by_length.items()):
        if not length:
            continue
        rows = max(1, batch_tokens // (length + 2))
        size = max(1, rows // length)  # texts whose masked copies are read at once
        for start in range(0, len(places), size):
            some = places[start : start + size]
            ends = None if word_ends is None else torch.tensor([word_ends(texts[p]) for p in some], device=device)
            chosen = torch.tensor([list(texts[place]) for place in some], device=device)
            for place, value in zip(some, _sums(model, chosen, ends, special, rows), strict=True):
                found[place] = value
    return found


def _sums(model: Encoder, ids: Tensor, ends: Tensor | None, special: SpecialTokens, rows: int) -> list[float]:
    """PLLs of ids (texts, n), whose masks reach to `ends` (texts, n); `rows` masked copies are read at once."""
    texts, length = ids.shape
    columns = torch.arange(length, device=ids.device)
    begin = columns.repeat(texts)  # (texts · n)
    end = begin + 1 if ends is None else ends.flatten()
    text = torch.arange(texts, device=ids.device).repeat_interleave(length)
    parts = []
    for t, b, e in zip(text.split(rows), begin.split(rows), end.split(rows), strict=True):
        masked = (columns >= b[:, None]) & (columns < e[:, None])  # (rows, n)
        copies = ids.new_empty(len(t), length + 2)
        copies[:, 0], copies[:, -1] = special.cls, special.sep
        copies[:, 1:-1] = ids[t].masked_fill(masked, special.mask)
        states = model(copies)[torch.arange(len(t), device=ids.device), b + 1]
        parts.append(target_logprobs(model, model.mlm_hidden(states), ids[t, b]))
    return torch.cat(parts).double().view(texts, length).sum(1).tolist()


class WordTails:
    """The `word_ends` of PLL-word-l2r: a token is masked together with the rest of its word.

    Words are as in whole-word masking, and a token of punctuation marks alone is a word besides, as it is for BERT's
    tokenizer: masking `cat` does not hide the full stop after it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._starts = tokenizer, WordStarts(tokenizer)
        self._marks: dict[int, bool] = {}

    def __call__(self, ids: Sequence[int]) -> list[int]:
        starts = self._starts(ids).copy()
        marks = np.array([self._is_mark(id_) for id_ in ids], dtype=bool)
        starts |= marks
        starts[1:] |= marks[:-1]
        return list(self._ends(starts))

    @staticmethod
    def _ends(starts: np.ndarray) -> Iterator[int]:
        borders = [*np.flatnonzero(starts[1:] if len(starts) else starts).tolist(), len(starts) - 1]
        begin = 0
        for border in borders:
            yield from [border + 1] * (border + 1 - begin)
            begin = border + 1

    def _is_mark(self, id_: int) -> bool:
        if id_ not in self._marks:
            text = self._tokenizer.decode([[id_]])[0].strip().removeprefix("##")
            self._marks[id_] = bool(text) and not any(c.isalnum() or c == "\ufffd" for c in text)
        return self._marks[id_]
