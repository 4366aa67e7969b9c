"""The module that is exported to ONNX: a model and its heads as plain operations, for any number and length of rows."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from nlpcli.attention.core import ScoreBias, for_heads
from nlpcli.attention.kinds import parse_attention
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.multi_head import MultiHeadAttention
from nlpcli.attention.patterns import Full
from nlpcli.attention.softmax import SoftmaxAttention
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.config.xlnet_settings import XLNetConfig
from nlpcli.errors import NlpcliError
from nlpcli.layers.positions import RotaryPositions, SinusoidalPositions
from nlpcli.models.heads import TokenHead
from nlpcli.models.model_with_head import WithHead
from nlpcli.models.padded_batch import Rows
from nlpcli.models.xlnet import XLNet

TOKEN_STATES, TOKEN_INPUTS, TEXT_VECTOR, LOGITS = "token_embeddings", "input_embeddings", "sentence_embedding", "logits"
"""Names of outputs: the states of tokens (rows, n, width), the vectors of tokens that the model begins with (rows, n,
d_embedding), the vector of each text (rows, width), and the outputs of a head for texts (rows, k) or tokens (rows, n,
k)."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Names of inputs, integers (rows, n) as Hugging Face models have them; the last one where a model has segments."""
INSTEAD = "use --engine torch, which computes every model"
_UNLIMITED = 4096  # tokens, where a model has no limit of its own


class ExportGraph(nn.Module):
    """(rows, n) ids, masks and kinds of segments -> the outputs named `names`, in this order.

    vectors: the model with the head that makes a text's vector; heads: those of tasks, by the names of their outputs.
    """

    def __init__(self, vectors: WithHead, heads: Mapping[str, WithHead]) -> None:
        super().__init__()
        self.vectors = vectors
        self.heads = nn.ModuleList(heads.values())
        self.names = (TOKEN_STATES, TOKEN_INPUTS, *heads)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        rows = Rows(input_ids, attention_mask.bool(), token_type_ids, attention_mask.sum(dim=1) - 1)
        states = self.vectors.states(rows)
        found = [states, self.vectors.body.token_embedding(input_ids)]
        for module in self.heads:
            head = cast("WithHead", module)
            found.append(head.head(states, rows) if _same_states(head, self.vectors) else head(rows))
        return tuple(found)


class PairGraph(nn.Module):
    """The vectors (n, width) of two texts -> the outputs (n, classes) of the head that compares them."""

    def __init__(self, head: WithHead) -> None:
        super().__init__()
        self.head = head.head

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        return self.head.compare(u, v)


class _WholeMatrix:
    """A core of softmax attention that computes all scores at once: no tiles, and nothing kept for the next call."""

    def __init__(self, core: SoftmaxAttention) -> None:
        self.core = core

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: AttentionMask,
        *,
        bias: ScoreBias | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        n, m = query.size(-2), key.size(-2)
        visible = mask.content(n, m)
        places = torch.arange(m, device=query.device)
        if mask.pattern != Full():  # of self-attention, where queries and keys are the same positions
            allowed = mask.pattern.allows(places[:, None], places[None, :], m)
            visible = allowed if visible is None else visible & allowed
        added = None if bias is None else bias.at(torch.arange(n, device=query.device), places)
        heads = query.size(1)
        return self.core.context(query, for_heads(key, heads), for_heads(value, heads), visible, added)


def longest_text(config: ModelConfig, info: Mapping[str, Any]) -> int:
    """The most tokens of a text that an exported graph reads."""
    return config.position_limit or max(_UNLIMITED, int(info.get("max_length") or 0))


def check_exportable(config: ModelConfig, model: nn.Module) -> None:
    """Raises: NlpcliError that names the family, the attention or the part of a head that no graph is made of."""
    if not isinstance(config, (TransformerConfig, XLNetConfig)):
        raise NlpcliError(f"models of the family {config.family} can't be exported to ONNX", hint=INSTEAD)
    if config.source_encoder_layers:
        raise NlpcliError("a model with an encoder for another language can't be exported to ONNX", hint=INSTEAD)
    if isinstance(config, TransformerConfig):
        for text in [*config.attention, *(config.decoder_attention or [])]:
            entry = parse_attention(text)
            if entry.name != "softmax" or entry.pattern.depends_on_length:
                raise NlpcliError(f"the attention '{text}' can't be exported to ONNX", hint=INSTEAD)
    for module in model.modules():
        if isinstance(module, TokenHead) and module.recurrent is not None:
            raise NlpcliError("a head with an LSTM (head.recurrent) can't be exported to ONNX", hint=INSTEAD)
        if isinstance(module, RotaryPositions) and module.fixed < longest_text(config, {}):
            raise NlpcliError("rotary positions that depend on the length can't be exported to ONNX", hint=INSTEAD)


def as_plain_operations(model: nn.Module, config: ModelConfig, *, longest: int) -> Any:
    """A copy of a model whose forward pass does not depend on numbers of a batch, for texts of up to `longest` tokens.

    The copy gives the same outputs. Its tables of positions are complete, so that none grows in the graph, and it keeps
    no states for a segment that follows.
    """
    positions = longest + 1 + (config.global_tokens if isinstance(config, TransformerConfig) else 0)
    found = copy.deepcopy(model).eval().requires_grad_(False)
    tables: dict[object, Tensor] = {}
    for module in found.modules():
        if isinstance(module, XLNet):
            module.memory_length = 0
        elif isinstance(module, MultiHeadAttention):
            module.core = cast("Any", _WholeMatrix(cast("SoftmaxAttention", module.core)))
        elif isinstance(module, SinusoidalPositions):
            module(positions)
        elif isinstance(module, RotaryPositions):
            kind = (module.width, module.settings)
            if kind not in tables:  # layers share it in the graph
                tables[kind] = module.extended(positions)
            module.table = tables[kind]
    return found


def example_inputs(vocab_size: int, *, segments: bool) -> Sequence[Tensor]:
    """Two padded rows for tracing."""
    ids = torch.arange(10).view(2, 5) % vocab_size
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    return (ids, mask, torch.zeros_like(ids)) if segments else (ids, mask)


def _same_states(left: WithHead, right: WithHead) -> bool:
    return left.how != "weighted" and all(
        getattr(left, name) == getattr(right, name) for name in ("how", "count", "side", "start")
    )
