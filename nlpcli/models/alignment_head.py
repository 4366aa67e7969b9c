"""The attention head of a translation model that aligns words, and its weights for a given source and target.

Source: Garg et al. 2019, section 4: one head of the last decoder layer but one is trained by links, and may see the
whole target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from nlpcli.attention.hooks import Recordable, recording
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError
from nlpcli.models.backbone import CROSS

PREDICT, READ = "predict", "read"
STEPS = (PREDICT, READ)
"""The step at which a decoder's attention aligns a target token: that which predicts it, or that which has read it."""

CAUSAL, FULL = "causal", "full"


class _Attentive(Protocol):
    """A model that returns its attention weights."""

    def attention_sites(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class AlignmentHead:
    """An attention head that was trained by links.

    layer, head: from 1; layer None: the last but one. context: what of the target a position sees, what comes before it
    (`causal`) or all (`full`).
    step: of `STEPS`.
    """

    layer: int | None = None
    head: int = 1
    context: str = FULL
    step: str = READ

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> AlignmentHead | None:
        """The alignment head that `info`, a model.yaml, describes; None where no head was trained with links."""
        found = info.get("alignment")
        return None if found is None else cls(**found)

    def describe(self) -> dict[str, Any]:
        """For model.yaml."""
        return asdict(self)

    def check(self, model: _Attentive) -> None:
        """Raises: NlpcliError where the model has no such layer or head, or attention that can't learn links."""
        attention = choose_layer(model, self.layer)
        if not hasattr(model, "whole_target_hidden"):
            raise NlpcliError(
                "guided alignment (--align-train) needs a Transformer",
                hint="choose another model with --model, such as transformer-tiny",
            )
        heads = getattr(attention, "heads", 1)
        if self.head > heads:
            raise NlpcliError(
                f"alignment.head is {self.head}, but the attention to the source has {counted(heads, 'head')}",
                hint=f"choose a head from 1 to {heads}",
            )


def choose_layer(model: _Attentive, layer: int | None) -> Recordable:
    """The attention to the source of decoder layer `layer`, from 1; None: the last but one (Garg et al. 2019).

    Raises: NlpcliError when there is none.
    """
    layers: list[Recordable] = list(model.attention_sites().get(CROSS, ()))
    if not layers:
        raise NlpcliError(
            "this model has no attention to its source, which word alignments and the coverage penalty need"
        )
    if layer is None:
        return layers[max(0, len(layers) - 2)]
    if not 1 <= layer <= len(layers):
        raise NlpcliError(f"the model has no decoder layer {layer}", hint=f"choose a layer from 1 to {len(layers)}")
    return layers[layer - 1]


def whole_target_weights(
    model: Any,  # an `EncoderDecoder`
    memory: Any,  # of its `encode`
    target: Tensor,
    target_mask: Tensor,
    head: AlignmentHead,
    *,
    gradients: bool = False,
) -> Tensor:
    """The weights (batch, n, m) of a head that sees the whole target (batch, n), by a pass of the decoder of its own.

    target_mask (batch, n): True where there is a token. gradients: whether they have derivatives.
    """
    with recording(choose_layer(model, head.layer), gradients=gradients) as [recorded]:
        model.whole_target_hidden(target, target_mask, memory)
    return recorded[0][:, head.head - 1]


def token_mask(lengths: Tensor, size: int) -> Tensor:
    """(batch, size), True for the first `lengths` (batch,) places of each row."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
