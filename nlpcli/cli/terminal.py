"""The terminal: results on stdout as UTF-8 lines, talk on stderr, progress as a bar or as lines."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from nlpcli.config.counting import counted
from nlpcli.escaping import printable, printable_lines, sentence

if TYPE_CHECKING:
    from rich.console import Console


def prepare_streams() -> None:
    """UTF-8 and bare line feeds on stdout in every locale; nothing that can be written may raise for its encoding.

    A lone surrogate (which only JSON escapes can bring in) is written as its escape, which in JSON means the same.
    Results for a standard output that the caller has closed fail as soon as there are any; talk is forgotten.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        _occupy(number, mode)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace", line_buffering=True)


def _occupy(number: int, mode: int) -> None:
    """Puts nothing where a standard stream is closed, or the next file that is opened would be taken for it.

    mode: O_RDONLY makes every attempt to write fail.
    """
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, mode)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)


_LEAST_LAST = 30  # columns of a table's last column, below which it has lines of its own

# --- results -----------------------------------------------------------------------------------------------------


class Results(Protocol):
    """Where results go."""

    def write(self, text: str, /) -> int:
        """Writes `text`."""

    def writelines(self, lines: Iterable[str], /) -> None:
        """Writes each of `lines`, which have their line ends."""

    def flush(self) -> None:
        """Hands on what was written."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""


class _ForAPerson:
    """Standard output that is a terminal: what could steer it is spelled out, and lines end as they do."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.flush = stream.flush

    def write(self, text: str, /) -> int:
        self._stream.write(printable_lines(text))
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        return True


def stdout() -> Results:
    """The stream for results; text in it is UTF-8 with LF.

    It is data for the next program and passed on as it is, unless standard output is a terminal.
    """
    return _ForAPerson(sys.stdout) if sys.stdout.isatty() else sys.stdout


def write_line(text: str = "", *, flush: bool = False) -> None:
    """One line of results on stdout, see `stdout`."""
    stdout().write(text + "\n")
    if flush:
        sys.stdout.flush()


def write_colored(text: str) -> None:
    """Text on stdout as it is, with codes for colors; what comes from an input must be printable in it."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_report(text: str = "") -> None:
    """One line for people on stdout: what could steer a terminal is spelled out."""
    write_line(printable(text))


def write_styled(parts: Iterable[tuple[str, str]]) -> None:
    """One line of results out of (text, style) parts, in rich's words for styles; in color on a terminal only."""
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(*((printable(text), style) for text, style in parts))
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if console.is_terminal and not console.no_color:
        console.print(line)
    else:
        write_line(line.plain)


def write_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under headings on stdout, in columns as wide as they need to be; numbers are set to the right.

    Where that is wider than the terminal, the last column is continued below itself, or below its row, in whole words;
    where that is not enough, the first column has lines of its own.
    """
    headings = [printable(heading) for heading in headings]
    body = [[printable(str(cell)) for cell in row] for row in rows]
    columns = list(zip(*([headings, *body]), strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [bool(body) and all(_is_number(cell) for cell in column[1:]) for column in columns]
    whole = sum(widths) + 2 * (len(widths) - 1)
    columns_there = columns_of_output()
    room = whole if columns_there is None else columns_there
    fits = whole <= room
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    stacked = not fits and before - 2 > room
    for line in [headings, *body]:
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
        if fits:
            write_line("  ".join(cells).rstrip())
            continue
        if stacked:
            write_line(line[0])
        begin = "  " + "  ".join(cells[1:-1]) if stacked else "  ".join(cells[:-1])
        for part in _last_column(begin, line[-1], len(begin) + 2, room):
            write_line(part)


def _last_column(begin: str, text: str, before: int, room: int) -> Iterator[str]:
    """A row's other cells, and its last one beside them, or below where there is little room beside."""
    from nlpcli.cli.fact_sections import wrapped

    if room - before >= _LEAST_LAST:
        first, *rest = wrapped(text, room - before) or [""]
        yield f"{begin}  {first}".rstrip()
        yield from (" " * before + line for line in rest)
    else:
        yield begin.rstrip()
        yield from ("    " + line for line in wrapped(text, room - 4) if line)


def write_columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows for a person as a table without its empty columns; in a pipe or a file with tabs between what is filled."""
    if not sys.stdout.isatty():
        for row in rows:
            write_report("\t".join(cell for cell in row if cell))
        return
    filled = [place for place in range(len(headings)) if any(row[place] for row in rows)]
    write_table([headings[place] for place in filled], [[row[place] for place in filled] for row in rows])


def columns_of_output() -> int | None:
    """The columns that results should keep to: those of the terminal, or of COLUMNS; None where any width will do."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        import shutil

        return shutil.get_terminal_size().columns
    return None


def write_json(value: object) -> None:
    """`value` as one line of JSON on stdout."""
    import json

    write_line(json.dumps(value, ensure_ascii=False))


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "", 1).lstrip("-+").isdigit()


# --- talk --------------------------------------------------------------------------------------------------------


def stderr_console() -> Console:
    """A console on stderr without colors or movement where there is no terminal or NO_COLOR is set."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


_TALK = 1900  # the most characters of a line


def notify(text: str) -> None:
    """A line on stderr."""
    print(sentence(text, _TALK), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """A line on stderr about something that is not as the user may expect."""
    notify(f"warning: {text}")


def announce_stdin() -> None:
    """Call before reading stdin: it reports what the program waits for to a user at a silent terminal."""
    if sys.stdin is not None and sys.stdin.isatty():
        notify("reading from standard input; press Ctrl-D to end the input")


# --- progress ----------------------------------------------------------------------------------------------------


class Progress(Protocol):
    """The receiver of the progress of the work."""

    def update(self, completed: float, status: str = "") -> None:
        """`completed` of the total is done; `status` is a short text such as "loss 3.21, 9,870 tokens/s"."""


@contextmanager
def progress(description: str, *, total: float | None = None, completed: float = 0.0) -> Iterator[Progress]:
    """Progress on stderr: a moving bar with the time left on a terminal, else (or with NO_COLOR) a line now and then.

    `total` is in the unit of `update`'s `completed`, None when it is not known; `completed` was done before.
    """
    console = stderr_console()
    if console.is_terminal and not console.is_dumb_terminal and not console.no_color:
        with _Bar(console, description, total, completed) as bar:
            yield bar
    else:
        lines = _Lines(description, total, completed)
        yield lines
        lines.close()


@contextmanager
def evaluation(description: str) -> Iterator[None]:
    """Progress of the evaluation that is done inside, as `progress` shows it."""
    from nlpcli.data.progress import following

    with progress(description, total=1.0) as shown:

        def update(what: str, done: int, total: int | None) -> None:
            shown.update(done / total if total else 0.0, how_far(what, done, total))

        with following(update):
            yield


def how_far(what: str, done: int, total: int | None) -> str:
    """`evaluating 42 %`, or `evaluating, 12 steps` where the total is not known."""
    if total:
        return f"{what} {min(1.0, done / total):.0%}".replace("%", " %")
    return f"{what}, {counted(done, 'step')}" if done else what


class _Bar:
    """A moving bar; lines that are written meanwhile appear above it."""

    def __init__(self, console: Console, description: str, total: float | None, completed: float) -> None:
        from rich import progress as rich_progress

        self._progress = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(bar_width=30),
            rich_progress.TaskProgressColumn(),
            rich_progress.TextColumn("{task.fields[status]}"),
            rich_progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            transient=False,
            redirect_stdout=False,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task(
            printable(description),
            total=total,
            completed=completed,  # type: ignore[arg-type]  # rich counts in floats, see `Progress.update`
            status="",
        )

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, completed: float, status: str = "") -> None:
        self._progress.update(self._task, completed=completed, status=printable(status))


class _Lines:
    """Plain lines: one after 10 seconds, then after every further 10 s or tenth of the time gone by."""

    def __init__(
        self,
        description: str,
        total: float | None,
        completed: float = 0.0,
        *,
        first: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._description = description
        self._total = total
        self._before = completed
        self._clock = clock
        self._start = clock()
        self._next = self._start + first
        self._pause = first
        self._latest: tuple[float, str] | None = None
        self._reported: tuple[float, str] | None = None

    def update(self, completed: float, status: str = "") -> None:
        self._latest = (completed, status)
        now = self._clock()
        if now >= self._next:
            self._report(now)
            self._next = now + max(self._pause, 0.1 * (now - self._start))

    def close(self) -> None:
        """The last state is reported too, if anything was reported before."""
        if self._reported is not None and self._latest != self._reported:
            self._report(self._clock())

    def _report(self, now: float) -> None:
        completed, status = self._latest or (0.0, "")
        parts = [self._description]
        if self._total:
            share = min(1.0, completed / self._total)
            parts.append(f"{share:.0%}")
        else:
            parts.append(f"{completed:,.0f}")
        parts.append(status)
        if self._total and self._before < completed < self._total:
            seconds = (now - self._start) / (completed - self._before)
            parts.append(f"{duration(seconds * (self._total - completed))} left")
        notify("  ".join(part for part in parts if part))
        self._reported = self._latest


def duration(seconds: float) -> str:
    """Seconds for a reader: `42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
