"""The loop as its users meet it: it learns, it stops on request, and it resumes as if nothing had happened."""

from __future__ import annotations

import gc
import json
import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from nlpcli.errors import NlpcliError, RunFailed
from nlpcli.training.checkpoint import checkpoints
from nlpcli.training.training_log import read_metrics


def weights(run):
    return load_file(run / "model.safetensors")


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_model_learns_the_grammar_of_its_text(run_clm, quiet):
    listener = quiet()
    run, outcome = run_clm("run", listener, "training.max_steps=150", "training.evaluate_every=50")
    losses = [metrics["loss"] for _, metrics, _ in listener.evaluations]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1.0  # far below the 2.7 nats of a uniform choice among the characters
    assert outcome.metrics["loss"] == losses[-1]
    for name in ("config.yaml", "model.yaml", "model.safetensors", "metrics.jsonl", "README.md", "tokenizer"):
        assert (run / name).exists()


def test_the_same_seed_gives_the_same_weights(run_clm):
    first, _ = run_clm("first")
    second, _ = run_clm("second")
    other, _ = run_clm("other", None, "training.seed=2")
    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(other))


@pytest.mark.parametrize("frozen", [0, 1000])
def test_objects_that_the_caller_has_frozen_stay_frozen_and_others_do_not(run_clm, monkeypatch, frozen):
    calls = []
    monkeypatch.setattr(gc, "get_freeze_count", lambda: frozen)
    for name in ("freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, partial(calls.append, name))
    run_clm("run", None, "training.max_steps=2")
    assert calls == ([] if frozen else ["freeze", "unfreeze"])


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("training.ema_decay=0.9",),
        ("training.accumulate=3", "training.average_last=2", "training.evaluate_every=10"),
        ("data.subword_sampling=0.0", "training.schedule=wsd", "training.batch_tokens=2048"),  # many epochs
    ],
    ids=["plain", "running average", "accumulated", "many epochs"],
)
def test_an_interrupted_run_ends_with_the_very_weights_of_an_uninterrupted_one(run_clm, quiet, settings):
    whole, outcome = run_clm("whole", None, *settings)
    with pytest.raises(KeyboardInterrupt):
        run_clm("broken", quiet(interrupt_at=27), *settings)
    run = whole.parent / "broken"
    resumed_run, resumed = run_clm("broken", None, resume=True)
    assert resumed_run == run
    assert same(weights(whole), weights(run))
    assert resumed.metrics == outcome.metrics
    assert same(
        load_file(checkpoints(whole)[-1] / "optimizer.safetensors"),
        load_file(checkpoints(run)[-1] / "optimizer.safetensors"),
    )


def test_metrics_after_a_resume_hold_each_step_once(run_clm, quiet):
    with pytest.raises(KeyboardInterrupt):
        run_clm("broken", quiet(interrupt_at=27), "training.save_every=10")
    run, _ = run_clm("broken", None, resume=True)
    steps = [line["step"] for line in read_metrics(run) if line["kind"] == "train"]
    assert steps == list(range(1, 41))


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(run_clm, quiet):
    run, _ = run_clm("run", None, "training.keep_checkpoints=3", "training.save_every=10")
    newest = checkpoints(run)[-1]
    (newest / "model.safetensors").write_bytes(b"cut")
    listener = quiet()
    _, outcome = run_clm("run", listener, "training.max_steps=42", resume=True)
    assert outcome.progress.step == 42


def test_without_a_checkpoint_there_is_nothing_to_resume(run_clm):
    run, _ = run_clm("run")
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(NlpcliError, match="no checkpoint"):
        run_clm("run", None, resume=True)


def test_accumulated_batches_step_as_one_large_batch(run_clm):
    common = ("training.max_steps=4", "model.dropout=0.0", "training.max_grad_norm=0")
    large, _ = run_clm("large", None, "training.batch_tokens=512", *common)
    small, _ = run_clm("small", None, "training.batch_tokens=256", "training.accumulate=2", *common)
    for name, tensor in weights(large).items():
        assert torch.allclose(tensor, weights(small)[name], atol=2e-5), name


def test_a_run_stops_early_when_its_metric_no_longer_improves(run_clm, quiet):
    listener = quiet()
    settings = ("training.lr=1e-9", "training.max_steps=500", "training.evaluate_every=2", "training.patience=3")
    _, outcome = run_clm("run", listener, "model.dropout=0.5", "training.min_lr=0.5", "training.warmup_steps=0",
                         "training.schedule=linear", *settings)  # fmt: skip
    assert outcome.progress.step < 500
    assert "has not improved for 3 evaluations" in outcome.reason


def test_the_best_weights_are_kept_not_the_last(run_clm, quiet):
    listener = quiet()
    _, outcome = run_clm("run", listener, "training.evaluate_every=5", "training.lr=0.5", "training.max_steps=30")
    best = min(metrics["loss"] for _, metrics, _ in listener.evaluations)
    assert outcome.metrics["loss"] == best
    improved = [step for step, _, better in listener.evaluations if better]
    assert outcome.kept == f"step {improved[-1]}"


def test_the_average_of_the_last_evaluations_is_their_mean(run_clm):
    run, outcome = run_clm("run", None, "training.average_last=2", "training.schedule=constant")
    files = sorted((run / "checkpoints" / "average").iterdir())
    assert [file.stem for file in files] == ["step-00000020", "step-00000040"]
    if outcome.kept.startswith("average"):
        first, second = map(load_file, files)
        for name, tensor in weights(run).items():
            assert torch.allclose(tensor, (first[name] + second[name]) / 2, atol=1e-7)


def test_a_loss_that_is_not_finite_ends_the_run_with_a_remedy(run_clm):
    with pytest.raises(RunFailed, match="the loss or the gradient is not finite at step") as caught:
        run_clm("run", None, "training.lr=1e30", "training.max_grad_norm=0", "training.warmup_steps=0")
    assert "training.lr" in caught.value.hint


def test_a_metric_that_is_not_measured_is_named_with_those_that_are(run_clm):
    with pytest.raises(NlpcliError, match="'bleu' is not measured") as caught:
        run_clm("run", None, "training.metric=bleu")
    assert "loss" in caught.value.hint


def test_epochs_and_minutes_end_a_run_too(run_clm):
    _, epochs = run_clm("epochs", None, "training.max_steps=null", "training.max_epochs=2")
    assert epochs.progress.epoch == 2 and epochs.progress.position == 0
    _, minutes = run_clm("minutes", None, "training.max_steps=null", "training.max_minutes=0.01")
    assert "minutes was reached" in minutes.reason


def test_metrics_are_json_lines_with_loss_rate_and_speed(run_clm):
    run, _ = run_clm("run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["kind"] == "train"]
    dev = [line for line in lines if line["kind"] == "dev"]
    assert {"loss", "lr", "grad_norm", "tokens_per_second", "seconds"} <= train[0].keys()
    assert {"loss", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"} <= dev[0].keys()


def test_a_folder_that_holds_a_run_is_left_alone(run_clm):
    run, _ = run_clm("run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(NlpcliError, match="already contains a run"):
        run_clm("run")
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize("every", [1, 7, 20, 100])
def test_the_log_reaches_the_end_of_a_run_whose_steps_are_no_multiple_of_its_lines(run_clm, every):
    run, outcome = run_clm("run", None, f"training.log_every={every}")
    lines = [line for line in read_metrics(run) if line["kind"] == "train"]
    assert [line["step"] for line in lines] == sorted({*range(every, 41, every), 40})
    assert (lines[-1]["tokens"], lines[-1]["flops"]) == (outcome.progress.tokens, outcome.progress.flops)
    run_clm("run", None, resume=True)
    assert [line for line in read_metrics(run) if line["kind"] == "train"] == lines
