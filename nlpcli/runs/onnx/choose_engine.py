"""Opening a model for the engine that computes it: PyTorch, or onnxruntime with a graph that is made once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nlpcli import __version__
from nlpcli.config.files import AlreadyThere, new_directory, sha256_file
from nlpcli.data.progress import followed
from nlpcli.errors import NlpcliError, unknown
from nlpcli.models.model_folder import WEIGHTS, LoadedModel
from nlpcli.runs.open_model import Source, description_of, folder_of, open_model

if TYPE_CHECKING:
    from nlpcli.training.device import Machine

TORCH, ONNX = "torch", "onnx"
ENGINES = (TORCH, ONNX)
CACHE = "onnx-cache"
"""The folder inside a run with the graphs that were made of it, each named by what it depends on."""


def engine_of(source: Source, engine: str | None) -> str:
    """The engine for a model: `engine`, or where it is None, onnx for a folder in that format and torch for the rest.

    Raises: NlpcliError for an engine that there is not, and for torch where there is a graph only.
    """
    if engine is not None and engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    path = folder_of(source)
    graph_only = path.is_dir() and "onnx" in description_of(source)
    if graph_only and engine == TORCH:
        raise NlpcliError(
            f"{path} contains a model in the ONNX format, which --engine torch does not run",
            hint="leave out --engine, or name the run that it was converted from",
        )
    return engine or (ONNX if graph_only else TORCH)


def device_for(engine: str, device: str) -> str:
    """The device that an engine computes on. Raises: NlpcliError for a GPU that the engine does not use."""
    if engine == TORCH:
        return device
    if device not in ("auto", "cpu"):
        raise NlpcliError(f"--engine {engine} computes on the CPU, not on '{device}'", hint="leave out --device")
    return "cpu"


def open_for(source: Source, engine: str, machine: Machine, *, layers: str | None = None) -> LoadedModel:
    """The model in the folder `source` for an engine of `engine_of`. layers: whose states are needed (`WithHead`).

    A graph that is missing is made of the model and kept in `CACHE` beside it.
    Raises: NlpcliError as `open_model`, and for a model that no graph is made of.
    """
    if engine == TORCH:
        return open_model(source, str(machine.device))
    from nlpcli.runs.onnx.engine import open_onnx

    path = folder_of(source)
    if not path.is_dir():
        raise NlpcliError(f"{path} is not a model folder, so it can't be run by onnxruntime", hint="use --engine torch")
    folder = path if "onnx" in description_of(source) else _cached(path, layers)
    loaded = open_onnx(folder, machine.threads)
    return LoadedModel(loaded.model, loaded.tokenizer, loaded.config, loaded.info, path)


def _cached(path: Path, layers: str | None) -> Path:
    """The folder with the graph of the model in `path`, which is made if there is none for these weights."""
    from nlpcli.models.model_folder import DESCRIPTION
    from nlpcli.runs.onnx.folder import write_onnx
    from nlpcli.runs.onnx.graph import check_exportable

    made_of = [__version__, str(layers)]
    made_of += [sha256_file(path / name) for name in (WEIGHTS, DESCRIPTION, "config.json") if (path / name).is_file()]
    folder = path / CACHE / hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    if not os.access(path, os.W_OK):
        raise NlpcliError(
            f"{path} can't be written, so it can't keep the ONNX graph",
            hint=f"write the graph elsewhere, and use it as the model: nlpcli convert --to onnx {path} --out DIR",
        )
    loaded = open_model(path)
    check_exportable(loaded.config, loaded.model)
    try:
        with new_directory(folder) as aside:
            for _ in followed([loaded], "converting to ONNX", 1):
                write_onnx(aside, loaded, layers=layers)
    except AlreadyThere:  # another process was faster
        pass
    return folder
