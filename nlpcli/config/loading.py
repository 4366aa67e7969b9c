"""YAML read strictly: unknown keys are refused, and every mistake is named with its place."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from nlpcli.config.files import check_regular
from nlpcli.config.json_errors import json_reason
from nlpcli.config.number_parsing import parse_int
from nlpcli.config.setting_errors import mistake
from nlpcli.errors import NlpcliError, missing_path_hint
from nlpcli.escaping import quoted, shortened


class Strict(BaseModel):
    """Base of all configuration objects: no unknown keys, finite numbers only, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def variants(cls) -> Sequence[type[BaseModel]]:
        """The classes of what is read as this one."""
        return [cls]

    @field_validator("*", mode="before")
    @classmethod
    def _is_spelled_as_a_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuses `1_0` and `true` where a number belongs, which pydantic reads as 10 and as 1."""
        kinds = set(_kinds_in(cls.model_fields[str(info.field_name)].annotation))
        values = value if isinstance(value, (list, tuple)) else [value]
        texts = str not in kinds and any(isinstance(one, str) and "_" in one for one in values)
        truths = bool not in kinds and any(isinstance(one, bool) for one in values)
        if kinds & {int, float} and (texts or truths):
            raise PydanticCustomError("float_parsing" if float in kinds else "int_parsing", "not a number")
        return value


def _kinds_in(annotation: object) -> Iterator[object]:
    """The types that a type is made of: int of `tuple[int, ...] | None`; of a choice of words, str."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
        return
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds_in(inner)


_Config = TypeVar("_Config", bound=BaseModel)

# Numbers as YAML 1.2 has them: YAML 1.1 takes 1e-3 for text, 1_0 for 10, 010 for 8 and 1:30 for 90.
_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"^[-+]?[0-9]+$"),
    "tag:yaml.org,2002:float": re.compile(
        r"^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}

_MOST_BYTES = 32 * 2**20  # of a file in YAML; a configuration has some thousand
_MOST_KEPT = 2**14  # characters of a text whose value is kept
_MOST_ALIASED = 100_000  # values and characters that the aliases of a text stand for
_DEEPEST = 64
_LARGEST = 1024  # bits of a number, as many as a double can reach
_PLAIN = ("null", "bool", "int", "float", "str", "timestamp", "seq", "map")


class _Loader(yaml.SafeLoader):
    """Plain data only, no key twice, no deep nesting, and no more behind aliases than a person would write."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._size = self._aliased = self._depth = 0
        self._open: set[str] = set()
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self._count_alias(event)
            return super().compose_node(parent, index)
        anchor, before = event.anchor, self._size
        self._size += 1 + len(getattr(event, "value", ""))
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {_DEEPEST}", event.start_mark)
        if anchor is not None:
            self._open.add(anchor)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor is not None:
            self._open.discard(anchor)
            self._sizes[anchor] = self._size - before
        return node

    def _count_alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor in self._open:
            problem = f"'*{shortened(event.anchor, 40)}' contains itself"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        size = self._sizes.get(event.anchor, 0)
        self._size += size
        self._aliased += size
        if self._aliased > _MOST_ALIASED:
            problem = f"its aliases expand to more than {_MOST_ALIASED:,} values and characters"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"'{shortened(key.value)}' occurs twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = parse_int(self.construct_scalar(node))
        if value is None or value.bit_length() > _LARGEST:
            raise yaml.constructor.ConstructorError(None, None, "the number is too large", node.start_mark)
        return value


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    f"tag:yaml.org,2002:{kind}": getattr(_Loader, f"construct_yaml_{kind}") for kind in _PLAIN
} | {None: _Loader.construct_undefined}


def _from_yaml(text: str) -> Any:
    """The value of a text in YAML. Raises: yaml.YAMLError, ValueError."""
    return copy.deepcopy(_parsed_before(text)) if len(text) <= _MOST_KEPT else _parsed(text)


def _parsed(text: str) -> Any:
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError("nested too deeply") from None


_parsed_before = lru_cache(maxsize=64)(_parsed)  # a preset is read many times, and each time takes some milliseconds


def load_yaml(path: Path, *, pipe: bool = False) -> dict[str, Any]:
    """The mapping in a YAML file. Raises: NlpcliError with file and line when it can't be read as one.

    pipe: whether the file may be a pipe, as may one that the user names.
    """
    if not pipe:
        check_regular(path)
    text = _text_of(Path(path), "YAML")
    try:
        data = _from_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise NlpcliError(
            f"{place}: the file is not valid YAML ({getattr(error, 'problem', None) or 'unreadable'})"
        ) from None
    except ValueError as error:  # an impossible date; a number of thousands of digits
        raise NlpcliError(f"{path}: the file is not valid YAML ({error})") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise NlpcliError(f"{path}:1: the file must contain lines of the form 'key: value', not {_value_of(data)}")
    _check_keys(data, str(path))
    return data


def _check_keys(data: Mapping[Any, Any], source: str) -> None:
    """Raises: NlpcliError for a group of settings whose names are neither texts nor numbers."""
    for key, value in data.items():
        if not isinstance(key, (str, int, float)):
            raise NlpcliError(f"{source}: the key {quoted(key)} must be text or a number")
        if isinstance(value, Mapping):
            _check_keys(value, source)


def _text_of(path: Path, form: str) -> str:
    """A configuration file's text. Raises: NlpcliError for what can't be read, and for what is far too long."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise NlpcliError(
                f"{path}: a configuration file can have at most {_MOST_BYTES // 2**20} MiB, but this file is larger"
            )
        return data.decode("utf-8")
    except FileNotFoundError:
        raise NlpcliError(f"{path}: no such file", hint=missing_path_hint(Path(path))) from None
    except IsADirectoryError:
        raise NlpcliError(f"{path}: the path is a folder, not a {form} file") from None
    except UnicodeDecodeError as error:
        raise NlpcliError(f"{path}: the file is not valid UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise NlpcliError(f"{path} can't be read ({(error.strerror or str(error)).lower()})") from None


def load_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of settings. Raises: NlpcliError when it can't be read as one."""
    check_regular(path)
    data = from_json(_text_of(Path(path), "JSON"), str(path))
    if not isinstance(data, dict):
        raise NlpcliError(f"{path}: the file must contain a JSON object, not {_value_of(data)}")
    return data


def from_json(text: str | bytes, source: str) -> Any:
    """The value of a text in JSON. Raises: NlpcliError, naming `source`, also for what is nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NlpcliError(f"{source}: this is not valid JSON ({json_reason(error)})") from None


def _value_of(data: object) -> str:
    return "a list" if isinstance(data, list) else "a single value"


def parse(kind: type[_Config], data: Mapping[str, Any], source: str) -> _Config:
    """`data` as an object of class `kind`; `source` (a file, an option) is named in the error."""
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise mistake(kind, data, source, error) from None


def apply_overrides(data: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """`data` with each "a.b=value" applied; the value is read as YAML. Raises: NlpcliError for another form."""
    result = copy.deepcopy(dict(data))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        keys = key.strip().split(".")
        if not equals or not all(keys) or len(keys) > _DEEPEST:
            raise NlpcliError(
                f"--set needs KEY=VALUE, not {quoted(assignment)}", hint="for example: --set training.lr=0.001"
            )
        try:
            value = _from_yaml(text)
        except yaml.YAMLError as error:
            reason = getattr(error, "problem", None) or "unreadable"
            raise NlpcliError(f"--set {key}: {quoted(text)} is not a YAML value ({reason})") from None
        except ValueError as error:
            raise NlpcliError(f"--set {key}: {quoted(text)} is not a YAML value ({error})") from None
        if isinstance(value, Mapping):
            _check_keys(value, f"--set {key}")
        merge(result, _nested(keys, value), f"--set {assignment}")
    return result


def _nested(keys: list[str], value: object) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _nested(keys[1:], value)}


def merge(base: dict[str, Any], extra: Mapping[str, Any], source: str = "") -> dict[str, Any]:
    """Lays `extra` over `base` in place, mapping by mapping, and returns it."""
    for key, value in extra.items():
        if isinstance(value, Mapping):
            below = base.get(key)
            if below is None:
                below = base[key] = {}
            if not isinstance(below, dict):
                raise NlpcliError(f"{source or key}: '{key}' is a single value, not a group of settings")
            merge(below, value, source)
        else:
            base[key] = value
    return base


class _Dumper(yaml.SafeDumper):
    """Lists stay on one line, so that a configuration reads as a table."""


_Dumper.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)
_Dumper.add_representer(
    tuple, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)
for _kind in (_Loader, _Dumper):
    for _tag, _form in _NUMBERS.items():
        _kind.add_implicit_resolver(_tag, _form, list("-+.0123456789"))


def dump_yaml(data: Mapping[str, Any]) -> str:
    """`data` as YAML in its own order, readable by `load_yaml`."""
    return yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
