"""Settings of RoPE scaling, for texts longer than those in training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nlpcli.config.loading import Strict
from nlpcli.config.number_types import Size


class RopeScalingConfig(Strict):
    """How rotary positions are changed for texts longer than those in training."""

    method: Literal["none", "linear", "dynamic", "llama3", "yarn"] = "none"
    factor: Annotated[float, Field(ge=1)] = Field(1.0, description="how many times longer texts may be")
    original_max_length: Size | None = Field(
        None, description="longest text in the training before the scaling; max_length when null"
    )
    low_freq_factor: Annotated[float, Field(gt=0)] = Field(
        1.0, description="llama3: frequencies of wavelengths above original_max_length / this are divided by the factor"
    )
    high_freq_factor: Annotated[float, Field(gt=0)] = Field(
        4.0, description="llama3: frequencies of wavelengths below original_max_length / this do not change"
    )
    beta_fast: Annotated[float, Field(gt=0)] = Field(
        32.0, description="yarn: dimensions with more rotations within original_max_length do not change"
    )
    beta_slow: Annotated[float, Field(gt=0)] = Field(
        1.0, description="yarn: frequencies of dimensions with fewer rotations are divided by the factor"
    )
    attention_factor: Annotated[float, Field(gt=0)] | None = Field(
        None, description="yarn: multiplies queries and keys; 0.1 ln(factor) + 1 when null"
    )
    truncate: bool = Field(True, description="yarn: round the bounds of the ramp to whole dimensions")

    @model_validator(mode="after")
    def _is_of_its_method(self) -> RopeScalingConfig:
        own: dict[str, tuple[str, ...]] = {
            "llama3": ("low_freq_factor", "high_freq_factor"),
            "yarn": ("beta_fast", "beta_slow", "attention_factor", "truncate"),
        }
        for name, field in type(self).model_fields.items():
            method = next((method for method, names in own.items() if name in names), None)
            wanted = self.method != "none" if method is None else self.method == method
            if name != "method" and not wanted and getattr(self, name) != field.default:
                raise ValueError(f"rope_scaling.{name} has no effect with the method '{self.method}'")
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(f"low_freq_factor {self.low_freq_factor:g} is not below {self.high_freq_factor:g}")
        return self
