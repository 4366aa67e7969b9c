"""Descriptions in words of models, tokenizers, runs, checkpoints, shard sets, texts and parallel corpora."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlpcli.commands.inspect.detect_kind import KINDS, kind_of
from nlpcli.commands.inspect.findings import Inspection
from nlpcli.errors import NlpcliError, unknown

__all__ = ["KINDS", "Inspection", "Settings", "inspect", "kind_of"]

_INSPECTORS = {  # kind -> where it is inspected, and the settings that are read there
    "run": ("run_report:inspect_run", ("length", "weights", "verify")),
    "model": ("model_report:inspect_model", ("length", "weights", "verify")),
    "tokenizer": ("tokenizer_report:inspect_tokenizer", ("text", "show", "on_line")),
    "checkpoint": ("run_report:inspect_checkpoint", ()),
    "runs": ("run_report:inspect_runs", ()),
    "shards": ("artifacts:inspect_shards", ()),
    "index": ("artifacts:inspect_index", ()),
    "suite": ("artifacts:inspect_suite", ()),
    "weights": ("weight_statistics:inspect_weights", ("weights",)),
    "vectors": ("artifacts:inspect_vectors", ()),
    "metrics": ("run_report:inspect_metrics", ()),
    "json-lines": ("artifacts:inspect_json_lines", ("limit", "on_line")),
    "text": ("text_report:inspect_text", ("show", "limit", "on_line")),
}
_ALWAYS = ("show", "on_line")  # may be given to what has no use for them


@dataclass(frozen=True)
class Settings:
    """How to look; None: as the kind does by default.

    length: tokens of an example for which a model's FLOPs are counted. weights: each weight with its statistics.
    verify: compute the parts of the signature again.
    text: files to measure a tokenizer on. show: examples of each finding. limit: the most lines of a text. on_line:
    receives the number of lines read so far.
    """

    length: int | None = None
    weights: bool | None = None
    verify: bool | None = None
    text: Sequence[str] | None = None
    show: int | None = None
    limit: int | None = None
    on_line: Callable[[int], None] | None = None


def inspect(path: str, as_kind: str | None = None, **settings: Any) -> Inspection:  # `Settings` checks them
    """A description of the file or folder `path` ("-": standard input). Nothing is ever unpickled.

    as_kind: take it for this kind (a key of `KINDS`) where it is several things at once: a run is a model too, and has
    a tokenizer. settings: those of `Settings`.

    Raises: NlpcliError for what is missing, damaged or unknown, and for a setting the kind has no use for.
    """
    if as_kind is not None and as_kind not in KINDS:
        raise unknown("kind", as_kind, KINDS)
    kind = as_kind or kind_of(path)
    place, used = _INSPECTORS[kind]
    given = {name: value for name, value in vars(Settings(**settings)).items() if value is not None}
    for name in given:
        if name not in (*used, *_ALWAYS) and given[name]:
            raise _without_effect(name, kind)
    module, function = place.split(":")
    inspector = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    return inspector(Path(path), **{name: value for name, value in given.items() if name in used})


def _without_effect(setting: str, kind: str) -> NlpcliError:
    takers = [KINDS[other] for other, (_, used) in _INSPECTORS.items() if setting in used]
    hint = f"it applies to: {', '.join(takers)}"
    if setting == "text" and kind in ("run", "model"):
        hint = "to measure the tokenizer of the model, add --as tokenizer"
    option = {"text": "corpus"}.get(setting, setting)
    return NlpcliError(f"--{option} has no effect on {KINDS[kind]}", hint=hint)
