"""Attention with relative positions: the distance of a key, not its position (Dai et al. 2019; segments: Yang et al.
2019).

For query i and key j, with d the distance from the key forward to the query and R_d its sinusoids:

    score(i, j) = ( q_i·k_j  +  u·k_j  +  q_i·W_R R_d  +  v·W_R R_d  [ +  (q_i + b)·s_ij ] ) / √d_key

u, v and b are trained biases of each head; s_ij is one of two trained vectors, for keys of the query's own segment and
for keys of another one. Keys may be more than the queries: the last ones are the queries' own positions, those before
them a memory of what was read earlier.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nlpcli.attention.hooks import Recorder, recorded
from nlpcli.attention.key_value_cache import KeyValue
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.softmax import softmax_attention, softmax_weights
from nlpcli.errors import NlpcliError
from nlpcli.layers.linear import Linear
from nlpcli.layers.positions import SinusoidalPositions


class RelativePositions(nn.Module):
    """R_d for a range of distances d: all sines, then all cosines, as in the authors' code.

    clamp: distances beyond it, in both directions, count as it; 0 leaves them.
    Raises: NlpcliError for an odd width.
    """

    def __init__(self, width: int, *, clamp: int = 0) -> None:
        super().__init__()
        if width % 2:
            raise NlpcliError(f"relative positions need an even d_model, not {width}")
        self.clamp = clamp
        self.table = SinusoidalPositions(width, halves=True)

    def forward(self, first: int, last: int) -> Tensor:
        """The distances first, first - 1, …, last, which may be negative: (first - last + 1, width)."""
        distance = torch.arange(first, last - 1, -1, device=self.table.table.device)
        if self.clamp:
            distance = distance.clamp(-self.clamp, self.clamp)
        rows = self.table(max(abs(first), abs(last)) + 1)[distance.abs()]
        sines, cosines = rows.chunk(2, dim=-1)
        return torch.cat((sines * distance.sign()[:, None].to(rows.dtype), cosines), dim=-1)


def relative_shift(x: Tensor, m: int) -> Tensor:
    """From scores by distance to scores by key: y[…, i, j] = x[…, i, n - 1 - i + j].

    x (…, n, c): column k belongs to distance m - 1 - k, so that y[…, i, j] belongs to the distance m - n + i - j of
    query i, the (m - n + i)-th position, and key j. c = m + 1 serves keys up to the query's own position (later ones
    get what is not theirs, and must be masked), c = m + n all keys. Returns: (…, n, m), a view.
    Source: Dai et al. 2019, appendix B.
    """
    n, columns = x.shape[-2:]
    flat = x.flatten(-2)[..., n - 1 : n * columns - 1]  # a row begins one place earlier than the row before
    return flat.unflatten(-1, (n, columns - 1))[..., :m]


def relative_gather(x: Tensor, places: Tensor, n: int, m: int) -> Tensor:
    """As `relative_shift` with c = m + n, for some of the n queries: those at `places` (batch, k) from 0 to n - 1.

    x (batch, heads, k, c) -> (batch, heads, k, m)
    """
    column = (n - 1 - places)[:, :, None] + torch.arange(m, device=x.device)
    return x.gather(-1, column[:, None].expand(-1, x.size(1), -1, -1))


class RelativeAttention(nn.Module):
    """Multi-head attention by content and distance, and with `segments` by segment; projections have no biases.

    `recorder` is None, or is given the weights (batch, heads, n, m) of each call, to record them.
    """

    def __init__(
        self, d_model: int, heads: int, *, d_key: int | None = None, segments: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads = heads
        self.d_key = d_key or d_model // heads
        width = heads * self.d_key
        self.query = Linear(d_model, width, bias=False)
        self.key = Linear(d_model, width, bias=False)
        self.value = Linear(d_model, width, bias=False)
        self.position = Linear(d_model, width, bias=False)
        self.output = Linear(width, d_model, bias=False)
        self.content_bias = _random(heads, self.d_key)
        self.position_bias = _random(heads, self.d_key)
        self.segment_bias = _random(heads, self.d_key) if segments else None
        self.segment_keys = _random(2, heads, self.d_key) if segments else None  # own segment, another
        self.dropout = dropout
        self.recorder: Recorder | None = None

    def project_memory(self, memory: Tensor) -> KeyValue:
        """Keys and values of `memory` (batch, m, d_model)."""
        return KeyValue(self._split(self.key(memory)), self._split(self.value(memory)))

    def forward(
        self,
        x: Tensor,
        memory: KeyValue,
        positions: Tensor,
        mask: AttentionMask,
        *,
        other_segment: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Queries from x (batch, n, d_model) over `memory` of m positions -> (batch, n, d_model).

        positions: R_d of the distances m - 1 … -1 (where the mask is causal) or m - 1 … -n. other_segment, True where
        key and query are of different segments, broadcasts to (batch, heads, n, m). places (batch, k): x holds only the
        k queries at these places of the n, whose distances are given; then the mask has no pattern.
        """
        query = self._split(self.query(x))
        m, columns = memory.key.size(2), positions.size(0)
        keys = self.position(positions).view(columns, self.heads, self.d_key)
        bias = torch.einsum("bhnd,chd->bhnc", query + self.position_bias[:, None], keys)  # by distance
        bias = relative_shift(bias, m) if places is None else relative_gather(bias, places, columns - m, m)
        if other_segment is not None:
            assert self.segment_bias is not None and self.segment_keys is not None
            own, other = torch.einsum("bhnd,shd->sbhn", query + self.segment_bias[:, None], self.segment_keys)
            bias = bias + torch.where(other_segment, other[..., None], own[..., None])
        query = query + self.content_bias[:, None]
        bias = bias * self.d_key**-0.5
        causal, visible = mask.split(x.size(1), m, device=x.device)
        given = {"attention_mask": visible, "causal": causal, "bias": bias}
        dropout = self.dropout if self.training else 0.0

        def context() -> Tensor:
            return softmax_attention(query, memory.key, memory.value, dropout=dropout, **given)

        if self.recorder is None:
            return self._merged(context())
        weights = softmax_weights(query, memory.key, **given)
        return self._merged(recorded(self.recorder, weights, memory.value, context, dropout=dropout))

    def _merged(self, context: Tensor) -> Tensor:
        """(batch, heads, n, d_key) -> (batch, n, d_model)"""
        return self.output(context.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.d_key)).transpose(1, 2)  # (batch, heads, length, d_key)


def _random(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.02)
