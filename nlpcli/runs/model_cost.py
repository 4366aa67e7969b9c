"""The cost of a model: operations for a token, and memory to hold, to train and to decode with it.

Operations are counted by running the model without numbers (on PyTorch's `meta` device), so that the size of a model
doesn't matter: see `nlpcli.training.flops` for what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from nlpcli.config.model_settings import ModelConfig
from nlpcli.models.backbone import Backbone
from nlpcli.models.build import build_model
from nlpcli.models.padded_batch import Rows
from nlpcli.training.flops import counted

if TYPE_CHECKING:
    from nlpcli.models.decodable import Decodable

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

    An encoder that predicts hidden tokens does so for a share of them in training (`HIDDEN_SHARE` in
    `nlpcli.models.transformer`) and for none in use; XLNet is counted with its content stream alone.
    """
    head = dict(head or {})
    head.pop("recurrent", None)
    with torch.device("meta"):
        model = build_model(config, vocab_size, head).train()
        tokens = torch.zeros(1, length, dtype=torch.long)
        body = model.body
        used: Callable[[Tensor], Tensor] = body.example
        trained: Callable[[Tensor], Tensor] = body.trained_example
        tokens_in_all = length
        under_head = bool(head) and "heads" not in head
        if under_head:
            rows = Rows(tokens, None, None, torch.zeros(1, dtype=torch.long))
            used = trained = lambda _: model(rows)
        elif body.direction == "source-to-target":
            tokens_in_all = 2 * length
        model.requires_grad_(False)
        forward = _count(lambda: used(tokens))
        decoding = None if under_head else _decoding(body, tokens)
        model.requires_grad_(True)
        training = _count(lambda: trained(tokens).sum().backward())
    return Operations(length, forward / tokens_in_all, training / tokens_in_all, decoding)


def _count(work: Callable[[], Any]) -> int:
    with counted() as total:
        work()
    return total()


def _decoding(model: Backbone, tokens: Tensor) -> float | None:
    """Operations of the last step of `tokens`, for models that take steps."""
    state = model.state_after(tokens[:, 1:])
    if state is None:
        return None
    writer = cast("Decodable", model)  # it has a state
    return float(_count(lambda: writer.step(tokens[:, :1], state)))


def memory(config: ModelConfig, parameters: int) -> dict[str, int]:
    """Bytes, in 32-bit numbers: weights; training with AdamW (weights, gradients, two moments; states not counted).

    cache_per_token: keys and values of one more generated token, in the layers that keep those of all tokens.
    cache_window: the most that layers with a window or a state of constant size keep, however long the text is.
    cache_per_source_token: keys and values of a source token.
    Half of each in 16-bit numbers.
    """
    found = {"weights": _BYTES * parameters, "training": _COPIES * _BYTES * parameters}
    if config.kind == "encoder":
        return found
    cached = config.cached_numbers()
    found["cache_per_token"] = _BYTES * cached.per_token
    if cached.window:
        found["cache_window"] = _BYTES * cached.window
    if config.kind == "encoder-decoder":
        found["cache_per_source_token"] = _BYTES * cached.per_source_token
    return found


def as_facts(counted_: Operations) -> dict[str, Any]:
    """The counts as plain data, whole numbers."""
    found = {name: None if value is None else round(value) for name, value in asdict(counted_).items()}
    return {"sequence_length": found.pop("length"), **found}
