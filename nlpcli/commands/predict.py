"""Applying a fine-tuned model: from lines to predictions in the same order, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.counting import counted
from nlpcli.data.open_text import STDIN, check_opens, display_name, inner_suffix
from nlpcli.errors import NlpcliError, unknown
from nlpcli.runs.find_model import locate_task
from nlpcli.runs.finetuning.example_reading import check_columns, has_text
from nlpcli.runs.task_model import WINDOW, TaskModel, columns_of, open_task, task_class
from nlpcli.runs.worker_processes import device_of, in_processes

if TYPE_CHECKING:
    from nlpcli.data.examples import Example
    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.tasks.task import Task

FORMATS = ("auto", "lines", "tsv", "csv", "jsonl", "conll", "conllu", "squad", "labeled-lines")
_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".tsv": "tsv",
    ".csv": "csv",
    ".conll": "conll",
    ".conllu": "conllu",
}


@dataclass(frozen=True)
class PredictRequest:
    """The inputs of a prediction, its model and its settings.

    model: a run; None: the newest one of a task. files: names, "-" for standard input. format: `lines` are
    plain, a tab between two texts; the others are read as for training, with the columns the model was trained with
    unless `columns` names others; `auto` goes by a file's name. top: how many answers a line shows, None for what is
    usual. part: of a model that learnt several tasks, the one
    that is meant. line_buffered: each line is answered before the next is read. engine: torch or onnx, see
    `nlpcli.runs.onnx.choose_engine`.
    """

    files: Sequence[str] = (STDIN,)
    model: Path | LoadedModel | None = None
    format: str = "auto"
    columns: dict[str, Any] = field(default_factory=dict)
    top: int | None = None
    part: str | None = None
    batch_tokens: int = 4096
    line_buffered: bool = False
    device: str = "auto"
    threads: int | None = None
    processes: int = 1
    engine: str | None = None


def predict(
    job: PredictRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[tuple[Any, list[tuple[Example, dict]]]]:
    """The task, and examples with their predictions, in the portions in which they are ready.

    Nothing is predicted of an example without text, such as a blank line: its prediction is {}. `warn` reports each
    text that is cut.

    Raises: NlpcliError naming file and line for what can't be read, and for options without effect on the task.
    """
    if list(job.files).count(STDIN) > 1:
        raise NlpcliError("standard input can be read only once")
    if job.processes > 1 and not job.line_buffered:
        yield from _in_processes(job, notify=notify, warn=warn)
        return
    predictor = Predictor(job, notify=notify, warn=warn)
    for window in predictor.windows(read_unlabelled(predictor.applied, job, notify=notify)):
        yield predictor.applied.task, window


def _in_processes(
    job: PredictRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[tuple[Any, list[tuple[Example, dict]]]]:
    """As `predict`, by several processes; each predicts whole windows. The model here only reads examples."""
    reader = Predictor(replace(job, device="cpu"), notify=notify, warn=warn)
    job = replace(job, model=reader.applied.loaded.path)
    examples = read_unlabelled(reader.applied, job, notify=notify)
    windows = iter(lambda: list(islice(examples, WINDOW)), [])
    for window, warnings in in_processes(windows, _PredictionWork(job), job.processes):
        for warning in warnings:
            warn(warning)
        yield reader.applied.task, window


@dataclass(frozen=True)
class _PredictionWork:
    """Predicts windows of examples; gives warnings with them."""

    job: PredictRequest

    def open(self, number: int, threads: int) -> Callable[[list[Example]], Any]:
        warnings: list[str] = []
        job = replace(self.job, device=device_of(self.job.device, number), threads=self.job.threads or threads)
        predictor = Predictor(job, notify=lambda text: None, warn=warnings.append)

        def predict_window(window: list[Example]) -> tuple[list[tuple[Example, dict]], list[str]]:
            warnings.clear()
            return predictor.window(window), list(warnings)

        return predict_window


class Predictor:
    """The model of a job, ready for examples, wherever they come from. `warn` reports each text that is cut.

    Raises: NlpcliError when there is no such model, and for options without effect on the task.
    """

    def __init__(self, job: PredictRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]) -> None:
        source = locate_task(job.model, notify=notify)
        self._job, self._warn = job, warn
        self._cut: set[str] = set()  # places, in the window that is read
        for file in job.files:
            check_opens(file)
        task = task_class(source, job.part)
        _check_options(task, job)
        for file in job.files:
            _check_columns_of_lines(file, job, task.json_format)
        self.applied = open_task(
            source, device=job.device, threads=job.threads, part=job.part, on_cut=self._on_cut, engine=job.engine
        )
        _check_options(self.applied.task, job)

    def windows(self, examples: Iterable[Example]) -> Iterator[list[tuple[Example, dict]]]:
        """Examples with their predictions, {} for those without text, in the portions in which they are ready."""
        rest = iter(examples)
        while window := list(islice(rest, 1 if self._job.line_buffered else WINDOW)):
            yield self.window(window)

    def window(self, window: Sequence[Example]) -> list[tuple[Example, dict]]:
        """Examples that are read together, with their predictions."""
        self._cut.clear()
        texts = [example for example in window if has_text(example)]
        predictions = iter(self.applied.predict(texts, batch_tokens=self._job.batch_tokens))
        return [(example, next(predictions) if has_text(example) else {}) for example in window]

    def _on_cut(self, example: Example, room: int, tokens: int) -> None:
        if example.place not in self._cut:  # once, however many candidates stand beside a text
            self._warn(f"{example.place}: the text has {counted(tokens, 'token')} and is truncated to {room:,}")
            self._cut.add(example.place)


def _check_options(task: Task, job: PredictRequest) -> None:
    if job.top is not None and not task.ranks:
        raise NlpcliError(
            f"--top has no effect on a model for {task.name}, which gives one prediction for each text",
            hint="leave out --top",
        )
    check_columns(task, job.columns)


def _check_columns_of_lines(path: str, job: PredictRequest, json_format: str) -> None:
    """Raises: NlpcliError for columns that are named of a file of plain lines, and for an unknown format."""
    given = [name for name, value in job.columns.items() if value]
    if format_of(path, job.format, json_format) == "lines" and given:
        raise NlpcliError(
            f"--{given[0]} names a column, but {display_name(path)} is read as plain lines, which have no columns",
            hint=f"set --format to tsv, csv or jsonl, or leave out --{given[0]}",
        )


def format_of(path: str, format: str, json_format: str) -> str:
    """The format of a file of examples to predict: plain lines, unless its suffix names another one.

    json_format: of a file that ends in .json (`nlpcli.tasks.task.Task`).
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if format == "auto" and inner_suffix(path) == ".json":
        return json_format
    return _BY_SUFFIX.get(inner_suffix(path), "lines") if format == "auto" else format


def read_unlabelled(applied: TaskModel, job: PredictRequest, *, notify: Callable[[str], None]) -> Iterator[Example]:
    """The examples in the files of `job`, without their labels."""
    from nlpcli.data.table_rows import separator_note

    for path in job.files:
        format = format_of(path, job.format, applied.task.json_format)
        if format == "lines":
            yield from parse_lines(applied.task, _lines(path))
            continue
        columns = replace(columns_of(applied.loaded, job.columns, format), blank_lines=True)
        if note := separator_note(path, format):
            notify(note)
        for example in applied.task.read(path, columns, labelled=False):
            yield replace(example, label=None)


def _lines(path: str) -> Iterator[tuple[str, str]]:
    """The lines of a file, each with its place."""
    from nlpcli.data.readers import read_lines

    for number, line in enumerate(read_lines(path), start=1):
        yield line, f"{display_name(path)}:{number}"


def parse_lines(task: Task, lines: Iterable[tuple[str, str]]) -> Iterator[Example]:
    """The examples in plain lines with their places. Raises: NlpcliError, naming the place, for what is none."""
    from nlpcli.data.examples import Example
    from nlpcli.data.readers import blank

    for line, place in lines:
        if blank(line):
            yield Example((line,), place=place)
            continue
        try:
            yield replace(task.parse(line), place=place)
        except NlpcliError as error:
            raise NlpcliError(f"{place}: {error.message}", hint=error.hint) from None


def record(task: Task, example: Example, prediction: dict[str, Any]) -> dict[str, Any]:
    """A prediction as JSON has it: the id, the text or the two texts that were read, and what was predicted.

    Where nothing was predicted, the answer is None.
    """
    texts = (task.text_of(example),) if task.by_words else example.texts or ("",)
    found: dict[str, Any] = {"id": example.id} if example.id else {}
    found |= dict(zip(("text", "text2"), texts, strict=False))
    prediction = prediction or {task.answer: None}
    if "text" in prediction:  # a text was written
        return {**found, "prediction": prediction["text"]}
    return {**found, **prediction}
