"""`generation_config.json` of a Hugging Face folder, read and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nlpcli.config.generation_settings import WITHOUT_EFFECT, Generation
from nlpcli.config.loading import parse
from nlpcli.convert.name_map import Config
from nlpcli.convert.tokenizer_in import read_json
from nlpcli.text import SpecialTokens

FILE = "generation_config.json"


def read_generation(folder: Path, theirs: Config) -> dict[str, Any]:
    """The folder's decoding settings under their names; without the file those in its config.json, as older ones have.

    Raises: NlpcliError naming the file and the setting that no model can be decoded with.
    """
    path = folder / FILE
    if path.exists():
        settings = {name: value for name, value in read_json(path).items() if value is not None}
    else:
        path = folder / "config.json"
        known = (*Generation.model_fields, *WITHOUT_EFFECT)
        settings = {name: theirs[name] for name in known if theirs.get(name) is not None}
        if theirs.get("force_bos_token_to_be_generated") and "bos_token_id" in settings:
            settings.setdefault("forced_bos_token_id", settings["bos_token_id"])
    biases = settings.get("sequence_bias")
    if isinstance(biases, list):
        settings["sequence_bias"] = [list(pair) for pair in biases]
    parse(Generation, settings, str(path))
    return {
        name: value for name, value in settings.items() if not name.startswith("_") and name != "transformers_version"
    }


def own_generation(folder: Path, theirs: Config, written: object) -> dict[str, Any] | None:
    """The folder's decoding settings, None where they are still those that this program wrote there (`written`)."""
    settings = read_generation(folder, theirs)
    return None if settings == written else settings


def written_generation(theirs: Config, special: SpecialTokens | None, info: Mapping[str, Any]) -> dict[str, Any]:
    """The decoding settings of a folder: those that the model came with, or else those that decide the same here.

    Special tokens are never written here; sentinels are what a model that restores text writes. special: None where
    there is no tokenizer that names them.
    """
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id")
    ids = {name: theirs[name] for name in names if theirs.get(name) is not None}
    if info.get("generation"):
        return {**ids, **info["generation"]}  # which may name other ids
    if special is None:
        return ids
    written = {special.eos, *special.sentinels, ids.get("forced_bos_token_id")}
    return ids | {"suppress_tokens": sorted(special.all() - written)}


def as_json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()
