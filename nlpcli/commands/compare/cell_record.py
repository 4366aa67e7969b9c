"""The record of a cell in its run's folder: the request and the results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from nlpcli.commands.compare.cells import Cell
from nlpcli.config.files import read_regular, real_path, sha256_file, write_atomic
from nlpcli.config.grid import flat
from nlpcli.config.multi_task import load_mixture
from nlpcli.config.schema import RunConfig
from nlpcli.config.temporary_files import is_free
from nlpcli.data.open_text import STDIN
from nlpcli.errors import NlpcliError
from nlpcli.runs.model_card import CARD, read_card
from nlpcli.runs.run_folder import CONFIG, has_checkpoint

RECORD = "cell.json"

NEW, STARTED, INTERRUPTED, FINISHED, FAILED = "new", "started", "interrupted", "finished", "failed"

OF_NO_MATTER = (
    "description", "source", "data.train", "data.dev", "data.workers", "training.log_every", "training.save_every",
    "training.keep_checkpoints", "training.tensorboard",
)  # fmt: skip
"""Settings that may differ between what was trained and what is requested: the text counts by its content."""
INIT = "the model of init"


def requested_of(cell: Cell) -> dict[str, Any]:
    """The inputs that determine a cell's result: settings other than the defaults, its text, a given tokenizer.

    Raises: NlpcliError for text that can't be read.
    """
    usual = flat(RunConfig().model_dump())
    settings = {
        name: value
        for name, value in flat(cell.config.model_dump()).items()
        if name not in OF_NO_MATTER and value != usual.get(name)
    }
    data = cell.config.data
    mixture = [data.mixture, *load_mixture(data.mixture).files] if data.mixture else []
    files = {"train": data.train, "dev": data.dev, "mixture": mixture}
    texts = {f"the text of data.{name}": digest(tuple(paths)) for name, paths in files.items() if paths}
    begun = {INIT: weights_of(Path(cell.config.init))} if cell.config.init else {}
    return settings | texts | begun | _given_tokenizer(cell)


def weights_of(folder: Path) -> str | None:
    """A digest of a model's weights, None where there are none."""
    from nlpcli.models.model_folder import DESCRIPTION, read_info

    if (folder / DESCRIPTION).exists():
        return read_info(folder)["sha256"]
    files = sorted(folder.glob("*.safetensors"))
    return digest(tuple(map(str, files))) if files else None


def _given_tokenizer(cell: Cell) -> dict[str, str]:
    if cell.request.tokenizer is None:
        return {}
    from nlpcli.runs.open_tokenizer import open_tokenizer

    return {"the tokenizer": open_tokenizer(Path(cell.request.tokenizer)).fingerprint}


def digest(paths: tuple[str, ...]) -> str:
    """A digest of the files' contents. Raises: NlpcliError for a missing file, and for what can be read only once."""
    import hashlib

    from nlpcli.data.readers import find_files

    found = find_files(paths)
    if STDIN in map(str, found):
        raise NlpcliError(
            "a grid reads its text several times, so the text can't come from standard input", hint="name files"
        )
    whole = hashlib.sha256()
    for path in found:
        try:
            state = Path(path).stat()
            whole.update(_content(real_path(Path(path)), state.st_size, state.st_mtime_ns).encode())
        except OSError as error:
            raise NlpcliError(f"{path} can't be read ({(error.strerror or str(error)).lower()})") from None
    return whole.hexdigest()[:16]


@lru_cache(maxsize=4096)  # every cell reads the same files
def _content(path: Path, size: int, changed: int) -> str:
    return sha256_file(path)


def read_record(run: Path) -> dict[str, Any] | None:
    """The record of a cell, None where there is none."""
    try:
        found = json.loads(read_regular(run / RECORD))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_record(run: Path, record: Mapping[str, Any]) -> None:
    write_atomic(run / RECORD, json.dumps(record, ensure_ascii=False, indent=1, default=str) + "\n")


def state_of(run: Path) -> str:
    """How far the run of a cell is.

    Raises: NlpcliError when the folder holds something that is not a cell.
    """
    if is_free(run):
        return NEW
    record = read_record(run)
    if record is None:
        return _unrecorded(run)
    if "failed" in record:
        return FAILED
    if (run / CARD).exists():
        return FINISHED
    return INTERRUPTED if has_checkpoint(run) else STARTED


def _unrecorded(run: Path) -> str:
    """That of a run that was stopped before it was recorded. Raises: NlpcliError for anything else in the folder."""
    from nlpcli.models.model_folder import WEIGHTS

    is_run = run.is_dir() and (run / CONFIG).exists()
    if is_run and ((run / CARD).exists() or (run / WEIGHTS).exists() or has_checkpoint(run)):
        raise NlpcliError(
            f"{run} contains a run that is not a cell of a grid",
            hint="choose another --out, or replace the run with --rerun CELL or --overwrite",
        )
    if not is_run:
        raise NlpcliError(
            f"{run} contains files that are not a cell of a grid", hint="choose another --out, or move the folder"
        )
    return STARTED


def differences(run: Path, requested: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """How the requested settings differ from those with which the cell in the folder `run` was trained, in words."""
    trained = record.get("requested", record.get("asked", {}))  # "asked": written by earlier versions
    if "config" in record and record["config"] != digest((str(run / CONFIG),)):
        return [f"its {CONFIG} was changed by another command"]
    if "weights" in record and record["weights"] != _weights_now(run):
        return ["its weights were changed by another command"]
    usual = flat(RunConfig().model_dump())
    differing = []
    for name in dict.fromkeys([*requested, *trained]):
        if name == INIT and not trained.get(INIT):  # recorded by an earlier version, or the path differs as well
            continue
        new, old = (kind.get(name, usual.get(name)) for kind in (requested, trained))
        if json.loads(json.dumps(new, default=str)) != old:
            differing.append(
                f"{name} differs" if name.startswith("the ") else f"{name} was {_as_json(old)}, not {_as_json(new)}"
            )
    return differing


def _weights_now(run: Path) -> str | None:
    try:
        return weights_of(run)
    except NlpcliError:  # a damaged description, which is none of what was recorded
        return None


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def measure(run: Path) -> dict[str, Any]:
    """The results of a finished run: metrics with their signatures, cost, size, and the machine it ran on."""
    from nlpcli.config.loading import load_yaml
    from nlpcli.models.model_folder import read_info
    from nlpcli.training.checkpoint import checkpoints

    info = read_info(run)
    card = read_card(run)
    last = checkpoints(run)
    progress = load_yaml(last[-1] / "state.yaml")["progress"] if last else {}
    cost = ("step", "tokens", "seconds", "flops", "flops_per_token")
    return {
        "metrics": dict(info["metrics"]),
        "signatures": dict(info.get("signatures") or {}),
        "parameters": _parameters(info),
        "tokenizer": info["tokenizer"],
        "best_step": info.get("step"),
        **{name: progress.get(name) for name in cost},
        "machine": card.get("machine", ""),
        "stopped": card.get("stopped", ""),
        "platform": _platform(),
    }


def _platform() -> str:
    """The processor and the versions that a result may depend on."""
    import platform

    import torch

    from nlpcli import __version__

    return f"{_processor()}; Python {platform.python_version()}, torch {torch.__version__}, nlpcli {__version__}"


def _processor() -> str:
    import platform

    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def _parameters(info: Mapping[str, Any]) -> int:
    from nlpcli.models.build import build_on_meta, count_parameters

    return count_parameters(build_on_meta(info["model"], info["vocab_size"], info.get("head")))


def with_tokenizer(cells: Iterable[Cell], key: str) -> Path | None:
    """The tokenizer of a cell that was trained on the same text with the same settings."""
    from nlpcli.models.model_folder import TOKENIZER

    for cell in cells:
        record = read_record(cell.folder)
        if record is not None and record.get("tokenizer") == key and (cell.folder / TOKENIZER).is_dir():
            return cell.folder / TOKENIZER
    return None


def tokenizer_key(cell: Cell) -> str | None:
    """The same for cells that would train the same tokenizer; None for one that trains none, or two, or a mixture's."""
    import hashlib

    config, request = cell.config, cell.request
    data = config.data
    if request.tokenizer is not None or config.init or config.model.source_encoder_layers or not data.train:
        return None
    made_of = [
        cell.command, config.task, config.tokenizer.model_dump(), digest(tuple(data.train)),
        data.documents, data.field, data.column, config.examples.model_dump(), data.dev_fraction if not data.dev else 0,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
