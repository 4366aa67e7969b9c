"""The numbers of heads in a terminal: a table of layers and heads for each site."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from nlpcli.visualization.heat_map import BOLD, FAINT, Line, Scale, TerminalAbilities
from nlpcli.visualization.text_width import wrapped
from nlpcli.visualization.transformations import HeadNumbers

_UNKNOWN = "-"


def tables(numbers: Sequence[HeadNumbers], ink: TerminalAbilities, width: int) -> list[Line]:
    """Entropy and, in self-attention, mean distance: layers below each other, heads beside each other."""
    lines: list[Line] = []
    for site, rows in itertools.groupby(numbers, key=lambda row: row.site):
        heads = list(rows)
        most = f"from 0 (all weight on one key) to {heads[0].most:.2f} (equal weights)"
        lines += [[], *_table(f"{site}: entropy in bits, {most}", heads, "entropy", ink, width)]
        if any(head.distance is not None for head in heads):
            lines += [[], *_table(f"{site}: mean distance from query to key in tokens", heads, "distance", ink, width)]
    return lines[1:]


def _table(title: str, rows: Sequence[HeadNumbers], what: str, ink: TerminalAbilities, width: int) -> list[Line]:
    values = {(row.layer, row.head): getattr(row, what) for row in rows}
    layers = list(dict.fromkeys(row.layer for row in rows))
    heads = list(dict.fromkeys(row.head for row in rows))
    texts = {key: _UNKNOWN if value is None else f"{value:.2f}" for key, value in values.items()}
    known = [value for value in values.values() if value is not None]
    scale = Scale(max([*known, 1e-9]), ink)
    first = max(len(str(layer)) for layer in (*layers, "layer"))
    column = max(len(text) for text in (*texts.values(), *map(str, heads)))
    across = max(1, (width - first) // (column + 1))
    lines: list[Line] = [[(line, BOLD)] for line in wrapped(title, width)]
    for start in range(0, len(heads), across):
        part = heads[start : start + across]
        lines.append([(" " * (first + 1) + "head", FAINT)])
        lines.append([("layer".rjust(first), FAINT), *((f" {head!s:>{column}}", "") for head in part)])
        for layer in layers:
            line: Line = [(f"{layer!s:>{first}}", "")]
            for head in part:
                line += [(" ", ""), _number(texts[layer, head].rjust(column), values[layer, head], scale)]
            lines.append(line)
    return lines


def _number(text: str, value: float | None, scale: Scale) -> tuple[str, str]:
    """The number, on its color where there are colors."""
    if value is None or not scale.ink.color:
        return text, ""
    return scale.written_on(text, value)
