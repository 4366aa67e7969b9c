"""The file with the training runs that are compared, and the budget that is equal for all of them."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nlpcli.config.files import plain_name
from nlpcli.config.loading import Strict, load_yaml, merge, parse
from nlpcli.config.schema import RunConfig
from nlpcli.config.setting_errors import paths
from nlpcli.errors import NlpcliError, unknown

_SEPARATOR = re.compile(r"[^A-Za-z0-9.=_]+")
_DIRECT = ("extends", "init", "task", "objective")
"""The settings of a run that stand in no section."""
MOST_CELLS = 2000
_LIMITS = {
    "steps": "max_steps",
    "epochs": "max_epochs",
    "minutes": "max_minutes",
    "tokens": "max_tokens",
    "flops": "max_flops",
}


class Equal(Strict):
    """The budget that is equal for all cells: exactly one of these."""

    tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="tokens of training, source and target together"
    )
    flops: Annotated[float, Field(gt=0)] | None = Field(None, description="floating-point operations of training")
    minutes: Annotated[float, Field(gt=0)] | None = Field(None, description="training time, evaluation included")
    steps: Annotated[int, Field(ge=1)] | None = Field(None, description="optimizer steps")
    epochs: Annotated[float, Field(gt=0)] | None = Field(None, description="passes over the data")

    @model_validator(mode="after")
    def _exactly_one(self) -> Equal:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"not {' and '.join(given)} together" if given else "but no limit is given"
            raise ValueError(f"set exactly one of {', '.join(type(self).model_fields)}; {found}")
        return self

    @property
    def kind(self) -> str:
        """tokens, flops, minutes, steps or epochs."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def amount(self) -> float:
        """How many of them."""
        return getattr(self, self.kind)

    def limits(self) -> dict[str, float | None]:
        """The limits of training; one of them is set. Early stopping would be a further one."""
        return {name: getattr(self, kind) for kind, name in _LIMITS.items()} | {"patience": None}

    def __str__(self) -> str:
        amount = f"{self.amount:.3g}" if self.kind == "flops" else f"{self.amount:,}"
        kind = self.kind.replace("flops", "FLOPs")
        return f"{amount} {kind if self.amount != 1 else kind[:-1]}"


Seeds = Annotated[int, Field(ge=1)] | Annotated[list[int], Field(min_length=1)]
"""How many seeds, from that of the base on, or which."""


class Row(Strict):
    """A variant that is listed by hand."""

    name: str
    group: str = Field(
        "", description="group of the row, such as A to E in Vaswani et al. 2017, table 3; groups are listed together"
    )
    set: dict[str, Any] = Field({}, description="settings that differ from the base; model.heads: 8, or nested")
    seeds: Seeds | None = Field(None, description="seeds of this row; null: those of the grid")


class HeldOut(Strict):
    """Held-out parallel text that finished translators are scored on."""

    source: str
    target: str


class GridConfig(Strict):
    """Trainings that differ from a base: the product of the axes, and rows listed by hand."""

    name: str = Field("", description="name of the folder; empty: the name of the file")
    title: str = Field("", description="title of the page; empty: the name")
    description: str = ""
    command: Literal["finetune", "pretrain"] | None = Field(
        None, description="command that trains: finetune or pretrain; null: as the task or the objective needs"
    )
    base: dict[str, Any] | str = Field(
        {}, description="settings that all cells share: a preset, a file, or settings with 'extends'"
    )
    data: dict[str, Any] = Field({}, description="training data, as in the section 'data' of a run")
    equal: Equal
    seeds: Seeds = Field(
        1, description="seeds of every cell: a list, or a number of seeds that start with the seed of the base"
    )
    axes: dict[str, dict[str, dict[str, Any] | None] | list[Any]] = Field(
        {}, description="axis -> value -> its settings; or a setting -> its values"
    )
    rows: list[Row] = Field([], description="additional cells, listed after the product of the axes")
    metrics: list[str] = Field(
        [], description="metrics that are columns of the table; empty: the main metrics of the task"
    )
    reference: str = Field(
        "", description="cell that the others are compared with over their seeds; empty: the cell without changes"
    )
    columns: list[str] | dict[str, str] = Field(
        [], description="settings that are columns of the table, also as heading: setting"
    )
    test: HeldOut | None = None

    @field_validator("axes")
    @classmethod
    def _axes_have_values(cls, axes: dict[str, Any]) -> dict[str, Any]:
        for name, values in axes.items():
            if not values:
                raise ValueError(f"axis '{name}' has no values")
            if isinstance(values, list) and "." not in name and name not in _DIRECT:
                meant = [path for path in paths(RunConfig) if path.rpartition(".")[2] == name]
                whole = f"did you mean {' or '.join(meant)}?" if meant else "write it as in model.d_model, or"
                more = "" if meant else " write the settings of each value, as in small: {model.d_model: 64}"
                raise ValueError(f"axis '{name}' lists values but is not a setting; {whole}{more}")
        return axes

    @model_validator(mode="after")
    def _has_cells(self) -> GridConfig:
        if not self.axes and not self.rows:
            raise ValueError("the grid has nothing to compare; add axes or rows")
        return self

    def column_settings(self) -> dict[str, str]:
        """Heading -> setting, of the requested columns."""
        if isinstance(self.columns, dict):
            return self.columns
        short = [name.rpartition(".")[2] for name in self.columns]
        return {last if short.count(last) == 1 else name: name for last, name in zip(short, self.columns, strict=True)}


@dataclass(frozen=True)
class Variant:
    """One cell before it is given a seed: what it is called, and what it changes of the base."""

    name: str  # also of its folder
    change: Mapping[str, Any]  # nested, as in a run's configuration
    title: str = ""
    group: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)  # axis -> value, of a product
    seeds: int | list[int] = 1


def load_grid(path: Path | str) -> GridConfig:
    """The grid in a YAML file; files of text named there are found as from the working directory.

    Raises: NlpcliError for what can't be read, is unknown or contradicts itself.
    """
    data = load_yaml(Path(path), pipe=True)
    grid = parse(GridConfig, data, str(path))
    if not grid.name:
        grid = grid.model_copy(update={"name": Path(path).stem})
    plain_name(grid.name, f"{path}: name")
    return grid


def variants(grid: GridConfig, source: str = "the grid") -> list[Variant]:
    """The cells of a grid: the product of its axes in their order, then its rows.

    Raises: NlpcliError when two would have the same name, or change the same.
    """
    _check_count(grid, source)
    found = [*_product(grid), *(_row(row, grid) for row in grid.rows)]
    names: dict[str, Variant] = {}
    changes: dict[str, Variant] = {}
    for variant in found:
        if not variant.name:
            raise NlpcliError(f"{source}: '{variant.title}' can't be the name of a cell; use letters and digits")
        if variant.name in names:
            raise NlpcliError(f"{source}: two cells are called '{variant.name}'")
        names[variant.name] = variant
        change = json.dumps(variant.change, sort_keys=True, default=str)
        if change in changes:
            raise NlpcliError(
                f"{source}: the cells '{changes[change].name}' and '{variant.name}' have the same settings"
            )
        changes[change] = variant
    if grid.reference and grid.reference not in names:
        error = unknown("cell", grid.reference, names)
        raise NlpcliError(f"{source}: reference: {error.message}", hint=error.hint)
    return found


def _check_count(grid: GridConfig, source: str) -> None:
    """Raises: NlpcliError for more training runs than are allowed, before any is worked out."""
    count = math.prod(map(len, grid.axes.values())) * _seeds(grid.seeds) if grid.axes else 0
    count += sum(_seeds(grid.seeds if row.seeds is None else row.seeds) for row in grid.rows)
    if count > MOST_CELLS:
        raise NlpcliError(
            f"{source}: the grid has {count:,} training runs, more than {MOST_CELLS:,}",
            hint="use fewer values, axes or seeds, or split the grid into several files",
        )


def _seeds(seeds: int | list[int]) -> int:
    return seeds if isinstance(seeds, int) else len(seeds)


def _row(row: Row, grid: GridConfig) -> Variant:
    seeds = grid.seeds if row.seeds is None else row.seeds
    return Variant(slug(row.name), nested(row.set), row.name, row.group, seeds=seeds)


def _product(grid: GridConfig) -> Iterator[Variant]:
    if not grid.axes:
        return
    axes = [[(axis, *value) for value in _values(axis, values)] for axis, values in grid.axes.items()]
    for chosen in itertools.product(*axes):
        change: dict[str, Any] = {}
        for _, _, _, part in chosen:
            merge(change, nested(part))
        name = "-".join(part for _, part, _, _ in chosen)
        labels = {axis.rpartition(".")[2]: label for axis, _, label, _ in chosen}
        yield Variant(slug(name), change, name, labels=labels, seeds=grid.seeds)


def _values(axis: str, values: Mapping[str, Any] | list[Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each value's part of a cell's name, its label, and its change."""
    if isinstance(values, list):
        short = axis.rpartition(".")[2]
        for value in values:
            text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
            yield text if axis in _DIRECT else f"{short}={text}", text, {axis: value}
    else:
        for label, change in values.items():
            yield str(label), str(label), change or {}


def slug(name: str) -> str:
    """A name as that of a folder: letters, digits, `. = _`, and hyphens for all else."""
    return _SEPARATOR.sub("-", name).strip("-.")


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"model.heads": 8}` as `{"model": {"heads": 8}}`. Raises: NlpcliError for a setting below a value."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        inner = nested(value) if isinstance(value, Mapping) else value
        *sections, last = str(key).split(".")
        below: Any = {last: inner}
        for section in reversed(sections):
            below = {section: below}
        merge(result, below, str(key))
    return result


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"model": {"heads": 8}}` as `{"model.heads": 8}`."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result
