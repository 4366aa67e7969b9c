"""Settings of models for tests that try several families with the same sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nlpcli.config.model_settings import DEFAULT, FAMILIES, ModelConfig, families_with


def of_family(settings: Mapping[str, Any]) -> ModelConfig:
    """The settings as those of their family, without sizes that only other families have."""
    own = FAMILIES.load(settings.get("family", DEFAULT)).model_fields
    return ModelConfig.model_validate(
        {name: value for name, value in settings.items() if name in own or not families_with(name)}
    )
