"""The effects of Hugging Face's decoding settings on the scores of the next token.

The rules, their order and their reading of lengths are those of `transformers`: they change scores one after the other,
and what they leave is searched as it is. A beam search gives them log-probabilities, the other searches logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nlpcli.config.generation_settings import Generation
from nlpcli.decoding.constraints import repeated_ngrams, seen


class GenerationRules:
    """The rules of `settings` for one batch.

    prompts: for each row the tokens that it begins with; limits: the most new tokens of each; sources: what the encoder
    reads for each row, or the prompts of a decoder.
    """

    def __init__(
        self,
        settings: Generation,
        prompts: Sequence[Sequence[int]],
        limits: Sequence[int],
        sources: Sequence[Sequence[int]],
        device: torch.device | str,
    ) -> None:
        self.settings, self.device = settings, torch.device(device)
        lengths = [len(prompt) for prompt in prompts]
        self.prompts = torch.tensor(lengths, device=self.device)
        self.longest = torch.tensor([a + b for a, b in zip(lengths, limits, strict=True)], device=self.device)
        self.sources = _filled(sources).to(self.device)
        single = {(end,) for end in settings.ends}
        banned = [(tuple(ids), -math.inf) for ids in settings.bad_words_ids if tuple(ids) not in single]
        self.biases = [[(tuple(ids), bias) for ids, bias in settings.sequence_bias], banned]

    @property
    def repetition_penalty(self) -> float:
        """As of `Constraints`."""
        return self.settings.repetition_penalty

    def apply(self, scores: Tensor, history: Tensor, rows: Tensor, written: Tensor | None = None) -> Tensor:
        """New scores (n, vocabulary) of what follows `history` (n, length); rows (n,): their places in the batch.

        written (n, vocabulary): the tokens in `history`, where they are known already.
        """
        settings = self.settings
        scores = self._biased(scores, history, self.biases[0])
        if settings.encoder_repetition_penalty != 1.0:
            sources = seen(self.sources[rows], scores.shape[1])
            scores = _penalized(scores, sources, 1 / settings.encoder_repetition_penalty)
        if settings.repetition_penalty != 1.0:
            written = seen(history, scores.shape[1]) if written is None else written
            scores = _penalized(scores, written, settings.repetition_penalty)
        scores = self._without_repeated_ngrams(scores, history, rows)
        scores = self._biased(scores, history, self.biases[1])
        scores = self._of_the_right_length(scores, history.shape[1], rows)
        scores = _banned(scores, settings.suppress_tokens)
        if settings.begin_suppress_tokens:
            later = (self.prompts == 1) & (settings.forced_bos_token_id is not None)
            begins = (self.prompts + later)[rows] == history.shape[1]
            scores = torch.where(begins[:, None], _banned(scores, settings.begin_suppress_tokens), scores)
        return scores.log_softmax(-1) if settings.renormalize_logits else scores

    def _biased(self, scores: Tensor, history: Tensor, biases: Sequence[tuple[tuple[int, ...], float]]) -> Tensor:
        """Adds its bias to the last token of each sequence whose other tokens have just been written."""
        if not biases:
            return scores
        bias = torch.zeros_like(scores)
        for ids, value in biases:
            *before, last = ids
            if len(before) > history.shape[1]:
                continue
            follows = torch.ones(len(history), dtype=torch.bool, device=scores.device)
            if before:
                given = torch.tensor(before, device=scores.device)
                follows = (history[:, -len(before) :] == given).all(1)
            bias[:, last] += torch.where(follows, value, 0.0)
        return scores + bias

    def _without_repeated_ngrams(self, scores: Tensor, history: Tensor, rows: Tensor) -> Tensor:
        size = self.settings.no_repeat_ngram_size
        if size and history.shape[1] >= size:
            scores = scores.index_put(repeated_ngrams(history, size), scores.new_tensor(-math.inf))
        size = self.settings.encoder_no_repeat_ngram_size
        if size and history.shape[1] >= size - 1 and self.sources.shape[1] >= size:
            windows = self.sources[rows].unfold(1, size, 1)
            tail = history[:, history.shape[1] - size + 1 :]
            row, place = (windows[..., :-1] == tail[:, None]).all(-1).nonzero(as_tuple=True)
            token = windows[row, place, -1]
            known = token >= 0
            scores = scores.index_put((row[known], token[known]), scores.new_tensor(-math.inf))
        return scores

    def _of_the_right_length(self, scores: Tensor, length: int, rows: Tensor) -> Tensor:
        """Keeps the end back, forces the first and the last token, and makes the end likelier from some length on."""
        settings, prompts = self.settings, self.prompts[rows]
        least = settings.min_new_tokens
        early = length < (settings.min_length if least is None else prompts + least)
        early = torch.as_tensor(early, device=scores.device).expand(len(scores))
        scores = torch.where(early[:, None], _banned(scores, settings.ends), scores)
        if settings.forced_bos_token_id is not None and length == 1:
            scores = _only(scores, [settings.forced_bos_token_id])
        if settings.forced_ends:
            last = self.longest[rows] - 1 == length
            scores = torch.where(last[:, None], _only(scores, settings.forced_ends), scores)
        if settings.exponential_decay_length_penalty is not None:
            start, factor = settings.exponential_decay_length_penalty
            past = (length - prompts - start).clamp(min=0)
            ends = torch.tensor(settings.ends, dtype=torch.long, device=scores.device)
            own = scores[:, ends]
            more = (own.abs() * (factor**past - 1)[:, None]).masked_fill(~own.isfinite(), 0.0)
            scores = scores.index_add(1, ends, more.to(scores.dtype))
        return scores


def _filled(rows: Sequence[Sequence[int]]) -> Tensor:
    """(rows, longest) ids, with -1 after the end of each row."""
    table = torch.full((len(rows), max(map(len, rows), default=0)), -1)
    for place, row in enumerate(rows):
        table[place, : len(row)] = torch.tensor(list(row), dtype=torch.long)
    return table


def _penalized(scores: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Negative scores of the tokens (n, vocabulary) that are True times the penalty, others divided by it."""
    return torch.where(tokens, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def _banned(scores: Tensor, ids: Sequence[int]) -> Tensor:
    if not ids:
        return scores
    known = torch.tensor([id_ for id_ in ids if id_ < scores.shape[1]], dtype=torch.long, device=scores.device)
    return scores.index_fill(1, known, -math.inf)


def _only(scores: Tensor, ids: Sequence[int]) -> Tensor:
    """All but `ids` are impossible, and these cost nothing."""
    alone = torch.full_like(scores, -math.inf)
    return alone.index_fill(1, torch.tensor(list(ids), device=scores.device), 0.0)
