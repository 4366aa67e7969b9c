"""Beam search over any `Decodable`: many sentences at once, each leaving the batch when it is done.

A step for a sentence: of all continuations of its live hypotheses the best 2 · beam_size are considered, by summed
log-probability. Those of the first beam_size that end are finished; the first beam_size that don't end live on. The
beam is opened after the first step, when there are different hypotheses to fill it.

When a sentence is done: `patience` · beam_size hypotheses are finished (Kasai et al. 2022; 1 is the customary rule), or
none that lives can still beat the n best finished ones (which changes no result), or the length limit is reached. With
infinite patience only the last two hold, and the search is exact within its beam. Every rule depends on one sentence
alone, so its neighbours in the batch don't matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nlpcli.decoding.constraints import seen
from nlpcli.decoding.hypothesis import Hypothesis
from nlpcli.decoding.length_penalty import log_coverage
from nlpcli.decoding.prefixes import Prefixes, device_of, end_steps, length_limits
from nlpcli.decoding.search_settings import BeamSettings
from nlpcli.decoding.top_k_selection import normalized, top_candidates
from nlpcli.errors import NlpcliError
from nlpcli.models.decodable import Decodable

Attends = Callable[[Tensor, object], tuple[Tensor, object, Tensor]]
"""`nlpcli.decoding.cross_attention.AttentionRecorder.step_with_attention`."""


@torch.inference_mode()
def beam_search(
    model: Decodable,
    state: object,
    prefixes: Sequence[Sequence[int]],
    *,
    eos: int | None,
    max_length: int | Sequence[int],
    settings: BeamSettings | None = None,
    room_for_end: bool = False,
) -> list[list[Hypothesis]]:
    """The best continuations of each prefix, best first; hypotheses cut by `max_length` only where too few ended.

    prefixes: for each row of `state` the tokens to begin with, bos and any forced target tokens; max_length: how many
    tokens each may be continued by, the end counted unless there is `room_for_end` besides. The logits the model
    returns are overwritten. Without `eos` every hypothesis runs to its limit.
    """
    return _Search(model, state, prefixes, eos, max_length, settings or BeamSettings(), room_for_end).run()


_Candidate = tuple[float, int, int]
"""A continuation of a sentence: summed log-probability, beam and token."""


class _Search:
    """One batch on its way. Rows of tensors are live hypotheses, `width` consecutive ones belonging to one sentence."""

    def __init__(
        self,
        model: Decodable,
        state: object,
        prefixes: Sequence[Sequence[int]],
        eos: int | None,
        max_length: int | Sequence[int],
        settings: BeamSettings,
        room_for_end: bool,
    ) -> None:
        self.model, self.state, self.settings, self.eos = model, state, settings, eos
        self.device = device_of(model)
        self.prefixes = Prefixes.of(prefixes, self.device)
        self.limits = length_limits(max_length, self.prefixes.lengths, model.max_length)
        self.only_end = end_steps(max_length, self.limits, room_for_end and eos is not None)
        self.finished: list[list[Hypothesis]] = [[] for _ in prefixes]
        self.cut: list[list[Hypothesis]] = [[] for _ in prefixes]
        self.sentences = list(range(len(prefixes)))  # those still searched, in the order of their rows
        self.where = torch.arange(len(prefixes), device=self.device)  # the same as a tensor
        self.width = 1
        self.logprobs = torch.zeros(len(prefixes), 1, device=self.device)  # (sentences, width), summed
        self.history = self.prefixes.first  # (rows, position)
        # attention summed over steps, 1 from the start where there is padding: (rows, source positions)
        self.received: Tensor | None = getattr(model, "padding", None)
        self.attends: Attends | None = getattr(model, "step_with_attention", None)
        if settings.ranking.coverage_penalty and self.attends is None:
            raise NlpcliError(
                "the coverage penalty needs cross-attention, but this model has none",
                hint="leave out the coverage penalty",
            )

    def run(self) -> list[list[Hypothesis]]:
        tokens = self.prefixes.first
        while True:
            found = zip(*(part.tolist() for part in self._candidates(self._step(tokens))), strict=True)
            candidates = [list(zip(*of_one, strict=True)) for of_one in found]
            self._finish(candidates)
            chosen = [self._live(of_one) for of_one in candidates]
            kept = self._close(chosen)
            if not self.sentences:
                break
            tokens = self._advance(chosen, kept)
        n = self.settings.n_best
        return [_ranked(ended, cut)[:n] for ended, cut in zip(self.finished, self.cut, strict=True)]

    def _step(self, tokens: Tensor) -> Tensor:
        if self.attends is None or not self.settings.ranking.coverage_penalty:
            logits, self.state = self.model.step(tokens, self.state)
            return logits
        logits, self.state, weights = self.attends(tokens, self.state)
        self.received = weights if self.received is None else self.received + weights
        return logits

    def _candidates(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The 2 · beam_size best continuations of each sentence: summed log-probabilities, beams, tokens."""
        constraints = self.settings.constraints
        if constraints.repetition_penalty != 1.0:
            logits = constraints.penalize(logits, seen(self.history, logits.shape[1]))
        logits, base = normalized(logits, self.logprobs)
        constraints.ban_(logits, self.history, self.eos, self._too_early())
        per_sentence = logits.view(len(self.sentences), self.width, -1)
        values, beams, tokens = top_candidates(per_sentence, base, 2 * self.settings.beam_size)
        forced = self.prefixes.at(self.history.shape[1], self.where)
        if forced is not None:
            # A forced token is given, not chosen: it costs nothing, and the sentence keeps its one hypothesis.
            given = (forced >= 0)[:, None]
            alone = torch.full_like(values, -torch.inf).index_fill_(1, self.where.new_zeros(1), 0.0)
            values = torch.where(given, alone, values)
            beams = torch.where(given, 0, beams)
            tokens = torch.where(given, forced[:, None], tokens)
        return values, beams, tokens

    def _too_early(self) -> Tensor | None:
        minimum, start = self.settings.constraints.min_length, self.settings.constraints.counted_from
        early = self.prefixes.shorter_than(minimum, self.history.shape[1], self.where, start) if minimum else None
        return None if early is None else early.repeat_interleave(self.width)

    def _finish(self, candidates: list[list[_Candidate]]) -> None:
        """Stores the candidates among the first beam_size that end."""
        k, eos = self.settings.beam_size, self.eos
        ends = [
            (place, value, place * self.width + beam)
            for place, of_one in enumerate(candidates)
            for value, beam, token in of_one[:k]
            if token == eos and value > -math.inf
        ]
        if ends:
            places, values, rows = (list(column) for column in zip(*ends, strict=True))
            parents = torch.tensor(rows, device=self.device)
            self._keep(self.finished, places, values, self.history[parents].tolist(), parents)

    def _keep(
        self,
        into: list[list[Hypothesis]],
        places: list[int],
        logprobs: list[float],
        texts: list[list[int]],
        parents: Tensor,
    ) -> None:
        """Files what was written, with its score, under its sentence; `parents` are the rows it grew from."""
        coverage = [0.0] * len(texts) if self.received is None else log_coverage(self.received[parents]).tolist()
        length = self.history.shape[1] + 1  # with the token of this step, be it the end
        ended = into is self.finished
        for place, logprob, text, covered in zip(places, logprobs, texts, coverage, strict=True):
            sentence = self.sentences[place]
            start = self.prefixes.lengths[sentence]
            score = self.settings.ranking.score(logprob, length - start, covered)
            into[sentence].append(Hypothesis(tuple(text[start:]), score, logprob, ended))

    def _live(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """The best beam_size candidates of a sentence that don't end; there are as many, since each beam has one end,
        but where constraints leave fewer."""
        k = self.settings.beam_size
        live = [candidate for candidate in candidates if candidate[2] != self.eos][:k]
        return live if len(live) == k else live + [(-math.inf, 0, 0)] * (k - len(live))

    def _close(self, chosen: list[list[_Candidate]]) -> list[int]:
        """Takes the sentences that are done from `self.sentences`; returns the places of the others."""
        length = self.history.shape[1] + 1
        best = [of_one[0][0] for of_one in chosen]
        kept = []
        for place, sentence in enumerate(self.sentences):
            finished, written = self.finished[sentence], length - self.prefixes.lengths[sentence]
            if len(finished) >= self.settings.enough or best[place] == -math.inf:
                continue
            if written == self.limits[sentence] and len(finished) < self.settings.n_best:
                self._cut(place, chosen[place])
            most = self.limits[sentence] + self.only_end[sentence]
            if written >= most:
                continue
            if written > 0 and len(finished) >= self.settings.n_best:
                worst = sorted(map(_score, finished), reverse=True)[self.settings.n_best - 1]
                if worst >= self.settings.ranking.bound(best[place], written + 1, most):
                    continue
            kept.append(place)
        self.sentences = [self.sentences[place] for place in kept]
        return kept

    def _cut(self, place: int, candidates: list[_Candidate]) -> None:
        """Stores what lives of the sentence at `place` as it stands, since it may not grow."""
        alive = [candidate for candidate in candidates if candidate[0] > -math.inf]
        parents = torch.tensor([place * self.width + beam for _, beam, _ in alive], device=self.device)
        texts = [[*text, token] for text, (_, _, token) in zip(self.history[parents].tolist(), alive, strict=True)]
        self._keep(self.cut, [place] * len(alive), [value for value, _, _ in alive], texts, parents)

    def _advance(self, chosen: list[list[_Candidate]], kept: list[int]) -> Tensor:
        """Brings state and history to the chosen continuations, without the closed sentences; the next tokens."""
        live = [candidate for place in kept for candidate in chosen[place]]
        if len(kept) < len(chosen):
            self.where = self.where[torch.tensor(kept, device=self.device)]
        if len(kept) < len(chosen) or self.settings.beam_size > 1:
            starts = [self.width * place for place in kept for _ in chosen[place]]
            parents = torch.tensor([at + one[1] for at, one in zip(starts, live, strict=True)], device=self.device)
            self.state = self.model.reorder(self.state, parents, self.settings.beam_size)
            self.history = self.history.index_select(0, parents)
            if self.received is not None:
                self.received = self.received.index_select(0, parents)
        tokens = torch.tensor([token for _, _, token in live], device=self.device)[:, None]  # (rows, 1)
        self.history = torch.cat((self.history, tokens), 1)
        values = torch.tensor([value for value, _, _ in live], device=self.device)
        self.logprobs, self.width = values.view(len(kept), -1), self.settings.beam_size
        return tokens


def _score(hypothesis: Hypothesis) -> float:
    return hypothesis.score


def _ranked(finished: list[Hypothesis], cut: list[Hypothesis]) -> list[Hypothesis]:
    """Best first, those that ended before those that were cut; a text that ended after all is there once."""
    ended = {hypothesis.ids for hypothesis in finished}
    cut = [hypothesis for hypothesis in cut if hypothesis.ids not in ended]
    return sorted(finished, key=_score, reverse=True) + sorted(cut, key=_score, reverse=True)
