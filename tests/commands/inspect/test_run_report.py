"""A run, its checkpoints and a folder of runs report their progress and the command that resumes them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import nlpcli
from nlpcli.commands.inspect import inspect
from nlpcli.config.loading import dump_yaml
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer
from nlpcli.training.checkpoint import Progress, save_checkpoint

SHAPE = {"d_model": 8, "heads": 2, "d_ff": 12, "encoder_layers": 1, "decoder_layers": 1}


@pytest.fixture
def run(tmp_path):
    """A run that was interrupted after its second checkpoint."""
    path = tmp_path / "runs" / "a run"
    config = RunConfig(
        task="translation", model=ModelConfig.model_validate(SHAPE), training={"max_steps": 40, "metric": "loss"}
    )
    tokenizer = train_tokenizer("chars", ["the quick brown fox"])
    model = build_model(config.model, tokenizer.vocab_size)
    info = {"task": "translation", "metrics": {"loss": 3.5, "bleu": 1.0}, "step": 20}
    save_model(path, weights=model.state_dict(), config=config.model, tokenizer=tokenizer, info=info)
    (path / "config.yaml").write_text(dump_yaml(config.model_dump()), "utf-8")
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.zeros(1, 2, dtype=torch.long), None, torch.zeros(1, 2, dtype=torch.long)).sum().backward()
    optimizer.step()
    for step in (10, 20):
        progress = Progress(
            step=step, epoch=1, tokens=50 * step, seconds=60.0, best={"loss": {"value": 3.5, "step": step}}
        )
        save_checkpoint(path, model=model, optimizer=optimizer, progress=progress, average=None, carry=None, keep=2)
    lines = [{"kind": "train", "step": step, "loss": 9.0 - step / 10} for step in (10, 20, 25)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "tr', "utf-8")
    return path


def test_an_interrupted_run_reports_the_command_that_resumes_it(run):
    found = inspect(str(run))
    facts = found.as_dict()
    assert (facts["kind"], facts["state"], facts["step"], facts["logged_step"]) == ("run", "not finished", 20, 25)
    assert facts["resume_command"] == f"nlpcli finetune --resume --out '{run}'"
    assert facts["best_metrics"] == {"loss": {"value": 3.5, "step": 20}}
    assert facts["settings"]["max_steps"] == 40
    assert facts["model"]["parameters"]["total"] > 0
    assert facts["bytes"] == sum(facts["files"].values())
    assert facts["findings"] == []


def test_a_finished_run_says_why_it_ended(run):
    fields = (
        "trained: 40 steps, 900 tokens, 1.0 minutes",
        "stopped: 40 steps done, 2026-01-01",
        "best checkpoint: step 40",
    )
    (run / "README.md").write_text("# a run\n\n" + "".join(f"- {field}\n" for field in fields), "utf-8")
    facts = inspect(str(run)).facts
    assert (facts["state"], facts["stopped"]) == ("finished", "40 steps done, 2026-01-01")
    assert facts["resume_command"].endswith(" --max-steps N")


def test_a_run_that_has_just_begun_has_no_model(tmp_path):
    (tmp_path / "config.yaml").write_text("objective: clm\n", "utf-8")
    facts = inspect(str(tmp_path)).facts
    assert (facts["state"], facts["resume_command"], "model" in facts) == ("not started", None, False)


def test_a_checkpoint_is_checked(run):
    found = inspect(str(run / "checkpoints" / "step-00000020"))
    assert found.facts["digests"] == {"model": "valid", "optimizer": "valid", "random": "valid"}
    assert found.facts["optimizer"] == "adamw"
    assert found.facts["progress"]["tokens"] == 1000
    assert found.facts["parameters"] == inspect(str(run)).facts["model"]["parameters"]["total"]
    assert not found.has_problems


def test_a_damaged_checkpoint_is_a_fault(run):
    place = run / "checkpoints" / "step-00000020"
    data = bytearray((place / "optimizer.safetensors").read_bytes())
    data[-1] ^= 1
    (place / "optimizer.safetensors").write_bytes(data)
    (place / "random.safetensors").unlink()
    found = inspect(str(place))
    assert found.facts["digests"] == {"model": "valid", "optimizer": "invalid", "random": "missing"}
    assert found.has_problems
    assert inspect(str(run)).has_problems


def test_a_state_that_is_none_is_refused(run):
    (run / "checkpoints" / "step-00000020" / "state.yaml").write_text("progress: 3\n", "utf-8")
    with pytest.raises(NlpcliError, match="the file is not the state of a checkpoint"):
        inspect(str(run / "checkpoints" / "step-00000020"))


def test_runs_side_by_side(run):
    shutil.copytree(run, run.parent / "b")
    (run.parent / "b" / "config.yaml").write_text("a: [\n", "utf-8")
    rows = inspect(str(run.parent)).facts["runs"]
    assert [(row["name"], row["state"]) for row in rows] == [("a run", "not finished"), ("b", "damaged")]
    assert rows[0]["metrics"] == {"loss": 3.5, "bleu": 1.0} and rows[0]["task"] == "translation"
    assert "config.yaml" in rows[1]["error"] and rows[1]["metrics"] == {}


def test_seeds_have_means(run):
    scores = [{"metric": "loss", "value": 3.5, "deviation": 0.1, "values": [3.4, 3.6]}]
    (run.parent / "seeds.json").write_text(json.dumps({"scores": scores}), "utf-8")
    assert inspect(str(run.parent)).facts["metrics"] == {"loss": {"mean": 3.5, "standard_deviation": 0.1}}
    (run.parent / "seeds.json").write_text("[]", "utf-8")
    with pytest.raises(NlpcliError, match=r"seeds\.json"):
        inspect(str(run.parent))


def test_a_log_is_summarised(run):
    found = inspect(str(run / "metrics.jsonl")).facts
    assert found["lines"] == 3
    assert found["metrics"] == [
        {"kind": "train", "name": "loss", "count": 3, "first": 8.0, "min": 6.5, "max": 8.0, "last": 6.5}
    ]


PAGE = Path(nlpcli.__file__).resolve().parents[1] / "docs" / "inspecting.md"
FREE = {"files", "settings"}  # their keys are names of files, and settings


def keys_of(value):
    """All keys of a JSON value but those of maps in FREE."""
    if isinstance(value, list):
        yield from (key for item in value for key in keys_of(item))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            if name not in FREE:
                yield from keys_of(inner)


def test_keys_are_in_snake_case_and_the_page_names_the_outer_ones(run):
    scores = [{"metric": "loss", "value": 1, "deviation": 0}]
    (run.parent / "seeds.json").write_text(json.dumps({"scores": scores}), "utf-8")
    checkpoint = run / "checkpoints" / "step-00000020"
    named = set(re.findall(r"`(\w+)`", PAGE.read_text("utf-8")))
    for path in (run, run.parent, checkpoint, run / "metrics.jsonl", run / "model.safetensors", run / "tokenizer"):
        found = inspect(str(path)).as_dict()
        assert [key for key in found if key not in named] == []
        assert [key for key in found.get("model", {}) if key not in named] == []
        words = {key for key in keys_of(found) if key not in found.get("special_tokens", ())}
        assert [key for key in words if not re.fullmatch(r"[a-z][a-z0-9_]*|[A-Z][a-z]+", key)] == []
