"""The results of a grid: one row a variant, its numbers as means over seeds."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nlpcli.commands.compare.cells import Plan
from nlpcli.commands.compare.seed_significance import corrected, welch_p_value
from nlpcli.config.grid import Variant, flat
from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Score

if TYPE_CHECKING:
    from nlpcli.commands.compare.run_cells import CellStatus

FINISHED, PARTLY, FAILED, OPEN = "finished", "partly", "failed", "open"

_COSTS = ("parameters", "tokens", "seconds", "flops", "step")
_DERIVED = ("loss", "word_perplexity", "bits_per_byte")
"""Measures that are functions of perplexity, or of perplexity per byte."""
TEST = "test_bleu"


@dataclass(frozen=True)
class Number:
    """The values of one quantity, a seed each.

    Of a single one low and high bound the 95 % bootstrap interval, and p_value belongs to its difference from the base.
    Of several, p_value_over_seeds belongs to their difference from the reference, corrected for the number of cells.
    signature: how a metric was computed.
    """

    values: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_value_over_seeds: float | None = None
    signature: str = ""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The standard deviation of a sample (n - 1); None of a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data in full precision, for JSON."""
        return {"mean": self.mean, **self._deviation(), "values": list(self.values)}

    def as_score(self, metric: str) -> dict[str, Any]:
        """The form that all commands give a score, with the mean as its value."""
        tested = {} if self.p_value_over_seeds is None else {"p_value_over_seeds": self.p_value_over_seeds}
        details = {**self._deviation(), "values": list(self.values), **tested}
        score = Score(metric, self.mean, self.signature, self.low, self.high, p_value=self.p_value, details=details)
        return score.as_dict()

    def _deviation(self) -> dict[str, float]:
        return {} if self.deviation is None else {"deviation": self.deviation}


@dataclass(frozen=True)
class Row:
    """A variant and what came of it.

    settings: those that the table shows, by heading; None where it is as the base. cost: parameters, tokens, seconds,
    flops, step. folders: of the runs that were finished.
    """

    name: str
    title: str
    group: str
    labels: Mapping[str, str]
    settings: Mapping[str, Any]
    changes: Mapping[str, Any]
    status: str
    reason: str = ""
    folders: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    cost: Mapping[str, Number] = field(default_factory=dict)
    metrics: Mapping[str, Number] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **({"group": self.group} if self.group else {}),
            **({"labels": dict(self.labels)} if self.labels else {}),
            "changes": dict(self.changes),
            "status": self.status,
            **({"reason": self.reason} if self.reason else {}),
            "runs": list(self.folders),
            "seeds": list(self.seeds),
            "cost": {name: number.as_dict() for name, number in self.cost.items()},
            "scores": [number.as_score(name) for name, number in self.metrics.items()],
        }


@dataclass(frozen=True)
class Results:
    """The rows of a grid in its order, and how they came about."""

    name: str
    title: str
    description: str
    equal: str
    kind: str  # what was made equal: tokens, flops, …
    command: str
    rows: list[Row]
    headings: list[str]  # of settings
    base: dict[str, Any]  # the base's values under these headings
    metrics: list[str]  # the columns, in order
    missing: list[str]  # requested measures that are not there
    axes: dict[str, list[str]]
    signatures: dict[str, list[str]]
    machines: list[str]
    data: dict[str, Any]
    by_axes: bool = False
    reference: str = ""  # title of the cell that others were tested against over seeds
    tested: Mapping[str, int] = field(default_factory=dict)  # metric -> cells that were tested
    untested: str = ""  # why they were not
    full_names: Mapping[str, str] = field(default_factory=dict)  # heading -> setting

    @classmethod
    def of(cls, plan: Plan, statuses: Sequence[CellStatus], command: str) -> Results:
        column_settings = _column_settings(plan)
        by_name: dict[str, list[CellStatus]] = {}
        for status in statuses:
            by_name.setdefault(status.cell.variant.name, []).append(status)
        rows = [_row(variant, by_name[variant.name], plan, column_settings) for variant in plan.variants]
        found = [s.record["results"] for s in statuses if s.finished and "results" in s.record]
        data = plan.cells[0].config.data
        reference = _reference(plan, rows)
        rows, tested, untested = _over_seeds(rows, reference)
        return cls(
            reference=reference.title if reference is not None else "", tested=tested, untested=untested,
            name=plan.grid.name, title=plan.grid.title or plan.grid.name, description=plan.grid.description,
            equal=str(plan.grid.equal),
            kind=plan.grid.equal.kind, command=command, rows=rows, headings=list(column_settings),
            full_names=column_settings,
            base={heading: plan.base.get(name) for heading, name in column_settings.items()},
            metrics=_metrics(plan, rows, found), missing=_missing(plan, rows), axes=_axes(plan),
            signatures=_signatures(statuses, found), by_axes=not plan.grid.columns,
            machines=list(dict.fromkeys(_machine(result) for result in found)),
            data={"train": data.train, "dev": data.dev, "test": _files(plan)},
        )  # fmt: skip

    @property
    def is_product(self) -> bool:
        """Whether axes show what differs, and no settings were requested as columns."""
        return self.by_axes and all(row.labels for row in self.rows)

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.status == FAILED or (row.status == PARTLY and row.reason)]

    def as_dict(self) -> dict[str, Any]:
        """Plain data in full precision, for JSON."""
        return {
            "name": self.name,
            "description": self.description,
            "equal": self.equal,
            "command": self.command,
            "data": self.data,
            "base": self.base,
            "machines": self.machines,
            "signatures": self.signatures,
            "cells": [row.as_dict() for row in self.rows],
        }


def _reference(plan: Plan, rows: Sequence[Row]) -> Row | None:
    named = plan.grid.reference
    return next((row for row in rows if (row.name == named if named else not row.changes)), None)


def _over_seeds(rows: list[Row], reference: Row | None) -> tuple[list[Row], dict[str, int], str]:
    """The rows with p-values over their seeds, how many cells were tested in each metric, and why none were."""
    if reference is None:
        return rows, {}, ""
    changed = {row.name: dict(row.metrics) for row in rows}
    tested: dict[str, int] = {}
    for name, base in reference.metrics.items():
        several = [row for row in rows if row is not reference and len(_values(row, name)) > 1]
        if len(base.values) < 2 or not several:
            continue
        try:
            found = [welch_p_value(_values(row, name), base.values) for row in several]
        except NlpcliError as error:
            return rows, {}, f"{error.message} ({error.hint})"
        known = [(row, p_value) for row, p_value in zip(several, found, strict=True) if not math.isnan(p_value)]
        for (row, _), p_value in zip(known, corrected([p_value for _, p_value in known]), strict=True):
            changed[row.name][name] = replace(row.metrics[name], p_value_over_seeds=p_value)
        tested[name] = len(known)
    return [replace(row, metrics=changed[row.name]) for row in rows], tested, ""


def _values(row: Row, metric: str) -> tuple[float, ...]:
    return row.metrics[metric].values if metric in row.metrics else ()


def _files(plan: Plan) -> list[str]:
    return [plan.test.source, plan.test.target] if plan.test else []


def _machine(result: Mapping[str, Any]) -> str:
    """Where a cell was trained; by how much a probe found bfloat16 faster is chance."""
    where = re.sub(r"\(bfloat16 runs at [^)]*\)", "(as measured)", result.get("machine") or "")
    return "; ".join(part for part in (where, result.get("platform")) if part)


def _column_settings(plan: Plan) -> dict[str, str]:
    """Heading -> setting: what was requested, or what differs between the cells."""
    if plan.grid.columns:
        return plan.grid.column_settings()
    configs = [flat(cell.config.model_dump()) for cell in plan.cells]
    differing = [
        name
        for name in configs[0]
        if name not in ("training.seed", "description", "source", "init")
        and any(config.get(name) != configs[0][name] for config in configs)
        and any(name in flat(variant.change) for variant in plan.variants)
    ]
    short = [name.rpartition(".")[2] for name in differing]
    return {last if short.count(last) == 1 else name: name for last, name in zip(short, differing, strict=True)}


def _row(variant: Variant, statuses: list[CellStatus], plan: Plan, shown: Mapping[str, str]) -> Row:
    done = [item for item in statuses if item.finished and "results" in item.record]
    failed = [item for item in statuses if item.failed]
    status = FINISHED if len(done) == len(statuses) else PARTLY if done else FAILED if failed else OPEN
    config = flat(statuses[0].cell.config.model_dump())
    cost = {
        name: Number(values)
        for name in _COSTS
        if (values := tuple(v for item in done if (v := item.record["results"].get(name)) is not None))
    }
    reasons = [item.reason for item in (*failed, *statuses) if item.reason]
    return Row(
        variant.name, variant.title or variant.name, variant.group or _first(variant.labels), variant.labels,
        {heading: None if config.get(name) == plan.base.get(name) else config.get(name)
         for heading, name in shown.items()},
        flat(variant.change), status, reasons[0] if reasons else "",
        tuple(str(item.cell.folder) for item in done), tuple(item.cell.seed for item in done), cost, _measured(done),
    )  # fmt: skip


def _first(labels: Mapping[str, str]) -> str:
    """The first of several axes parts the cells of a product into groups."""
    return next(in_words(labels)) if len(labels) > 1 else ""


def in_words(labels: Mapping[str, str]) -> Iterator[str]:
    """Each axis's value, with the name of the axis where it is a number."""
    return (f"{axis} {label}" if label[:1].isdigit() else label for axis, label in labels.items())


def _measured(done: Sequence[CellStatus]) -> dict[str, Number]:
    signatures = _signatures(done, [item.record["results"] for item in done])
    how = {name: ", ".join(known) for name, known in signatures.items()}  # several: the seeds are not comparable
    names = dict.fromkeys(name for item in done for name in item.record["results"]["metrics"])
    found = {
        name: Number(
            tuple(m[name] for item in done if name in (m := item.record["results"]["metrics"])),
            signature=how.get(name, ""),
        )
        for name in names
    }
    tests = [item.record["test"] for item in done if "test" in item.record]
    if tests:
        alone = tests[0] if len(tests) == 1 else {}
        found[TEST] = Number(
            tuple(test["bleu"] for test in tests),
            low=alone.get("low"),
            high=alone.get("high"),
            p_value=alone.get("p_value"),
            signature=how[TEST],
        )
    return found


def _metrics(plan: Plan, rows: Sequence[Row], results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns: those requested, or the informative ones of those measured."""
    measured = list(dict.fromkeys(name for row in rows for name in row.metrics))
    if plan.grid.metrics:
        requested = [name for name in plan.grid.metrics if name in measured or not measured]
        return [*requested, *[TEST] * (TEST in measured and TEST not in requested)]
    one_tokenizer = len({result["tokenizer"] for result in results}) <= 1
    hidden = _DERIVED if "perplexity" in measured else ()
    if "perplexity" in measured and one_tokenizer:
        hidden = (*hidden, "byte_perplexity")
    return [name for name in measured if name not in hidden]


def _missing(plan: Plan, rows: Sequence[Row]) -> list[str]:
    measured = {name for row in rows for name in row.metrics}
    return [name for name in plan.grid.metrics if measured and name not in measured]


def _axes(plan: Plan) -> dict[str, list[str]]:
    """Axis -> its values in order."""
    axes: dict[str, dict[str, None]] = {}
    for variant in plan.variants:
        for axis, value in variant.labels.items():
            axes.setdefault(axis, {})[value] = None
    return {axis: list(values) for axis, values in axes.items()}


def _signatures(statuses: Sequence[CellStatus], results: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """How each metric was measured; more than one signature means that cells are not comparable in it."""
    signatures: dict[str, dict[str, None]] = {}
    for result in results:
        for name, signature in result["signatures"].items():
            signatures.setdefault(name, {})[signature] = None
    for item in statuses:
        if item.finished and "test" in item.record:
            signatures.setdefault(TEST, {})[item.record["test"]["signature"]] = None
    return {name: list(known) for name, known in signatures.items()}
