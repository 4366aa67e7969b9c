"""A forecast of what a training would need: the run is prepared and takes a few steps, and nothing is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlpcli.runs.training_request import Listener, PreparedRun, Request

if TYPE_CHECKING:
    from nlpcli.training.forecast import Forecast


def forecast(request: Request, listener: Listener, *, finetunes: bool) -> Forecast:
    """The forecast of a requested run. finetunes: by `finetune`, else by `pretrain`.

    Raises: NlpcliError as these do, for wrong settings or data.
    """
    from dataclasses import replace

    from nlpcli.training.forecast import ForecastTrainer

    found: list[Forecast] = []

    def probe(run: PreparedRun) -> None:
        found.append(run.trainer(ForecastTrainer).forecast())

    request = replace(request, in_place_of_training=probe)
    if finetunes:
        from nlpcli.runs.finetuning.finetune import finetune as prepare
    else:
        from nlpcli.runs.pretraining.pretrain import pretrain as prepare
    prepare(request, listener)
    return found[0]
