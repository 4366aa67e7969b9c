"""The same fine-tuning with several seeds: mean and deviation of the results."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nlpcli.config.files import write_atomic
from nlpcli.config.folder_lock import locked_folder
from nlpcli.config.loading import load_yaml, merge
from nlpcli.config.number_parsing import parse_int
from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Score
from nlpcli.runs.resolve_settings import has_changes, resolve
from nlpcli.runs.run_folder import CONFIG, check_run_to_resume, choose_run, has_checkpoint
from nlpcli.runs.training_request import Listener, Request
from nlpcli.training.distributed.environment import process_count
from nlpcli.training.interrupts import InterruptsBetweenRuns

SUMMARY = "seeds.json"


@dataclass(frozen=True)
class Summary:
    """The metrics of each seed's run, and how each metric was computed."""

    folder: Path
    seeds: list[int]
    metrics: list[dict[str, float]]
    signatures: dict[str, str]

    def rows(self) -> Iterator[tuple[str, float, float, list[float]]]:
        """Each metric's name, mean, standard deviation (of a sample, n - 1) and values."""
        for name in self.metrics[0]:
            values = [metrics[name] for metrics in self.metrics]
            yield name, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, values

    def as_dict(self) -> dict[str, Any]:
        """Plain data in full precision, for JSON: the value of a score is its mean over the seeds."""
        scores = [
            Score(name, mean, self.signatures.get(name, ""), details={"deviation": deviation, "values": values})
            for name, mean, deviation, values in self.rows()
        ]
        return {"run": str(self.folder), "seeds": self.seeds, "scores": [score.as_dict() for score in scores]}


def finetune_seeds(request: Request, count: int, listener: Listener) -> Summary:
    """Trains `count` times, with seeds that follow one another, in folders seed-N below one folder.

    With `resume`, a finished seed is not trained again, and an interrupted one is resumed;
    with other settings, such as a larger limit, all of them are resumed.

    Raises: NlpcliError as `finetune`.
    """
    if process_count() > 1:
        raise NlpcliError("--seeds trains one run after another in one process", hint="start each seed by itself")
    out = request.out
    if request.resume:
        out = _check_seeds(out)
    elif out is None:
        config = resolve(request)
        out = choose_run(request, config, f"{config.task}-seeds")
    with locked_folder(out, "group of runs"):
        return _finetune_seeds(request, out, count, listener)


def _finetune_seeds(request: Request, out: Path, count: int, listener: Listener) -> Summary:
    """`finetune_seeds` in the folder `out`."""
    from nlpcli.models.model_folder import read_info
    from nlpcli.runs.finetuning.finetune import finetune

    first = _first_seed(request)
    seeds = list(range(first, first + count))
    found: list[dict[str, float]] = []
    signatures: dict[str, str] = {}
    for seed in seeds:
        run = out / f"seed-{seed}"
        started = (run / CONFIG).exists() and not request.overwrite
        done = started and (run / "README.md").exists()  # the card is written last
        seed_request = _of_seed(request, run, seed, started=started)
        if not done or (seed_request.resume and has_changes(seed_request)):
            listener.note(f"seed {seed} ({seed - first + 1} of {count})")
            with InterruptsBetweenRuns() as interrupts:
                finetune(seed_request, listener)
            interrupts.check()
        info = read_info(run)
        found.append(info["metrics"])
        signatures.update(info.get("signatures") or {})
    summary = Summary(out, seeds, found, signatures)
    write_atomic(out / SUMMARY, (json.dumps(summary.as_dict(), indent=2) + "\n").encode())
    return summary


def _of_seed(request: Request, run: Path, seed: int, *, started: bool) -> Request:
    """The request for one seed's run, which begins anew where it was stopped before its first checkpoint.

    With --resume, a seed without a checkpoint is trained with the settings of the other seeds.
    """
    from nlpcli.models.model_folder import TOKENIZER

    settings = merge(merge({}, request.settings), {"training": {"seed": seed}})
    resume = started and has_checkpoint(run)
    seed_request = replace(request, out=run, settings=settings, resume=resume, overwrite=request.overwrite or started)
    if resume:  # the run's own folder holds all of it
        return replace(seed_request, preset=None, config=None, tokenizer=None, source_tokenizer=None, overwrite=False)
    begun = next((path for path in (run, *sorted(run.parent.glob("seed-*"))) if (path / CONFIG).exists()), None)
    if not request.resume or begun is None:
        return seed_request
    own = begun / TOKENIZER
    tokenizer = own if own.is_dir() and not load_yaml(begun / CONFIG).get("init") else None
    return replace(
        seed_request, preset=None, base=None, config=begun / CONFIG, tokenizer=request.tokenizer or tokenizer
    )


def _check_seeds(out: Path | None) -> Path:
    """The folder. Raises: NlpcliError where there are no runs of several seeds to resume."""
    if out is None:
        raise NlpcliError("--resume needs the folder with the runs of all seeds", hint="name it with --out")
    if any(out.glob(f"seed-*/{CONFIG}")):
        return out
    check_run_to_resume(out)
    raise NlpcliError(
        f"{out} is a single run, but --seeds needs a folder with one run for each seed",
        hint=f"leave out --seeds: nlpcli finetune --resume --out {shlex.quote(str(out))}",
    )


def _first_seed(request: Request) -> int:
    if request.resume:
        assert request.out is not None  # see `_check_seeds`
        numbers = [parse_int(path.name.removeprefix("seed-")) for path in request.out.glob("seed-*")]
        return min((number for number in numbers if number is not None), default=1)
    return resolve(request).training.seed
