"""A causal Transformer in plain PyTorch, as a teaching script has it: what the guard compares with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Pre-norm attention and feed-forward with biases; `cache` (2, rows, heads, most, width) holds keys and values."""

    def __init__(self, d_model: int, heads: int, d_ff: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(d_model), nn.LayerNorm(d_model)])
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model, bias=False), nn.Linear(d_model, d_model, bias=False)
        self.up, self.down = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)

    def attend(self, x: Tensor, cache: Tensor | None = None, length: int = 0) -> Tensor:
        """x (rows, n, d_model)"""
        rows, n, d = x.shape
        q, k, v = (
            part.view(rows, n, self.heads, -1).transpose(1, 2) for part in self.qkv(x).split(d, dim=2)
        )  # (rows, heads, n, width)
        if cache is not None:
            cache[0, :, :, length : length + n], cache[1, :, :, length : length + n] = k, v
            k, v = cache[0, :, :, : length + n], cache[1, :, :, : length + n]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        return self.out(y.transpose(1, 2).reshape(rows, n, d))

    def forward(self, x: Tensor, cache: Tensor | None = None, length: int = 0) -> Tensor:
        x = x + self.attend(self.norms[0](x), cache, length)
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class PlainGPT(nn.Module):
    """Token and position embeddings, blocks, a norm, and the matrix of the embeddings once more."""

    def __init__(self, vocab: int, d_model: int, heads: int, d_ff: int, layers: int, most: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, d_model), nn.Embedding(most, d_model)
        self.blocks = nn.ModuleList([Block(d_model, heads, d_ff) for _ in range(layers)])
        self.norm = nn.LayerNorm(d_model)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, ids: Tensor, caches: list[Tensor] | None = None, length: int = 0) -> Tensor:
        """Logits (rows, n, vocab); with caches the ids (rows, n) stand at the positions from `length` on."""
        x = self.tokens(ids) + self.positions.weight[length : length + ids.size(1)]
        for number, block in enumerate(self.blocks):
            x = block(x, caches[number] if caches is not None else None, length)
        return F.linear(self.norm(x), self.tokens.weight)

    @torch.inference_mode()
    def greedy(self, ids: Tensor, count: int) -> Tensor:
        """`count` tokens that continue ids (rows, n), each the most probable: (rows, count)."""
        heads = self.blocks[0].heads
        shape = (2, len(ids), heads, ids.size(1) + count, self.tokens.embedding_dim // heads)
        caches = [torch.empty(shape) for _ in self.blocks]
        found, length, read = [], 0, ids
        for _ in range(count):
            if read.size(1) > 1:  # the prompt, whose rows see what is before them: token by token
                for place in range(read.size(1) - 1):
                    self(read[:, place : place + 1], caches, length)
                    length += 1
                read = read[:, -1:]
            logits = self(read, caches, length)[:, -1]
            length += 1
            read = logits.argmax(dim=-1, keepdim=True)
            found.append(read)
        return torch.cat(found, dim=1)
