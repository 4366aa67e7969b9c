"""One token after the other for many rows at once: what greedy search and sampling have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nlpcli.decoding.constraints import Constraints, seen
from nlpcli.decoding.hypothesis import Hypothesis
from nlpcli.decoding.logits_processors import GenerationRules
from nlpcli.decoding.prefixes import Prefixes, device_of, end_steps, length_limits
from nlpcli.decoding.stop_conditions import Stop, StopConditions
from nlpcli.decoding.top_k_selection import best_tokens, log_normalizer
from nlpcli.models.decodable import Decodable

Choose = Callable[[Tensor, Tensor, int], Tensor]
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class ContextShift:
    """A model that has read `window` tokens forgets all but the last half of them and continues.

    `state(rows)` gives a fresh state, into which the last half is read again.
    """

    state: Callable[[int], object]
    window: int


def roll_out(
    model: Decodable,
    state: object,
    prefixes: Sequence[Sequence[int]],
    conditions: StopConditions,
    *,
    constraints: Constraints | GenerationRules,
    choose: Choose | None,
    context_shift: ContextShift | None = None,
    watch: Watch | None = None,
) -> list[Hypothesis]:
    """One continuation of each prefix, token by token.

    - choose(logits (rows, vocabulary) with -inf for what is banned, the rows' places among the prefixes, position)
      gives the next tokens (rows,); None: the most probable ones, without log-probabilities, which are nan;
    - renewal: how to continue when the model's positions are used up; without it rows are cut there;
    - watch(row, id) gets each token as it is chosen.

    The logits the model returns are overwritten.
    """
    roll = _RollOut(model, state, prefixes, conditions, constraints, context_shift)
    if choose is None:
        roll.logprobs.fill_(torch.nan)
    while len(roll.rows):
        roll.advance(choose, conditions.stop, watch)
    return [hypothesis for hypothesis in roll.done if hypothesis is not None]


class _Written:
    """Tokens (rows, length) in a buffer that doubles, so that what one more costs does not grow with the text."""

    def __init__(self, tokens: Tensor) -> None:
        self._buffer, self._length = tokens, tokens.shape[1]

    @property
    def tokens(self) -> Tensor:
        return self._buffer[:, : self._length]

    def append(self, tokens: Tensor) -> None:
        if self._length == self._buffer.shape[1]:
            self._buffer = torch.cat((self._buffer, torch.zeros_like(self._buffer)), dim=1)
        self._buffer[:, self._length] = tokens
        self._length += 1

    def select(self, rows: Tensor) -> None:
        self._buffer = self._buffer[rows]


class _RollOut:
    def __init__(
        self,
        model: Decodable,
        state: object,
        prefixes: Sequence[Sequence[int]],
        conditions: StopConditions,
        constraints: Constraints | GenerationRules,
        context_shift: ContextShift | None,
    ) -> None:
        self.model, self.state, self.constraints, self.context_shift = model, state, constraints, context_shift
        device = device_of(model)
        ends, max_length = conditions.ends, conditions.max_length
        room_for_end = conditions.room_for_end and bool(ends)
        self.eos = ends[0] if ends else None
        self.ends_of_text = torch.tensor(ends, dtype=torch.long, device=device)
        self._end_ids = frozenset(ends)
        self.prefixes = Prefixes.of(prefixes, device)
        limits = length_limits(
            max_length,
            self.prefixes.lengths,
            model.max_length if context_shift is None else context_shift.window,
            shiftable=context_shift is not None,
        )
        self.ends = torch.tensor(
            [n + limit for n, limit in zip(self.prefixes.lengths, limits, strict=True)], device=device
        )
        self._nearest_end = min(self.ends.tolist(), default=0)  # the length at which some text may reach its limit
        self.only_end = torch.tensor(end_steps(max_length, limits, room_for_end), device=device)
        self.done: list[Hypothesis | None] = [None] * len(prefixes)
        self.rows = torch.arange(len(prefixes), device=device)  # places of the rows that are still written
        self._written = _Written(self.prefixes.first)
        self.seen: Tensor | None = None  # (rows, vocabulary): the tokens of each row, None unless needed
        self.logprobs = torch.zeros(len(prefixes), device=device, dtype=torch.float64)
        self.unread = self.history  # what the model has not been given yet
        self.held = 0  # tokens in the state
        self._find: Callable[[Tensor, object, Tensor], tuple[Tensor, object]] | None
        self._find = getattr(model, "most_probable", None)
        self._never: Tensor | None = None  # the ids that are not chosen, where nothing else is a constraint
        if isinstance(constraints, Constraints) and constraints.only_suppresses:
            self._never = constraints.suppressed(device)

    @property
    def history(self) -> Tensor:
        """The tokens of the rows that are still written: (rows, position)."""
        return self._written.tokens

    def advance(self, choose: Choose | None, stop: Stop | None, watch: Watch | None) -> None:
        """One more token for every row; rows that end leave."""
        position = self.history.shape[1]
        if choose is None:
            tokens, logprobs = self._most_probable(position), self.logprobs
        else:
            tokens, logprobs = self._choose(self._logits(), choose, position)
        forced = self.prefixes.at(position, self.rows)
        if forced is None and stop is None and position + 1 < self._nearest_end:
            ids = tokens.tolist()
            if self._end_ids.isdisjoint(ids):  # most steps, at the cost of few calls
                self._append(tokens, logprobs)
                if watch is not None:
                    for row, token in zip(self.rows.tolist(), ids, strict=True):
                        watch(row, token)
                return
        if forced is not None:
            free = forced < 0
            tokens, logprobs = torch.where(free, tokens, forced), torch.where(free, logprobs, 0.0)
        ended = torch.isin(tokens, self.ends_of_text)
        if forced is not None:
            ended &= free
        too_many = (self.ends[self.rows] <= position) & ~ended  # where nothing but the end had room
        self._append(tokens, logprobs.masked_fill(too_many, 0.0))
        if watch is not None:
            written = (~(ended | too_many) if forced is None else ~(ended | too_many) & free).tolist()
            for row, token, new in zip(self.rows.tolist(), tokens.tolist(), written, strict=True):
                if new:
                    watch(row, token)
        leaving = ended | (self.ends[self.rows] + self.only_end[self.rows] <= position + 1)
        if stop is not None:
            leaving |= self._stopped(stop)
        if bool(leaving.any()):
            self._leave(leaving, ended, ended | too_many)

    def _append(self, tokens: Tensor, logprobs: Tensor) -> None:
        """One more token (rows,) behind each text, and its log-probability."""
        self.logprobs = self.logprobs + logprobs
        self._written.append(tokens)
        if self.seen is not None:
            self.seen.scatter_(1, tokens[:, None], True)
        self.unread = tokens[:, None]

    def _logits(self) -> Tensor:
        self._make_room()
        logits, self.state = self.model.step(self.unread, self.state)
        return logits

    def _most_probable(self, position: int) -> Tensor:
        """The most probable tokens (rows,); by the model itself where it can find them without all logits."""
        if self._find is None or self._never is None:
            return self._choose(self._logits(), lambda logits, rows, place: best_tokens(logits), position)[0]
        self._make_room()
        tokens: Tensor
        tokens, self.state = self._find(self.unread, self.state, self._never)
        return tokens

    def _make_room(self) -> None:
        """Begins anew where the model has no positions for what it is given next."""
        context_shift = self.context_shift
        if context_shift is not None and self.held + self.unread.shape[1] > context_shift.window:
            self.state, self.held = context_shift.state(len(self.rows)), 0
            self.unread = self.history[:, -max(1, context_shift.window // 2) :]
        self.held += self.unread.shape[1]

    def _choose(self, logits: Tensor, choose: Choose, position: int) -> tuple[Tensor, Tensor]:
        if self.seen is None and self.constraints.repetition_penalty != 1.0:
            self.seen = seen(self.history, logits.shape[1])
        if isinstance(self.constraints, GenerationRules):
            scores = self.constraints.apply(logits.float(), self.history, self.rows, self.seen)
            tokens = choose(scores, self.rows, position)
            return tokens, logits.gather(1, tokens[:, None])[:, 0].float() - log_normalizer(logits)
        if self.seen is not None:
            logits = self.constraints.penalize(logits, self.seen)
        normalizer = log_normalizer(logits)
        minimum = self.constraints.min_length
        start = self.constraints.counted_from
        early = self.prefixes.shorter_than(minimum, position, self.rows, start) if minimum else None
        logits = self.constraints.ban_(logits, self.history, self.eos, early)
        tokens = choose(logits, self.rows, position)
        return tokens, logits.gather(1, tokens[:, None])[:, 0].float() - normalizer

    def _stopped(self, stop: Stop) -> Tensor:
        length = self.history.shape[1]
        new = [length - self.prefixes.lengths[row] for row in self.rows.tolist()]
        tails = self.history[:, -stop.looks_back :].tolist()
        found = [count > 0 and stop.found(tail[-count:]) for tail, count in zip(tails, new, strict=True)]
        return torch.tensor(found, device=self.rows.device)

    def _leave(self, leaving: Tensor, ended: Tensor, without_last: Tensor) -> None:
        """Files the rows that leave; without_last: those whose last token is not part of the text."""
        gone = leaving.nonzero()[:, 0]
        columns = (self.rows[gone], self.history[gone], self.logprobs[gone], ended[gone], without_last[gone])
        for row, text, logprob, complete, shorter in zip(*(column.tolist() for column in columns), strict=True):
            ids = tuple(text[self.prefixes.lengths[row] : len(text) - shorter])
            self.done[row] = Hypothesis(ids, logprob, logprob, complete, text[-1] if complete else None)
        stay = (~leaving).nonzero()[:, 0]
        self.rows, self.unread, self.logprobs = self.rows[stay], self.unread[stay], self.logprobs[stay]
        self._written.select(stay)
        if self.seen is not None:
            self.seen = self.seen[stay]
        if len(stay):
            self._nearest_end = int(self.ends[self.rows].min())
            self.state = self.model.reorder(self.state, stay)
