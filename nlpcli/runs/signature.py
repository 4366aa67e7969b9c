"""The signature of a trained model: one line that states what it was made of, in the form of sacreBLEU's signatures.

    nlpcli:0.9.0|model:encoder.1f0c2a9b|parameters:1,234,567|tokenizer:…|data:…|init:none|settings:…|seed:1|step:500|
    precision:float32|torch:2.13.0|weights:…

The parts that are letters and digits without a word are the first eight of a SHA-256. Two models with the same
signature are the same model; the part that differs shows why two are not.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nlpcli import __version__
from nlpcli.config.files import sha256_file
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.schema import RunConfig

LIBRARIES = ("torch", "numpy", "safetensors", "sentencepiece", "tokenizers", "sacrebleu")
"""Whose versions a model card names."""
_DIGITS = 8
_WITHOUT_EFFECT = {  # on the weights, or a part of its own
    "data": {"train", "dev", "workers"},
    "training": {
        "device",
        "precision",
        "threads",
        "save_every",
        "keep_checkpoints",
        "log_every",
        "tensorboard",
        "samples",
    },
}
_SECTIONS = ("tokenizer", "data", "noise", "training", "examples", "head", "tuning")


def versions() -> dict[str, str]:
    """Python, this program and the libraries that are installed, with their versions."""
    found = {"python": platform.python_version(), "nlpcli": __version__}
    return found | {name: version for name in LIBRARIES if (version := _installed_version(name)) is not None}


@cache
def _installed_version(name: str) -> str | None:
    """None where the library, an optional one, is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def provenance(config: RunConfig, *, data: str, parameters: int, precision: str, init: str | None) -> dict[str, Any]:
    """The record of a training run in `model.yaml` besides the model: `trained`.

    data: fingerprint of the training data. init: digest of the weights that training started from, None: random ones.
    """
    return {
        "data": data,
        "init": init,
        "parameters": parameters,
        "precision": precision,
        "seed": config.training.seed,
        "settings": settings_digest(config),
        "versions": versions(),
    }


def signature(info: Mapping[str, Any], config: ModelConfig) -> str | None:
    """The signature of a model whose `model.yaml` is `info`; None where it doesn't record how it was trained."""
    trained = info.get("trained")
    if not isinstance(trained, Mapping):
        return None
    of_versions = trained.get("versions") or {}
    parts = {
        "nlpcli": of_versions.get("nlpcli"),
        "model": f"{config.kind}.{config.family}.{model_digest(config)}",
        "parameters": trained.get("parameters"),
        "tokenizer": short(info.get("tokenizer")),
        "data": short(trained.get("data")),
        "init": short(trained.get("init")),
        "settings": short(trained.get("settings")),
        "seed": trained.get("seed"),
        "step": info.get("step"),
        "precision": trained.get("precision"),
        "torch": of_versions.get("torch"),
        "weights": short(info.get("sha256")),
    }
    return "|".join(f"{name}:{'none' if value is None else value}" for name, value in parts.items())


def settings_digest(config: RunConfig) -> str:
    """SHA-256 of the settings that decide on the weights; names of files are not among them, the model neither."""
    dumped = config.model_dump()
    chosen = {"task": dumped["task"], "objective": dumped["objective"]}
    for name in _SECTIONS:
        chosen[name] = {key: value for key, value in dumped[name].items() if key not in _WITHOUT_EFFECT.get(name, ())}
    return _digest(chosen)


def model_digest(config: ModelConfig) -> str:
    """The first digits of the SHA-256 of a model's settings."""
    return short(_digest(config.model_dump())) or ""


def weights_digest(folder: Path) -> str | None:
    """SHA-256 of the weights in a model folder, of several files that of theirs; None where it has no such file."""
    whole = folder / "model.safetensors"
    files = [whole] if whole.is_file() else sorted(folder.glob("model-*-of-*.safetensors"))
    if not files:
        return None
    digests = [sha256_file(file) for file in files]
    return digests[0] if len(digests) == 1 else _digest(digests)


def short(digest: object) -> str | None:
    """The first digits of a digest."""
    return None if digest is None else str(digest).removeprefix("sha256:")[:_DIGITS]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
