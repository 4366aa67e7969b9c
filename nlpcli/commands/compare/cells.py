"""The cells of a grid as runs: each with its folder, its configuration, and the settings that its recipe was given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlpcli import presets
from nlpcli.config.files import plain_name
from nlpcli.config.grid import GridConfig, HeldOut, Variant, flat, load_grid, nested, variants
from nlpcli.config.loading import apply_overrides, merge
from nlpcli.config.schema import RunConfig
from nlpcli.config.setting_errors import suggestion
from nlpcli.errors import NlpcliError, unknown
from nlpcli.escaping import quoted
from nlpcli.runs.finetuning.finetune import DEFAULT_TASK
from nlpcli.runs.pretraining import DEFAULT_OBJECTIVE
from nlpcli.runs.resolve_settings import check_one_vocabulary, resolve
from nlpcli.runs.text_metrics import MEASURED
from nlpcli.runs.training_request import Request
from nlpcli.tasks import TASKS

RESULTS, TABLE, PICTURE = "results.json", "table.md", "picture.png"
"""The files in a grid's folder beside its cells."""


@dataclass(frozen=True)
class CompareRequest:
    """A user's request: the file of the grid, and the changes from the command line.

    train, dev, test: replace those of the file. overrides: "a.b=c", of all cells; what a cell itself changes stays.
    only: the cells to run, by name; rerun: those to be repeated although they are finished; overwrite: all of them.
    """

    grid: Path
    train: Sequence[str] = ()
    dev: Sequence[str] = ()
    test: Sequence[str] = ()
    out: Path | None = None
    overrides: Sequence[str] = ()
    only: Sequence[str] = ()
    rerun: Sequence[str] = ()
    overwrite: bool = False
    tokenizer: Path | None = None
    command: str = ""


@dataclass(frozen=True)
class Cell:
    """One training: a variant with one seed.

    requested: its settings that the grid or the command line gives. config: all settings, with the defaults.
    """

    variant: Variant
    seed: int
    folder: Path
    command: str  # finetune or pretrain
    request: Request
    config: RunConfig
    requested: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its folder's."""
        return self.folder.name


@dataclass(frozen=True)
class Plan:
    """A grid that was read and found to be possible."""

    grid: GridConfig
    out: Path
    cells: list[Cell]
    base: dict[str, Any]  # settings of a run that changes nothing, flat
    test: HeldOut | None = None
    chosen: frozenset[str] = field(default_factory=frozenset)  # names of variants
    repeated: frozenset[str] = field(default_factory=frozenset)

    @property
    def variants(self) -> list[Variant]:
        """In the order of the grid."""
        return list({cell.variant.name: cell.variant for cell in self.cells}.values())


def make_plan(job: CompareRequest) -> Plan:
    """Reads the grid and works out every cell's configuration, so that an error in the last stops it before the first.

    Raises: NlpcliError for what is unknown, contradicts itself, or can't be trained.
    """
    grid = load_grid(job.grid)
    out = job.out or Path("runs") / grid.name
    found = variants(grid, str(job.grid))
    common = _common(job, grid)
    base = _base(job, grid, found[0], common, out)
    first = base.config.training.seed
    cells = []
    for variant in found:
        for seed in _seeds(job, variant, first):
            name = variant.name if seed == first else f"{variant.name}-seed-{seed}"
            _check_name(job, name)
            change = merge(merge({}, variant.change), {"training": {"seed": seed}})
            cells.append(_resolved(job, grid, variant, merge(merge({}, common), change), out / name))
    _check_columns(job, grid, base.config)
    only, rerun = _named(job.only, found), _named(job.rerun, found)
    chosen = only or [variant.name for variant in found]
    repeated = chosen if job.overwrite else rerun
    if len({cell.name for cell in cells}) < len(cells):
        raise NlpcliError(f"{job.grid}: two cells with their seeds have the same name", hint="rename one of the cells")
    return Plan(
        grid, out, cells, flat(base.config.model_dump()), _test(job, grid),
        frozenset(chosen), frozenset(repeated) & frozenset(chosen),
    )  # fmt: skip


def _check_name(job: CompareRequest, name: str) -> None:
    """Refuses a cell whose folder can't be, or would be where a file of the grid is written."""
    place = f"{job.grid}: the name of a cell"
    if plain_name(name, place).casefold() in (RESULTS, TABLE, PICTURE):
        raise NlpcliError(
            f"{place} can't be '{name}', which is a file in the grid's folder", hint="give the cell another name"
        )


def _named(given: Sequence[str], variants: Sequence[Variant]) -> list[str]:
    """The names of cells that are given by name or by title. Raises: NlpcliError for one that is none."""
    names = {variant.title: variant.name for variant in variants} | {variant.name: variant.name for variant in variants}
    for name in given:
        if name not in names:
            raise unknown("cell", name, [variant.name for variant in variants])
    return [names[name] for name in given]


def _check_columns(job: CompareRequest, grid: GridConfig, config: RunConfig) -> None:
    settings = flat(config.model_dump())
    for name in grid.column_settings().values():
        if name not in settings:
            hint = suggestion(RunConfig, name.split(".")) or "list all settings with: nlpcli config show NAME"
            raise NlpcliError(f"{job.grid}: columns: the setting '{name}' does not exist", hint=hint)


def _seeds(job: CompareRequest, variant: Variant, first: int) -> list[int]:
    if isinstance(variant.seeds, int):
        return list(range(first, first + variant.seeds))
    if len(set(variant.seeds)) < len(variant.seeds):
        raise NlpcliError(f"{job.grid}: cell '{variant.name}': the list of seeds {variant.seeds} contains a seed twice")
    return variant.seeds


def _base(job: CompareRequest, grid: GridConfig, first: Variant, common: Mapping[str, Any], out: Path) -> Cell:
    """The run without changes; if the base alone is incomplete, because an axis sets the task, the first run."""
    for variant in (Variant("base", {}), first):
        requested = merge(merge({}, common), variant.change)
        try:
            return _resolved(job, grid, variant, requested, out, checked=False)
        except NlpcliError as error:
            problem = error
    raise problem


def _common(job: CompareRequest, grid: GridConfig) -> dict[str, Any]:
    """The configuration that all cells begin with."""
    base = {"extends": grid.base} if isinstance(grid.base, str) else nested(grid.base)
    merge(base, {"data": nested(grid.data)})
    given = {"train": list(job.train), "dev": list(job.dev)}
    merge(base, {"data": {name: files for name, files in given.items() if files}})
    return apply_overrides(base, job.overrides)


def _test(job: CompareRequest, grid: GridConfig) -> HeldOut | None:
    if not job.test:
        return grid.test
    if len(job.test) != 2:
        raise NlpcliError(f"--test needs 2 files, SOURCE and TARGET, not {len(job.test)}")
    return HeldOut(source=job.test[0], target=job.test[1])


def _resolved(
    job: CompareRequest,
    grid: GridConfig,
    variant: Variant,
    requested: dict[str, Any],
    folder: Path,
    *,
    checked: bool = True,
) -> Cell:
    place = f"{job.grid}: cell '{variant.name}'"
    requested = merge(requested, {"training": grid.equal.limits()})
    try:
        command, request = _request(job, grid, requested, folder)
        config = resolve(request, command)
        if command == "finetune":
            config = config.model_copy(update={"task": config.task or DEFAULT_TASK})
        else:
            config = config.model_copy(update={"objective": config.objective or DEFAULT_OBJECTIVE})
        cell = Cell(variant, config.training.seed, folder, command, request, config, requested)
        if checked:
            _check(cell)
    except NlpcliError as error:
        message = error.message.removeprefix("the configuration: ")
        raise type(error)(f"{place}: {message}", hint=error.hint) from None
    return cell


def _request(job: CompareRequest, grid: GridConfig, requested: Mapping[str, Any], folder: Path) -> tuple[str, Request]:
    """The command of a cell, and its request."""
    settings = {key: value for key, value in requested.items() if key != "extends"}
    config, preset = _extended(job.grid, requested.get("extends"))
    extended = config or preset
    beneath = presets.load(extended) if extended else {}
    task, objective, init = (settings.get(name) or beneath.get(name) for name in ("task", "objective", "init"))
    command = grid.command or ("finetune" if task else "pretrain" if objective else None)
    if command is None:
        raise NlpcliError(
            "neither a task nor an objective is given",
            hint="in the base configuration of the grid file, set 'task' (such as translation) or 'objective' (such as "
            "clm)",
        )
    if init and preset:
        raise NlpcliError(
            f"'init: {init}' and 'extends: {preset}' can't be used together", hint="leave out one of them"
        )
    if command == "finetune":
        known = _finetuning(task or DEFAULT_TASK, init, extended, settings)
    else:
        known = _pretraining(objective or "clm", init, preset, config, settings)
    request = Request(
        **{"default": "", "preset": preset, "config": config} | known,
        settings={"init": init} if init else {},
        overrides=[f"{key}={json.dumps(value, default=str)}" for key, value in flat(settings).items() if key != "init"],
        out=folder,
        tokenizer=job.tokenizer,
        command=job.command,
    )
    return command, request


def _extended(grid: Path, name: object) -> tuple[Path | None, str | None]:
    """A file, found from the grid's place, or a preset."""
    if name is None:
        return None, None
    if not isinstance(name, str):
        raise NlpcliError(f"'extends' must be the name of a preset, not {quoted(name)}")
    path = grid.parent / name
    if name in presets.names() or (path.suffix not in (".yaml", ".yml") and not path.is_file()):
        return None, name
    return path, None


def _finetuning(task: str, init: str | None, base: Path | str | None, settings: dict[str, Any]) -> dict[str, Any]:
    """The training settings of a task, unless the grid changes them: those of `nlpcli finetune`."""
    from nlpcli.runs.finetuning.finetune import default_preset, defaults

    task = TASKS.check(task)
    if settings.get("data", {}).get("mixture"):
        settings.setdefault("training", {}).setdefault("metric", "mean")
    usual = {} if base or init else {"preset": default_preset(task)}
    return usual | {"base": None if TASKS.load(task).parallel_text and not init else defaults(task, init=init)}


def _pretraining(
    objective: str, init: str | None, preset: str | None, config: Path | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    from nlpcli.runs.pretraining import default_preset
    from nlpcli.runs.pretraining.pretrain import without_model

    if preset or config:
        return {}
    usual = default_preset(objective, settings.get("noise", {}).get("kinds"))
    return {"base": without_model(usual)} if init else {"preset": usual}


def _check(cell: Cell) -> None:
    """Refuses what the training would refuse before it reads the text."""
    config = cell.config
    if cell.command == "pretrain":
        from nlpcli.runs.pretraining.pretrain import configured

        configured(cell.request)
        return
    assert config.task is not None  # as it is fine-tuned
    if TASKS.load(config.task).parallel_text:
        if config.model.kind != "encoder-decoder":
            raise NlpcliError(
                f"translation needs an encoder-decoder, but the kind of this model is {config.model.kind}"
            )
        measured = (*MEASURED, *["bleu"] * bool(config.training.bleu_sentences))
        if config.training.metric not in measured:
            raise NlpcliError(
                f"training.metric '{config.training.metric}' is not measured in this run",
                hint=f"choose one of: {', '.join(measured)}",
            )
    else:
        check_one_vocabulary(config, config.task)


def parameters(cell: Cell) -> int:
    """How many a cell's model will have, without a task's head.

    Raises: NlpcliError for a model that can't be built.
    """
    from nlpcli.models.build import build_on_meta, count_parameters

    return count_parameters(build_on_meta(cell.config.model, vocabulary_size(cell)))


def vocabulary_size(cell: Cell) -> int:
    """The size of a cell's vocabulary; where its tokenizer is still to be trained, the requested size."""
    if cell.request.tokenizer is not None:
        from nlpcli.runs.open_tokenizer import open_tokenizer

        return open_tokenizer(Path(cell.request.tokenizer)).vocab_size
    if cell.config.init:
        from nlpcli.runs.init_from_model import open_initial_model

        return open_initial_model(cell.config.init).vocab_size
    return cell.config.tokenizer.vocab_size
