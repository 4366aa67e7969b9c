"""Writes the pooling and normalization settings of a sentence-transformers folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nlpcli.convert.name_map import Config
from nlpcli.errors import NlpcliError

_MODES = {"mean": "mean_tokens", "first": "cls_token", "max": "max_tokens", "last": "lasttoken"}
_TYPES = "sentence_transformers.models."


def sentence_files(config: Config, head: Mapping[str, Any], max_length: int | None) -> dict[str, bytes]:
    """File name -> content. head: of the kind `vector`.

    Raises: NlpcliError for vectors that sentence-transformers doesn't make.
    """
    layers, pooling = head.get("layers", "last"), head["pooling"]
    if layers != "last":
        raise NlpcliError(
            f"sentence-transformers does not support head.layers '{layers}'", hint="it supports only 'last'"
        )
    if config["kind"] == "encoder-decoder":
        raise NlpcliError("sentence-transformers does not support the encoder of an encoder-decoder model")
    if config["family"] == "xlnet" and pooling == "first":
        raise NlpcliError(
            "sentence-transformers does not support head.pooling 'first' for XLNet, whose padding comes first"
        )
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if head.get("normalize"):
        modules.append(("2_Normalize", "Normalize"))
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": _TYPES + kind}
        for place, (path, kind) in enumerate(modules)
    ]
    modes = {f"pooling_mode_{name}": kind == pooling for kind, name in _MODES.items()}
    files: dict[str, Any] = {
        "modules.json": listed,
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": config["d_model"], **modes},
    }
    return {name: (json.dumps(data, indent=2) + "\n").encode() for name, data in files.items()}
