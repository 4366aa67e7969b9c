"""The output files of a grid: its results as JSON, the table, the picture, and a page that holds all for a reader."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from nlpcli.commands.compare.cells import PICTURE, RESULTS, TABLE
from nlpcli.commands.compare.grid_results import Results, Row
from nlpcli.commands.compare.results_picture import picture
from nlpcli.commands.compare.results_table import heading, markdown
from nlpcli.config.files import write_together
from nlpcli.config.temporary_files import sweep
from nlpcli.errors import NlpcliError
from nlpcli.escaping import escaped
from nlpcli.runs.training_request import Listener


def write_results(results: Results, out: Path, listener: Listener) -> None:
    """Writes `results.json`, `table.md` and `picture.png` into the grid's folder; without matplotlib no picture.

    Raises: NlpcliError when the place can't be written, RunFailed when the disk is full.
    """
    sweep(out)
    text = json.dumps(results.as_dict(), ensure_ascii=False, indent=2) + "\n"
    contents: dict[Path, bytes | str] = {out / TABLE: markdown(results), out / RESULTS: text}
    drawn = _drawn(results, listener)
    if drawn is not None:
        contents[out / PICTURE] = drawn
    write_together(contents)


def write_report(results: Results, path: Path, listener: Listener) -> None:
    """Writes a page in Markdown, with the picture beside it under the same name.

    Raises: as `write_results`.
    """
    drawn = _drawn(results, listener)
    image = path.with_suffix(".png")
    contents: dict[Path, bytes | str] = {path: page(results, image.name if drawn is not None else None)}
    if drawn is not None:
        contents[image] = drawn
    write_together(contents)
    listener.note(f"report: {path}" + (f" and {image}" if drawn is not None else ""))


def _drawn(results: Results, listener: Listener) -> bytes | None:
    try:
        return picture(results)
    except NlpcliError as error:
        listener.note(f"no figure was drawn: {error.message}" + (f" ({error.hint})" if error.hint else ""))
        return None


def page(results: Results, image: str | None) -> str:
    """The page: title, command, what was equal, table, picture, how it was measured, and where it was trained."""
    parts = [
        f"# {escaped(results.title)}",
        *[results.description] * bool(results.description),
        f"    {results.command}",
    ]
    parts.append(_training_conditions(results))
    parts.append(markdown(results).rstrip())
    if image is not None:
        parts += [f"![The cells of {escaped(results.name)}]({image.replace(' ', '%20')})", _caption(results)]
    signatures = [f"- {heading(name)}: `{signature}`" for name in results.metrics
                  for signature in results.signatures.get(name, [])]  # fmt: skip
    parts += ["Signatures:\n\n" + "\n".join(signatures)] if signatures else []
    parts += ["Trained on: " + escaped("; ".join(results.machines)) + "."] if results.machines else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _training_conditions(results: Results) -> str:
    data, rows = results.data, [row for row in results.rows if row.folders]
    several = any(len(row.seeds) > 1 for row in rows)
    sentences = [
        f"Every cell is trained for {results.equal}, {_seeds(rows)}.",
        f"Trained on {_listed(data['train'])}.",
        *[f"Dev set: {_listed(data['dev'])}."] * bool(data["dev"]),
        *[f"Test set: {_listed(data['test'])}."] * bool(data["test"]),
        *["± is the standard deviation over seeds."] * several,
        *["In brackets: the 95 % bootstrap interval over the test sentences, without the variation over seeds."]
        * any(_bounded(row) for row in rows),
        "The best values are bold.",
    ]
    return " ".join(sentences)


def _seeds(rows: list[Row]) -> str:
    """From how many seeds most cells are trained, and which from more or fewer."""
    counts = Counter(len(row.seeds) for row in rows)
    if not counts:
        return "from one seed"
    usual = counts.most_common(1)[0][0]
    others = [f"{escaped(row.title)} from {len(row.seeds)}" for row in rows if len(row.seeds) != usual]
    return ", ".join([f"from {usual} seeds" if usual > 1 else "from one seed", *others])


def _bounded(row: Row) -> bool:
    return any(number.low is not None for number in row.metrics.values())


def _caption(results: Results) -> str:
    bars = ["standard deviations over seeds"] if any(len(row.seeds) > 1 for row in results.rows) else []
    bars += ["95 % bootstrap intervals over the test sentences"] if any(_bounded(row) for row in results.rows) else []
    line = ["The dashed line is the base."] if any(not row.changes for row in results.rows) else []
    return " ".join([f"The error bars are {' or, for one seed, '.join(bars)}."] * bool(bars) + line)


def _listed(files: list[str]) -> str:
    return " and ".join(f"`{file}`" for file in files)
