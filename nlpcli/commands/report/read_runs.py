"""Reads a run from its folder: finished or not, of this version or an older one, whole or damaged."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlpcli.config.files import check_regular, read_regular
from nlpcli.config.loading import load_yaml
from nlpcli.config.schema import RunConfig
from nlpcli.config.temporary_files import find_finished
from nlpcli.errors import NlpcliError, missing_path_hint, reads_description
from nlpcli.runs.dev_samples import OUTPUTS
from nlpcli.runs.model_card import read_card
from nlpcli.tasks import TASKS
from nlpcli.training.training_log import read_metrics, read_samples

CONFIG, DESCRIPTION, WEIGHTS = "config.yaml", "model.yaml", "model.safetensors"


@dataclass(frozen=True)
class Outputs:
    """The outputs of the best checkpoint on the dev set: see `nlpcli.runs.dev_samples.DevOutputs`."""

    step: int
    data: str
    measures: dict[str, dict[str, Any]]
    items: list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """A run's folder, read.

    name: short, and different for each run of a report. config: that of `config.yaml`, with defaults for
    settings that an older version lacked. lines: of metrics.jsonl. samples: of samples.jsonl. info: of model.yaml, {}
    before weights were first kept. card: fields of the model card, {} before the end. progress: of the newest
    checkpoint, {} where there is none. missing: sentences about what is not there.
    """

    path: Path
    name: str
    config: dict[str, Any]
    lines: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    outputs: Outputs | None
    info: dict[str, Any]
    card: dict[str, str]
    progress: dict[str, Any]
    parameters: int | None
    missing: list[str] = field(default_factory=list)

    @property
    def task(self) -> str:
        """The task or the objective of the run."""
        return str(self.config.get("task") or self.config.get("objective") or "clm")

    @property
    def metric(self) -> str:
        """The metric that decides which weights are kept."""
        return str(self.config["training"].get("metric") or "loss")

    @property
    def step(self) -> int:
        """The number of finished steps, in the log or the newest checkpoint, whichever is larger."""
        return max(int(self.progress.get("step") or 0), *(line["step"] for line in self.lines), 0)

    @property
    def finished(self) -> bool:
        """Whether the model card, which is written last, is that of the steps that were done."""
        trained = re.match(r"([\d,]+) steps?", self.card.get("trained", ""))
        return trained is not None and int(trained[1].replace(",", "")) >= self.step

    @property
    def stopped(self) -> str:
        """Why the run ended, in words, or how far it is."""
        if self.finished:
            return self.card["stopped"].rpartition(", ")[0] or self.card["stopped"]
        limits = self.config["training"]
        of = f" of {limits['max_steps']:,}" if limits.get("max_steps") else ""
        return f"not finished: step {self.step:,}{of} so far (running or interrupted)"

    @property
    def best_checkpoint(self) -> str:
        """Which weights were kept."""
        if self.finished:
            return self.card["best checkpoint"]
        return f"step {self.info['step']}, so far" if "step" in self.info else "none yet"


def find_runs(paths: Sequence[Path], notify: Callable[[str], None]) -> list[Path]:
    """The folders of runs among `paths`; a folder that is not a run means the runs directly below it.

    Of no paths, the newest run under runs/, which `notify` reports.
    Raises: NlpcliError where there is none.
    """
    if not paths:
        below = runs_below(Path("runs"))
        if not below:
            raise NlpcliError("no run is given, and the folder runs/ contains none", hint="name one: nlpcli report RUN")
        newest = max(below, key=lambda run: (_changed(run), run.name))
        notify(f"run: {newest} (the newest{'' if read_card(newest) else ', not finished'})")
        return [newest]
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise NlpcliError(f"the run {path} does not exist", hint=missing_path_hint(path))
        if (path / CONFIG).exists():
            found.append(path)
            continue
        below = runs_below(path) if path.is_dir() else []
        if not below:
            raise NlpcliError(
                f"{path} is not a run, because it contains no {CONFIG}",
                hint="name a folder that training wrote (--out)",
            )
        found += below
    return list(dict.fromkeys(found))


def runs_below(folder: Path) -> list[Path]:
    """The runs directly below a folder, seed-2 before seed-10."""
    found = [path.parent for path in find_finished(folder, f"*/{CONFIG}")]
    return sorted(found, key=lambda run: [int(part) if part.isdecimal() else part for part in _PARTS.split(run.name)])


_PARTS = re.compile(r"(\d+)")


def _changed(run: Path) -> int:
    times = [0]
    for name in ("metrics.jsonl", CONFIG):
        with suppress(FileNotFoundError):
            times.append((run / name).stat().st_mtime_ns)
    return max(times)


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs, each under a name of its own."""
    return [read_run(path, name) for path, name in zip(paths, short_names(paths), strict=True)]


@reads_description
def read_run(path: Path, name: str | None = None) -> Run:
    """Raises: NlpcliError for a folder that is not a run, or whose configuration can't be read."""
    path = Path(path)
    config = _with_defaults(load_yaml(path / CONFIG), RunConfig().model_dump())
    info = _yaml(path / DESCRIPTION)
    lines = read_metrics(path)
    outputs = _outputs(path / OUTPUTS)
    run = Run(
        path, name or path.name, config, lines, read_samples(path), outputs, info, read_card(path),
        _newest_progress(path), _parameters(path),
    )  # fmt: skip
    run.missing.extend(_missing(run))
    return run


def _missing(run: Run) -> Iterable[str]:
    if not run.lines:
        yield "metrics.jsonl is empty, so there are no curves yet"
    elif not any(line["kind"] == "dev" for line in run.lines):
        yield "the run has not been evaluated yet"
    trained = [line for line in run.lines if line["kind"] == "train"]
    if trained and not any("flops" in line for line in trained):
        yield "FLOPs are missing, because the run is from an older version"
    if not run.samples:
        off = run.config["training"].get("samples") == 0
        why = "training.samples is 0" if off else "the run is from an older version or not evaluated yet"
        yield f"samples are missing, because {why}"
    if run.outputs is None:
        yield f"outputs of the best checkpoint are missing, so there are no intervals{_why_no_outputs(run)}"
    elif run.info.get("step") != run.outputs.step:
        yield f"the outputs are left out, because they are from step {run.outputs.step:,}, not from the best checkpoint"


def _why_no_outputs(run: Run) -> str:
    parallel = run.task in TASKS and TASKS.load(run.task).parallel_text
    if parallel and not run.config["training"].get("bleu_sentences"):
        return " (BLEU is not measured, because training.bleu_sentences is 0)"
    if (run.path / OUTPUTS).exists():
        return f" ({OUTPUTS} is damaged)"
    return " (the run is from an older version)" if run.info else ""


def _with_defaults(config: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """`config` with the sections and settings it lacks."""
    filled = dict(config)
    for key, value in defaults.items():
        if isinstance(value, dict) and isinstance(filled.get(key), dict):
            filled[key] = _with_defaults(filled[key], value)
        elif key not in filled or (isinstance(value, dict) and filled[key] is None):
            filled[key] = value
    return filled


def _yaml(path: Path) -> dict[str, Any]:
    try:
        return load_yaml(path) if path.exists() else {}
    except NlpcliError:  # a run can be reported without it
        return {}


def _newest_progress(run: Path) -> dict[str, Any]:
    """How far the newest checkpoint is."""
    for state in sorted(run.glob("checkpoints/step-*/state.yaml"), reverse=True):
        if progress := _yaml(state).get("progress"):
            return progress
    return {}


def _parameters(run: Path) -> int | None:
    """How many numbers the kept weights are, from the head of their file."""
    try:
        check_regular(run / WEIGHTS)
        with open(run / WEIGHTS, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > 1 << 28:
                return None
            head = json.loads(file.read(size))
        total = 0
        for name, tensor in head.items():
            if name != "__metadata__":
                count = 1
                for length in tensor["shape"]:
                    count *= length
                total += count
        return total
    except (OSError, ValueError, KeyError, struct.error):
        return None


def _outputs(path: Path) -> Outputs | None:
    """None where there are none, or where they are damaged."""
    if not path.exists():
        return None
    try:
        head, *items = (json.loads(line) for line in read_regular(path).decode().rstrip("\n").split("\n"))
        return Outputs(int(head["step"]), str(head["data"]), dict(head["measures"]), items)
    except (ValueError, KeyError, TypeError):
        return None


def short_names(paths: Sequence[Path]) -> list[str]:
    """The names of the folders, with as many parent folders as are needed to distinguish them."""
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    names = [own[-1] for own in parts]
    depth = 1
    while len(set(names)) < len(names) and depth < max(map(len, parts)):
        depth += 1
        names = ["/".join(own[-depth:]) if names.count(name) > 1 else name
                 for own, name in zip(parts, names, strict=True)]  # fmt: skip
    return names
