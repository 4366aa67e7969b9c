"""A pretrained body with the head of a task on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nlpcli.config.number_parsing import parse_int
from nlpcli.errors import NlpcliError
from nlpcli.models.backbone import Backbone
from nlpcli.models.heads import TextHead, TokenHead, VectorHead
from nlpcli.models.padded_batch import Rows

_HEADS = {"text": TextHead, "tokens": TokenHead, "vector": VectorHead}


class WithHead(nn.Module):
    """head(states of body).

    body: an encoder, a decoder or both. side: whose states an encoder-decoder gives: `decoder`, which reads the same
    text moved by one place (Lewis et al. 2020, section 3.1), after the token `start`; or `encoder`.
    layers: `last`; `concat:N` or `mean:N` of the last N layers' states (Devlin et al. 2019, section 5.3); `weighted`,
    γ Σ_j softmax(s)_j h_j over the embeddings and all layers, with s and γ learnt (Peters et al. 2018, eq. 1).
    kind: `text`, `tokens` or `vector`; the rest belongs to the head.

    Raises: NlpcliError for layers that the body can't give.
    """

    def __init__(
        self,
        body: Backbone,
        *,
        kind: str,
        width: int,
        layers: str = "last",
        side: str = "encoder",
        start: int = 0,
        **head: Any,  # the settings of one of three classes
    ) -> None:
        super().__init__()
        self.body = body
        self.side = side
        self.start = start
        self.how, _, count = layers.partition(":")
        self.count = parse_int(count) or 0
        depth = body.depth(side)
        if self.how == "last":
            depth = 0
        elif depth is None:
            raise NlpcliError(
                f"head.layers '{layers}': models of this family give only the hidden states of the last layer",
                hint="leave out head.layers",
            )
        if self.how in ("concat", "mean") and not 1 <= self.count <= depth + 1:
            raise NlpcliError(
                f"head.layers '{layers}': the number must be from 1 to {depth + 1} (layers and embeddings)"
            )
        if self.how == "weighted":
            self.layer_weights = nn.Parameter(torch.zeros(depth + 1))
            self.layer_scale = nn.Parameter(torch.ones(()))
        self.head = _HEADS[kind](width * self.count if self.how == "concat" else width, **head)
        for module in self.head.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, rows: Rows) -> Tensor:
        """The head's output for the rows."""
        return self.head(self.states(rows), rows)

    def states(self, rows: Rows) -> Tensor:
        """(rows, n, width) states that the head reads."""
        if self.how == "last":
            return self.body.states(rows, side=self.side, start=self.start)
        hidden_states: list[Tensor] = []
        self.body.states(rows, side=self.side, start=self.start, hidden_states=hidden_states)
        if self.how == "weighted":
            weights = self.layer_weights.softmax(dim=0).to(hidden_states[0].dtype)
            return self.layer_scale * torch.einsum("l,lbnd->bnd", weights, torch.stack(hidden_states))
        chosen = hidden_states[-self.count :]
        return torch.cat(chosen, dim=-1) if self.how == "concat" else torch.stack(chosen).mean(dim=0)

    def task_heads(self) -> Mapping[str, WithHead]:
        """See `Backbone.task_heads`."""
        return {"": self}

    def of(self, task: str) -> WithHead:
        """See `Backbone.of`."""
        return self
