"""Reports on a run, a checkpoint, or a folder of runs: progress, metrics, size, and how to resume."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nlpcli.commands.inspect.findings import Finding, Inspection, Section, amount, size
from nlpcli.commands.inspect.model_report import LENGTH, inspect_model
from nlpcli.commands.inspect.weight_statistics import header
from nlpcli.config.counting import counted
from nlpcli.config.files import plain_name, read_regular, sha256_file
from nlpcli.config.loading import load_yaml
from nlpcli.config.temporary_files import entries
from nlpcli.errors import NlpcliError, reads_description
from nlpcli.models.model_folder import DESCRIPTION, read_info
from nlpcli.runs.model_card import read_card
from nlpcli.runs.resolve_settings import LIMITS
from nlpcli.runs.run_folder import CONFIG

STATE, METRICS = "state.yaml", "metrics.jsonl"
_SETTINGS = ("optimizer", "lr", "schedule", "batch_tokens", "batch_size", "accumulate", "precision", "seed", "metric")


# --- a run -------------------------------------------------------------------------------------------------------


@reads_description
def inspect_run(path: Path, *, length: int = LENGTH, weights: bool = False, verify: bool = False) -> Inspection:
    """A run's folder, and the model it has kept so far. Raises: NlpcliError as `inspect_model`, and for a damaged
    configuration."""
    config = load_yaml(path / CONFIG)
    state = run_state(path)
    facts: dict[str, Any] = {
        **state,
        "task": config.get("task"),
        "objective": config.get("objective"),
        "init": config.get("init"),
        "description": config.get("description") or "",
        "settings": _highlights(config),
        "files": _files(path),
    }
    facts["bytes"] = _bytes_of(path)
    facts["resume_command"] = _resume_command(path, facts)
    sections = [_what(facts), *_best(facts), _on_disk(facts)]
    findings: list[Finding] = []
    if (path / DESCRIPTION).exists():
        model = inspect_model(path, length=length, weights=weights, verify=verify)
        facts["model"] = model.facts
        sections += model.sections
        findings += model.findings
    for checkpoint in _checkpoints(path):
        findings += _digests(checkpoint, load_yaml(checkpoint / STATE))[1]
    return Inspection("run", f"a run, {facts['state']}", str(path), facts, sections, findings)


def run_state(path: Path) -> dict[str, Any]:
    """How far a run is: `finished`, `not finished` or `not begun`; step, epoch, tokens, seconds, best metrics."""
    progress: dict[str, Any] = {}
    newest = _checkpoints(path)
    if newest:
        found = load_yaml(newest[-1] / STATE).get("progress")
        progress = found if isinstance(found, dict) else {}
    lines = read_lines_of_metrics(path / METRICS) if (path / METRICS).is_file() else []
    trained = [line for line in lines if line.get("kind") == "train"]
    card = read_card(path)
    begun = bool(progress or lines or card)
    best = {name: entry for name, entry in (progress.get("best") or {}).items() if isinstance(entry, dict)}
    return {
        "state": "finished" if card else "not finished" if begun else "not started",
        "stopped": card.get("stopped"),
        "step": progress.get("step", trained[-1]["step"] if trained else 0),
        "logged_step": lines[-1].get("step") if lines else None,
        "epoch": progress.get("epoch"),
        "tokens": progress.get("tokens"),
        "seconds": progress.get("seconds"),
        "flops": progress.get("flops"),
        "best_metrics": best,
        "checkpoints": [checkpoint.name for checkpoint in newest],
    }


def read_lines_of_metrics(path: Path) -> list[dict[str, Any]]:
    """The objects of a `metrics.jsonl`; a line that was cut off by a crash is left out."""
    found = []
    for text in read_regular(path).decode("utf-8", "replace").split("\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            found.append(line)
    return found


def _checkpoints(run: Path) -> list[Path]:
    return sorted(place for place in (run / "checkpoints").glob("step-[0-9]*") if (place / STATE).is_file())


def _highlights(config: Mapping[str, Any]) -> dict[str, Any]:
    training, data = (config.get(name) or {} for name in ("training", "data"))
    limits = {name: training[name] for name in LIMITS if training.get(name)}
    settings = {name: training[name] for name in _SETTINGS if training.get(name) is not None}
    return {"train": data.get("train") or [], "dev": data.get("dev") or [], **limits, **settings}


def _resume_command(path: Path, facts: Mapping[str, Any]) -> str | None:
    """The command that resumes the run."""
    if not facts["checkpoints"] or not (facts["task"] or facts["objective"]):
        return None
    command = "finetune" if facts["task"] else "pretrain"
    more = " --max-steps N" if facts["state"] == "finished" else ""
    return f"nlpcli {command} --resume --out {shlex.quote(str(path))}{more}"


def _files(path: Path) -> dict[str, int]:
    """The entries of a folder with their sizes in bytes, what is inside included."""
    return {entry.name + "/" * entry.is_dir(): _bytes_of(entry) for entry in entries(path)}


def _bytes_of(path: Path) -> int:
    """The bytes that a file or folder takes; a file with several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for entry in [path] if path.is_file() else path.rglob("*"):
        if entry.is_file() and not entry.is_symlink():
            with suppress(FileNotFoundError):  # a running training renames and removes files
                stat = entry.stat()
                seen[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(seen.values())


def _what(facts: Mapping[str, Any]) -> Section:
    settings = dict(facts["settings"])
    rows = [
        ("state", facts["state"] + (f" ({facts['stopped']})" if facts["stopped"] else "")),
        ("task", facts["task"] or facts["objective"] or "?"),
        ("train", ", ".join(map(str, settings.pop("train")))),
        ("dev", ", ".join(map(str, settings.pop("dev"))) or "not given (a part of the training text, or none)"),
        ("settings", ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                               for name, value in settings.items())),
        ("progress", _how_far(facts)),
        ("checkpoints", ", ".join(facts["checkpoints"]) or "none"),
    ]  # fmt: skip
    if facts["init"]:
        rows.insert(2, ("initialized from", facts["init"]))
    if facts["description"]:
        rows.insert(1, ("description", facts["description"]))
    if facts["resume_command"]:
        rows.append(("resume with", facts["resume_command"]))
    return Section("Run", rows)


def _how_far(facts: Mapping[str, Any]) -> str:
    parts = [f"step {facts['step']:,}"]
    if facts["epoch"] is not None:
        parts.append(f"epoch {facts['epoch']}")
    if facts["tokens"]:
        parts.append(f"{amount(facts['tokens'])} tokens")
    if facts["seconds"]:
        parts.append(f"{facts['seconds'] / 60:.1f} minutes")
    if facts["flops"]:
        parts.append(f"{facts['flops']:.3g} FLOPs")
    logged = facts["logged_step"]
    if logged is not None and logged > facts["step"]:
        parts.append(f"logged up to step {logged:,}")
    return ", ".join(parts)


def _best(facts: Mapping[str, Any]) -> list[Section]:
    rows = [
        [name, f"{entry['value']:.4g}", f"{entry['step']:,}"]
        for name, entry in facts["best_metrics"].items()
        if isinstance(entry.get("value"), (int, float)) and isinstance(entry.get("step"), int)
    ]
    return [Section("Best values so far", rows, ("metric", "value", "step"))] if rows else []


def _on_disk(facts: Mapping[str, Any]) -> Section:
    rows = [[name, size(count)] for name, count in facts["files"].items()]
    return Section("Files", [*rows, ["total", size(facts["bytes"])]], ("name", "size"))


# --- a checkpoint ------------------------------------------------------------------------------------------------


def inspect_checkpoint(path: Path) -> Inspection:
    """One `step-N` of a run, its digests checked. Raises: NlpcliError for a state that can't be read."""
    state = load_yaml(path / STATE)
    progress = state.get("progress")
    if not isinstance(progress, dict) or not isinstance(state.get("sha256"), dict):
        missing = "'progress' or 'sha256' is missing"
        raise NlpcliError(f"{path / STATE}: the file is not the state of a checkpoint ({missing})")
    checked, findings = _digests(path, state)
    run = path.parent.parent
    training = (load_yaml(run / CONFIG).get("training") or {}) if (run / CONFIG).is_file() else {}
    facts: dict[str, Any] = {
        "progress": progress,
        "optimizer": training.get("optimizer"),
        "digests": checked,
        "files": _files(path),
        "bytes": _bytes_of(path),
        "best_metrics": progress.get("best") or {},
    }
    if checked.get("model") == "valid":
        facts["parameters"] = sum(tensor.numbers for tensor in header(path / "model.safetensors"))
    parts = {"step": 0, "epoch": None, "tokens": None, "seconds": None, "flops": None}
    far = _how_far({**parts, **progress, "logged_step": None})
    rows = [
        ("progress", far),
        ("optimizer", str(facts["optimizer"] or "unknown (config.yaml of the run is missing)")),
        ("digests", ", ".join(f"{name} {state}" for name, state in checked.items())),
        ("parameters", f"{facts['parameters']:,}" if "parameters" in facts else "?"),
    ]
    sections = [Section("Checkpoint", rows), *_best(facts), _on_disk(facts)]
    return Inspection("checkpoint", f"a checkpoint, {far}", str(path), facts, sections, findings)


def _digests(path: Path, state: Mapping[str, Any]) -> tuple[dict[str, str], list[Finding]]:
    """For each file of a checkpoint whether it is `valid`, `invalid` or `missing`; and a finding for the others."""
    checked = {}
    for name, digest in (state.get("sha256") or {}).items():
        file = path / plain_name(f"{name}.safetensors", str(path / STATE))
        if not file.is_file():
            checked[name] = "missing"
        else:
            checked[name] = "valid" if sha256_file(file) == digest else "invalid"
    wrong = [name for name, state in checked.items() if state != "valid"]
    message = f"{path.name}: damaged or missing files: {', '.join(wrong)} (--resume uses the checkpoint before it)"
    return checked, [Finding("digest", message, len(wrong), True)] if wrong else []


# --- several -----------------------------------------------------------------------------------------------------


@reads_description
def inspect_runs(path: Path) -> Inspection:
    """A folder of runs: each with its state and what it reached."""
    runs = [_one_of_many(run) for run in sorted(path.iterdir()) if (run / CONFIG).is_file()]
    rows = [
        [
            run["name"],
            str(run["task"] or run["objective"] or "?"),
            run["state"],
            f"{run['step']:,}",
            run.get("error") or ", ".join(f"{name} {value:.4g}" for name, value in list(run["metrics"].items())[:2]),
        ]
        for run in runs
    ]
    facts: dict[str, Any] = {"runs": runs}
    sections = [Section("Runs", rows, ("name", "task", "state", "step", "metrics"))]
    seeds = path / "seeds.json"
    title = f"a folder of {counted(len(runs), 'run')}"
    if seeds.is_file():
        facts["metrics"] = _seeds(seeds)
        title = f"a run with {counted(len(runs), 'seed')}"
        table = [[name, f"{m['mean']:.4g}", f"{m['standard_deviation']:.3g}"] for name, m in facts["metrics"].items()]
        sections.append(Section("Metrics over the seeds", table, ("metric", "mean", "standard deviation")))
    return Inspection("runs", title, str(path), facts, sections)


def _one_of_many(run: Path) -> dict[str, Any]:
    """Name, task, objective, state, step, metrics (first the one that selects the model), `error` of a damaged one."""
    try:
        config, state = load_yaml(run / CONFIG), run_state(run)
        metrics = (read_info(run).get("metrics") or {}) if (run / DESCRIPTION).exists() else {}
    except NlpcliError as error:
        found: dict[str, Any] = {"task": None, "objective": None, "state": "damaged", "step": 0, "metrics": {}}
        return {"name": run.name, **found, "error": error.message}
    decisive = (config.get("training") or {}).get("metric")
    chosen = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
    if decisive in chosen:
        chosen = {decisive: chosen[decisive], **chosen}
    learned = {name: config.get(name) for name in ("task", "objective")}
    return {"name": run.name, **learned, "state": state["state"], "step": state["step"], "metrics": chosen}


def _seeds(path: Path) -> dict[str, dict[str, float]]:
    try:
        found = json.loads(read_regular(path))["scores"]
        return {
            str(score["metric"]): {"mean": float(score["value"]), "standard_deviation": float(score["deviation"])}
            for score in found
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NlpcliError(
            f"{path}: the file was not written by 'nlpcli finetune --seeds', or is damaged ({error})"
        ) from None


# --- a log -------------------------------------------------------------------------------------------------------


def inspect_metrics(path: Path) -> Inspection:
    """A run's `metrics.jsonl`: for each metric its first, least, greatest and last value."""
    lines = read_lines_of_metrics(path)
    if not lines:
        raise NlpcliError(f"{path}: the file contains no log entries of a run")
    series: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name not in ("step", "kind") and isinstance(value, (int, float)) and not isinstance(value, bool):
                series.setdefault((str(line.get("kind")), name), []).append((line["step"], float(value)))
    rows, measures, broken = [], [], 0
    for (kind, name), values in series.items():
        numbers = [value for _, value in values if math.isfinite(value)]
        broken += len(values) - len(numbers)
        if numbers:
            found = {"first": numbers[0], "min": min(numbers), "max": max(numbers), "last": numbers[-1]}
            measures.append({"kind": kind, "name": name, "count": len(values), **found})
            rows.append([kind, name, f"{len(values):,}", *(f"{value:.4g}" for value in found.values())])
    facts = {"lines": len(lines), "last_step": lines[-1]["step"], "metrics": measures}
    headings = ("kind", "metric", "count", "first", "min", "max", "last")
    findings = [Finding("not_finite", "values that are not finite (nan or infinity)", broken, True)] if broken else []
    title = f"the log of a run, up to step {lines[-1]['step']:,}"
    return Inspection("metrics", title, str(path), facts, [Section("Metrics", rows, headings)], findings)
