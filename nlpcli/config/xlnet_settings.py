"""The settings of XLNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from nlpcli.config.number_types import Layers
from nlpcli.config.transformer_xl_settings import SegmentRecurrentConfig


class XLNetConfig(SegmentRecurrentConfig):
    """XLNet (Yang et al. 2019), an encoder that predicts tokens in any order of factorization."""

    build: ClassVar = "nlpcli.models.xlnet:XLNet"
    permutes: ClassVar[bool] = True

    kind: Literal["encoder"] = Field("encoder", description="the model is an encoder")
    encoder_layers: Layers = 6

    @property
    def stacks(self) -> Mapping[str, int]:
        """See `ModelConfig.stacks`."""
        return {"encoder": self.encoder_layers}

    @property
    def segment_count(self) -> int:
        """See `ModelConfig.segment_count`."""
        return 2
