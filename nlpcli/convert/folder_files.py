"""The files of a Hugging Face folder: their names, what nlpcli keeps in them, and reading the weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from nlpcli.config.files import check_regular, plain_name
from nlpcli.convert.tokenizer_in import read_json
from nlpcli.errors import NlpcliError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PICKLED = "pytorch_model.bin"
CTRANSLATE2_WEIGHTS = "model.bin"
ORIGINAL_WEIGHTS = "nlpcli.safetensors"
"""The file with weights that can't be restored exactly from theirs."""

OWN = "nlpcli"
"""The key in config.json of what the other side has no names for."""
ZERO_START = "zero_start"
"""The key there for what was changed so that targets begin with a zero vector."""
BODY = "body."
"""Before the names of a model's weights under a head."""


def read_weights(path: Path, allow_pickle: bool) -> dict[str, Tensor]:
    """The weights in the folder `path` as 32-bit numbers, out of safetensors or, where that is allowed, pickles.

    Raises: NlpcliError for a folder without weights, a pickle that may not be read, and damaged files.
    """
    found: dict[str, Tensor] = {}
    files = list(_shards(path, WEIGHTS))
    for file in files:
        found |= load_tensors(file)
    if not files:
        files = list(_shards(path, PICKLED))
        if not files:
            raise NlpcliError(f"{path}: the folder contains no weights ({WEIGHTS} is missing)")
        if not allow_pickle:
            raise NlpcliError(
                f"{path}: the weights are a pickle ({PICKLED}), which can run code when it is loaded",
                hint="convert it once: nlpcli convert --allow-pickle MODEL OUT (this loads only tensors)",
            )
        for file in files:
            found |= _unpickled(file)
    return {name: tensor.float() for name, tensor in found.items() if tensor.is_floating_point()}


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Raises: NlpcliError for a damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_regular(file)
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise NlpcliError(f"{file}: the weights can't be read ({error})") from None


def _unpickled(file: Path) -> dict[str, Tensor]:
    check_regular(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the version of the format: it is read or not
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # the library raises many kinds
        raise NlpcliError(f"{file}: the file is damaged or contains more than tensors") from None
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in loaded.items()
    ):
        raise NlpcliError(f"{file}: the file is not a state dict, which maps names to tensors")
    return loaded


def _shards(path: Path, name: str) -> Iterator[Path]:
    """The one file of that name, or those its index lists."""
    if (path / name).exists():
        yield path / name
    elif (path / f"{name}.index.json").exists():
        listed = read_json(path / f"{name}.index.json").get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(part, str) for part in listed.values()):
            raise NlpcliError(f"{path / name}.index.json: 'weight_map' does not name the file of each weight")
        for part in sorted(set(listed.values())):
            yield path / plain_name(part, f"{path / name}.index.json")
