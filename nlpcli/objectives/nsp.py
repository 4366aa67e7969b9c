"""Next-sentence prediction (Devlin et al. 2019, section 3.1), sentence-order prediction (Lan et al. 2020, section 3.1).

loss = -Σ log p(label | A, B), p = softmax(W · tanh(W_p h_0 + b_p) + b), h_0 the encoder's state of cls.
nsp: does B follow A (0), or is it from another document (1)? sop: are A and B in order (0), or have they changed places
(1)? The pairs are made by `SentencePairs`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from nlpcli.objectives.objective import Loss

if TYPE_CHECKING:
    from nlpcli.models.transformer import Encoder


def label_loss(model: Encoder, states: Tensor, labels: Tensor, name: str, *, guess: int | None = None) -> Loss:
    """The loss of labels (batch) given states (batch, n, d_model), summed over pairs.

    guess: a label; with it come the tallies `<name>_accuracy` and `<name>_baseline`, of always guessing that one.
    """
    logits = model.pair_logits(states).float()
    total = F.cross_entropy(logits, labels, reduction="sum")
    loss = Loss(total, total.detach(), len(labels))
    if guess is None:
        return loss
    tallies = {"accuracy": (logits.argmax(dim=-1) == labels).sum(), "baseline": (labels == guess).sum()}
    return replace(loss, tallies={f"{name}_{measure}": (right, loss.count) for measure, right in tallies.items()})
