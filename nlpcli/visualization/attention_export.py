"""Attention as numbers: JSON for every language, NPZ for numpy. Both are exact: every float32 comes back as it was.

docs/files.md describes both forms.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError
from nlpcli.visualization.attention_data import Attention, Side, Site

FORMAT = "nlpcli-attention"
VERSION = 1
_ABOUT = "about"
_TENS = np.array([float(10**power) for power in range(23)])


# --- JSON --------------------------------------------------------------------------------------------------------


def as_json(attention: Attention) -> dict[str, Any]:
    """A dictionary for `json.dumps`. Weights are nested lists, [layer][head][query][key].

    A weight that is not finite is None and comes back as NaN. Any other is the shortest number that is nearest to its
    float32: 0.1 and not 0.10000000149011612.
    """
    about = _about(attention)
    for entry, site in zip(about["sites"], attention.sites, strict=True):
        entry["weights"] = [_shortest(layer) for layer in site.weights]
    return about


def from_json(value: object, place: str = "attention") -> Attention:
    """The attention that `as_json` gave; `place` names it in errors.

    Raises: NlpcliError for another form or version, missing parts, or weights that don't fit their tokens.
    """
    about = _checked(value, place)
    return _attention(about, [_part(entry, "weights", place) for entry in about["sites"]], place)


def json_lines(attentions: Iterable[Attention]) -> Iterator[str]:
    """A line of JSON for each, without its end, as they come; lone surrogates stay escapes."""
    for attention in attentions:
        line = json.dumps(as_json(attention), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        yield line.encode("utf-8", errors="backslashreplace").decode("utf-8")


def from_json_lines(lines: Iterable[str], place: str = "attention") -> Iterator[Attention]:
    """The attentions of the lines of `json_lines`; blank lines are skipped. Raises: as `from_json`, with the line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise NlpcliError(f"{place}, line {number}: the line is not valid JSON ({error})") from error
        yield from_json(value, f"{place}, line {number}")


def _shortest(weights: np.ndarray) -> list:
    """Nested lists of doubles that are written as float32's shortest decimals and read back as the same float32."""
    values = weights.astype(np.float64)
    size = np.abs(values)
    usual = (size >= 1e-12) & (size < 1e9)
    _shorten(values, weights, usual)
    unusual = np.isfinite(values) & ~usual & (values != 0)
    if unusual.any():
        short = weights[unusual].astype(str).astype(np.float64)
        values[unusual] = np.where(short.astype(np.float32) == weights[unusual], short, values[unusual])
    return values.tolist() if np.isfinite(values).all() else _without_nan(values.tolist())


def _shorten(values: np.ndarray, weights: np.ndarray, usual: np.ndarray) -> None:
    """Rounds each of the `usual` values to as few digits as float32 needs, in place.

    Whole numbers and powers of ten up to 10^22 are exact in doubles, so that their quotient is the double nearest to
    the decimal, which is the one that is written with its few digits.
    """
    left = np.flatnonzero(usual)
    first = np.floor(np.log10(np.abs(values.flat[left]))).astype(int)  # the place of the first digit
    for digits in range(1, 10):
        places = digits - 1 - first
        power = _TENS[np.abs(places)]
        exact = weights.flat[left].astype(np.float64)
        short = np.where(places >= 0, np.rint(exact * power) / power, np.rint(exact / power) * power)
        found = short.astype(np.float32) == weights.flat[left]
        values.flat[left[found]] = short[found]
        left, first = left[~found], first[~found]


def _without_nan(values: list[Any]) -> list[Any]:
    """Nested lists with None for anything that is not finite."""
    return [
        _without_nan(value) if isinstance(value, list) else value if np.isfinite(value) else None for value in values
    ]


def from_zero(row: dict[str, Any]) -> dict[str, Any]:
    """The numbers of one head as JSON has them: its layer and its own number from 0."""
    layer, head = _shifted((row["layer"], row["head"]), -1)
    return {**row, "layer": layer, "head": head}


# --- NPZ ---------------------------------------------------------------------------------------------------------


def as_npz(attention: Attention) -> bytes:
    """The bytes of an archive that `numpy.load` reads without pickle.

    Of every site NAME: `NAME.weights` float32 (layers, heads, n, m), `NAME.queries` and `NAME.keys` the tokens as
    strings; `about`: the JSON without the weights, as one string, with all else. The same attention gives the same
    bytes.
    """
    names = [site.name for site in attention.sites]
    assert len(set(names)) == len(names), names
    arrays: dict[str, Any] = {_ABOUT: np.array(json.dumps(_about(attention)))}
    for site in attention.sites:
        arrays[f"{site.name}.weights"] = np.stack(site.weights)
        arrays[f"{site.name}.queries"] = np.array(site.queries.tokens, dtype=np.str_)
        arrays[f"{site.name}.keys"] = np.array(site.keys.tokens, dtype=np.str_)
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    return archive.getvalue()


def from_npz(data: bytes, place: str = "attention") -> Attention:
    """The attention that `as_npz` gave. Raises: NlpcliError, as `from_json`, also for any other file."""
    try:
        _check_sizes(data)
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            about = _checked(json.loads(str(archive[_ABOUT])), place)
            weights = [archive[f"{_part(entry, 'name', place)}.weights"] for entry in about["sites"]]
    except (ValueError, KeyError, EOFError, OSError, TypeError, zipfile.BadZipFile) as error:
        raise NlpcliError(f"{place}: the file is not a NumPy archive of attention weights ({error})") from error
    return _attention(about, weights, place)


def _check_sizes(data: bytes) -> None:
    """Raises: ValueError for an archive that claims to unpack to more than it holds; ours are not compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > len(data):
        raise ValueError(f"its header gives {size:,} bytes for the arrays, but the file has only {len(data):,}")


# --- both --------------------------------------------------------------------------------------------------------


def _about(attention: Attention) -> dict[str, Any]:
    """All but the weights."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": attention.model,
        "texts": dict(attention.texts),
        "notes": dict(attention.notes),
        "sites": [
            {
                "name": site.name,
                "title": site.title,
                "signed": site.signed,
                "layers": _shifted(site.layers, -1),
                "heads": _shifted(site.heads, -1),
                "queries": _side_as_json(site.queries),
                "keys": _side_as_json(site.keys),
            }
            for site in attention.sites
        ],
    }


def _shifted(numbers: Iterable[int | str], by: int) -> list[int | str]:
    """Layers and heads count from 1 for people and from 0 in these files; names such as `mean` stay."""
    return [number + by if isinstance(number, int) else number for number in numbers]


def _side_as_json(side: Side) -> dict[str, list]:
    return {name: list(getattr(side, name)) for name in ("tokens", "words", "special", "groups", "positions")}


def _checked(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise NlpcliError(
            f"{place}: the data are not attention weights in the format of nlpcli",
            hint="'nlpcli visualize-attention' writes them with --format json or npz",
        )
    if value.get("version") != VERSION:
        raise NlpcliError(
            f"{place}: version {value.get('version')} of the format is not supported",
            hint=f"only version {VERSION} is supported",
        )
    if not isinstance(_part(value, "sites", place), list):
        raise NlpcliError(f"{place}: 'sites' is not a list")
    return value


def _part(value: object, name: str, place: str) -> Any:
    if not isinstance(value, dict) or name not in value:
        raise NlpcliError(f"{place}: '{name}' is missing")
    return value[name]


def _attention(about: dict[str, Any], weights: list[Any], place: str) -> Attention:
    sites = [_site(entry, layers, place) for entry, layers in zip(about["sites"], weights, strict=True)]
    texts, notes = about.get("texts", {}), about.get("notes", {})
    return Attention(tuple(sites), model=about.get("model", ""), texts=dict(texts), notes=dict(notes))


def _site(entry: dict[str, Any], weights: object, place: str) -> Site:
    name = _part(entry, "name", place)
    queries, keys = (_side(_part(entry, side, place), f"{place}, '{name}', {side}") for side in ("queries", "keys"))
    layers, heads = (tuple(_shifted(_part(entry, part, place), 1)) for part in ("layers", "heads"))
    shape = (len(layers), len(heads), len(queries), len(keys))
    try:
        numbers = np.asarray(weights, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise NlpcliError(f"{place}: the weights of '{name}' are not an array of numbers ({error})") from error
    if numbers.shape != shape and not (0 in shape and numbers.size == 0):
        raise NlpcliError(
            f"{place}: the weights of '{name}' have the shape {numbers.shape}, "
            f"but the layers, heads and tokens in the file require the shape {shape}"
        )
    return Site(
        name,
        _part(entry, "title", place),
        queries,
        keys,
        tuple(numbers.reshape(shape)),
        layers=layers,
        heads=heads,
        signed=bool(_part(entry, "signed", place)),
    )


def _side(value: object, place: str) -> Side:
    tokens, words, special = (tuple(_part(value, name, place)) for name in ("tokens", "words", "special"))
    assert isinstance(value, dict)  # as it has these parts
    groups, positions = tuple(value.get("groups", ())), tuple(value.get("positions", ()))
    for name, values in {"words": words, "special": special, "groups": groups, "positions": positions}.items():
        if len(values) != len(tokens) and not (name in ("groups", "positions") and not values):
            raise NlpcliError(
                f"{place}: '{name}' has {counted(len(values), 'entry', 'entries')}, but 'tokens' has {len(tokens)}"
            )
    return Side(tokens, words, special, groups, positions)
