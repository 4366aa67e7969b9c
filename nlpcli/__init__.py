"""nlpcli: pretrain, fine-tune, use and measure language models and translators from raw text.

The commands as Python functions, see docs/python.md. Each is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlpcli.api.model import Model, embed, evaluate, generate, load, predict, translate
    from nlpcli.api.results import (
        Confusion,
        Continuation,
        Evaluation,
        MinimalPairScores,
        Mistake,
        Prediction,
        Progress,
        Run,
        Score,
        Translation,
    )
    from nlpcli.api.scoring import score
    from nlpcli.api.training import finetune, pretrain
    from nlpcli.errors import NlpcliError, RunFailed

__version__ = "0.1.0"

__all__ = [
    "Confusion",
    "Continuation",
    "Evaluation",
    "MinimalPairScores",
    "Mistake",
    "Model",
    "NlpcliError",
    "Prediction",
    "Progress",
    "Run",
    "RunFailed",
    "Score",
    "Translation",
    "embed",
    "evaluate",
    "finetune",
    "generate",
    "load",
    "predict",
    "pretrain",
    "score",
    "translate",
]

_PLACES = {
    **dict.fromkeys(("Model", "embed", "evaluate", "generate", "load", "predict", "translate"), "nlpcli.api.model"),
    **dict.fromkeys(("finetune", "pretrain"), "nlpcli.api.training"),
    **dict.fromkeys(("NlpcliError", "RunFailed"), "nlpcli.errors"),
    "score": "nlpcli.api.scoring",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nlpcli' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_PLACES.get(name, "nlpcli.api.results")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
