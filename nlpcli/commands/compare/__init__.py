"""Comparing training runs: a grid of runs at equal cost, its table and its picture.

A cell of the grid is an ordinary run in a folder of its own; see `nlpcli.config.grid` for the file.
"""

from __future__ import annotations

from nlpcli.commands.compare.cells import CompareRequest, Plan, make_plan
from nlpcli.commands.compare.grid_results import Results
from nlpcli.commands.compare.preview import preview
from nlpcli.commands.compare.results_files import write_report, write_results
from nlpcli.commands.compare.results_picture import picture
from nlpcli.commands.compare.run_cells import cell_statuses, run
from nlpcli.commands.compare.score_test_sets import check_test
from nlpcli.config.folder_lock import locked_folder
from nlpcli.errors import NlpcliError
from nlpcli.runs.training_request import Listener

__all__ = ["CompareRequest", "Plan", "Results", "compare", "make_plan", "picture", "preview", "write_report"]


def compare(job: CompareRequest, listener: Listener) -> Results:
    """Runs the cells of a grid that are not finished, and gives the results of all, which stay in the grid's folder.

    Nothing is trained before every cell is known to be possible. A cell that fails does not keep the others from
    being trained; it stands among the results with its reason.

    Raises: NlpcliError for a wrong grid, for data that can't be read, and for a folder that holds another training than
    is requested; KeyboardInterrupt after the running cell was saved.
    """
    plan = make_plan(job)
    if any(not (cell.config.data.train or cell.config.data.mixture) for cell in plan.cells):
        raise NlpcliError(
            f"{job.grid} does not name any training data",
            hint="add --train FILE, or the section 'data' to the grid file",
        )
    check_test(plan)
    with locked_folder(plan.out, "grid"):
        statuses = cell_statuses(plan)
        run(plan, statuses, listener)
        results = Results.of(plan, statuses, job.command)
        write_results(results, plan.out, listener)
    return results
