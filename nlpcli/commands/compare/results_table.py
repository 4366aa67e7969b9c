"""The results of a grid as a table: wide as in a paper, or narrow for a terminal; and two axes as a matrix."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from nlpcli.commands.compare.grid_results import FAILED, OPEN, PARTLY, Number, Results, Row
from nlpcli.config.counting import counted
from nlpcli.escaping import escaped
from nlpcli.training.metric_direction import higher_is_better

_NAMES = {"bleu": "dev BLEU", "test_bleu": "test BLEU"}
_COSTS = {"parameters": "parameters", "tokens": "tokens", "seconds": "minutes", "flops": "FLOPs"}
_DROPPED = ("tokens", "minutes", "FLOPs")
"""Columns of cost that a narrow table does without, in this order."""
GAP = "–"
SIGNIFICANT = 0.05
_OF_THE_DATA = "_baseline"
"""How measures end that no training changes: what always guessing the most frequent answer would get."""
_Place = TypeVar("_Place")


@dataclass(frozen=True)
class Table:
    """Cells of text under headings; `groups` has the group of each line, `best` the best cells.

    numeric: which columns are set to the right. notes: sentences beneath the table.
    """

    headings: list[str]
    lines: list[list[str]]
    numeric: list[bool]
    groups: list[str]
    best: frozenset[tuple[int, int]] = frozenset()  # (line, column)
    notes: list[str] = field(default_factory=list)

    @property
    def widths(self) -> list[int]:
        return [max(len(line[i]) for line in [self.headings, *self.lines]) for i in range(len(self.headings))]

    @property
    def width(self) -> int:
        return sum(self.widths) + 2 * (len(self.headings) - 1)

    def without(self, heading: str) -> Table:
        if heading not in self.headings:
            return self
        at = self.headings.index(heading)
        best = frozenset((line, column - (column > at)) for line, column in self.best if column != at)
        cut = [line[:at] + line[at + 1 :] for line in self.lines]
        return replace(
            self, headings=self.headings[:at] + self.headings[at + 1 :], lines=cut,
            numeric=self.numeric[:at] + self.numeric[at + 1 :], best=best,
        )  # fmt: skip


def table(results: Results, *, width: int | None = None, intervals: bool = True) -> Table:
    """One line a variant. width: that it shall not exceed, if that can be done without losing a measure."""
    wide = _table(results, _as_columns(results), intervals)
    if width is None or wide.width <= width:
        return wide
    for cost in _DROPPED:
        wide = wide.without(cost)
        if wide.width <= width:
            return wide
    narrow = _table(results, _in_one_column(results), intervals)
    for cost in (*_DROPPED, "parameters"):
        if narrow.width > width:
            narrow = narrow.without(cost)
    if narrow.width > width and intervals:
        return table(results, width=width, intervals=False)
    return _shortened(narrow, narrow.width - width)


def _shortened(table: Table, excess: int) -> Table:
    """The table with shorter texts in its column "changes"."""
    if "changes" not in table.headings:
        return table
    at = table.headings.index("changes")
    most = max(8, table.widths[at] - max(excess, 0))
    lines = [[*line[:at], _cut(line[at], most), *line[at + 1 :]] for line in table.lines]
    return replace(table, lines=lines)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


Settings = tuple[list[str], list[list[str]]]


def _as_columns(results: Results) -> Settings:
    """A column for each setting, or axis; where the base is among the rows, blank is as the base."""
    if results.is_product:
        return list(results.axes), [list(row.labels.values()) for row in results.rows]
    has_base = any(not row.changes for row in results.rows)

    def shown(row: Row, name: str) -> Any:
        value = row.settings[name]
        return results.base[name] if value is None and not (has_base and row.changes) else value

    return list(results.headings), [[_value(shown(row, name)) for name in results.headings] for row in results.rows]


def _in_one_column(results: Results) -> Settings:
    if results.is_product:
        return _as_columns(results)

    def changed(row: Row) -> str:
        shown = [f"{h}={_value(value)}" for h, value in row.settings.items() if value is not None]
        return " ".join(shown)

    return ["changes"], [[changed(row)] for row in results.rows]


def _table(results: Results, settings: Settings, intervals: bool) -> Table:
    names, texts = settings
    grouped = any(row.group for row in results.rows) and not results.is_product
    costs = {
        key: name for key, name in _COSTS.items() if name != results.kind and any(key in r.cost for r in results.rows)
    }
    first = [*[""] * grouped, *["cell"] * (not results.is_product)]
    headings = [*first, *names, *costs.values(), *(heading(name) for name in results.metrics)]
    lines = []
    for row, text in zip(results.rows, texts, strict=True):
        measures = [_measure(name, row.metrics.get(name), intervals) for name in results.metrics]
        if not row.folders and measures:
            measures[0] = row.status
        cost = [_cost(key, row.cost.get(key)) for key in costs]
        named = [*[row.group] * grouped, *[row.title] * (not results.is_product)]
        lines.append([*named, *text, *cost, *measures])
    at = len(headings) - len(results.metrics)
    plain = {"", "cell", "changes"}
    numeric = [name not in plain and _all_numbers(lines, i) for i, name in enumerate(headings)]
    best = {
        (line, at + i) for i, name in enumerate(results.metrics) for line in _best(_means(results.rows, name), name)
    }
    return Table(headings, lines, numeric, [row.group for row in results.rows], frozenset(best), notes(results))


def _all_numbers(lines: list[list[str]], column: int) -> bool:
    texts = [line[column] for line in lines if line[column] not in ("", GAP, FAILED, OPEN, PARTLY)]
    return bool(texts) and all(text[0].isdigit() or text[0] in "-." for text in texts)


def _means(rows: Sequence[Row], name: str) -> dict[int, float]:
    return {i: row.metrics[name].mean for i, row in enumerate(rows) if name in row.metrics}


def _best(values: Mapping[_Place, float], name: str) -> list[_Place]:
    """Where the best values of a measure stand; nowhere if all are the same, or are a property of the data."""
    if len(set(values.values())) < 2 or name.endswith(_OF_THE_DATA):
        return []
    top = (max if higher_is_better(name) else min)(values.values())
    return [place for place, value in values.items() if value == top]


def notes(results: Results) -> list[str]:
    """Notes below the numbers."""
    lines = []
    for row in results.failed:
        seeds = f" after {counted(len(row.seeds), 'finished seed')}" if row.status == PARTLY else ""
        lines.append(f"{row.title} failed{seeds}: {row.reason}")
    waiting = [row for row in results.rows if row.status in (OPEN, PARTLY) and row not in results.failed]
    lines += [f"{row.title} is left out: {row.reason}" for row in waiting if row.reason]
    if names := [row.title for row in waiting if not row.reason]:
        lines.append(f"{'this cell is' if len(names) == 1 else 'these cells are'} not finished: {', '.join(names)}")
    lines += [f"{heading(name)} is not measured" for name in results.missing]
    tested = [n.p_value for row in results.rows for n in row.metrics.values() if n.p_value is not None]
    if any(p_value < SIGNIFICANT for p_value in tested):
        base = next((row for row in results.rows if not row.changes), None)
        each = f", for each of its {len(base.seeds)} seeds," if base is not None and len(base.seeds) > 1 else ""
        cells = "1 cell was" if len(tested) == 1 else f"{len(tested):,} cells were"
        lines.append(
            f"† marks a difference from the base{each} with p < {SIGNIFICANT} (paired bootstrap over the test "
            f"sentences; {cells} tested, without correction for their number)"
        )
    lines += _over_seeds(results)
    for name in results.metrics:
        known = results.signatures.get(name, [])
        if len(known) > 1:
            lines.append(f"{heading(name)} was measured in different ways: {'; '.join(known)}")
    return lines


def _over_seeds(results: Results) -> list[str]:
    """The meaning of ‡ where the table has it, or why no cell was tested over its seeds."""
    if results.untested:
        return [f"no cell was tested over its seeds: {results.untested}"]
    numbers = [row.metrics[name] for row in results.rows for name in results.metrics if name in row.metrics]
    if not any(_differs_over_seeds(number) for number in numbers):
        return []
    most = max(results.tested.values())
    number = f", corrected by Holm for {most} cells" if most > 1 else ""
    return [
        f"‡ marks a mean over seeds that differs from that of {results.reference} with p < {SIGNIFICANT} (Welch's "
        f"t-test{number})"
    ]


def _differs_over_seeds(number: Number) -> bool:
    return number.p_value_over_seeds is not None and number.p_value_over_seeds < SIGNIFICANT


def heading(name: str) -> str:
    """How a measure is called for a reader."""
    return _NAMES.get(name, name.replace("_", " "))


def _value(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _measure(name: str, number: Number | None, intervals: bool) -> str:
    if number is None:
        return GAP
    digits = 3 if name.endswith("loss") or name.startswith("bits") else 2
    text = _short(number.mean, digits)
    if number.deviation is not None:
        return f"{text} ± {_short(number.deviation, digits)}" + ("‡" if _differs_over_seeds(number) else "")
    star = "†" if number.p_value is not None and number.p_value < SIGNIFICANT else ""
    if intervals and number.low is not None and number.high is not None:
        return f"{text}{star} [{_short(number.low, digits)}, {_short(number.high, digits)}]"
    return text + star


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.4g}"


def _cost(key: str, number: Number | None) -> str:
    if number is None:
        return GAP
    if key == "seconds":
        return f"{number.mean / 60:.{1 if number.mean >= 60 else 2}f}"
    if key == "flops":
        return f"{number.mean:.2e}".replace("e+", "e")
    return _thousands(number.mean)


def _thousands(value: float) -> str:
    """1234567 as 1.23M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:
            digits = max(0, 2 - (value >= 9.995 * size) - (value >= 99.95 * size))
            return f"{value / size:.{digits}f}{unit}"
    return f"{value:.0f}"


# --- forms --------------------------------------------------------------------------------------------------------


def markdown(results: Results) -> str:
    """The wide table, and where there are two axes a matrix for each measure; the best values are bold."""
    parts = [_markdown(table(results)), *(f"{name}:\n\n{_markdown(m)}" for name, m in matrices(results))]
    parts += ["\n".join(f"- {escaped(note)}" for note in notes(results))] if notes(results) else []
    return "\n\n".join(parts) + "\n"


def plain(headings: Sequence[str], rows: Sequence[Sequence[str]], format: str) -> str:
    """Any rows as `markdown` or `csv`."""
    if format == "markdown":
        lines, count = [list(row) for row in rows], len(headings)
        numeric = [_all_numbers(lines, i) for i in range(count)]
        return _markdown(Table(list(headings), lines, numeric, [""] * len(lines))) + "\n"
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([headings, *rows])
    return file.getvalue()


def _markdown(table: Table) -> str:
    def cell(text: str, column: int) -> str:
        return text.replace("|", r"\|") if table.numeric[column] else escaped(text)

    rule = ["---:" if numeric else "---" for numeric in table.numeric]
    lines = ["| " + " | ".join(map(escaped, table.headings)) + " |", "|" + "|".join(rule) + "|"]
    for i, line in enumerate(table.lines):
        cells = [f"**{cell(text, j)}**" if (i, j) in table.best else cell(text, j) for j, text in enumerate(line)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def matrices(results: Results) -> Iterator[tuple[str, Table]]:
    """For each measure the values of the first axis down and those of the second across, where there are just two.

    Those of the data alone have none.
    """
    if len(results.axes) != 2:
        return
    down, across = results.axes
    names = [name for name in results.metrics if not name.endswith(_OF_THE_DATA)]
    cells = {(row.labels[down], row.labels[across]): row for row in results.rows if row.labels}
    for name in names:
        headings = [f"{down} \\ {across}", *results.axes[across]]
        lines: list[list[str]] = []
        values: dict[tuple[int, int], float] = {}
        for i, label in enumerate(results.axes[down]):
            line = [label]
            for j, other in enumerate(results.axes[across]):
                number = cells[label, other].metrics.get(name)
                line.append(_measure(name, number, False))
                if number is not None:
                    values[i, j + 1] = number.mean
            lines.append(line)
        best = frozenset(_best(values, name))
        yield (
            heading(name),
            Table(headings, lines, [False, *[True] * len(results.axes[across])], [""] * len(lines), best),
        )


def text_lines(table: Table) -> Iterator[list[tuple[str, bool]]]:
    """Aligned lines, each as parts of text and whether they are highlighted; a blank line separates groups."""
    yield [("  ".join(_padded(table, table.headings)).rstrip(), False)]
    before = table.groups[0] if table.groups else ""
    for i, line in enumerate(table.lines):
        if table.groups[i] != before:
            yield [("", False)]
        before = table.groups[i]
        cells = _padded(table, line)
        yield [(text + ("  " if j < len(cells) - 1 else ""), (i, j) in table.best) for j, text in enumerate(cells)]


def _padded(table: Table, line: Iterable[str]) -> list[str]:
    return [
        text.rjust(width) if numeric else text.ljust(width)
        for text, width, numeric in zip(line, table.widths, table.numeric, strict=True)
    ]


def as_csv(results: Results) -> str:
    """All numbers in full precision, one line a variant; several seeds have a column of deviations."""
    file = io.StringIO()
    measured = list(dict.fromkeys(name for row in results.rows for name in row.metrics))
    costs = ["parameters", "tokens", "seconds", "flops", "step"]
    several = any(len(row.seeds) > 1 for row in results.rows)
    deviations = [f"{name}_deviation" for name in measured] if several else []
    bounded = dict.fromkeys(
        name for row in results.rows for name, number in row.metrics.items() if number.low is not None
    )
    bounds = [f"{name}_{end}" for name in bounded for end in ("low", "high")]
    first, others = ["cell", "group"], ["status", *costs, *measured, *deviations, *bounds]
    axes = [f"axis {axis}" if axis in (*first, *others) else axis for axis in results.axes]
    shown = _columns(results, {*first, *axes, *others})
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*first, *axes, *shown.values(), *others])
    for row in results.rows:
        numbers = {**row.cost, **row.metrics}
        values: dict[str, float | None] = {name: number.mean for name, number in numbers.items()}
        values |= {f"{name}_deviation": number.deviation for name, number in numbers.items()}
        values |= {f"{name}_low": number.low for name, number in numbers.items()}
        values |= {f"{name}_high": number.high for name, number in numbers.items()}
        settings = [_in_full(results, row, name) for name in shown]
        writer.writerow(
            [row.name, row.group, *(row.labels.get(axis, "") for axis in results.axes), *settings, row.status]
            + [_plain(values.get(name)) for name in (*costs, *measured, *deviations, *bounds)]
        )
    return file.getvalue()


def _columns(results: Results, taken: set[str]) -> dict[str, str]:
    """Heading -> column, of the settings that are not on an axis; the names of columns are unique."""
    columns: dict[str, str] = {}
    for name in results.headings:
        if all(row.labels.get(name) == _in_full(results, row, name) for row in results.rows):
            continue
        full = results.full_names.get(name, name)
        names = [name, full, f"setting {full}"]
        columns[name] = next(each for each in names if each not in {*taken, *columns.values()})
    return columns


def _in_full(results: Results, row: Row, name: str) -> str:
    return _value(results.base[name] if row.settings[name] is None else row.settings[name])


def _plain(value: float | None) -> str:
    return "" if value is None else repr(int(value) if float(value).is_integer() and abs(value) < 1e15 else value)
