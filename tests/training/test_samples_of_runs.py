"""What a run leaves of its outputs: it changes nothing of the training, and goes on where the run does."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from nlpcli.commands.report.output_scores import measured_again
from nlpcli.commands.report.read_runs import read_run
from nlpcli.models.model_folder import read_info
from nlpcli.runs.resolve_settings import resolve
from nlpcli.runs.run_folder import open_run
from nlpcli.runs.training_request import Request
from nlpcli.training.checkpoint import checkpoints
from nlpcli.training.training_log import SAMPLES, MetricsLog, read_metrics, read_samples


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def without_clocks(run):
    clocks = ("seconds", "tokens_per_second")
    return [{name: value for name, value in line.items() if name not in clocks} for line in read_metrics(run)]


def test_a_run_with_samples_is_the_run_without_them_to_the_bit(run_clm):
    settings = ("training.ema_decay=0.9", "training.average_last=2")
    shown, _ = run_clm("shown", None, *settings, "training.samples=4")
    plain, _ = run_clm("plain", None, *settings, "training.samples=0")
    last = checkpoints(plain)[-1].relative_to(plain)
    for name in ("model.safetensors", *(last / f"{part}.safetensors" for part in ("model", "optimizer", "random"))):
        assert same(load_file(shown / name), load_file(plain / name)), name
    assert without_clocks(shown) == without_clocks(plain)
    assert not (plain / SAMPLES).exists()
    assert [(line["kind"], line["step"], len(line["items"])) for line in read_samples(shown)] == [
        ("dev", 20, 4), ("dev", 40, 4), ("average", 40, 4),
    ]  # fmt: skip


def test_a_resumed_run_leaves_the_samples_and_outputs_of_an_uninterrupted_one(run_clm, quiet):
    whole, _ = run_clm("whole")
    with pytest.raises(KeyboardInterrupt):
        run_clm("broken", quiet(interrupt_at=27))
    broken = whole.parent / "broken"
    with open(broken / SAMPLES, "a", encoding="utf-8") as file:  # as if it had come further before it crashed
        file.write(json.dumps({"kind": "dev", "step": 40, "items": [{"output": "of another course"}]}) + '\n{"ki')
    run_clm("broken", None, resume=True)
    for name in (SAMPLES, "outputs.jsonl"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    steps = [line["step"] for line in read_samples(whole)]
    assert steps == [20, 40]


def test_the_outputs_of_a_language_model_give_its_loss_and_perplexity_again(run_clm):
    path, _ = run_clm("run", None, "data.context=16")
    run, metrics = read_run(path), read_info(path)["metrics"]
    assert run.outputs is not None and run.outputs.step == 40
    for name in ("loss", "perplexity"):
        assert measured_again(run, name).score(None).value == pytest.approx(metrics[name], rel=1e-5)
    assert sum(item["tokens"] for item in run.outputs.items) > 100


def test_an_overwritten_run_keeps_nothing_of_the_old_ones_samples(run_clm):
    run, _ = run_clm("run")
    request = Request(default="gpt-mini", out=run, overwrite=True)
    open_run(run, request, resolve(request))
    assert {path.name for path in run.iterdir()} == {"config.yaml"}


def test_samples_with_any_characters_are_one_line_each(tmp_path):
    log = MetricsLog(tmp_path)
    texts = ["a\u2028b", "half \ud83d", "nul \x00", '"quotes"', "日本語", "<script>"]
    for step, text in enumerate(texts):
        log.show("dev", step, [{"text": text}])
    log.show("dev", 99, [])
    log.close()
    assert [line["items"][0]["text"] for line in read_samples(tmp_path)] == texts
    assert (tmp_path / SAMPLES).read_bytes().count(b"\n") == len(texts)
