"""`metrics.jsonl`: one JSON object a line, each with its step; TensorBoard events as well when requested.

`samples.jsonl` beside it has a line for each evaluation that shows outputs: {"kind", "step", "items"}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlpcli.config.files import read_regular, write_atomic, writing
from nlpcli.errors import NlpcliError

FILE = "metrics.jsonl"
SAMPLES = "samples.jsonl"


class MetricsLog:
    """Appends to a run's metrics and samples.

    After a resume at `from_step`, what was logged beyond that step is dropped, and so are measures of averages: the end
    they were made for was none. last_train: the step of the last line about training, or -1.
    """

    def __init__(self, run: Path, *, from_step: int = 0, tensorboard: bool = False) -> None:
        self.path = run / FILE
        self.shown = run / SAMPLES
        for path in (self.path, self.shown):
            lines = _read(path) if from_step else []
            kept = [line for line in lines if line["step"] <= from_step and line["kind"] != "average"]
            if kept or path.exists() or path == self.path:
                write_atomic(path, b"".join(map(_written, kept)))
            if path == self.path:
                self.last_train = max((line["step"] for line in kept if line["kind"] == "train"), default=-1)
        self._board = _summary_writer(run, from_step) if tensorboard else None

    def write(self, kind: str, step: int, **values: object) -> None:
        _append(self.path, {"kind": kind, "step": step, **values})
        if kind == "train":
            self.last_train = step
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def show(self, kind: str, step: int, items: Sequence[Mapping[str, Any]]) -> None:
        """Some outputs of an evaluation; nothing is written where there are none."""
        if items:
            _append(self.shown, {"kind": kind, "step": step, "items": list(items)})

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics; one that was cut off by a crash is left out."""
    return _read(Path(run) / FILE)


def read_samples(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's samples, {"kind", "step", "items"}; one that was cut off by a crash is left out."""
    return _read(Path(run) / SAMPLES)


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with writing(path), open(path, "ab", opener=_no_link) as file:
        file.write(_written(line))


def _written(line: Mapping[str, Any]) -> bytes:
    # half of a surrogate pair, which only JSON can bring in, is written as JSON writes it
    return (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _no_link(path: str, flags: int) -> int:
    """Opens no file behind a link: its creator could choose the file that is written."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _read(path: Path) -> list[dict[str, Any]]:
    lines = []
    if path.exists():
        # not splitlines: JSON leaves characters as they are that other programs take for the end of a line
        for text in read_regular(path).decode("utf-8", "replace").split("\n"):
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                continue
            if isinstance(line, dict) and "kind" in line and type(line.get("step")) is int:  # no bool either
                lines.append(line)
    return lines


def check_tensorboard() -> None:
    """Raises: NlpcliError when TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise NlpcliError(
            "training.tensorboard needs TensorBoard, which is not installed",
            hint="run: pip install 'nlpcli[tensorboard]', or set training.tensorboard=false",
        ) from None


def _summary_writer(run: Path, from_step: int) -> Any:
    check_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(run / "tensorboard", purge_step=from_step or None)
