"""A grid of tiny translators of spelled numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlpcli.commands.compare import CompareRequest

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NUMBERS = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
BASE = """
base:
  extends: transformer-tiny
  task: translation
  model: {encoder_layers: 1, decoder_layers: 1, d_model: 16, d_ff: 16, heads: 2, dropout: 0.0}
  tokenizer: {type: words, vocab_size: 30}
  training: {batch_tokens: 256, warmup_steps: 2, evaluate_every: 4, average_last: 0, metric: loss, bleu_sentences: 4,
             threads: 1, precision: float32}
"""
ROWS = """
equal: {steps: 6}
rows:
  - name: base
  - {name: heads-1, group: A, set: {model.heads: 1}}
  - {name: d_ff-32, group: C, set: {model.d_ff: 32}}
"""


class RecordingListener:
    """A listener that records its messages."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.evaluations = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def opened(self, run: Path) -> None:
        self.notes.append(f"run: {run}")

    def started(self, *_: object) -> None: ...

    def stepped(self, *_: object) -> None: ...

    def evaluated(self, *_: object) -> None:
        self.evaluations += 1

    def stopped(self, *_: object) -> None: ...

    def trained(self) -> list[str]:
        """The cells that were trained, in order."""
        return [note.split(": ")[1].split(" ")[0] for note in self.notes if note.startswith("cell ")]


@pytest.fixture
def listener() -> RecordingListener:
    return RecordingListener()


@pytest.fixture
def job(tmp_path, monkeypatch):
    """`job(text, **more)`: a grid of this text, under the base unless it has its own, in a folder with data."""
    monkeypatch.chdir(tmp_path)
    for side, words in (("en", WORDS), ("de", NUMBERS)):
        lines = [" ".join(words[int(digit)] for digit in f"{number:03}") for number in range(1000)]
        for name, part in (("train", lines[::5]), ("dev", lines[1::90]), ("test", lines[2::90])):
            Path(f"{name}.{side}").write_text("".join(f"{line}\n" for line in part), encoding="utf-8")

    def make(text: str = ROWS, **more) -> CompareRequest:
        Path("grid.yaml").write_text(text if "base:" in text else BASE + text, encoding="utf-8")
        files = {"train": ("train.en", "train.de"), "dev": ("dev.en", "dev.de")}
        return CompareRequest(Path("grid.yaml"), **files | more)

    return make
