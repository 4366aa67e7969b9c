"""Other things that stand on a disk: shard sets, vectors, a saved index, a suite of tasks, JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nlpcli.commands.inspect.findings import Inspection, Section, finding, size
from nlpcli.commands.inspect.line_scan import lengths
from nlpcli.commands.inspect.text_report import histogram, length_cells
from nlpcli.config.counting import counted
from nlpcli.config.files import check_regular, read_regular
from nlpcli.config.loading import load_yaml
from nlpcli.data.readers import read_lines
from nlpcli.data.shard_set import INDEX, ShardSet
from nlpcli.data.suites import SUITES, FoundTask, read_suite
from nlpcli.data.vector_files import open_vectors
from nlpcli.errors import NlpcliError, reads_description

_BLOCK = 4096  # vectors checked together
_TYPES = {bool: "boolean", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}
_FEW_TASKS = 2  # that make a folder one of a suite


@reads_description
def inspect_shards(path: Path) -> Inspection:
    """A finished shard set, its digests checked. Raises: NlpcliError when it is damaged."""
    shards = ShardSet.open(path)
    index = json.loads(read_regular(path / INDEX))
    found = lengths(shards.lengths)
    facts = {
        **{name: getattr(shards, name) for name in ("documents", "tokens", "text_bytes", "text_words", "vocab_size")},
        "sentences": shards.sentences,
        "format": index.get("format"),
        "dtype": index["dtype"],
        "tokens_per_document": found,
        "tokenizer_fingerprint": shards.tokenizer,
        "fingerprint": shards.fingerprint,
        "file_count": len(index["files"]),
        "bytes": sum(file["bytes"] for file in index["files"].values()),
        "digest": "valid",
    }
    rows = [
        (
            "documents",
            f"{shards.documents:,}" + (f", split into sentences ({shards.sentences})" if shards.sentences else ""),
        ),
        ("tokens", f"{shards.tokens:,} (vocabulary of {shards.vocab_size:,})"),
        ("text", f"{size(shards.text_bytes)}, {counted(shards.text_words, 'word')}"),
        ("bytes per token", f"{shards.text_bytes / max(shards.tokens, 1):.2f}"),
        ("text format", str(facts["format"])),
        ("on disk", f"{size(facts['bytes'])} in {counted(facts['file_count'], 'file')}, digests verified"),
        ("tokenizer", f"{shards.tokenizer[:16]} (fingerprint)"),
    ]
    table = [["tokens", *length_cells(found)]]
    sections = [
        Section("Tokenized text", rows),
        Section("Lengths of documents", table, ("unit", "mean", "median", "95 %", "99 %", "longest")),
        Section("Documents by their number of tokens", histogram(shards.lengths), ("tokens", "documents", "", "")),
    ]
    title = f"tokenized text with {counted(shards.documents, 'document')}"
    return Inspection("shards", title, str(path), facts, sections)


def inspect_vectors(path: Path) -> Inspection:
    """A file of vectors (.npy). Raises: NlpcliError for one that is cut off or holds something else."""
    vectors = open_vectors(path)
    norms, wrong = [np.empty(0)], []
    for start in range(0, len(vectors), _BLOCK):
        with np.errstate(over="ignore", invalid="ignore"):  # numbers that are none are reported below
            block = np.asarray(vectors[start : start + _BLOCK], dtype=np.float64)
            bad = ~np.isfinite(block).all(axis=1)
            wrong += (np.flatnonzero(bad) + start + 1).tolist()
            norms.append(np.linalg.norm(np.where(np.isfinite(block), block, 0), axis=1))
    length = np.concatenate(norms)
    zero = (np.flatnonzero(length == 0) + 1).tolist()
    facts: dict[str, Any] = {
        "vectors": int(vectors.shape[0]),
        "dimension": int(vectors.shape[1]),
        "dtype": str(vectors.dtype),
        "bytes": path.stat().st_size,
        "norm": {"mean": float(length.mean()), "min": float(length.min()), "max": float(length.max())}
        if len(length)
        else None,
    }
    rows = [
        ("vectors", f"{facts['vectors']:,} of dimension {facts['dimension']:,} ({facts['dtype']})"),
        ("size", size(facts["bytes"])),
    ]
    if facts["norm"]:
        rows.append(("norms", "mean {mean:.4g}, from {min:.4g} to {max:.4g}".format(**facts["norm"])))
    findings = [
        *finding("not_finite", "vectors with values that are not finite (nan or infinity)", wrong, problem=True),
        *finding("zero_norm", "vectors of norm 0 (as for blank lines)", zero),
    ]
    title = f"{counted(facts['vectors'], 'vector')} of dimension {facts['dimension']:,}"
    return Inspection("vectors", title, str(path), facts, [Section("Vectors", rows)], findings)


@reads_description
def inspect_index(path: Path) -> Inspection:
    """An index that `nlpcli search --save-index` left. Raises: NlpcliError where its parts don't fit together."""
    description = load_yaml(path / "index.yaml")
    vectors = inspect_vectors(path / "vectors.npy")
    check_regular(path / "texts.txt")
    texts = sum(1 for _ in read_lines(path / "texts.txt"))
    if texts != vectors.facts["vectors"]:
        raise NlpcliError(
            f"{path}: vectors.npy has {counted(vectors.facts['vectors'], 'vector')}, "
            f"but texts.txt has {counted(texts, 'line')}"
        )
    facts = {"index": description, "texts": texts, "vectors": vectors.facts}
    rows = [
        ("lines", f"{texts:,}"),
        *((name, str(description[name])) for name in description if name not in ("format", "fingerprint")),
    ]
    title = f"a search index of {counted(texts, 'line')}"
    sections = [Section("Index", rows), *vectors.sections]
    return Inspection("index", title, str(path), facts, sections, vectors.findings)


# --- suites ------------------------------------------------------------------------------------------------------


def suite_in(path: Path) -> tuple[str, list[FoundTask]] | None:
    """The suite with the most tasks in a folder, if at least two are there."""
    found = []
    for name in SUITES:
        try:
            tasks = [task for task in read_suite(name, path) if task.folder != path]
        except NlpcliError:
            continue
        found.append((len(tasks), name, tasks))
    most = max(found, key=lambda item: item[0], default=None)
    return most[1:] if most is not None and most[0] >= _FEW_TASKS else None


def inspect_suite(path: Path) -> Inspection:
    """A folder of GLUE, SuperGLUE or Russian SuperGLUE. Raises: NlpcliError for data that can't be read."""
    found = suite_in(path)
    if found is None:
        raise NlpcliError(
            f"{path}: the folder does not contain the data of a benchmark suite",
            hint=f"these suites are supported: {', '.join(SUITES)}",
        )
    name, tasks = found
    counts: list[dict[str, Any]] = [
        {"name": task.task.name, "task": task.task.task, "metrics": list(task.task.metrics), **_examples(task)}
        for task in tasks
    ]
    there = {task.task.name for task in tasks}
    missing = [task.name for task in SUITES[name] if task.name not in there]
    rows = [
        [
            row["name"],
            row["task"],
            ", ".join(row["metrics"]),
            *(_number(row, split) for split in ("train", "dev", "test")),
        ]
        for row in counts
    ]
    sections = [Section("Tasks", rows, ("task", "kind", "metrics", "train", "dev", "test"))]
    if missing:
        sections.append(Section("Missing tasks", [("", ", ".join(missing))]))
    facts = {"suite": name, "tasks": counts, "missing_tasks": missing}
    return Inspection("suite", f"data of {name}: {len(tasks)} of {len(SUITES[name])} tasks", str(path), facts, sections)


def _examples(task: FoundTask) -> dict[str, int]:
    return {
        split: sum(sum(1 for _ in task.read(split, part, labelled=False)) for part in parts)
        for split, parts in task.files.items()
    }


def _number(row: Mapping[str, Any], split: str) -> str:
    return f"{row[split]:,}" if split in row else "-"


# --- JSON lines --------------------------------------------------------------------------------------------------


def inspect_json_lines(
    path: Path | str, *, limit: int | None = None, on_line: Callable[[int], None] | None = None
) -> Inspection:
    """A file of JSON objects, one a line: which fields they have, of what kind and length."""
    kinds: dict[str, Counter[str]] = {}
    sizes: dict[str, list[int]] = {}
    broken, blank, number = [], [], 0
    for number, line in enumerate(islice(read_lines(path), limit), 1):
        record = _record(line)
        if not line.strip():
            blank.append(number)
        elif record is None:
            broken.append(number)
        for name, value in (record or {}).items():
            kinds.setdefault(name, Counter())[_TYPES.get(type(value), "string")] += 1
            if isinstance(value, str):
                sizes.setdefault(name, []).append(len(value))
        if on_line is not None and number % 1000 == 0:
            on_line(number)
    if not number:
        raise NlpcliError(f"{path}: the file is empty")
    characters = {name: lengths(np.array(found)) for name, found in sizes.items()}
    fields = {
        name: {"records": found.total(), "types": dict(found), "characters": characters.get(name)}
        for name, found in kinds.items()
    }
    findings = [
        *finding("invalid_json", "lines that are not a JSON object", broken, problem=True),
        *finding("blank", "blank lines", blank),
    ]
    facts = {"lines": number, "fields": fields}
    return Inspection(
        "json-lines", f"a JSON Lines file with {counted(number, 'line')}", str(path), facts, [_fields(fields)], findings
    )


def _record(line: str) -> dict[str, Any] | None:
    """The JSON object of a line, None for anything else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _fields(fields: Mapping[str, Any]) -> Section:
    rows = []
    for name, found in fields.items():
        mean, *_, longest = length_cells(found["characters"]) if found["characters"] else ("-", "-")
        rows.append([name, f"{found['records']:,}", ", ".join(found["types"]), mean, longest])
    return Section("Fields", rows, ("field", "records", "type", "mean characters", "most characters"))
