"""Presets: model shapes and training settings as data, each with the source of its numbers.

A preset is a YAML file in this folder, or any file of the same form. `extends: NAME` lays it over another preset,
or over a file whose place is given from its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlpcli.config.files import real_path
from nlpcli.errors import NlpcliError, missing_path_hint, unknown

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all presets."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load(name: str | Path) -> dict[str, Any]:
    """A preset, or a YAML file by its path, with what it extends laid beneath it.

    Raises: NlpcliError with the nearest spelling for a name that is none.
    """
    return _load(_find(str(name), Path()), ())


def _find(name: str, folder: Path) -> Path:
    if name in names():
        return _FOLDER / f"{name}.yaml"
    path = folder / name
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        if len(Path(name).parts) > 1:
            hint = missing_path_hint(path) or "'nlpcli config list' lists the presets"
            raise NlpcliError(f"{path}: no such file or folder", hint=hint)
        raise unknown("preset", name, names())
    return path


def _load(path: Path, within: tuple[Path, ...]) -> dict[str, Any]:
    from nlpcli.config.loading import load_yaml, merge

    if real_path(path) in map(real_path, within):
        raise NlpcliError(f"{path}: the file extends itself ({' -> '.join(map(str, (*within, path)))})")
    data = load_yaml(path, pipe=True)
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise NlpcliError(f"{path}: 'extends' must be the name of a preset (got {base!r})")
    return merge(_load(_find(base, path.parent), (*within, path)), data, str(path))
