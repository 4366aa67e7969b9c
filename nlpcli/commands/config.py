"""The configurations of a run: the presets in a table, and any one of them written out in full."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nlpcli import presets
from nlpcli.config.loading import apply_overrides, dump_yaml, parse
from nlpcli.config.schema import RunConfig


@dataclass(frozen=True)
class PresetSummary:
    """A line of `nlpcli config list`."""

    name: str
    family: str
    kind: str  # encoder, decoder or encoder-decoder
    layers: str  # "6+6": encoder and decoder
    d_model: int
    heads: int | None
    d_ff: int | None
    source: str


def list_presets() -> list[PresetSummary]:
    """The presets that come with the program, in the order of their table."""
    return [_summary(name, resolve(name)) for name in presets.names()]


def resolve(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The whole configuration behind a preset's name, a YAML file or a run's folder, defaults filled in.

    `overrides` are "section.key=value" and win. Raises: NlpcliError for an unknown name, key or value.
    """
    folder = Path(name) / "config.yaml"
    place = str(folder) if folder.is_file() else name
    return parse(RunConfig, apply_overrides(presets.load(place), overrides), place)


def show(config: RunConfig) -> str:
    """`config` as YAML that reads back as the same configuration, with what each key means beside it."""
    return "\n".join(_section(config)) + "\n"


def _summary(name: str, config: RunConfig) -> PresetSummary:
    model = config.model
    shape = model.model_dump()
    return PresetSummary(
        name=name,
        family=model.family,
        kind=model.kind,
        layers="+".join(map(str, model.stacks.values())),
        d_model=model.d_model,
        heads=shape.get("heads"),
        d_ff=shape.get("d_ff"),
        source=config.source,
    )


def _section(section: BaseModel, indent: str = "") -> list[str]:
    lines: list[str] = []
    leaves: list[tuple[str, str]] = []
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, BaseModel):
            lines += ["", f"{indent}{key}:", *_section(value, indent + "  ")]
        else:
            text = indent + dump_yaml({key: value}).rstrip("\n").replace("\n", "\n" + indent)
            leaves.append((text, _comment(field)))
    # Comments of one section begin in one column, unless a long value would push them all away.
    column = max((len(text) for text, _ in leaves if len(text) <= 36), default=0) + 2
    return [f"{text.ljust(column - 2)}  # {comment}" if comment else text for text, comment in leaves] + lines


def _comment(field: FieldInfo) -> str:
    choices = " | ".join(map(str, _choices(field.annotation)))
    return "; ".join(filter(None, [field.description, choices if " | " in choices else ""]))


def _choices(annotation: object) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(choice for inner in get_args(annotation) for choice in _choices(inner))
    return ()
