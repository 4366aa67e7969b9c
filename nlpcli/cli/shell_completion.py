"""Choices the shell offers on Tab: `autocompletion=complete.presets` and the like. Listing them imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable


def _names(place: str) -> Callable[[str], list[str]]:
    """A completion from `module:name`, which is a lazy table or a function that lists names."""

    def choices(incomplete: str) -> list[str]:
        module, attribute = place.split(":")
        found = getattr(importlib.import_module(module), attribute)
        names = found() if callable(found) else found.names()
        return [name for name in names if name.startswith(incomplete)]

    return choices


presets = _names("nlpcli.presets:names")
objectives = _names("nlpcli.runs.pretraining:OBJECTIVES")
tasks = _names("nlpcli.tasks:TASKS")
metrics = _names("nlpcli.evaluation:METRICS")
tokenizers = _names("nlpcli.text:TOKENIZERS")
