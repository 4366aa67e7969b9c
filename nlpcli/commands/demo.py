"""The demonstration: the whole way from raw text to a scored translation, as the command lines a person would type."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from nlpcli.config.files import write_atomic
from nlpcli.config.temporary_files import is_free
from nlpcli.data.readers import read_lines
from nlpcli.data.sample_data import sample_file
from nlpcli.errors import Interruption, NlpcliError

SOURCE, TARGET = "en", "de"
SPLITS = ("train", "dev", "test")
TEXT = "tinyshakespeare.txt"
TEST_LINES = 500


@dataclass(frozen=True)
class Step:
    """One command of the demonstration. `stdin` and `stdout` are files, as after `<` and `>`."""

    title: str
    arguments: tuple[str, ...]
    stdin: Path | None = None
    stdout: Path | None = None

    @property
    def line(self) -> str:
        """The command as a person would type it."""
        words = shlex.join(["nlpcli", *self.arguments])
        words += f" < {shlex.quote(str(self.stdin))}" if self.stdin else ""
        words += f" > {shlex.quote(str(self.stdout))}" if self.stdout else ""
        return words

    def run(self) -> int:
        """Runs it as a process of its own and returns its exit status. An interruption ends that process too."""
        with ExitStack() as files:
            process = subprocess.Popen(
                [sys.executable, "-m", "nlpcli", *self.arguments],
                stdin=files.enter_context(open(self.stdin, "rb")) if self.stdin else subprocess.DEVNULL,
                stdout=files.enter_context(open(self.stdout, "wb")) if self.stdout else None,
                env={**os.environ, "PYTHONPATH": _module_path()},
            )
            try:
                return process.wait()
            except KeyboardInterrupt as error:
                if isinstance(error, Interruption):  # sent to this process alone, as SIGTERM is
                    process.terminate()
                _end(process)
                raise


def prepare(folder: Path) -> dict[str, Path]:
    """Unpacks the sample data into `folder`/data and returns its files by name: train.en, tinyshakespeare.txt …

    Raises: NlpcliError when `folder` exists and is not empty.
    """
    if not is_free(folder):
        raise NlpcliError(
            f"{folder}: the folder exists and is not empty", hint="name another folder with --out, or remove this one"
        )
    files = {}
    for split, language in itertools.product(SPLITS, (SOURCE, TARGET)):
        name = f"{split}.{language}"
        lines = read_lines(sample_file(f"tatoeba-en-de/{name}{'.gz' if split == 'train' else ''}"))
        kept = itertools.islice(lines, TEST_LINES) if split == "test" else lines
        files[name] = _write(folder / "data" / name, kept)
    files[TEXT] = _write(folder / "data" / TEXT, read_lines(sample_file(f"{TEXT}.gz")))
    return files


def steps(folder: Path, files: dict[str, Path], minutes: float) -> list[Step]:
    """The commands in order; the translator is trained for `minutes`, the language model for a fifth of it."""
    train, dev, test = ([files[f"{split}.{language}"] for language in (SOURCE, TARGET)] for split in SPLITS)
    tokenizer, lm, translator = folder / "tokenizer", folder / "lm", folder / "translator"
    hypotheses = folder / f"test.hyp.{TARGET}"

    tokenize = ["tokenize", "train", "--type", "unigram", "--vocab-size", 4000, "--out", tokenizer, *train]
    pretrain = ["pretrain", "--objective", "clm", "--data", files[TEXT], "--max-minutes", minutes / 5, "--out", lm]
    generate = ["generate", "--model", lm, "--prompt", "ROMEO:", "--max-new-tokens", 60, "--top-p", 0.9, "--seed", 1]
    finetune = ["finetune", "--task", "translation", "--model", "transformer-mini", "--tokenizer", tokenizer]
    finetune += ["--train", *train, "--dev", *dev, "--max-minutes", minutes, "--out", translator]
    translate = ["translate", "--model", translator]
    score = ["score", "--metric", "bleu", "--metric", "chrf", "--ref", test[1], hypotheses]
    return [
        Step("Train a tokenizer on both languages", _words(tokenize)),
        Step("Pretrain a small language model on Shakespeare", _words(pretrain)),
        Step("Continue a text with the language model", _words(generate)),
        Step("Train a translation model from English to German", _words(finetune)),
        Step("Translate the test set", _words(translate), stdin=test[0], stdout=hypotheses),
        Step("Score the translations against the references", _words(score)),
    ]


def examples(folder: Path, files: dict[str, Path], count: int = 5) -> Iterator[tuple[str, str, str]]:
    """Source, hypothesis and reference of sentences spread over the test set; short ones, which read quickly."""
    hypotheses = folder / f"test.hyp.{TARGET}"
    rows = list(
        zip(*(read_lines(p) for p in (files[f"test.{SOURCE}"], hypotheses, files[f"test.{TARGET}"])), strict=True)
    )
    yield from rows[:: max(1, len(rows) // count)][:count]


def _words(arguments: list[object]) -> tuple[str, ...]:
    return tuple(f"{word:g}" if isinstance(word, float) else str(word) for word in arguments)


def _write(path: Path, lines: Iterator[str]) -> Path:
    write_atomic(path, "".join(f"{line}\n" for line in lines))
    return path


def _module_path() -> str:
    """Lets the child find this same package when the program runs from a checkout that is not installed."""
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def _end(process: subprocess.Popen) -> None:
    """A Ctrl-C has reached the child as well, unless it was sent to this process alone: give it time, then insist."""
    for patience, insist in ((10.0, process.terminate), (10.0, process.kill)):
        try:
            process.wait(patience)
            return
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            insist()
    process.wait()
