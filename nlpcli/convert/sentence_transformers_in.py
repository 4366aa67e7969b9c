"""Reads the pooling and normalization settings of a sentence-transformers folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlpcli.config.files import plain_name, read_regular
from nlpcli.errors import NlpcliError

_MODULES = "modules.json"
_NAMES = {"mean": "mean", "cls": "first", "max": "max", "lasttoken": "last"}
_OLD_NAMES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
_LONGEST = 1 << 20  # tokenizers without a limit have 10^30


@dataclass(frozen=True)
class SentenceSettings:
    """pooling: first, mean, max or last, None if the folder has no setting; normalize: vectors of length 1;
    max_length: the most tokens of a text, special ones included, None for no limit."""

    pooling: str | None = None
    normalize: bool = False
    max_length: int | None = None


def sentence_settings(path: Path, pooling: str | None = None) -> SentenceSettings:
    """The settings in the folder `path`; empty if it is not a sentence-transformers folder.

    pooling: replaces the folder's own and the modules that depend on it.
    Raises: NlpcliError for a pooling, or a further module, that can't be done here.
    """
    path = Path(path)
    if not (path / _MODULES).is_file():
        return SentenceSettings(pooling)
    if pooling is not None:
        return SentenceSettings(pooling, False, _max_length(path))
    from nlpcli.convert.tokenizer_in import read_json

    normalize = False
    for module in _list(path / _MODULES):
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        if kind == "Pooling":
            folder = module.get("path") or "."  # the folder itself
            file = path / (folder if folder == "." else plain_name(folder, str(path / _MODULES))) / "config.json"
            pooling = _pooling(read_json(file), file)
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise NlpcliError(
                f"{path / _MODULES}: the module {kind or module} is not supported, so the vectors would differ",
                hint="choose the pooling with --pooling to ignore such modules",
            )
    return SentenceSettings(pooling, normalize, _max_length(path))


def pooling_of(path: Path) -> str | None:
    """The pooling of a sentence-transformers folder, None for any other. Raises: as `sentence_settings`."""
    return sentence_settings(path).pooling


def _list(file: Path) -> list[dict[str, Any]]:
    import json

    try:
        modules = json.loads(read_regular(file).decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise NlpcliError(f"{file} can't be read ({error})") from None
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise NlpcliError(f"{file} is not a list of modules")
    return modules


def _pooling(config: dict[str, Any], file: Path) -> str:
    modes = config.get("pooling_mode") or [name for key, name in _OLD_NAMES.items() if config.get(key)]
    modes = [modes] if isinstance(modes, str) else list(modes)
    if len(modes) != 1 or modes[0] not in _NAMES:
        raise NlpcliError(
            f"{file}: the pooling '{' and '.join(map(str, modes))}' is not supported"
            if modes
            else f"{file}: the pooling is missing",
            hint="choose one with --pooling: first, mean, max or last",
        )
    return _NAMES[modes[0]]


def _max_length(path: Path) -> int | None:
    from nlpcli.convert.tokenizer_in import read_json

    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = read_json(path / name).get(key) if (path / name).is_file() else None
        if isinstance(value, int) and 0 < value < _LONGEST:
            return value
    return None
