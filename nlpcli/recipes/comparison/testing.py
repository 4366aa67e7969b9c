"""Scoring a finished translator of a grid on held-out text, as `nlpcli translate` and `nlpcli score` would."""

from __future__ import annotations

from typing import Any

from nlpcli.config.grid import HeldOut
from nlpcli.errors import NlpcliError
from nlpcli.recipes.comparison.cells import Cell, Plan
from nlpcli.recipes.run import Listener

OUTPUT = "test-output.txt"


def check_test(plan: Plan) -> None:
    """Refuses held-out text for models that don't translate, and text that can't be read.

    Raises: NlpcliError.
    """
    from nlpcli.data.readers import read_parallel

    if plan.test is None:
        return
    other = [cell for cell in plan.cells if cell.config.task != "translation"]
    if other:
        raise NlpcliError(
            f"held-out text to translate is given, and the cell '{other[0].name}' learns "
            f"{other[0].config.task or other[0].config.objective}",
            hint="leave --test out; cells are measured on the dev text",
        )
    for _ in read_parallel(plan.test.source, plan.test.target):
        pass


def score_test(cell: Cell, test: HeldOut, listener: Listener) -> dict[str, Any]:
    """BLEU of a cell's translations with its 95 % bootstrap interval; the translations stay in the run's folder.

    Raises: NlpcliError for text that can't be read.
    """
    from nlpcli.data.readers import read_lines
    from nlpcli.evaluation import Resampling
    from nlpcli.evaluation.bleu import Bleu
    from nlpcli.recipes.translate import Translating, translate, write_lines

    config = cell.config
    job = Translating(
        files=(test.source,), model=cell.folder, device=config.training.device, threads=config.training.threads
    )
    output = [
        translation.candidates[0].text
        for window in translate(job, say=listener.note, warn=listener.note)
        for translation in window
    ]
    write_lines(cell.folder / OUTPUT, output)
    metric = Bleu(tokenize=config.decoding.bleu_tokenize, lowercase=config.decoding.lowercase)
    score = metric.corpus(output, [list(read_lines(test.target))], Resampling())
    listener.note(f"{cell.name}: {score.line()}")
    return {"bleu": score.value, "low": score.low, "high": score.high, "signature": score.signature}
