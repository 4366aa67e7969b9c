"""Settings of how an objective cuts text into examples and batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from nlpcli.config.schema import RunConfig


@dataclass(frozen=True)
class Batching:
    """context: the most tokens of an example, special ones included. batch_tokens: the most of a batch, padding
    included. seed: of the order, which changes from epoch to epoch."""

    context: int = 512
    batch_tokens: int = 4096
    seed: int = 1

    @classmethod
    def of(cls, config: RunConfig, **more: Any) -> Self:
        """As a run is configured; more: what a subclass has more."""
        return cls(config.data.context, config.training.batch_tokens, config.training.seed, **more)
