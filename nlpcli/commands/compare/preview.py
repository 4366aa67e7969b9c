"""A grid before it runs: its cells, how large they are, what they would cost, and how far they are."""

from __future__ import annotations

from typing import Any

from nlpcli.commands.compare.cell_record import state_of
from nlpcli.commands.compare.cells import Cell, CompareRequest, make_plan, parameters, vocabulary_size
from nlpcli.commands.compare.run_cells import cell_statuses
from nlpcli.commands.compare.score_test_sets import check_test
from nlpcli.config.grid import flat


def preview(job: CompareRequest) -> list[dict[str, Any]]:
    """For each cell its name, group, what it changes, parameters, FLOPs per token in training, and its state.

    Sizes are those with as many tokens as the tokenizer is to have, and without a task's head. FLOPs are
    those of examples of 32 tokens a side where pairs of sentences are read, of whole windows where texts are.

    Raises: NlpcliError for a grid that could not be run.
    """
    plan = make_plan(job)
    check_test(plan)
    known = all(cell.config.data.train or cell.config.data.mixture for cell in plan.cells)
    states = (
        [item.reason or item.state for item in cell_statuses(plan, strict=False)]
        if known
        else [state_of(c.folder) for c in plan.cells]
    )
    return [
        {
            "cell": cell.name,
            "group": cell.variant.group,
            "changes": flat(cell.variant.change),
            "parameters": parameters(cell),
            "flops_per_token": _flops(cell),
            "state": state,
        }
        for cell, state in zip(plan.cells, states, strict=True)
    ]


def _flops(cell: Cell) -> float:
    from nlpcli.runs.model_cost import operations

    length = cell.config.data.context if cell.command == "pretrain" else 32
    return operations(cell.config.model, vocabulary_size(cell), length=length).training
