"""CTranslate2 as the engine of `translate` and `generate`: whether it can run a model, and the folder for it.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlpcli.config.ctranslate2_types import check_quantization
from nlpcli.config.files import new_directory
from nlpcli.config.optional_packages import optional
from nlpcli.errors import NlpcliError, unknown
from nlpcli.models.model_folder import (
    LoadedModel,
    check_weights,
    described_config,
    described_tokenizer,
    load_model,
    read_info,
)
from nlpcli.runs.open_model import Source, description_of, folder_of, is_huggingface

TORCH, CTRANSLATE2, AUTO = "torch", "ctranslate2", "auto"
ENGINES = (AUTO, TORCH, CTRANSLATE2)
_FOLDER, _WEIGHTS = "ctranslate2", "model.bin"
_FORM = 1
"""Counted up when the same model would make another folder."""


@dataclass(frozen=True)
class EngineRequest:
    """Which engine is wanted. engine: a name of `ENGINES`, None for auto without a message where PyTorch is taken.

    quantization: of the weights for CTranslate2. device: as of the command.
    """

    engine: str | None = None
    quantization: str | None = None
    device: str = "auto"

    def check(self) -> None:
        """Raises: NlpcliError for an unknown name, and for a quantization where CTranslate2 is not required."""
        if self.engine is not None and self.engine not in ENGINES:
            raise unknown("engine", self.engine, ENGINES)
        if self.quantization is not None and self.engine != CTRANSLATE2:
            raise NlpcliError("--quantization needs --engine ctranslate2")
        check_quantization(self.quantization)


def engine_folder(
    source: Source, request: EngineRequest, unsupported: Callable[[], list[str]], notify: Callable[[str], None]
) -> Path | None:
    """The folder that CTranslate2 runs; None where PyTorch computes. `notify` gets the name of the engine.

    unsupported: the options of the call that the engine lacks; it is called for a model that the engine can express.
    Nothing here imports PyTorch but a conversion, so that a command starts in a fraction of a second.
    Raises: NlpcliError where CTranslate2 is required and lacks something, naming it.
    """
    if request.engine == TORCH:
        return None
    required = request.engine == CTRANSLATE2

    def with_torch(reason: str) -> None:
        if request.engine is not None:
            notify(f"engine: torch, because {reason}")

    if not installed():
        if required:
            optional("ctranslate2", "fast", "--engine ctranslate2")
        with_torch("the package ctranslate2 is not installed")
        return None
    obstacles = obstacles_of(source) or unsupported()
    if (device := device_type(request.device)) != "cpu":
        obstacles.append(f"--device {device}")
    if obstacles and required:
        raise NlpcliError(f"the engine ctranslate2 does not support {', '.join(obstacles)}", hint="use --engine torch")
    if obstacles:
        with_torch(f"CTranslate2 does not support {', '.join(obstacles)}")
        return None
    path = folder_of(source)
    folder = ready_folder(path, description_of(source), request.quantization, notify)
    if folder is None and required:
        raise NlpcliError(
            f"the model {path} can't be converted for CTranslate2, because neither its folder nor the cache can be "
            "written",
            hint="set NLPCLI_CACHE to a folder that can be written, or use --engine torch",
        )
    if folder is None:
        with_torch("no folder for CTranslate2 can be written")
    else:
        notify("engine: CTranslate2")
    return folder


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
    """What of a model keeps CTranslate2 from running it. Raises: NlpcliError for a damaged folder."""
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


def open_library(folder: Path, threads: int, quantization: str | None, kind: str = "Translator") -> Any:
    """What runs a folder in the library, on the CPU; kind: Translator, or Generator for a language model.

    Raises: NlpcliError for a folder that it can't read.
    """
    library = optional("ctranslate2", "fast", "the engine ctranslate2")
    try:
        return getattr(library, kind)(
            str(folder), device="cpu", compute_type="default" if quantization else "float32",
            inter_threads=1, intra_threads=threads,
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        raise NlpcliError(
            f"{folder}: CTranslate2 can't read the folder ({error})", hint="remove the folder; it is made again"
        ) from None
