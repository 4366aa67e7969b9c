"""Checks that a model of the configured size fits into memory, before it is allocated."""

from __future__ import annotations

import math
from pathlib import Path

from nlpcli.config.model_settings import ModelConfig
from nlpcli.errors import NlpcliError

_FLOAT = 4  # bytes
_TRAINED = 4  # numbers of a parameter that is trained: itself, its gradient, and two averages of AdamW


def check_size(config: ModelConfig, vocab_size: int, *, whole: bool, resumed: Path | None = None) -> None:
    """Refuses a model that does not fit into memory, or that is larger than that of the run to be resumed.

    whole: all parameters are trained, on the CPU. resumed: the run's folder.
    Raises: NlpcliError with the sizes.
    """
    from nlpcli.models.build import build_on_meta, count_parameters
    from nlpcli.models.model_folder import check_layers
    from nlpcli.runs.init_from_model import body_config
    from nlpcli.training.checkpoint import stored_model
    from nlpcli.training.device import total_memory

    found = None if resumed is None else stored_model(resumed)
    file, stored = found or (None, {})
    if file is not None:
        check_layers(config, stored, str(file))
    count = count_parameters(build_on_meta(body_config(config), vocab_size))
    if file is not None and count > sum(map(math.prod, stored.values())):
        raise NlpcliError(
            f"{file}: the file has fewer weights than the model in the run's config.yaml, which has {count:,}",
            hint="restore the run's config.yaml, which was changed",
        )
    memory = total_memory()
    needed = count * _FLOAT * (_TRAINED if whole else 1)
    if memory is not None and needed > memory:
        what = "training" if whole else "their weights"
        raise NlpcliError(
            f"the model has {count:,} parameters; {what} need{'s' * whole} {needed / 1e9:,.0f} GB of memory, "
            f"but this machine has only {memory / 1e9:,.0f} GB",
            hint="reduce model.d_model, model.d_ff, the number of layers or the vocabulary",
        )
