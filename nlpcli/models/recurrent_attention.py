"""Attention of a recurrent decoder to its source: a score, a window, and a soft or a hard choice.

    context_t = Σ_s α_t(s) value_s,    α_t = softmax over s of score(query_t, key_s)

Sources: Bahdanau et al. 2015; Luong et al. 2015 (global and local attention); Xu et al. 2015 (hard attention).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nlpcli.attention.hooks import Recorder, StepRecording, apart
from nlpcli.attention.score_functions import Score
from nlpcli.attention.softmax import softmax_attention
from nlpcli.models.decoder_state import Memory


@dataclass(frozen=True)
class AttendedSource:
    """The keys and values of a decoder's attention, computed once for each source.

    key (sources, 1, m, features), value (sources, 1, m, d_value); padding (sources, 1, 1, m), True where there is a
    token, or None; lengths (sources,), in tokens. `width` consecutive rows of queries share a source.
    """

    key: Tensor
    value: Tensor
    padding: Tensor | None
    lengths: Tensor
    width: int = 1

    def select(self, index: Tensor, width: int) -> AttendedSource:
        """For the rows `index` of queries; `width` rows now share a source."""
        sources = torch.div(index[::width], self.width, rounding_mode="floor")
        count = self.key.size(0)
        if sources.numel() == count and bool((sources == torch.arange(count, device=sources.device)).all()):
            return replace(self, width=width)
        padding = None if self.padding is None else self.padding.index_select(0, sources)
        key, value = self.key.index_select(0, sources), self.value.index_select(0, sources)
        return AttendedSource(key, value, padding, self.lengths.index_select(0, sources), width)


@dataclass(frozen=True)
class SampledPositions:
    """Positions that hard attention has sampled for queries (rows, n), for the gradient of their probabilities.

    log_probability, entropy (rows, n): of the sampled position, and of what it was sampled from, in nats. baseline
    (rows, n): what is expected of the choice before it is made, see `SourceAttention`. lasting: a choice changes later
    steps, too.
    """

    log_probability: Tensor
    entropy: Tensor
    baseline: Tensor
    lasting: bool = False


@dataclass(frozen=True)
class SourceContext:
    """context (rows, n, d_value), and what was sampled, of hard attention in training."""

    context: Tensor
    choices: SampledPositions | None = None


class MonotonicWindow(nn.Module):
    """Positions at most D from p_t = t, at most from the last token (Luong et al. 2015, section 3.2, local-m)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, query: Tensor, positions: Tensor, source: AttendedSource) -> tuple[Tensor, Tensor | None]:
        """query (sources, 1, n, d_query) at `positions` (n,) of the target.

        Returns: which positions of the source are in the window (sources, 1, n, m), and what weights are multiplied
        with there; None: nothing.
        """
        centers = torch.minimum(positions, source.lengths[:, None] - 1)
        distance = _distance(centers, source)
        return distance.abs() <= self.size, None


class PredictiveWindow(nn.Module):
    """Positions at most D from p_t = S · sigmoid(vᵀ tanh(W q_t)), weighted with exp(-(s - p_t)² / 2σ²), σ = D / 2.

    S: tokens of the source. Source: Luong et al. 2015, eq. 9 and 10 (local-p). The weights of a query add up to less
    than 1, as in the paper.
    """

    def __init__(self, size: int, d_query: int) -> None:
        super().__init__()
        self.size = size
        self.inner = nn.Linear(d_query, d_query, bias=False)
        self.outer = nn.Linear(d_query, 1, bias=False)

    def centers(self, query: Tensor, source: AttendedSource) -> Tensor:
        """p_t: (sources, 1, n, d_query) -> (sources, n)."""
        share = self.outer(self.inner(query).tanh()).sigmoid()
        return share[:, 0, :, 0] * source.lengths[:, None]

    def forward(self, query: Tensor, positions: Tensor, source: AttendedSource) -> tuple[Tensor, Tensor | None]:
        """See `MonotonicWindow.forward`."""
        distance = _distance(self.centers(query, source), source)
        return distance.abs() <= self.size, (-2 * (distance / self.size).square()).exp()


def _distance(centers: Tensor, source: AttendedSource) -> Tensor:
    """s - p_t: (sources, n) -> (sources, 1, n, m)."""
    return (torch.arange(source.key.size(2), device=centers.device) - centers[..., None])[:, None]


class SourceAttention(nn.Module):
    """Attention of a decoder's states to the states of its source, one head.

    score: how well a query matches a key; window: where it may look, None: everywhere. hard: None for the weighted
    mean of all values; "sample" for the value at one position, sampled from the weights in training and the most
    probable one otherwise, to be trained with REINFORCE (Xu et al. 2015, section 4.1); "gumbel" for a sampled position
    whose gradient is that of a softmax with `temperature` (straight-through Gumbel, Jang et al. 2017).
    With "sample", `baseline` predicts from the query how well things will go, so that only the difference counts.
    """

    def __init__(
        self,
        score: Score,
        d_query: int,
        *,
        window: MonotonicWindow | PredictiveWindow | None = None,
        hard: str | None = None,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.score = score
        self.window = window
        self.hard = hard
        self.temperature = temperature
        self.baseline = nn.Linear(d_query, 1) if hard == "sample" else None
        self.recorder: Recorder | None = None

    def prepare(self, memory: Memory) -> AttendedSource:
        """The values that are computed once for the encoder's states."""
        value = memory.states[:, None]
        if memory.mask is None:
            padding, lengths = None, torch.full((value.size(0),), value.size(2), device=value.device)
        else:
            padding, lengths = memory.mask[:, None, None], memory.mask.sum(dim=1)
        return AttendedSource(self.score.keys(value), value, padding, lengths)

    def recording(self, n: int, source: AttendedSource) -> StepRecording | None:
        """For n queries of each row, whose weights are found in one call or in several; None while nobody looks."""
        if self.recorder is None:
            return None
        shape = (source.key.size(0) * source.width, 1, n, source.key.size(2))
        return StepRecording(self.recorder, shape, source.value)

    def forward(
        self, query: Tensor, source: AttendedSource, start: int, recording: StepRecording | None = None
    ) -> SourceContext:
        """query (rows, n, d_query) at the positions from `start` of the target. recording: of this attention."""
        rows, n, _ = query.shape
        width = source.width
        positions = torch.arange(start, start + n, device=query.device).repeat(width)
        queries = query.reshape(rows // width, 1, width * n, -1)
        features = self.score.queries(queries)
        if self.hard is None and self.window is None and recording is None and n > 1 and self.score.is_product:
            key = source.key.to(features.dtype)
            context = softmax_attention(
                features, key, source.value.to(features.dtype), attention_mask=source.padding, scale=1.0
            )
            return SourceContext(context.reshape(rows, n, -1))
        scores, factor = self._scores(queries, features, positions, source)
        choices = None
        if self.training and self.baseline is not None:
            weights, *sampled = _sampled(scores)
            expected = self.baseline(query.detach())
            choices = SampledPositions(*(x.reshape(rows, n) for x in (*sampled, expected)))
        else:
            weights = self._weights(scores)
        if factor is not None:
            weights = weights * factor
        if recording is not None:
            weights = recording.add(apart(weights, width)).reshape(weights.shape)
        context = weights.to(source.value.dtype) @ source.value  # (sources, 1, width · n, d_value)
        return SourceContext(context.reshape(rows, n, -1), choices)

    def _scores(
        self, queries: Tensor, features: Tensor, positions: Tensor, source: AttendedSource
    ) -> tuple[Tensor, Tensor | None]:
        """Scores (sources, 1, width · n, m), -inf where a query may not look, and the factor of the window."""
        scores = self.score.between(features, source.key.to(features.dtype))
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        factor = None
        if source.padding is not None:
            scores = scores.masked_fill(~source.padding, -torch.inf)
        if self.window is not None:
            inside, factor = self.window(queries, positions, source)
            scores = scores.masked_fill(~inside, -torch.inf)
        return scores, factor

    def _weights(self, scores: Tensor) -> Tensor:
        if self.hard is None:
            return scores.softmax(dim=-1)
        if self.training:  # "gumbel"
            return nn.functional.gumbel_softmax(scores, self.temperature, hard=True)
        return _one_hot(scores.argmax(dim=-1), scores)


def _sampled(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A position sampled from the softmax of scores (…, m).

    Returns: weights (…, m), 1 at that position; log p of it, with gradients; the entropy of the softmax.
    """
    log_weights = scores.log_softmax(dim=-1)
    weights = log_weights.exp()
    chosen = torch.multinomial(weights.detach().flatten(0, -2), 1).view(*scores.shape[:-1], 1)
    entropy = -(weights * log_weights.masked_fill(weights == 0, 0.0)).sum(dim=-1)
    return _one_hot(chosen[..., 0], scores), log_weights.gather(-1, chosen)[..., 0], entropy


def _one_hot(positions: Tensor, scores: Tensor) -> Tensor:
    return torch.zeros_like(scores).scatter_(-1, positions[..., None], 1.0)
