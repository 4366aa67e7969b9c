"""GLUE, SuperGLUE and Russian SuperGLUE as they are distributed: which files they have, and which examples are in them.

GLUE (Wang et al. 2018): tab-separated files, one folder a task. SuperGLUE (Wang et al. 2019) and Russian SuperGLUE
(Shavrina et al. 2020): JSON lines; what is not a pair of texts becomes one in `nlpcli.data.suite_records`.

A task's score is the mean of its metrics, and a suite's the mean of its tasks' (Wang et al. 2018, section 5), without
the diagnostic sets of the English suites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from nlpcli.config.files import real_path
from nlpcli.data import suite_records
from nlpcli.data.columns import Columns, squashed
from nlpcli.data.examples import Example, examples_in, parse_record
from nlpcli.data.json_objects import parse_object
from nlpcli.data.readers import blank
from nlpcli.data.table_rows import Row, begin, read_rows
from nlpcli.errors import NlpcliError, missing_path_hint, unknown

if TYPE_CHECKING:
    from typing_extensions import Unpack

SPLITS = ("train", "dev", "test")

Record = Callable[[dict[str, Any], str], Iterable[Example]]
"""The examples in a JSON object that stands at a place."""

Parts = Mapping[str, tuple[str, ...]]
"""The parts of a split, and the names that the file of each can have."""

_COMPRESSED = ("", ".gz", ".xz", ".zst")
_PARAPHRASES, _DEV_IDS = "msr_paraphrase_train", "dev_ids.tsv"


@dataclass(frozen=True)
class SuiteTask:
    """A task of a suite.

    task: the kind of task: classify, regress, choice. folders: names of its folder, as `squashed` writes them; "": the
    suite's own. metrics: the mean of these is the task's score; `f1` is that of `positive`, `f1a` the same over all
    answers of all questions, `em` the share of questions whose answers are all right; `group_f1` and `group_em`
    compare the likeliest candidate of a group with the right ones, as answers to questions are compared. Questions and
    candidates of a group have the same `group_of`. counts: whether the score is part of the suite's.
    train, dev, test: the parts of a split and the names their file can have; a task with several parts has a score on
    each, and their mean counts. columns, texts: of the tables, except `test`, whose columns have the usual names.
    record: the examples in a JSON object; None: a text or a pair of texts.
    """

    name: str
    task: str
    folders: tuple[str, ...]
    metrics: tuple[str, ...]
    texts: int = 2
    columns: Columns = Columns()  # noqa: RUF009
    record: Record | None = None
    positive: str | None = None
    counts: bool = True
    train: Parts | None = None
    dev: Parts | None = None
    test: Parts | None = None


@dataclass(frozen=True)
class FoundTask:
    """A task of a suite whose files are there: files[split][part], where most splits have one part, named ""."""

    task: SuiteTask
    folder: Path
    files: Mapping[str, Mapping[str, Path]]

    def read(self, split: str, part: str = "", *, labelled: bool = True) -> Iterator[Example]:
        """The examples of a part of a split, in constant memory.

        Rows of training data with more or fewer cells than the header are left out: QQP is distributed with some.

        Raises: NlpcliError for a part that is not there, and as the readers of the formats.
        """
        parts = self.files.get(split, {})
        if part not in parts:
            there = ", ".join(f"{a} {b}".strip() for a in self.files for b in self.files[a])
            raise NlpcliError(
                f"{self.folder} contains no {f'{split} {part}'.strip()} data of {self.task.name}, only: {there}"
            )
        path = parts[part]
        if _is_json(path):
            return self._read_json(path, labelled=labelled)
        if path.name.startswith(_PARAPHRASES):
            return _paraphrases(path, self.folder / _DEV_IDS, split)
        columns = Columns() if split == "test" else self.task.columns
        rows = read_rows(path, "tsv", columns.is_header)
        rows = _fitting(rows) if split == "train" else rows
        return examples_in(rows, columns, texts=self.task.texts, labelled=labelled)

    def _read_json(self, path: Path, *, labelled: bool) -> Iterator[Example]:
        _, lines = begin(path)
        for number, line in lines:
            if blank(line):
                continue
            place = f"{path}:{number}"
            record = parse_object(line, place)
            if self.task.record is None:
                yield parse_record(record, Columns(), place=place, texts=self.task.texts, labelled=labelled)
                continue
            for example in self.task.record(record, place):
                if labelled and example.label is None:
                    raise NlpcliError(f"{place}: the label is missing")
                yield example


def read_suite(suite: str, folder: Path | str) -> list[FoundTask]:
    """The tasks of a suite (glue, superglue, russian-superglue) that are found in a folder, in the suite's order.

    Each task's folder is looked for below `folder`, whatever the case of its name; `folder` may also be that of one
    task. Files may be compressed.

    Raises: NlpcliError for an unknown suite, a folder that is not there, and one without any task.
    """
    if suite not in SUITES:
        raise unknown("suite", suite, SUITES)
    folder = Path(folder)
    if not folder.exists():
        raise NlpcliError(f"{folder} does not exist", hint=missing_path_hint(folder))
    if not folder.is_dir():
        raise NlpcliError(f"{folder} is a file, not a folder")
    below = {squashed(path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}
    places = {squashed(real_path(folder).name): folder} | below | {"": folder}
    found = [task for task in (_find(task, places) for task in SUITES[suite]) if task is not None]
    if not found:
        raise NlpcliError(
            f"{folder} contains no task of {suite}",
            hint=f"unpack the tasks into it, in folders such as {', '.join(task.name for task in SUITES[suite][:4])}",
        )
    return found


def group_of(example: Example) -> str:
    """The beginning of an id, which the answers to one question, or the candidates for one gap, share."""
    return ":".join(example.id.split(":", 2)[:2])


def candidate_of(example: Example) -> str:
    """The candidate that fills the gap (ReCoRD, RuCoS), or the number of the answer (MultiRC, MuSeRC)."""
    return example.id.split(":", 2)[-1]


def _find(task: SuiteTask, places: Mapping[str, Path]) -> FoundTask | None:
    for name in task.folders:
        if name not in places:
            continue
        files = {split: _files(places[name], getattr(task, split) or {}) for split in SPLITS}
        files = {split: parts for split, parts in files.items() if parts}
        if files:
            return FoundTask(task, places[name], files)
    return None


def _files(folder: Path, parts: Mapping[str, tuple[str, ...]]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for part, names in parts.items():
        for path in (folder / f"{name}{suffix}" for name in names for suffix in _COMPRESSED):
            if path.is_file() and (not path.name.startswith(_PARAPHRASES) or (folder / _DEV_IDS).is_file()):
                found.setdefault(part, path)
    return found


def _is_json(path: Path) -> bool:
    return ".jsonl" in path.suffixes


def _fitting(rows: Iterable[Row]) -> Iterator[Row]:
    return (row for row in rows if row.names is None or len(row.cells) == len(row.names))


def _paraphrases(path: Path, dev_ids: Path, split: str) -> Iterator[Example]:
    """MRPC as its makers distribute it, parted into train and dev by the ids that GLUE adds."""
    pairs = {tuple(row.cells[:2]) for row in read_rows(dev_ids, "tsv", lambda cells: False)}
    rows = read_rows(path, "tsv", lambda cells: True)
    return examples_in(
        (row for row in rows if (tuple(row.cells[1:3]) in pairs) == (split == "dev")), Columns(), texts=2
    )


class _Settings(TypedDict, total=False):
    """Fields of `SuiteTask` that are not as by default."""

    texts: int
    columns: Columns
    record: Record
    positive: str


def _glue(
    name: str,
    task: str,
    metrics: tuple[str, ...],
    files: Mapping[str, Parts] | None = None,
    **settings: Unpack[_Settings],
) -> SuiteTask:
    train, dev, test = ((files or {}).get(split, {"": (f"{split}.tsv",)}) for split in SPLITS)
    return SuiteTask(name, task, (squashed(name),), metrics, train=train, dev=dev, test=test, **settings)


def _super(name: str, metrics: tuple[str, ...], task: str = "classify", **settings: Unpack[_Settings]) -> SuiteTask:
    train, dev, test = ({"": (f"{file}.jsonl",)} for file in ("train", "val", "test"))
    return SuiteTask(name, task, (squashed(name),), metrics, train=train, dev=dev, test=test, **settings)


def _diagnostic(name: str, *, counts: bool = False) -> SuiteTask:
    """Entailment with labels and without training data, for models that were trained on another task."""
    metrics = ("accuracy",) if name == "AX-g" else ("mcc",)
    return SuiteTask(name, "classify", (squashed(name),), metrics, counts=counts, dev={"": (f"{name}.jsonl",)})


def _in_parts(split: str) -> dict[str, tuple[str, ...]]:
    return {part: (f"{split}_{part}.tsv",) for part in ("matched", "mismatched")}


_MRPC: dict[str, Parts] = {
    "train": {"": ("train.tsv", "msr_paraphrase_train.txt")},
    "dev": {"": ("dev.tsv", "msr_paraphrase_train.txt")},
    "test": {"": ("test.tsv", "msr_paraphrase_test.txt")},
}

SUITES: dict[str, tuple[SuiteTask, ...]] = {
    "glue": (
        _glue("CoLA", "classify", ("mcc",), texts=1, columns=Columns(header="no", text="4", label="2")),
        _glue("SST-2", "classify", ("accuracy",), texts=1),
        _glue("MRPC", "classify", ("f1", "accuracy"), positive="1", files=_MRPC),
        _glue("STS-B", "regress", ("pearson", "spearman")),
        _glue("QQP", "classify", ("f1", "accuracy"), positive="1"),
        _glue("MNLI", "classify", ("accuracy",), files={"dev": _in_parts("dev"), "test": _in_parts("test")}),
        _glue("QNLI", "classify", ("accuracy",)),
        _glue("RTE", "classify", ("accuracy",)),
        _glue("WNLI", "classify", ("accuracy",)),
        SuiteTask(
            "AX", "classify", ("ax", "diagnostic", "mnli", ""), ("mcc",), counts=False,
            dev={"": ("diagnostic-full.tsv",)}, test={"": ("AX.tsv", "diagnostic.tsv")},
        ),
    ),
    "superglue": (
        _super("BoolQ", ("accuracy",)),
        _super("CB", ("accuracy", "macro_f1")),
        _super("COPA", ("accuracy",), "choice", record=suite_records.copa),
        _super("MultiRC", ("f1a", "em"), record=suite_records.multirc, positive="1"),
        _super("ReCoRD", ("group_f1", "group_em"), record=suite_records.record, positive="true"),
        _super("RTE", ("accuracy",)),
        _super("WiC", ("accuracy",), record=suite_records.wic),
        _super("WSC", ("accuracy",), record=suite_records.wsc),
        _diagnostic("AX-b"),
        _diagnostic("AX-g"),
    ),
    "russian-superglue": (
        _diagnostic("LiDiRus", counts=True),
        _super("RCB", ("macro_f1", "accuracy")),
        _super("PARus", ("accuracy",), "choice", record=suite_records.parus),
        _super("MuSeRC", ("f1a", "em"), record=suite_records.multirc, positive="1"),
        _super("TERRa", ("accuracy",)),
        _super("RUSSE", ("accuracy",), record=suite_records.wic),
        _super("RWSD", ("accuracy",), record=suite_records.wsc),
        _super("DaNetQA", ("accuracy",)),
        _super("RuCoS", ("group_f1", "group_em"), record=suite_records.rucos, positive="true"),
    ),
}  # fmt: skip
"""The tasks of each suite, in the order of its leaderboard."""
