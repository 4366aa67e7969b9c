"""Opening a model wherever it comes from: a folder of this program, a Hugging Face checkpoint folder, or a file of word
vectors."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from nlpcli.config.model_settings import ModelConfig
from nlpcli.errors import NlpcliError
from nlpcli.models.model_folder import DESCRIPTION, LoadedModel, check_shapes, load_model, load_weights, read_info

_THEIRS = "config.json"


Source = Path | LoadedModel
"""A model's folder, or the model itself where it is loaded already."""


def folder_of(source: Source) -> Path:
    """The folder that a model stands in, or came from."""
    return source.path if isinstance(source, LoadedModel) else Path(source)


def is_huggingface(path: Path) -> bool:
    """Whether `path` is a Hugging Face folder and not one of this program."""
    return (Path(path) / _THEIRS).is_file() and not (Path(path) / DESCRIPTION).exists()


def task_of(source: Source) -> str:
    """The task of the model in the folder `source`. Raises: NlpcliError when there is none."""
    return description_of(source)["task"]


def description_of(source: Source) -> dict[str, Any]:
    """The description of the model in the folder `source` in model.yaml, without its weights.

    Raises: NlpcliError when there is none.
    """
    if isinstance(source, LoadedModel):
        return source.info
    path = source
    if is_huggingface(path):
        from nlpcli.convert.huggingface_in import read_description

        return read_description(path)
    return read_info(path)


def open_model(
    source: Source, device: str = "cpu", *, allow_pickle: bool = False, needs_tokenizer: bool = True
) -> LoadedModel:
    """The model in the folder `source`, in evaluation mode on `device`. allow_pickle: see `read_huggingface`.

    A file is read as vectors of words in the text format, which make a model, too.
    Of a loaded one the weights are shared and its settings are not: who changes those changes them for itself.
    needs_tokenizer: refuse a model that came without one.
    Raises: NlpcliError as `load_model` and `read_huggingface`.
    """
    if isinstance(source, LoadedModel):
        return replace(source, model=copy.copy(source.model).to(device).eval())
    path = Path(source)
    if path.is_file():
        return _vectors_model(path, device)
    if not is_huggingface(path):
        return load_model(path, device, needs_tokenizer=needs_tokenizer)
    from nlpcli.convert.huggingface_in import read_huggingface
    from nlpcli.models.build import build_model

    found = read_huggingface(path, allow_pickle=allow_pickle, needs_tokenizer=needs_tokenizer)
    info = {**found.info, "left_out": found.left_out} if found.left_out else found.info
    info = info if found.tokenizer is not None else {**info, "vocab_size": found.vocab_size}
    config, shapes = ModelConfig.model_validate(found.config), {n: tuple(t.shape) for n, t in found.weights.items()}
    check_shapes(config, found.vocab_size, found.info.get("head"), shapes, str(path))
    model = build_model(found.config, found.vocab_size, found.info.get("head"))
    load_weights(model, found.weights, str(path))
    return LoadedModel(model.to(device).eval(), found.tokenizer, config, info, path)


def _vectors_model(path: Path, device: str) -> LoadedModel:
    from nlpcli.convert.word2vec_text import read_vectors_model
    from nlpcli.models.build import build_model

    found = read_vectors_model(path)
    config = ModelConfig.model_validate(found.config)
    model = build_model(config, found.tokenizer.vocab_size)
    load_weights(model, found.weights, str(path))
    return LoadedModel(model.to(device).eval(), found.tokenizer, config, found.info, path)


def check_one_tokenizer(loaded: LoadedModel) -> None:
    """Refuses a model that reads sources with a tokenizer of their own, for those who would read with the other."""
    if loaded.source_tokenizer is not None:
        raise NlpcliError(
            f"{loaded.path} is a translation model with two tokenizers (source and target), so it can only translate",
            hint=f"use it with: nlpcli translate --model {loaded.path}",
        )
