"""Scaled dot-product attention with a softmax over all keys: the core every other one is measured against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_HALVES = (torch.bfloat16, torch.float16)


def softmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    allowed: Tensor | None = None,
    causal: bool = False,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(Q Kᵀ / √d_k + bias) V (Vaswani et al. 2017, eq. 1) through PyTorch's fused kernels.

    Shapes: query (batch, heads, n, d_key), key (batch, heads, m, d_key), value (batch, heads, m, d_value);
    allowed: boolean, True = may attend, and bias: added to the scores, both broadcast to (batch, heads, n, m).
    `causal` lets query i see the keys up to i + m - n: the last query sees everything.
    Returns: (batch, heads, n, d_value). A query that may see nothing gives zeros.
    """
    if query.device.type == "cpu" and query.dtype in _HALVES and query.requires_grad:
        return _in_float32(query, key, value, allowed, causal, bias, scale, dropout)
    n, m = query.size(-2), key.size(-2)
    if causal and n == 1:
        causal = False
    if causal and (n != m or allowed is not None or bias is not None):
        lower = causal_mask(n, m, device=query.device)
        allowed = lower if allowed is None else allowed & lower
        causal = False
    mask = allowed
    if bias is not None:
        mask = bias.to(query.dtype)
        if allowed is not None:
            mask = mask.masked_fill(~allowed, float("-inf"))
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale
    )


def _in_float32(query, key, value, allowed, causal, bias, scale, dropout) -> Tensor:
    """On a CPU the fused kernel's backward pass takes ten times longer in half precision than in float32."""
    with torch.autocast("cpu", enabled=False):
        context = softmax_attention(
            query.float(), key.float(), value.float(), allowed=allowed, causal=causal, bias=bias, scale=scale,
            dropout=dropout,
        )  # fmt: skip
    return context.to(query.dtype)


def softmax_weights(
    query: Tensor,
    key: Tensor,
    *,
    allowed: Tensor | None = None,
    causal: bool = False,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """The weights `softmax_attention` applies: (batch, heads, n, m), rows sum to one, or to zero where nothing is seen.

    The same kernel is given the identity for values, so what is drawn is what was used.
    """
    batch, heads, m = key.size(0), key.size(1), key.size(2)
    identity = torch.eye(m, dtype=query.dtype, device=query.device).expand(batch, heads, m, m)
    return softmax_attention(query, key, identity, allowed=allowed, causal=causal, bias=bias, scale=scale)


def causal_mask(n: int, m: int, *, device: torch.device | str = "cpu") -> Tensor:
    """(n, m) boolean, True where query i may see key j: j <= i + m - n."""
    return torch.ones(n, m, dtype=torch.bool, device=device).tril(m - n)


def window_mask(n: int, m: int, window: int, *, device: torch.device | str = "cpu") -> Tensor:
    """(n, m) boolean, True where query i and key j are fewer than `window` positions apart; the last of each meet."""
    offset = torch.arange(m, device=device)[None, :] - torch.arange(m - n, m, device=device)[:, None]
    return offset.abs() < window
