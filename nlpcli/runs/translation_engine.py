"""CTranslate2 as the engine of `translate`: whether a model can be translated with it, and the folder for it.

A model is converted once. The folder stays beside the model, or in the cache of the user where that can't be written;
its name depends on all that it is made of, so that a model that was changed is converted again.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nlpcli.config.files import new_directory
from nlpcli.config.optional_packages import optional
from nlpcli.errors import NlpcliError
from nlpcli.models.model_folder import (
    LoadedModel,
    check_weights,
    described_config,
    described_tokenizer,
    load_model,
    read_info,
)
from nlpcli.runs.open_model import Source, folder_of, is_huggingface

TORCH, CTRANSLATE2, AUTO = "torch", "ctranslate2", "auto"
ENGINES = (AUTO, TORCH, CTRANSLATE2)
_FOLDER, _WEIGHTS = "ctranslate2", "model.bin"
_FORM = 1
"""Counted up when the same model would make another folder."""


def installed() -> bool:
    """Whether the library is there and can be loaded."""
    try:
        return hasattr(importlib.import_module("ctranslate2"), "Translator")
    except (ImportError, OSError):
        return False


def device_type(name: str) -> str:
    """cpu or cuda, for the name of a device. Raises: NlpcliError for one that is not there."""
    if name == "cpu" or (name == "auto" and not importlib.import_module("ctranslate2").get_cuda_device_count()):
        return "cpu"
    from nlpcli.training.device import choose_device

    return choose_device(name).type


def obstacles_of(source: Source) -> list[str]:
    """What of a model keeps it from being translated with CTranslate2. Raises: NlpcliError for a damaged folder."""
    path = folder_of(source)
    if is_huggingface(path):
        return ["models in Hugging Face folders"]
    if isinstance(source, LoadedModel):
        with suppress(NlpcliError):
            if read_info(path)["sha256"] == source.info.get("sha256"):
                return _obstacles(source.info, source.config)
        return ["a model whose folder has changed since it was loaded"]
    info = read_info(path)
    return _obstacles(info, described_config(path, info))


def _obstacles(info: Mapping[str, Any], config: Any) -> list[str]:
    from nlpcli.convert.ctranslate2_limits import misfits

    found = misfits(config)
    if info.get("generation"):
        found.append("the decoding settings of a generation_config.json")
    if len(info.get("target_start") or ()) > 1:
        found.append("a translation that begins with two given tokens")
    return found


def ready_folder(
    path: Path, info: Mapping[str, Any], quantization: str | None, notify: Callable[[str], None]
) -> Path | None:
    """The folder for CTranslate2 of the model in `path`, made where there is none; None where it can't be written."""
    check_weights(path, info)
    name = f"{_key(info)}-{quantization or 'float32'}"
    own = path / _FOLDER / name
    if (own / _WEIGHTS).is_file():
        return own
    from nlpcli.data.shards import cache_folder

    common = cache_folder() / _FOLDER / name
    if (common / _WEIGHTS).is_file():
        return common
    loaded = load_model(path)
    for place in (own, common):
        if _written(place, loaded, quantization):
            notify(f"{place}: the model was converted for CTranslate2")
            return place
    return None


def without_weights(source: Source) -> LoadedModel:
    """A model of a folder of this program without the module itself, which None stands for.

    Raises: NlpcliError as `load_model`.
    """
    if isinstance(source, LoadedModel):
        return source
    path = Path(source)
    info = read_info(path)
    return LoadedModel(None, described_tokenizer(path, info), described_config(path, info), info, path)


def _key(info: Mapping[str, Any]) -> str:
    """Changes with all that the folder is made of."""
    parts = [_FORM, *(info.get(name) for name in ("sha256", "model", "tokenizer", "target_start"))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _written(place: Path, loaded: LoadedModel, quantization: str | None) -> bool:
    """Whether the folder is there now; another process may have been faster. Older ones of the model are removed."""
    from nlpcli.convert.ctranslate2_out import write_ctranslate2

    with suppress(NlpcliError, OSError):
        with new_directory(place) as folder:
            write_ctranslate2(
                folder, config=loaded.config, weights=loaded.model.state_dict(), tokenizer=loaded.tokenizer,
                info=loaded.info, quantization=quantization,
            )  # fmt: skip
        if place.parent.parent == loaded.path:
            _, _, kind = place.name.partition("-")
            for older in place.parent.glob(f"????????????????-{kind}"):
                if older != place:
                    shutil.rmtree(older, ignore_errors=True)
    return (place / _WEIGHTS).is_file()


def open_library(folder: Path, threads: int, quantization: str | None) -> Any:
    """The translator of the library for a folder, on the CPU. Raises: NlpcliError for a folder that it can't read."""
    library = optional("ctranslate2", "fast", "the engine ctranslate2")
    try:
        return library.Translator(
            str(folder), device="cpu", compute_type="default" if quantization else "float32",
            inter_threads=1, intra_threads=threads,
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        raise NlpcliError(
            f"{folder}: CTranslate2 can't read the folder ({error})", hint="remove the folder; it is made again"
        ) from None
