"""Error messages for wrong settings: one for each kind of error that pydantic finds."""

from __future__ import annotations

import datetime
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from nlpcli.errors import NlpcliError, nearest, plain
from nlpcli.escaping import VALUE, quoted, shortened

_NOTHING = object()
_Location = Sequence[int | str]  # the keys and the numbers of list entries that lead to a value
_GROUP = "must be a group of settings, 'name: value'"
_SENTENCES = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    "int_parsing_size": "must be a whole number of fewer digits",
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    "finite_number": "must be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "string_type": "must be text",
    "string_unicode": "contains half of a surrogate pair, which is not valid Unicode",
    "string_pattern_mismatch": "must have the form {pattern}",
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list, such as [a, b]"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), _GROUP),
    **dict.fromkeys(("literal_error", "enum"), "must be {expected}"),
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "none_required": "must be null",
    "invalid_key": "is not the name of a setting; names are text",
    "recursion_loop": "contains itself",
}


def mistake(kind: type[BaseModel], data: Mapping[str, Any], source: str, error: ValidationError) -> NlpcliError:
    """The first mistake in `data` as one sentence; `source` (a file, an option) is named in it."""
    errors = error.errors(include_url=False)
    place = _place(errors[0]["loc"], data, errors[0]["type"])
    alike = [found for found in errors if _place(found["loc"], data, found["type"])[: len(place)] == place]
    place = max((_place(found["loc"], data, found["type"]) for found in alike), key=len)  # of a union, what fits best
    alike = [found for found in alike if _place(found["loc"], data, found["type"]) == place]
    first, key = alike[0], ".".join(shortened(str(part)) for part in place)
    if first["type"] == "extra_forbidden":
        return NlpcliError(f"{source}: unknown key '{key}'", hint=suggestion(kind, place))
    if first["type"] == "missing":
        return NlpcliError(f"{source}: '{key}' is missing")
    wrong = " or ".join(dict.fromkeys(_sentence(found) for found in alike)).replace(" or must be ", " or ")
    return NlpcliError(f"{source}: {key}{_joint(key, wrong)}{wrong}{_got(first['input'])}", hint=_choice(first))


def _place(location: _Location, data: object, type_: str) -> tuple[int | str, ...]:
    """The keys that lead to a value; pydantic's names for the branches of a union are none."""
    found: list[int | str] = []
    for number, part in enumerate(location):
        inside: object = _NOTHING
        if isinstance(data, Mapping):
            inside = data.get(part, _NOTHING)
        elif isinstance(data, (list, tuple)) and isinstance(part, int) and part < len(data):
            inside = data[part]
        if inside is not _NOTHING:
            found.append(part)
            data = inside
        elif type_ == "missing" and number == len(location) - 1:
            found.append(part)
    return tuple(found)


def _sentence(error: ErrorDetails) -> str:
    type_, context = error["type"], error.get("ctx") or {}
    if type_ in ("value_error", "assertion_error"):  # our own words
        own = shortened(str(context.get("error") or error["msg"]), 2 * VALUE)
        return own[:1].lower() + own[1:]
    if type_ in ("too_short", "too_long", "string_too_short", "string_too_long"):
        number = context.get("min_length", context.get("max_length"))
        unit = "character" if type_.startswith("string") else "value"
        return f"must have at {'least' if 'short' in type_ else 'most'} {number} {unit}{'s' * (number != 1)}"
    return _SENTENCES.get(type_, "is not possible here").format(**{k: _plain(v) for k, v in context.items()})


def _joint(key: str, wrong: str) -> str:
    """The separator between a setting and its error: they form one sentence, unless `wrong` is one by itself."""
    if not key:
        return ""
    return " " if re.match(r"must |contains |is not ", wrong) else ": "


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _got(value: object) -> str:
    """The value for a reader, where it is short or can be cut."""
    if not isinstance(value, (str, int, float, bool, list, datetime.date, type(None))):
        return ""
    text = "null" if value is None else str(value) if isinstance(value, datetime.date) else quoted(value)
    return f" (got {str(value).lower() if isinstance(value, bool) else text})"


def _choice(error: ErrorDetails) -> str | None:
    """The nearest of several values that are possible."""
    if error["type"] not in ("literal_error", "enum") or not isinstance(error["input"], str):
        return None
    near = nearest(error["input"], re.findall(r"'([^']*)'", str(error["ctx"]["expected"])))
    return f"did you mean '{near}'?" if near else None


_LAYERS = ("model.encoder_layers", "model.decoder_layers")
_USUAL = {
    "learningrate": ("training.lr",),
    **dict.fromkeys(("epochs", "numepochs", "numtrainepochs"), ("training.max_epochs",)),
    **dict.fromkeys(("steps", "numsteps", "iterations"), ("training.max_steps",)),
    **dict.fromkeys(("trainbatchsize", "perdevicetrainbatchsize"), ("training.batch_size",)),
    **dict.fromkeys(("clipnorm", "gradclip", "clip"), ("training.max_grad_norm",)),
    **dict.fromkeys(("gradientaccumulationsteps", "gradaccum"), ("training.accumulate",)),
    **dict.fromkeys(("scheduler", "lrscheduler", "lrschedulertype"), ("training.schedule",)),
    **dict.fromkeys(("warmup", "numwarmupsteps"), ("training.warmup_steps",)),
    "bf16": ("training.precision",),
    **dict.fromkeys(("hiddensize", "hidden", "embeddim", "nembd", "dim"), ("model.d_model",)),
    **dict.fromkeys(("intermediatesize", "ffdim"), ("model.d_ff",)),
    **dict.fromkeys(("numheads", "nhead", "numattentionheads"), ("model.heads",)),
    **dict.fromkeys(("numkeyvalueheads", "nkvheads", "nkvhead"), ("model.kv_heads",)),
    **dict.fromkeys(("ropebase", "rotaryembbase"), ("model.rope_theta",)),
    **dict.fromkeys(("rotarypct", "partialrotaryfactor"), ("model.rope_share",)),
    **dict.fromkeys(("layers", "numlayers", "nlayers", "numhiddenlayers"), _LAYERS),
    "maxseqlength": ("data.max_length",),
    **dict.fromkeys(("seqlength", "blocksize", "contextlength"), ("data.context",)),
    **dict.fromkeys(("numbeams", "beam"), ("decoding.beam_size",)),
}
"""Names of settings in other programs, in lower case without hyphens."""


# --- names --------------------------------------------------------------------------------------------------------


def suggestion(kind: type[BaseModel], place: _Location) -> str | None:
    """A suggestion for the unknown key at `place`: a setting of that name elsewhere, or of a similar name."""
    name, settings = str(place[-1]), dict.fromkeys(paths(kind))
    whole = ".".join(str(part) for part in place)
    same = [path for path in settings if plain(path) == plain(whole)]
    if not same:
        usual = [path for path in _USUAL.get(plain(name), ()) if path in settings]
        same = usual + [path for path in settings if plain(path.rpartition(".")[2]) == plain(name)]
        same = [path for path in same if path.startswith(f"{place[0]}.")] or same
    if same:
        return _did_you_mean(same)
    choices = _fields_at(kind, place[:-1])
    if near := nearest(name, choices):
        return f"did you mean '{near}'?"
    near = nearest(name, [path.rpartition(".")[2] for path in settings])
    if near:
        return _did_you_mean([path for path in settings if path.rpartition(".")[2] == near])
    return f"known here: {', '.join(choices)}" if choices else None


def _did_you_mean(paths: Sequence[str]) -> str:
    if len(paths) == 1:
        return f"did you mean '{paths[0]}'?"
    return f"did you mean one of {', '.join(paths)}?"


def paths(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The settings of a configuration by their whole names, such as `training.lr`."""
    for name, field in _fields(kind).items():
        below = _model_in(field.annotation)
        if below is None:
            yield f"{prefix}{name}"
        else:
            yield from paths(below, f"{prefix}{name}.")


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The group of settings that a field holds, if it is one (or one or null)."""
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else [annotation]
    return next((item for item in options if isinstance(item, type) and issubclass(item, BaseModel)), None)


def _fields_at(kind: type[BaseModel], place: _Location) -> list[str]:
    for part in place:
        field = _fields(kind).get(str(part))
        annotation = None if field is None else field.annotation
        inner = [item for item in (annotation, *get_args(annotation)) if isinstance(item, type)]
        inner = [item for item in inner if issubclass(item, BaseModel)]
        if inner:
            kind = inner[0]
        elif annotation is not None:
            return []
    return list(_fields(kind))


def _fields(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    """The settings of a group, of all the classes that it can be of."""
    variants: Sequence[type[BaseModel]] = getattr(kind, "variants", lambda: [kind])()
    return {name: field for variant in variants for name, field in variant.model_fields.items()}
