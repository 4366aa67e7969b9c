"""The outputs on the dev set that a run writes: samples at each evaluation, all outputs of the best checkpoint.

An evaluation fills a `DevOutputs`. Its samples go to `samples.jsonl`, where a reader sees how an output changes. Its
outputs go to `outputs.jsonl`, from which `nlpcli report` computes intervals and paired tests against other runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.files import write_atomic
from nlpcli.data.even_sample import evenly_spaced
from nlpcli.data.progress import followed
from nlpcli.training.metric_direction import in_percent

if TYPE_CHECKING:
    from nlpcli.objectives.objective import Loss

OUTPUTS = "outputs.jsonl"
_LONGEST = 1000  # characters of a text in a sample


@dataclass
class DevOutputs:
    """The outputs of the latest evaluation.

    count: how many samples there are at each evaluation. samples: {"text" or "source", "reference", "output", …}.
    outputs: for each evaluated item {"reference", "output"}, or for each part of a text its "nats", "tokens" and
    tallies. measures: for each metric how it is computed from the outputs: {"metric", "options"}. data: a digest of the
    dev set, which shows whether two runs can be paired.
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
        """Replaces the outputs of the evaluation before, all at once."""
        shortened = [{name: _short(value) for name, value in sample.items()} for sample in samples]
        self.samples, self.outputs = shortened, [dict(output) for output in outputs]
        self.measures, self.data = {name: dict(how) for name, how in (measures or {}).items()}, data

    def chosen(self, size: int) -> list[int]:
        """The indices of the samples among `size` evaluated items."""
        return evenly_spaced(size, self.count)


def write_outputs(run: Path, dev_outputs: DevOutputs, step: int) -> None:
    """Writes the outputs of the best checkpoint, saved at `step`; removes the file if there are none.

    The first line describes them: {"step", "data", "measures"}; each further one is an item.
    """
    path = Path(run) / OUTPUTS
    if not dev_outputs.outputs:
        path.unlink(missing_ok=True)
        return
    head = {"step": step, "data": dev_outputs.data, "measures": dev_outputs.measures}
    write_atomic(path, (json.dumps(line) + "\n" for line in (head, *dev_outputs.outputs)))


def digest(items: Iterable[Any]) -> str:
    """A digest of a dev set."""
    found = hashlib.sha256()
    for item in items:
        found.update(repr(item).encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:16]


def _short(value: object) -> object:
    return value[: _LONGEST - 1] + "…" if isinstance(value, str) and len(value) > _LONGEST else value


# --- language models ---------------------------------------------------------------------------------------------


class Parts:
    """Records the loss of each part of a text."""

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
