"""Going on with a run: after interrupts at every awkward moment, after damage, and with other settings."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from nlpcli.errors import NlpcliError, RunFailed
from nlpcli.objectives.clm import CausalLanguageModelling
from nlpcli.training import checkpoint, training_loop
from nlpcli.training.checkpoint import checkpoints
from nlpcli.training.training_log import read_metrics


def weights(run):
    return load_file(run / "model.safetensors")


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def everything(run):
    """What the metrics tell, but for times."""
    clocks = ("seconds", "tokens_per_second")
    return [{name: value for name, value in line.items() if name not in clocks} for line in read_metrics(run)]


def measures(run):
    """The same, of evaluations."""
    return [line for line in everything(run) if line["kind"] != "train"]


@pytest.fixture
def interrupt_evaluation(monkeypatch):
    """The n-th evaluation of the process gets a Ctrl-C in its midst."""

    def at(number):
        plain, calls = CausalLanguageModelling.evaluate, []

        def evaluate(self, model, device):
            calls.append(1)
            for i, loss in enumerate(plain(self, model, device)):
                if i == 0 and len(calls) == number:
                    os.kill(os.getpid(), signal.SIGINT)
                yield loss

        monkeypatch.setattr(CausalLanguageModelling, "evaluate", evaluate)

    return at


@pytest.mark.parametrize("number", [1, 2, 4, 5], ids=["the first", "a later one", "the last", "the average's"])
@pytest.mark.parametrize("settings", [(), ("training.ema_decay=0.9",)], ids=["plain", "running average"])
def test_an_evaluation_is_given_up_for_an_interrupt_and_made_up_for(
    run_clm, quiet, interrupt_evaluation, number, settings
):
    settings = (*settings, "training.evaluate_every=10", "training.average_last=3", "training.patience=9")
    whole, outcome = run_clm("whole", None, *settings)
    interrupt_evaluation(number)
    listener = quiet()
    with pytest.raises(KeyboardInterrupt):
        run_clm("broken", listener, *settings)
    assert listener.reason == "interrupted" and len(listener.evaluations) == number - 1
    run, resumed = run_clm("broken", None, resume=True)
    assert same(weights(whole), weights(run))
    assert measures(whole) == measures(run)
    assert (resumed.kept, resumed.metrics, resumed.progress.stale) == (
        outcome.kept, outcome.metrics, outcome.progress.stale,
    )  # fmt: skip


def test_an_interrupt_before_the_first_evaluation_leaves_a_model_and_no_trace_in_what_follows(run_clm, quiet):
    settings = ("training.average_last=3",)
    whole, outcome = run_clm("whole", None, *settings)
    with pytest.raises(KeyboardInterrupt):
        run_clm("broken", quiet(interrupt_at=7), *settings)
    broken = whole.parent / "broken"
    assert (broken / "model.safetensors").exists() and not list(broken.glob("checkpoints/average/*"))
    run, resumed = run_clm("broken", None, resume=True)
    assert same(weights(whole), weights(run))
    assert measures(whole) == measures(run) and resumed.progress.best == outcome.progress.best


def test_a_finished_run_has_nothing_left_to_do(run_clm, quiet):
    run, outcome = run_clm("run", None, "training.average_last=2", "training.patience=5")
    before, log = weights(run), measures(run)
    listener = quiet()
    _, again = run_clm("run", listener, resume=True)
    assert again.progress.step == 40 and again.progress.stale == outcome.progress.stale
    assert same(before, weights(run)) and measures(run) == log
    assert again.kept == outcome.kept and again.metrics == outcome.metrics


def test_a_run_that_stopped_early_takes_no_step_more_until_its_patience_is_raised(run_clm):
    settings = ("training.lr=1e-20", "training.max_steps=30", "training.evaluate_every=2", "training.patience=2",
                "training.min_lr=0.5", "training.warmup_steps=0", "training.schedule=linear")  # fmt: skip
    _, outcome = run_clm("run", None, *settings)
    assert outcome.progress.step < 30
    _, again = run_clm("run", None, resume=True)
    assert again.progress.step == outcome.progress.step and "has not improved" in again.reason
    _, more = run_clm("run", None, "training.patience=100", resume=True)
    assert more.progress.step == 30


def test_a_longer_run_is_the_shorter_one_gone_on_with(run_clm):
    whole, _ = run_clm("whole", None, "training.max_steps=60", "training.schedule=constant")
    run_clm("run", None, "training.schedule=constant")
    run, _ = run_clm("run", None, "training.max_steps=60", resume=True)
    assert same(weights(whole), weights(run)) and measures(whole) == measures(run)


def test_larger_batches_than_before_begin_the_next_epoch(run_clm):
    _, outcome = run_clm("run", None, "training.batch_tokens=64", "training.max_steps=60")
    assert outcome.progress.position > 20
    _, more = run_clm("run", None, "training.batch_tokens=4096", "training.max_steps=62", resume=True)
    assert more.progress.step == 62 and more.progress.epoch > outcome.progress.epoch


def test_what_follows_a_damaged_checkpoint_is_not_removed_in_its_favour(run_clm):
    run, _ = run_clm("run", None, "training.keep_checkpoints=3", "training.save_every=10")
    (checkpoints(run)[-1] / "model.safetensors").write_bytes(b"cut")
    run_clm("run", None, "training.max_steps=32", "training.keep_checkpoints=1", resume=True)
    assert [path.name for path in checkpoints(run)] == ["step-00000032"]
    _, outcome = run_clm("run", None, "training.max_steps=33", resume=True)
    assert outcome.progress.step == 33


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(run_clm, quiet):
    run, _ = run_clm("run", None, "training.save_every=10")
    _, damaged = checkpoints(run)
    (damaged / "optimizer.safetensors").write_bytes(b"cut")
    listener = quiet()
    run_clm("run", listener, resume=True)
    message = f"warning: the checkpoint {damaged} is damaged; training resumes from the one of step 30"
    assert message in listener.notes
    listener = quiet()
    run_clm("run", listener, resume=True)
    assert not any("damaged" in note for note in listener.notes)


def test_a_run_that_was_killed_before_it_removed_an_older_checkpoint_removes_it_when_resumed(run_clm):
    run, _ = run_clm("run", None, "training.save_every=10")
    kept = checkpoints(run)
    assert [path.name for path in kept] == ["step-00000030", "step-00000040"]
    shutil.copytree(kept[0], run / "checkpoints" / "step-00000020")
    run_clm("run", resume=True)
    assert checkpoints(run) == kept


def test_a_checkpoint_that_can_not_be_read_again_does_not_replace_the_one_before(run_clm, monkeypatch):
    run, _ = run_clm("run", None, "training.max_steps=20")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "sha256_file", lambda path: "0")
        with pytest.raises(RunFailed, match="can't be read again as it was written"):
            checkpoint.save_checkpoint(
                run, model=torch.nn.Linear(1, 1), optimizer=torch.optim.SGD([torch.ones(1)]),
                progress=checkpoint.Progress(30), average=None, carry=None, keep=1,
            )  # fmt: skip
    assert [path.name for path in checkpoints(run)] == ["step-00000020"]
    assert not list((run / "checkpoints").glob(".*"))


@pytest.fixture
def interrupt_step(monkeypatch):
    """The n-th step of the process gets a Ctrl-C."""

    def at(number):
        plain, calls = training_loop.Trainer._step, []

        def step(self, *given):
            calls.append(1)
            plain(self, *given)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(training_loop.Trainer, "_step", step)

    return at


@pytest.mark.parametrize(("every", "stop"), [(7, 11), (100, 11), (7, 23)])
def test_the_log_of_a_resumed_run_is_that_of_an_unbroken_one(run_clm, interrupt_step, every, stop):
    settings = (f"training.log_every={every}", "training.max_steps=23", "training.head_penalty=0.1")
    whole, _ = run_clm("whole", None, *settings)
    interrupt_step(stop)
    with pytest.raises(KeyboardInterrupt):
        run_clm("run", None, *settings)
    run = whole.with_name("run")
    assert len(read_metrics(run)) < len(read_metrics(whole))
    run_clm("run", None, resume=True)
    assert everything(run) == everything(whole)


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_run_whose_folder_is_gone_stops_with_a_sentence_and_makes_no_new_one(run_clm, quiet, tmp_path, how):
    class Gone(quiet):
        def stepped(self, progress, *_):
            if progress.step == 5:
                shutil.rmtree(tmp_path / "run") if how == "deleted" else (tmp_path / "run").rename(tmp_path / "new")

    with pytest.raises(RunFailed, match=f"run was {how}"):
        run_clm("run", Gone())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("step", ["31", "99999999999999999999"])
def test_a_checkpoint_whose_description_is_that_of_another_step_is_damaged(run_clm, step):
    run, _ = run_clm("run", None, "training.keep_checkpoints=1")
    state = checkpoints(run)[-1] / "state.yaml"
    text = state.read_text()
    number = int(checkpoints(run)[-1].name.removeprefix("step-"))
    state.write_text(text.replace(f"  step: {number}\n", f"  step: {step}\n", 1))
    assert state.read_text() != text
    with pytest.raises(NlpcliError, match="all checkpoints are damaged"):
        run_clm("run", None, "training.max_steps=32", resume=True)


def test_a_running_average_that_comes_later_begins_with_the_weights_of_then(run_clm):
    run, _ = run_clm("run", None, "training.keep_checkpoints=2")
    run_clm("run", None, "training.max_steps=41", "training.ema_decay=0.999", resume=True)
    then, now = checkpoints(run)
    old, new = load_file(then / "model.safetensors"), load_file(now / "model.safetensors")
    average = load_file(now / "average.safetensors")
    decay = (1 + 41) / (10 + 41)
    for name, tensor in average.items():
        assert torch.allclose(tensor, decay * old[name] + (1 - decay) * new[name], atol=1e-6), name


@pytest.mark.parametrize("when", ["training.save_every=41", "training.evaluate_every=41"])
def test_weights_that_are_not_finite_never_replace_a_checkpoint(run_clm, when):
    run, _ = run_clm("run")
    before = weights(run)
    wild = ("training.lr=1e30", "training.max_grad_norm=0", "training.log_every=1000", "training.max_steps=50")
    with pytest.raises(RunFailed, match="the loss or the gradient is not finite at step"):
        run_clm("run", None, *wild, when.replace("41", "43"), resume=True)
    assert [path.name for path in checkpoints(run)] == ["step-00000020", "step-00000040"]
    assert same(before, weights(run))
    tame = ("training.lr=0.01", "training.max_steps=42", "training.evaluate_every=20")
    assert run_clm("run", None, *tame, resume=True)[1].progress.step == 42


def test_data_that_changed_since_is_reported(run_clm, quiet, corpus):
    run_clm("run")
    listener = quiet()
    run_clm("run", listener, "training.max_steps=41", resume=True)
    assert not [note for note in listener.notes if "training data has changed" in note]
    corpus.write_text(corpus.read_text() + "a dog sees the worm\n" * 20)
    run_clm("run", listener, "training.max_steps=42", resume=True)
    assert [note for note in listener.notes if "training data has changed" in note]
