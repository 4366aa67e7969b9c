"""Memory that runs out in training: the run ends with what to change, or computes its batches in parts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from nlpcli.errors import RunFailed
from nlpcli.objectives.clm import CausalLanguageModelling
from nlpcli.training.checkpoint import checkpoints
from nlpcli.training.training_log import read_metrics

PLAIN = ("training.fit_memory=found", "model.dropout=0.0", "training.log_every=1", "training.max_steps=12",
         "training.evaluate_every=6", "training.batch_tokens=512")  # fmt: skip


@pytest.fixture
def memory_of(monkeypatch):
    """memory_of(rows, error): from now on a batch of more rows than that raises `error` in its loss.

    Returns: the rows of the batches that fitted."""

    def limit(rows, error=None, after=0):
        plain, fitted, calls = CausalLanguageModelling.loss, [], []

        def loss(self, model, batch, carry):
            found = plain(self, model, batch, carry)
            if torch.is_grad_enabled():
                calls.append(1)
                if len(calls) > after and batch.ids.size(0) > rows:
                    raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
                fitted.append(batch.ids.size(0))
            return found

        monkeypatch.setattr(CausalLanguageModelling, "loss", loss)
        return fitted

    return limit


def losses(run):
    return {line["step"]: line["loss"] for line in read_metrics(run) if line["kind"] == "train"}


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ((), None),
        (("training.accumulate=2",), MemoryError()),
        ((), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")),
    ],
    ids=["one batch", "accumulated", "on the CPU"],
)
def test_batches_that_do_not_fit_are_divided_and_the_run_stays_what_it_is(run_clm, quiet, memory_of, settings, error):
    whole, outcome = run_clm("whole", None, *PLAIN, *settings)
    fitted = memory_of(5, error, after=7)
    listener = quiet()
    parts, divided = run_clm("parts", listener, *PLAIN, *settings)
    assert max(fitted[8:]) == 4 and divided.progress.step == outcome.progress.step
    assert divided.progress.tokens == outcome.progress.tokens
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
    notes = [note for note in listener.notes if "memory ran out" in note]
    assert len(notes) == 2 and "in 4 parts, whose gradients are summed" in notes[1]
    for name, tensor in load_file(whole / "model.safetensors").items():
        assert torch.allclose(tensor, load_file(parts / "model.safetensors")[name], atol=2e-5), name


def test_a_resumed_run_divides_its_batches_as_before(run_clm, quiet, memory_of):
    settings = (*PLAIN, "model.dropout=0.1")
    fitted = memory_of(5)
    whole, _ = run_clm("whole", None, *settings)
    with pytest.raises(KeyboardInterrupt):
        run_clm("broken", quiet(interrupt_at=8), *settings)
    fitted.clear()
    listener = quiet()
    run, _ = run_clm("broken", listener, resume=True)
    assert max(fitted) == 4 and not any("memory ran out" in note for note in listener.notes)
    assert losses(run) == losses(whole)
    left, right = load_file(whole / "model.safetensors"), load_file(run / "model.safetensors")
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_without_division_the_run_ends_with_what_to_lower_and_its_checkpoint_stays(run_clm, memory_of):
    run, _ = run_clm("run", None, *PLAIN, "training.fit_memory=null", "training.max_steps=6")
    kept = [path.name for path in checkpoints(run)]
    before = {path: path.read_bytes() for path in checkpoints(run)[-1].iterdir()}
    memory_of(5)
    with pytest.raises(RunFailed, match="memory ran out after step 6") as caught:
        run_clm("run", None, "training.max_steps=12", resume=True)
    assert "lower training.batch_tokens (it is 512)" in caught.value.hint
    assert "activation_checkpointing" in caught.value.hint and "data.context" in caught.value.hint
    assert "resumes the run from step 6" in caught.value.hint
    assert [path.name for path in checkpoints(run)] == kept
    assert before == {path: path.read_bytes() for path in checkpoints(run)[-1].iterdir()}


def test_a_row_that_does_not_fit_ends_the_run(run_clm, quiet, memory_of):
    memory_of(0)
    listener = quiet()
    with pytest.raises(RunFailed, match="memory ran out after step 0"):
        run_clm("run", listener, *PLAIN)
    assert "16 parts" in listener.notes[-1]


def test_other_errors_are_not_taken_for_a_lack_of_memory(run_clm, memory_of):
    memory_of(5, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run_clm("run", None, *PLAIN)


LIMITED = """
import ctypes, resource, sys
from nlpcli.training.training_loop import Trainer

plain = Trainer._step

def step(self, share, count, tokens):
    if self.progress.step == 1:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what the first step needed is given back
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 15 * 10**7, -1))
    plain(self, share, count, tokens)
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))

Trainer._step = step
from nlpcli.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""A command whose process gets 150 MB more than it has for its second step: the batch needs over 200, a half under 120.

With less the halves fail too, and then oneDNN may lack memory for the kernels of the new shapes, for good.
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("fits", [False, True], ids=["the run ends", "batches are divided"])
def test_a_limit_of_the_system_ends_a_command_with_a_sentence_or_divides_its_batches(tmp_path, environment, fits):
    (tmp_path / "a.txt").write_text("the dog sleeps in the house of the man who walks\n" * 3000, encoding="utf-8")
    settings = ("model.d_model=64", "model.heads=2", "model.decoder_layers=2", "tokenizer.vocab_size=300",
                "training.save_every=1", f"training.fit_memory={'found' if fits else 'null'}")  # fmt: skip
    call = [sys.executable, "-c", LIMITED, "pretrain", "clm", "--data", "a.txt", "--max-steps", "2", "--batch-tokens",
            "16384", "--context", "256", "--threads", "1", "--precision", "float32", "--out", "run",
            *(word for setting in settings for word in ("--set", setting))]  # fmt: skip
    limited = environment | {"MALLOC_ARENA_MAX": "1"}  # a further thread would take 64 MB of the limit for an arena
    done = subprocess.run(call, env=limited, cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    if fits:
        assert done.returncode == 0 and "parts, whose gradients are summed" in done.stderr
    else:
        assert done.returncode == 1
        assert "memory ran out after step 1" in done.stderr and "resumes the run from step 1" in done.stderr
        assert checkpoints(tmp_path / "run")[-1].name == "step-00000001"
