"""What a model costs: operations for a token, and memory to hold, to train and to decode with it.

Operations are counted by running the model without numbers (on PyTorch's `meta` device), so that the size of a model
doesn't matter: see `nlpcli.training.flops` for what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nlpcli.attention.kinds import parse_attention
from nlpcli.attention.patterns import Horizon
from nlpcli.config.schema import ModelConfig
from nlpcli.models.build import build_model
from nlpcli.models.multi_task_heads import WithHeads
from nlpcli.models.padded_batch import Rows
from nlpcli.models.transformer import Decoder, Encoder, EncoderDecoder
from nlpcli.models.transformer_xl import TransformerXL
from nlpcli.models.with_head import WithHead
from nlpcli.models.xlnet import XLNet
from nlpcli.training.flops import counted

HIDDEN_SHARE = 0.15
"""Of the tokens, for which an encoder that was trained by masking predicts the vocabulary."""

_BYTES = 4  # of a 32-bit number
_COPIES = 4  # weights, gradients and AdamW's two moments


@dataclass(frozen=True)
class Operations:
    """Floating-point operations for one token of an example of `length` tokens (on each side, where there are two).

    forward: to use the model. training: of a step, forward and backward. decoding: to write one more token after
    `length - 1`, with their keys and values kept; None for what does not write.
    """

    length: int
    forward: float
    training: float
    decoding: float | None


def operations(
    config: ModelConfig, vocab_size: int, head: Mapping[str, Any] | None = None, *, length: int = 128
) -> Operations:
    """Counts the operations of a model of this shape. Of several heads none is counted, nor is an LSTM inside one.

    An encoder that predicts hidden tokens does so for `HIDDEN_SHARE` of them in training and for none in use; XLNet is
    counted with its content stream alone.
    """
    head = dict(head or {})
    head.pop("recurrent", None)
    with torch.device("meta"):
        model = build_model(config, vocab_size, head).train()
        if isinstance(model, WithHeads):
            model = model.body
        tokens = torch.zeros(1, length, dtype=torch.long)
        used, learnt = _calls(model, tokens)
        tokens_in_all = 2 * length if isinstance(model, EncoderDecoder) else length
        model.requires_grad_(False)
        forward, decoding = _count(used), _decoding(model, tokens)
        model.requires_grad_(True)
        training = _count(lambda: learnt().sum().backward())
    return Operations(length, forward / tokens_in_all, training / tokens_in_all, decoding)


def _count(work: Callable[[], Any]) -> int:
    with counted() as total:
        work()
    return total()


def _calls(model: nn.Module, tokens: Tensor) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """What is done to use a model, and to learn."""
    if isinstance(model, WithHead):
        rows = Rows(tokens, None, None, torch.zeros(1, dtype=torch.long))
        return (lambda: model(rows),) * 2
    if isinstance(model, EncoderDecoder):
        return (lambda: model(tokens, None, tokens),) * 2
    if isinstance(model, Encoder):
        hidden = max(1, round(HIDDEN_SHARE * tokens.size(1)))
        if model.mlm_head is None:
            return (lambda: model(tokens),) * 2
        return lambda: model(tokens), lambda: model.logits(model.mlm_hidden(model(tokens)[:, :hidden]))
    assert isinstance(model, (Decoder, TransformerXL, XLNet))
    return (lambda: model(tokens),) * 2


def _decoding(model: nn.Module, tokens: Tensor) -> float | None:
    """Operations of the last step of `tokens`, for models that take steps."""
    if isinstance(model, EncoderDecoder):
        state = model.init_state(model.encode(tokens))
    elif isinstance(model, (Decoder, TransformerXL)):
        state = model.init_state(1)
    else:
        return None
    if tokens.size(1) > 1:
        _, state = model.advance(tokens[:, 1:], state)
    return float(_count(lambda: model.step(tokens[:, :1], state)))


def memory(config: ModelConfig, parameters: int) -> dict[str, int]:
    """Bytes, in 32-bit numbers: weights; training with AdamW (weights, gradients, two moments; states not counted).

    cache_token: keys and values of one more token of a sequence that is written, in the layers that remember all of
    it. cache_window: of what layers with a window remember at most. cache_source: of one token of its source. Half of
    each in 16-bit numbers.
    """
    key = config.d_key or config.d_model // config.heads
    value = config.d_value or config.d_model // config.heads
    layer = (config.kv_heads or config.heads) * (key + (key if config.family == "transformer-xl" else value)) * _BYTES
    found = {"weights": _BYTES * parameters, "training": _COPIES * _BYTES * parameters}
    if config.kind != "encoder":
        horizons = _horizons(config)
        found["cache_token"] = layer * sum(horizon is not None and horizon.last is None for horizon in horizons)
        bounded = [horizon.first + horizon.last for horizon in horizons if horizon is not None and horizon.last]
        if bounded:
            found["cache_window"] = layer * sum(bounded)
    if config.kind == "encoder-decoder":
        found["cache_source"] = config.decoder_layers * layer
    return found


def _horizons(config: ModelConfig) -> list[Horizon | None]:
    """What each decoder layer remembers of keys and values; None for one that keeps sums instead."""
    entries = [parse_attention(text) for text in config.decoder_attention or config.attention]
    chosen = [entries[number % len(entries)] for number in range(config.decoder_layers)]
    return [None if entry.kind.constant_state else entry.pattern_of(causal=True).horizon for entry in chosen]


def as_facts(counted_: Operations) -> dict[str, Any]:
    """The counts as plain data, whole numbers."""
    return {name: None if value is None else round(value) for name, value in asdict(counted_).items()}
