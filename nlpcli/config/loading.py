"""YAML read strictly: unknown keys are refused, and every mistake is named with its place."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from nlpcli.config.mistakes import mistake
from nlpcli.errors import NlpcliError


class Strict(BaseModel):
    """Base of all configuration objects: no unknown keys, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Config = TypeVar("_Config", bound=BaseModel)

# YAML 1.1 takes 1e-3 for text; people who write it mean a number, as YAML 1.2 does.
_EXPONENT = re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """Plain data only, and no key twice."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _from_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises: NlpcliError with file and line when it can't be read as one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NlpcliError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise NlpcliError(f"{path}: is a folder, not a YAML file") from None
    except UnicodeDecodeError as error:
        raise NlpcliError(f"{path}: not valid UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise NlpcliError(f"{path}: can't be read ({error.strerror})") from None
    try:
        data = _from_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise NlpcliError(f"{place}: not valid YAML ({getattr(error, 'problem', None) or 'unreadable'})") from None
    except (ValueError, RecursionError) as error:  # an impossible date; a thousand brackets
        raise NlpcliError(f"{path}: not valid YAML ({error})") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise NlpcliError(f"{path}:1: expected 'key: value' lines, found a {type(data).__name__}")
    return data


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
        if not equals or not all(keys):
            raise NlpcliError(f"--set {assignment}: expected key=value", hint="for example --set training.lr=0.001")
        try:
            value = _from_yaml(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise NlpcliError(f"--set {assignment}: '{text}' is not a YAML value") from None
        merge(result, _nested(keys, value), f"--set {assignment}")
    return result


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: value if len(keys) == 1 else _nested(keys[1:], value)}


def merge(base: dict[str, Any], extra: Mapping[str, Any], source: str = "") -> dict[str, Any]:
    """Lays `extra` over `base` in place, mapping by mapping, and returns it."""
    for key, value in extra.items():
        if isinstance(value, Mapping):
            below = base.get(key)
            if below is None:
                below = base[key] = {}
            if not isinstance(below, dict):
                raise NlpcliError(f"{source or key}: '{key}' holds a value, not a group of settings")
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
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def dump_yaml(data: Mapping[str, Any]) -> str:
    """`data` as YAML in its own order, readable by `load_yaml`."""
    return yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
