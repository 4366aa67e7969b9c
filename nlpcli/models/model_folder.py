"""A model on disk: `model.yaml` (what it is), `model.safetensors` (its weights), `tokenizer/` (how it reads).

A model that was only converted may have no tokenizer. A model that reads sources in a vocabulary of their own has the
tokenizer for them in `source-tokenizer/`.
Nothing that is loaded is ever unpickled, and the weights' digest is checked before they are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli import __version__
from nlpcli.config.counting import counted
from nlpcli.config.files import AlreadyThere, check_regular, new_directory, sha256_file, write_together
from nlpcli.config.loading import dump_yaml, load_yaml, parse
from nlpcli.config.model_facts import ModelFacts
from nlpcli.config.model_settings import ModelConfig
from nlpcli.errors import NlpcliError, missing_path_hint
from nlpcli.escaping import shortened

if TYPE_CHECKING:
    from torch import nn

    from nlpcli.text import Tokenizer

DESCRIPTION = "model.yaml"
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer"
_ADAPTER = "adapter_config.json"  # of the library peft
SOURCE_TOKENIZER = "source-tokenizer"
FORMAT = 3
"""The form of model folders that this version writes and reads; 1 had all settings of all families in one list."""


class _Description(ModelFacts):
    """The required content of `model.yaml`; a caller that saves a model may add more."""

    task: str
    model: dict[str, Any]
    vocab_size: int
    tokenizer: str | None
    sha256: str


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for use. `info` holds the task, the languages and whatever else was given when it was saved.

    own_tokenizer: None for a model that came without one. source_tokenizer: of a model that reads sources with another
    tokenizer than it writes with, else None.
    """

    model: Any  # a module; which methods it has follows from the configuration and the head
    own_tokenizer: Tokenizer | None
    config: ModelConfig
    info: dict[str, Any]
    path: Path
    source_tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises: NlpcliError for a model without one."""
        if self.own_tokenizer is None:
            raise no_tokenizer(self.path)
        return self.own_tokenizer

    @property
    def vocab_size(self) -> int:
        """How many tokens the model has vectors for."""
        return self.info["vocab_size"] if self.own_tokenizer is None else self.own_tokenizer.vocab_size


def no_tokenizer(path: Path, hint: str | None = None) -> NlpcliError:
    """The error message for a model that came without a tokenizer, where one is needed."""
    usual = "copy the tokenizer's files into the Hugging Face folder, and convert it again if it was converted"
    return NlpcliError(f"{path}: the model folder has no tokenizer", hint=hint or usual)


def save_tokenizer(path: Path, tokenizer: Tokenizer, name: str = TOKENIZER) -> None:
    """Puts `tokenizer` into the model directory `path`, where it stays for good. name: TOKENIZER, or SOURCE_TOKENIZER.

    Raises: NlpcliError when another one is there.
    """
    from nlpcli.text import load_tokenizer

    place = Path(path) / name
    try:
        with new_directory(place) as folder:
            tokenizer.save(folder)
    except AlreadyThere:
        if load_tokenizer(place).fingerprint == tokenizer.fingerprint:
            return
        hint = "choose another folder for this model"
        raise NlpcliError(f"{place}: the folder already contains another tokenizer", hint=hint) from None


def save_model(
    path: Path,
    *,
    weights: Mapping[str, Any],
    config: ModelConfig,
    tokenizer: Tokenizer | None,
    info: Mapping[str, Any],
    source_tokenizer: Tokenizer | None = None,
) -> None:
    """Writes a model directory, or replaces the weights in one; `weights` is a state dict.

    tokenizer: None for a model that came without one, whose `info` has its `vocab_size`. source_tokenizer: of sources
    that are read with another tokenizer.

    Raises: RunFailed when the disk is full; what stood there before is then still whole.
    """
    from safetensors.torch import save

    path = Path(path)
    if tokenizer is not None:
        save_tokenizer(path, tokenizer)
    if source_tokenizer is not None:
        save_tokenizer(path, source_tokenizer, SOURCE_TOKENIZER)
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in unshared(weights).items()})
    description = {
        **info,
        "nlpcli": __version__,
        "format": FORMAT,
        "model": config.model_dump(),
        "vocab_size": info["vocab_size"] if tokenizer is None else tokenizer.vocab_size,
        "tokenizer": None if tokenizer is None else tokenizer.fingerprint,
        **({} if source_tokenizer is None else {"source_tokenizer": source_tokenizer.fingerprint}),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_together({path / WEIGHTS: content, path / DESCRIPTION: dump_yaml(description)})


def unshared(weights: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict with each shared matrix under its first name only."""
    return _first_names(weights, lambda tensor: (tensor.data_ptr(), tensor.numel()))


def _first_names(weights: Mapping[str, Any], identity: Callable[[Any], Any]) -> dict[str, Any]:
    seen = set()
    result = {}
    for name, tensor in weights.items():
        key = identity(tensor)
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        result[name] = tensor
    return result


Shape = tuple[int, ...]


def stored_shapes(file: Path) -> dict[str, Shape]:
    """Name and shape of each tensor that a safetensors file holds. Raises: NlpcliError when it can't be read."""
    from safetensors import SafetensorError, safe_open

    check_regular(file)
    try:
        with safe_open(file, framework="pt") as stored:
            return {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise NlpcliError(f"{file}: the file is not a valid safetensors file ({error})") from None


def read_tensors(file: Path) -> dict[str, Any]:
    """The tensors of a safetensors file, on the CPU. Raises: NlpcliError when it can't be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_regular(file)
    try:
        return load_file(file, device="cpu")
    except (OSError, SafetensorError) as error:
        raise NlpcliError(f"{file}: the file is not a valid safetensors file ({error})") from None


def check_shapes(
    config: ModelConfig, vocab_size: int, head: Mapping[str, Any] | None, stored: Mapping[str, Shape], source: str
) -> None:
    """Refuses a description of another model than the one whose weights are stored, before it takes any memory.

    Raises: NlpcliError when no such model can be built, and as `load_weights`.
    """
    from nlpcli.models.build import build_on_meta

    check_layers(config, stored, source)
    try:
        own = build_on_meta(config, vocab_size, head).state_dict(keep_vars=True)
    except NlpcliError as error:
        raise NlpcliError(f"{source}: {error.message}", hint="the description of the model was changed") from None
    _compare({name: tuple(tensor.shape) for name, tensor in own.items()}, _first_names(own, id), stored, source)


def check_layers(config: ModelConfig, stored: Mapping[str, Shape], source: str) -> None:
    """Raises: NlpcliError for more layers than there are weights, which would take long to compare."""
    layers = sum(config.stacks.values())
    if layers > len(stored):
        raise NlpcliError(
            f"{source}: {counted(len(stored), 'tensor')} are too few for a model with {counted(layers, 'layer')}"
        )


def load_weights(model: nn.Module, weights: Mapping[str, Any], source: str) -> None:
    """Copies `weights` into `model`, whose shared matrices may stand under one name only.

    Raises: NlpcliError when a weight is missing, left over, or has another shape or no real numbers.
    """
    own = model.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    _compare(shapes, unshared(own), {name: tuple(tensor.shape) for name, tensor in weights.items()}, source)
    for name, tensor in weights.items():
        if tensor.is_floating_point() != own[name].is_floating_point():
            raise NlpcliError(f"{source}: the weight '{name}' has the wrong type of numbers ({tensor.dtype})")
    model.load_state_dict(weights, strict=False)


def _compare(own: Mapping[str, Shape], needed: Iterable[str], stored: Mapping[str, Shape], source: str) -> None:
    missing = [name for name in needed if name not in stored]
    extra = [name for name in stored if name not in own]
    wrong = [name for name in stored if name in own and own[name] != stored[name]]
    faults = (
        (missing, "is missing", "are missing"),
        (extra, "is unexpected", "are unexpected"),
        (wrong, "has the wrong shape", "have the wrong shape"),
    )
    for names, one, several in faults:
        if len(names) == 1:
            raise NlpcliError(f"{source}: the weight '{names[0]}' {one}")
        if names:
            raise NlpcliError(f"{source}: the weight '{names[0]}' and {len(names) - 1:,} more {several}")


def read_info(path: Path) -> dict[str, Any]:
    """The contents of `model.yaml`. Raises: NlpcliError when `path` is not a model directory."""
    path = Path(path)
    if not path.exists():
        raise NlpcliError(f"{path}: the model folder does not exist", hint=missing_path_hint(path))
    if not path.is_dir():
        raise NlpcliError(f"{path} is a file, not a model folder")
    if (path / _ADAPTER).exists():
        raise NlpcliError(
            f"{path}: the folder contains adapters of another model ({_ADAPTER}), which nlpcli does not read",
            hint="merge them into their model with 'merge_and_unload' of the library peft, and save that model",
        )
    if not (path / DESCRIPTION).exists():
        raise NlpcliError(
            f"{path}: the folder contains no finished model ({DESCRIPTION} is missing)",
            hint="name another folder, or finish a run that was interrupted with --resume",
        )
    info = load_yaml(path / DESCRIPTION)
    if "model" in info and info.get("format", 1) != FORMAT:
        raise NlpcliError(
            f"{path / DESCRIPTION}: the folder has format {shortened(str(info.get('format', 1)))}, but this version of "
            f"nlpcli reads format {FORMAT}",
            hint="train the model again, or use the version that made it"
            + (f" ({shortened(str(info['nlpcli']))})" if "nlpcli" in info else ""),
        )
    parse(_Description, info, str(path / DESCRIPTION))
    return info


def load_model(path: Path, device: str = "cpu", *, needs_tokenizer: bool = True) -> LoadedModel:
    """The model in the directory `path`, in evaluation mode on `device`. needs_tokenizer: refuse one without tokenizer.

    Raises: NlpcliError for a missing, truncated or altered directory, or a tokenizer that is not the model's own.
    """
    from nlpcli.models.build import build_model

    path = Path(path)
    info = read_info(path)
    if needs_tokenizer and info["tokenizer"] is None:
        raise no_tokenizer(path)
    weights_file = path / WEIGHTS
    if "onnx" in info:
        raise NlpcliError(
            f"{path} contains a model in the ONNX format, which predict, evaluate, embed, search and cluster run",
            hint="name the run that it was converted from",
        )
    check_weights(path, info)
    config = described_config(path, info)
    tokenizer = described_tokenizer(path, info)
    source = (
        own_tokenizer(path / SOURCE_TOKENIZER, info.get("source_tokenizer")) if config.source_encoder_layers else None
    )
    source_size = config.model_dump().get("source_vocab_size")
    if source is not None and source.vocab_size != source_size:
        raise NlpcliError(
            f"{path / DESCRIPTION}: source_vocab_size is {source_size}, "
            f"but the source tokenizer has {source.vocab_size} tokens"
        )
    check_shapes(config, info["vocab_size"], info.get("head"), stored_shapes(weights_file), str(weights_file))
    weights = read_tensors(weights_file)
    model = build_model(config, info["vocab_size"], info.get("head"))
    load_weights(model, weights, str(weights_file))
    return LoadedModel(model.to(device).eval(), tokenizer, config, info, path, source)


def check_weights(path: Path, info: Mapping[str, Any]) -> None:
    """Raises: NlpcliError unless the folder has the weights that its description, `info`, names."""
    weights_file = path / WEIGHTS
    if not weights_file.exists():
        raise NlpcliError(f"{path}: the model folder is incomplete, {WEIGHTS} is missing")
    try:
        digest = sha256_file(weights_file)
    except OSError as error:
        raise NlpcliError(f"{weights_file}: the file can't be read ({error.strerror})") from None
    if digest != info["sha256"]:
        raise NlpcliError(
            f"{weights_file}: the file is damaged or was replaced (its SHA-256 is not the one in {DESCRIPTION})"
        )


def described_config(path: Path, info: Mapping[str, Any]) -> ModelConfig:
    """The settings of the model in the folder `path`, whose description is `info`."""
    return parse(ModelConfig, info["model"], str(path / DESCRIPTION))


def described_tokenizer(path: Path, info: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer in the folder `path`, whose description is `info`; None where the model came without one.

    Raises: NlpcliError for a damaged one, and for one that is not the model's own.
    """
    if info["tokenizer"] is None:
        return None
    tokenizer = own_tokenizer(path / TOKENIZER, info["tokenizer"])
    if tokenizer.vocab_size != info["vocab_size"]:
        raise NlpcliError(
            f"{path / DESCRIPTION}: vocab_size is {info['vocab_size']}, "
            f"but the tokenizer has {tokenizer.vocab_size} tokens"
        )
    return tokenizer


def own_tokenizer(folder: Path, fingerprint: str | None) -> Tokenizer:
    """The tokenizer in the folder. Raises: NlpcliError when it is not the one with that fingerprint."""
    from nlpcli.text import load_tokenizer

    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != fingerprint:
        raise NlpcliError(
            f"{folder}: the model was trained with another tokenizer",
            hint="restore the tokenizer of the model; with another one its output has no meaning",
        )
    return tokenizer
