from __future__ import annotations

import random

import pytest

from nlpcli.runs.pretraining.pretrain import pretrain
from nlpcli.runs.training_request import Request


class Quiet:
    """A listener that remembers, and may stop the run by raising in `stepped`."""

    def __init__(self, interrupt_at=None):
        self.interrupt_at = interrupt_at
        self.notes, self.evaluations, self.reason = [], [], None

    def note(self, text):
        self.notes.append(text)

    def opened(self, run):
        pass

    def started(self, progress, share):
        pass

    def stepped(self, progress, share, loss, lr, speed):
        if progress.step == self.interrupt_at:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    def evaluated(self, progress, metrics, improved):
        self.evaluations.append((progress.step, dict(metrics), improved))

    def stopped(self, progress, reason):
        self.reason = reason


@pytest.fixture
def quiet():
    return Quiet


@pytest.fixture
def corpus(tmp_path):
    """Sentences with a grammar, so that there is something to learn."""
    draw = random.Random(5)
    words = [("the", "a"), ("cat", "dog", "bird"), ("sees", "likes"), ("the", "a"), ("fish", "worm")]
    lines = [" ".join(draw.choice(choices) for choices in words) for _ in range(400)]
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run_clm(tmp_path, corpus):
    """Trains a tiny character model: run_clm(name, listener, "training.lr=…", resume=…) -> (folder, outcome)."""
    small = {
        "objective": "clm",
        "model": {"d_model": 16, "heads": 2, "d_ff": 32, "decoder_layers": 1, "dropout": 0.1},
        "tokenizer": {"type": "chars"},
        "data": {"train": [str(corpus)], "documents": "lines", "context": 32},
        "training": {
            "batch_tokens": 256, "max_steps": 40, "lr": 0.01, "warmup_steps": 5, "evaluate_every": 20, "log_every": 1,
            "precision": "float32", "device": "cpu",
        },
    }  # fmt: skip

    def run(name, listener=None, *overrides, resume=False):
        request = Request(
            default="gpt-mini",
            settings={} if resume else small,
            overrides=overrides,
            out=tmp_path / name,
            resume=resume,
        )
        return pretrain(request, listener or Quiet())

    return run
