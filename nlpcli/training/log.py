"""`metrics.jsonl`: one JSON object a line, each with its step; TensorBoard events as well when asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nlpcli.config.files import write_atomic, writing
from nlpcli.errors import NlpcliError

FILE = "metrics.jsonl"


class MetricsLog:
    """Appends to a run's metrics.

    After a resume at `from_step`, what was logged beyond that step is dropped, and so are measures of averages: the end
    they were made for was none.
    """

    def __init__(self, run: Path, *, from_step: int = 0, tensorboard: bool = False) -> None:
        self.path = run / FILE
        lines = read_metrics(run) if from_step else []
        kept = [line for line in lines if line["step"] <= from_step and line["kind"] != "average"]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._board = _summary_writer(run, from_step) if tensorboard else None

    def write(self, kind: str, step: int, **values: Any) -> None:
        line = {"kind": kind, "step": step, **values}
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics; one that was cut off by a crash is left out."""
    path = Path(run) / FILE
    lines = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
    return lines


def check_tensorboard() -> None:
    """Raises: NlpcliError when TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise NlpcliError(
            "TensorBoard is not installed", hint="pip install 'nlpcli[tensorboard]', or training.tensorboard=false"
        ) from None


def _summary_writer(run: Path, from_step: int) -> Any:
    check_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(run / "tensorboard", purge_step=from_step or None)
