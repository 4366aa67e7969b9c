"""Presets: model shapes and training settings as data, each with the source of its numbers.

A preset is a YAML file in this folder, or any file of the same form. `extends: NAME` lays it over another preset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlpcli.errors import NlpcliError, unknown

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all presets."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load(name: str | Path) -> dict[str, Any]:
    """A preset, or a YAML file by its path, with what it extends laid beneath it.

    Raises: NlpcliError with the nearest spelling for a name that is none.
    """
    return _load(str(name), ())


def _load(name: str, within: tuple[str, ...]) -> dict[str, Any]:
    from nlpcli.config.loading import load_yaml, merge

    if name in within:
        raise NlpcliError(f"{name}: extends itself ({' -> '.join((*within, name))})")
    path = _FOLDER / f"{name}.yaml"
    if name not in names():
        path = Path(name)
        if path.suffix not in (".yaml", ".yml") and not path.is_file():
            raise unknown("preset", name, names())
    data = load_yaml(path)
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise NlpcliError(f"{path}: 'extends' must be the name of a preset (got {base!r})")
    return merge(_load(base, (*within, name)), data, str(path))
