"""What a run leaves of its model's outputs: a few at each evaluation, and all that were measured of the weights kept.

Whoever measures fills a `Shown`. Its samples go to `samples.jsonl`, to be looked at: how an output evolved. Its outputs
go to `outputs.jsonl`, to be measured again: intervals, and a paired test against another run on the same data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.files import write_atomic
from nlpcli.data.even_sample import spread
from nlpcli.data.progress import followed
from nlpcli.training.metric_direction import in_percent

if TYPE_CHECKING:
    from nlpcli.objectives.objective import Loss

OUTPUTS = "outputs.jsonl"
_LONGEST = 1000  # characters of a text in a sample


@dataclass
class Shown:
    """What the latest evaluation gave.

    count: how many samples there are at each evaluation. samples: {"text" or "source", "reference", "output", …}.
    outputs: for each item that was measured {"reference", "output"}, or of a part of a text
    its "nats" and "tokens" and the tallies. measures: by the names of the metrics how they are computed from these:
    {"metric", "options"}. data: a digest of what was measured on, which shows whether two runs can be paired.
    """

    count: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: str = ""

    def fill(
        self,
        samples: Iterable[Mapping[str, Any]],
        outputs: Iterable[Mapping[str, Any]] = (),
        measures: Mapping[str, Mapping[str, Any]] | None = None,
        data: str = "",
    ) -> None:
        """Takes the place of what the evaluation before left, all at once."""
        shown = [{name: _short(value) for name, value in sample.items()} for sample in samples]
        self.samples, self.outputs = shown, [dict(output) for output in outputs]
        self.measures, self.data = {name: dict(how) for name, how in (measures or {}).items()}, data

    def chosen(self, size: int) -> list[int]:
        """Which of `size` measured items are shown."""
        return spread(size, self.count)


def write_outputs(run: Path, shown: Shown, step: int) -> None:
    """Writes a run's outputs, those of the weights that were kept at `step`; nothing stands there where none are known.

    The first line describes them: {"step", "data", "measures"}; each further one is an item.
    """
    path = Path(run) / OUTPUTS
    if not shown.outputs:
        path.unlink(missing_ok=True)
        return
    head = {"step": step, "data": shown.data, "measures": shown.measures}
    write_atomic(path, (json.dumps(line) + "\n" for line in (head, *shown.outputs)))


def digest(items: Iterable[Any]) -> str:
    """A digest of what is measured on."""
    found = hashlib.sha256()
    for item in items:
        found.update(repr(item).encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:16]


def _short(value: object) -> object:
    return value[: _LONGEST - 1] + "…" if isinstance(value, str) and len(value) > _LONGEST else value


# --- language models ---------------------------------------------------------------------------------------------


class Parts:
    """The losses of a text, part by part, remembered as they go by."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []

    def watch(self, losses: Iterable[Loss]) -> Iterator[Loss]:
        for loss in followed(losses, "evaluating"):
            tallies = {name: [round(float(total), 4), count] for name, (total, count) in loss.tallies.items()}
            part = {"nats": round(float(loss.nll), 4), "tokens": loss.count}
            self.outputs.append({**part, "tallies": tallies} if tallies else part)
            yield loss

    def measures(self, *, joint: bool = False, perplexity: bool = False) -> dict[str, dict[str, Any]]:
        """joint: the loss is a sum of others', which have tallies of their own."""
        named = {} if joint else {"loss": {"metric": "mean", "options": {"of": "nats"}}}
        if perplexity:
            named["perplexity"] = {"metric": "perplexity", "options": {"of": "nats"}}
        tallies = dict.fromkeys(name for part in self.outputs for name in part.get("tallies", ()))
        units = {name: "percentage" if in_percent(name) else "mean" for name in tallies}
        return named | {name: {"metric": units[name], "options": {"of": name}} for name in tallies}
