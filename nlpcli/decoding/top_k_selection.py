"""The few numbers a search needs from a vocabulary of logits, at the cost of reading them once."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 64  # reading maxima is some 20 times cheaper than sorting, so only the best blocks are sorted
_FEW = 1 << 16  # logits that are sorted in less time than the best blocks are found
_CACHED = 1 << 18  # float32 numbers: a temporary of 1 MiB stays in the cache, one of 40 MiB costs page faults


def log_normalizer(logits: Tensor) -> Tensor:
    """log Σ_v exp(logits_v), float32: (rows, vocabulary) -> (rows,). log p(v) = logits_v - log_normalizer."""
    rows, vocabulary = logits.shape
    at_once = rows if logits.is_cuda else max(1, _CACHED // vocabulary)
    # log_softmax is one fused kernel on every device; logsumexp is three passes on a CPU
    if rows <= at_once:
        return logits.amax(1) - logits.log_softmax(1, dtype=torch.float32).amax(1)
    parts = [part.amax(1) - part.log_softmax(1, dtype=torch.float32).amax(1) for part in logits.split(at_once)]
    return torch.cat(parts)


def normalized(logits: Tensor, logprobs: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (rows, vocabulary) and what is added to those of each row (sentences, beams), so that the sum is that of
    `logprobs` (sentences, beams) and a token's log-probability. The logits may be overwritten."""
    if logits.numel() <= _FEW:  # fewer calls
        return logits.log_softmax(1, dtype=torch.float32), logprobs
    return logits, logprobs - log_normalizer(logits).view_as(logprobs)


def top_candidates(logits: Tensor, base: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k best of base + logits over all beams of a sentence, best first.

    logits (sentences, beams, vocabulary), base (sentences, beams) -> values, beams, tokens, each (sentences, k). Where
    there are fewer than k, the rest have the value -inf, beam 0 and token 0.
    """
    beams, vocabulary = logits.shape[1:]
    if logits.numel() <= _FEW and beams * vocabulary >= k:  # fewer calls
        values, place = (logits.float() + base[:, :, None]).flatten(1).topk(k)
        return values, place // vocabulary, place % vocabulary
    maxima = _block_maxima(logits).float() + base[:, :, None]  # (sentences, beams, blocks)
    blocks = maxima.shape[2]
    best = maxima.flatten(1).topk(min(k, beams * blocks), sorted=False).indices  # (sentences, chosen)
    beam, block = best // blocks, best % blocks
    token = (block * _BLOCK)[:, :, None] + torch.arange(_BLOCK, device=logits.device)  # (sentences, chosen, _BLOCK)
    place = beam[:, :, None] * vocabulary + token.clamp(max=vocabulary - 1)
    values = logits.flatten(1).gather(1, place.flatten(1)).view(place.shape).float() + base.gather(1, beam)[:, :, None]
    if vocabulary % _BLOCK:
        values = values.masked_fill(token >= vocabulary, -torch.inf)
    values, chosen = values.flatten(1).topk(min(k, values[0].numel()))
    place = place.flatten(1).gather(1, chosen)
    if values.shape[1] < k:
        values = torch.nn.functional.pad(values, (0, k - values.shape[1]), value=-torch.inf)
        place = torch.nn.functional.pad(place, (0, k - place.shape[1]))
    return values, place // vocabulary, place % vocabulary


def best_tokens(logits: Tensor) -> Tensor:
    """argmax over the vocabulary: (rows, vocabulary) -> (rows,)."""
    if logits.numel() <= _FEW:
        return logits.argmax(1)
    return top_candidates(logits[:, None], logits.new_zeros(len(logits), 1, dtype=torch.float32), 1)[2][:, 0]


def _block_maxima(logits: Tensor) -> Tensor:
    """Maxima over blocks of the last axis; the last block may be shorter."""
    whole = logits.shape[-1] // _BLOCK * _BLOCK
    parts = []
    if whole:
        parts.append(logits[..., :whole].unflatten(-1, (-1, _BLOCK)).amax(-1))
    if whole < logits.shape[-1]:
        parts.append(logits[..., whole:].amax(-1, keepdim=True))
    return torch.cat(parts, -1) if len(parts) > 1 else parts[0]
