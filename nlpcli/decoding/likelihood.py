"""Log-likelihoods of given texts after a prompt, by which candidates are ranked.

log p(candidate | prompt) = Σ_t log p(c_t | prompt, c_<t), in nats. A prompt is read once, whatever the number of its
candidates; these go on from the keys and values that are kept of it. Neither that nor the batch enters a number but
through the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from nlpcli.decoding.prefixes import device_of
from nlpcli.errors import NlpcliError
from nlpcli.objectives.source_target_batches import pad
from nlpcli.text import Tokenizer

_LOGITS = 1 << 22  # alive at a time


@dataclass(frozen=True)
class Completions:
    """A prompt and what may follow it.

    prefix: ids that are read and not scored, at least one. candidates: the ids that are scored, at least one each.
    source: what the encoder reads, of an encoder-decoder.
    """

    prefix: Sequence[int]
    candidates: Sequence[Sequence[int]]
    source: Sequence[int] | None = None

    @property
    def length(self) -> int:
        """Tokens that the decoder reads of the prompt and its longest candidate, whose last one only is predicted."""
        return len(self.prefix) + max(map(len, self.candidates)) - 1


def split_completions(
    tokenizer: Tokenizer, prompt: str, candidates: Sequence[str], start: int
) -> tuple[list[int], list[list[int]]]:
    """The ids that a prompt has in common with all its completions, and the rest of each completion.

    Prompt and candidate are encoded as one text, as they would stand in it: a merge over the border belongs to the
    candidate, and then the last token of the prompt is predicted again in each, so that all are measured from the same
    place. start: the id to read where nothing is in common.
    Raises: NlpcliError for a candidate that adds nothing to the prompt.
    """
    before, *whole = tokenizer.encode([prompt, *(prompt + candidate for candidate in candidates)])
    common = 0
    for column in zip(before, *whole, strict=False):
        if len(set(column)) > 1:
            break
        common += 1
    rests = [ids[common:] for ids in whole]
    for candidate, rest in zip(candidates, rests, strict=True):
        if not rest:
            raise NlpcliError(
                f"the candidate {candidate!r} adds no token to the prompt", hint="give it a text that is not blank"
            )
    return before[:common] or [start], rests


@torch.inference_mode()
def log_likelihoods(
    model: Any,  # the methods that are called depend on the kind of model, see `_Reader`
    questions: Sequence[Completions],
    *,
    pad_id: int,
    segment: int | None = None,
    batch_tokens: int = 4096,
) -> list[list[float]]:
    """log p of each candidate after its prompt, in nats, in the order of the questions.

    model: a decoder or an encoder-decoder, in evaluation mode. segment: the length of the segments in which a model
    with memory reads each text from its beginning; None for one without, which sees the whole. batch_tokens: tokens
    read at once, padding included, unless one question alone has more; it changes the speed only.
    """
    reader: _Reader[Any] = _Whole(model) if segment is None else _Segments(model, segment)
    found: list[list[float]] = [[] for _ in questions]
    for places in _batches(questions, batch_tokens):
        chosen = [questions[place] for place in places]
        for place, values in zip(places, _batch(reader, chosen, pad_id), strict=True):
            found[place] = values
    return found


def _batches(questions: Sequence[Completions], batch_tokens: int) -> Iterator[list[int]]:
    """Places of questions of similar length, longest first."""
    order = sorted(range(len(questions)), key=lambda place: -questions[place].length)
    batch: list[int] = []
    rows = 0
    for place in order:
        more = len(questions[place].candidates)
        if batch and (rows + more) * questions[batch[0]].length > batch_tokens:
            yield batch
            batch, rows = [], 0
        batch.append(place)
        rows += more
    if batch:
        yield batch


def _batch(reader: _Reader[Any], questions: Sequence[Completions], pad_id: int) -> list[list[float]]:
    device = device_of(reader.model)
    state = _begin(reader, questions, pad_id, device)
    # What all prompts have at least, but for the last token, whose state predicts the candidates' first.
    ahead = reader.whole(min(len(question.prefix) for question in questions) - 1)
    if ahead:
        read = torch.tensor([list(question.prefix[:ahead]) for question in questions], device=device)
        _, state = reader.read(read, state)
    counts = [len(question.candidates) for question in questions]
    state = reader.select_rows(state, torch.repeat_interleave(torch.tensor(counts)).to(device))
    rows: list[list[int]] = []
    positions: list[int] = []
    targets: list[list[int]] = []
    shared: list[tuple[int, int]] = []
    for question in questions:
        first = len(rows)
        for candidate in question.candidates:
            positions.append(len(question.prefix) - ahead - 1)
            rows.append([*question.prefix[ahead:], *candidate[:-1]])
            targets.append(list(candidate))
            shared.append((first, _common(candidate, targets[first]) if len(rows) - 1 > first else 0))
    hidden, _ = reader.read(pad(rows, pad_id).to(device), state)
    sums = iter(_sums(reader.model, hidden, positions, targets, shared))
    return [[next(sums) for _ in range(count)] for count in counts]


def _common(some: Sequence[int], others: Sequence[int]) -> int:
    """How many ids two texts begin with in common."""
    return next((i for i, (a, b) in enumerate(zip(some, others, strict=False)) if a != b), min(len(some), len(others)))


def _begin(reader: _Reader[Any], questions: Sequence[Completions], pad_id: int, device: torch.device) -> object:
    sources = [question.source for question in questions if question.source is not None]
    if not sources:
        return reader.begin(len(questions))
    source = pad(sources, pad_id).to(device)
    lengths = torch.tensor([len(ids) for ids in sources], device=device)
    mask = torch.arange(source.shape[1], device=device) < lengths[:, None]
    return reader.model.init_state(reader.model.encode(source, mask))


def _sums(
    model: _WithVocabulary,
    hidden: Tensor,
    positions: Sequence[int],
    targets: Sequence[Sequence[int]],
    shared: Sequence[tuple[int, int]],
) -> list[float]:
    """Σ_t log p(target_t) of each row, whose first target is predicted by the state hidden[row, position].

    shared: an earlier row (or the row itself) after the same prompt, and how many first targets are those of it: they
    are computed once.
    """
    places = [
        (row, positions[row] + i, id_)
        for row, (ids, (_, same)) in enumerate(zip(targets, shared, strict=True))
        for i, id_ in enumerate(ids)
        if i >= same
    ]
    rows, columns, wanted = torch.tensor(places, device=hidden.device).reshape(-1, 3).unbind(1)
    flat = iter(target_logprobs(model, hidden[rows, columns], wanted).double().tolist())
    values: list[list[float]] = []
    for ids, (first, same) in zip(targets, shared, strict=True):
        before = values[first][:same] if same else []
        values.append([*before, *(next(flat) for _ in range(len(ids) - same))])
    return [sum(row) for row in values]


def target_logprobs(model: _WithVocabulary, states: Tensor, targets: Tensor) -> Tensor:
    """log p(target | state) in nats, (k): of states (k, d_model) that predict the ids targets (k), in float32.

    The logits of a few states at a time are alive.
    """
    parts, size = [], max(32, _LOGITS // model.output_weight.shape[0])
    for part, wanted in zip(states.split(size), targets.split(size), strict=True):
        logits = model.logits(part).float()
        parts.append(logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0])
    return torch.cat(parts) if parts else states.new_zeros(0, dtype=torch.float32)


class _WithVocabulary(Protocol):
    """A model that predicts tokens out of states."""

    @property
    def output_weight(self) -> Tensor: ...

    def logits(self, hidden: Tensor) -> Tensor: ...


_State = TypeVar("_State")
Remembered = list[Tensor] | None
"""The memory of each layer of a model with memory; None before the first segment."""


class _Reader(Protocol[_State]):
    """How a model is given texts part by part, many rows at a time, and what it keeps of them."""

    model: Any  # a decoder or an encoder-decoder

    def begin(self, rows: int) -> _State: ...

    def whole(self, tokens: int) -> int:
        """The most of the first `tokens` that can be read apart from what follows."""
        ...

    def read(self, ids: Tensor, state: _State) -> tuple[Tensor, _State]:
        """ids (rows, n) -> states (rows, n, d_model) that predict what follows each, and the state after them."""
        ...

    def select_rows(self, state: _State, index: Tensor) -> _State:
        """The state whose row i is row index[i]."""
        ...


class _Whole:
    """A model that keeps all keys and values."""

    def __init__(
        self,
        model: Any,  # a decoder or an encoder-decoder, which begin in different ways
    ) -> None:
        self.model = model

    def begin(self, rows: int) -> object:
        return self.model.init_state(rows)

    def whole(self, tokens: int) -> int:
        return tokens

    def read(self, ids: Tensor, state: object) -> tuple[Tensor, object]:
        return self.model.advance(ids, state)

    def select_rows(self, state: object, index: Tensor) -> object:
        return self.model.reorder(state, index)


class _Segments:
    """A model with memory (Dai et al. 2019), which reads segment by segment; borders are counted from the beginning."""

    def __init__(
        self,
        model: Any,  # its `hidden` takes and returns what it remembers
        segment: int,
    ) -> None:
        self.model, self.segment = model, segment

    def begin(self, rows: int) -> Remembered:
        return None

    def whole(self, tokens: int) -> int:
        return tokens - tokens % self.segment

    def read(self, ids: Tensor, state: Remembered) -> tuple[Tensor, Remembered]:
        parts = []
        for part in ids.split(self.segment, dim=1):
            hidden, state = self.model.hidden(part, state)
            parts.append(hidden)
        return torch.cat(parts, dim=1), state

    def select_rows(self, state: Remembered, index: Tensor) -> Remembered:
        return None if state is None else [item.index_select(0, index) for item in state]
