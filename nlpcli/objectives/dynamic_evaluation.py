"""Dynamic evaluation (Krause et al. 2018): a language model is updated on a test text after each scored part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nlpcli.data.packing import evaluation_windows
from nlpcli.objectives.clm import CausalLanguageModelling, LanguageBatch
from nlpcli.objectives.objective import Loss

if TYPE_CHECKING:
    from nlpcli.objectives.clm import LanguageModel


@dataclass(frozen=True)
class Adaptation:
    """rate: η, the learning rate; decay: λ, how far a step goes back towards the trained weights."""

    rate: float
    decay: float = 0.0

    def __str__(self) -> str:
        """As signatures name it."""
        return f"sgd:{self.rate:g}" + (f":{self.decay:g}" if self.decay else "")


def evaluate_dynamically(
    task: CausalLanguageModelling, model: LanguageModel, device: torch.device, adaptation: Adaptation
) -> Iterator[Loss]:
    """The losses of the windows of the test text, in order, each before the model is updated on it.

    θ ← θ - η ∇L(s) + λ (θ_0 - θ), with L the mean loss of window s without dropout and θ_0 the trained weights, which
    the model has again afterwards. Windows do not overlap; the states of a model with memory are carried on.
    """
    assert task.dev is not None
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    trained = [weight.detach().clone() for weight in weights]
    model.eval()
    memory: list[Tensor] | None = None
    try:
        for begin, stop, _ in evaluation_windows(len(task.dev), task.context):
            ids = torch.from_numpy(task.dev.read(begin, stop))[None].to(device)
            # cuDNN computes no gradients of recurrent layers in evaluation
            with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
                loss, memory = task.loss(model, LanguageBatch(ids), memory)
                slopes = torch.autograd.grad(loss.total / loss.count, weights, allow_unused=True)
            yield Loss(loss.nll.detach(), loss.nll.detach(), loss.count)
            _learn(weights, slopes, trained, adaptation)
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, trained, strict=True):
                weight.copy_(before)


@torch.no_grad()
def _learn(
    weights: Sequence[nn.Parameter], slopes: Sequence[Tensor | None], trained: Sequence[Tensor], adaptation: Adaptation
) -> None:
    for weight, slope, before in zip(weights, slopes, trained, strict=True):
        if adaptation.decay:
            back = (before - weight).mul_(adaptation.decay)
        if slope is not None:
            weight.add_(slope, alpha=-adaptation.rate)
        if adaptation.decay:
            weight.add_(back)
