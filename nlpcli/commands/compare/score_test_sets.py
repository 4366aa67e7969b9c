"""Scoring a finished translator of a grid on a test set, as `nlpcli translate` and `nlpcli score` would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nlpcli.commands.compare.cells import Cell, Plan
from nlpcli.config.files import check_regular
from nlpcli.config.grid import HeldOut
from nlpcli.errors import NlpcliError
from nlpcli.runs.training_request import Listener
from nlpcli.tasks import TASKS

OUTPUT = "test-output.txt"


def _translates(task: str | None) -> bool:
    return task is not None and TASKS.load(task).parallel_text


def check_test(plan: Plan) -> None:
    """Refuses a test set for models that don't translate, and text that can't be read.

    Raises: NlpcliError.
    """
    from nlpcli.data.readers import read_parallel

    if plan.test is None:
        return
    other = [cell for cell in plan.cells if not _translates(cell.config.task)]
    if other:
        raise NlpcliError(
            f"--test needs translation models, but the cell '{other[0].name}' is trained on "
            f"{other[0].config.task or other[0].config.objective}",
            hint="leave out --test; cells are evaluated on the dev set",
        )
    for _ in read_parallel(plan.test.source, plan.test.target):
        pass


def score_test(cell: Cell, test: HeldOut, listener: Listener) -> dict[str, Any]:
    """BLEU of a cell's translations with its 95 % bootstrap interval; the translations stay in the run's folder.

    Raises: NlpcliError for text that can't be read.
    """
    from nlpcli.config.files import write_lines
    from nlpcli.data.readers import read_lines
    from nlpcli.evaluation import Resampling
    from nlpcli.runs.translation import TranslateRequest, translate

    config = cell.config
    job = TranslateRequest(
        files=(test.source,), model=cell.folder, device=config.training.device, threads=config.training.threads,
        engine="torch",
    )  # fmt: skip
    listener.note(f"{cell.name}: translating {test.source}")
    output = [
        translation.candidates[0].text
        for window in translate(job, notify=listener.note, warn=listener.note)
        for translation in window
    ]
    write_lines(cell.folder / OUTPUT, output)
    score = _metric(cell).corpus(output, [list(read_lines(test.target))], Resampling())
    listener.note(f"{cell.name}: {score.line()}")
    return {"bleu": score.value, "low": score.low, "high": score.high, "signature": score.signature}


def _metric(cell: Cell) -> Any:
    from nlpcli.evaluation.bleu import Bleu

    decoding = cell.config.decoding
    return Bleu(tokenize=decoding.bleu_tokenize, lowercase=decoding.lowercase)


def p_values(base: Cell, others: Sequence[Cell], test: HeldOut) -> list[float]:
    """How often chance alone would make each cell's BLEU differ from the base's as much: the paired bootstrap.

    Raises: NlpcliError when a cell's translations are not there any more.
    """
    from nlpcli.data.readers import read_lines
    from nlpcli.evaluation import Resampling

    def output(folder: Path) -> list[str]:
        check_regular(folder / OUTPUT)
        return list(read_lines(folder / OUTPUT))

    systems = [output(cell.folder) for cell in others]
    scores = _metric(base).compare(output(base.folder), systems, [list(read_lines(test.target))], Resampling())
    return [score.p_value for score in scores[1:]]
