"""Shared by `pretrain` and `finetune`: their options, and the display of a run in a terminal."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nlpcli.cli import shared_options, terminal
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.training.checkpoint import Progress
    from nlpcli.training.training_loop_types import Outcome

CONFIG = typer.Option(
    None,
    "--config",
    metavar="FILE",
    help="YAML file with settings, in the place of a preset; it can be combined with a trained --model. "
    "Settings that it omits have the defaults of nlpcli. "
    "'nlpcli config show PRESET' prints one to edit. The line "
    "'extends: PRESET' in it takes all other settings from that preset. Other options and --set change its values.",
)
ATTENTION = typer.Option(
    None,
    "--attention",
    metavar="PATTERN",
    help="Self-attention pattern: the keys that each query may attend to. Patterns include full (all keys), window:N "
    "(the query's own token and N - 1 tokens on each side), global:N (the first N tokens attend to all tokens, and all "
    "tokens to them), strided:N (the tokens at a distance of "
    "0, N, 2N, … from the query), blockwise:N (the tokens in the same block of N tokens) and "
    "random:N "
    "(N random tokens). + combines patterns, as in window:128+global:2. In a decoder, no query attends to later "
    "tokens. "
    "docs/figures.md lists all patterns. Other kinds of attention are linear, performer:M, linformer:K and more, see "
    "docs/attention-kinds.md. If the option is repeated, the patterns alternate from layer to layer.",
)
SET = typer.Option(
    [],
    "--set",
    metavar="KEY=VALUE",
    help="Change one setting, such as training.lr=0.001 (repeatable). It overrides --config, the preset and all other "
    "options. 'nlpcli config show PRESET' lists all settings.",
)
OUT = typer.Option(None, "--out", metavar="DIR", help="Folder of the run. Default: a new folder in runs/.")
TOKENIZER = typer.Option(
    None,
    "--tokenizer",
    metavar="DIR",
    help="Folder of a trained tokenizer. Default: the tokenizer of a pretrained --model, or else a new one, trained on "
    "the training text.",
)
RESUME = typer.Option(
    False,
    "--resume",
    help="Resume the run in the folder --out from its last checkpoint, with the configuration of that run.",
)
OVERWRITE = typer.Option(False, "--overwrite", help="Delete the run in the folder --out and start a new one there.")
MAX_STEPS = typer.Option(None, "--max-steps", min=1, help="Stop after this many optimizer steps.")
MAX_EPOCHS = typer.Option(
    None, "--max-epochs", help="Stop after this many epochs (passes over the training data), such as 0.5 or 3."
)
MAX_MINUTES = typer.Option(None, "--max-minutes", help="Stop after this many minutes of training, such as 0.5 or 60.")
MAX_TOKENS = typer.Option(None, "--max-tokens", min=1, help="Stop after this many training tokens.")

AUTO_BATCH = (
    "auto: the largest batch that the memory holds, within limits (docs/cli.md); it is written to config.yaml, and "
    "batches are divided if memory runs out later."
)
BATCH_TOKENS = typer.Option(
    None,
    "--batch-tokens",
    metavar="N|auto",
    help=f"Batch size in tokens, padding included. {AUTO_BATCH}",
)
LR = typer.Option(None, "--lr", help="Peak learning rate.")
SEED = typer.Option(None, "--seed", help="Random seed of the run.")
DEVICE = typer.Option(
    None,
    "--device",
    help="Device: auto (a CUDA GPU if there is one), cpu, cuda, cuda:N for GPU N, from 0, or mps (an Apple GPU).",
)
PRECISION = typer.Option(
    None,
    "--precision",
    help="Floating-point precision: float32, bfloat16, float16 (for CUDA GPUs without bfloat16), or auto (bfloat16 if "
    "the device computes it faster).",
)
THREADS = shared_options.THREADS
PROCESSES = typer.Option(
    None,
    "--processes",
    min=1,
    max=1024,
    help="Train with N processes of this machine, one for each GPU, or for a share of the CPU cores. They compute the "
    "steps of one process together (docs/scaling.md).",
)
JSON = typer.Option(False, "--json", help="At the end, print the folder of the run and its results as JSON.")


def launched(count: int | None, *, alone: str | None = None) -> int | None:
    """Runs this very call in `count` processes. Returns: the exit status; None where the call continues here.

    alone: an option of the call that is for one process. Raises: NlpcliError where processes are started already.
    """
    from nlpcli.training.distributed.environment import process_count
    from nlpcli.training.distributed.launcher import launch

    there = process_count()
    if alone is not None and max(there, count or 1) > 1:
        raise NlpcliError(f"{alone} can't be used with several processes", hint=f"leave out --processes or {alone}")
    if there > 1 and count not in (None, there):
        raise NlpcliError(f"--processes {count} is given to one of {there} processes", hint="leave out --processes")
    if there > 1 or count is None or count == 1:
        return None
    return launch(sys.argv[1:], count, terminal.notify)


def command_line() -> str:
    """This very call, as it can be typed again."""
    return shlex.join(["nlpcli", *sys.argv[1:]])


class Watcher:
    """Shows a run in the terminal: a bar or sparse lines while it trains, a line for each evaluation."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.run: Path | None = None
        self._stack = ExitStack()
        self._bar: terminal.Progress | None = None
        self._place = (0.0, "")  # the share of the run that is done, and its step
        self._steps: dict[str, int] = {}  # of each part of an evaluation, as the one before had them

    def note(self, text: str) -> None:
        terminal.notify(text)

    def opened(self, run: Path) -> None:
        self.run = run
        terminal.notify(f"run: {run}")

    def started(self, progress: Progress, share: float) -> None:
        if progress.step:
            terminal.notify(f"resuming after step {progress.step:,}")
        self._place = (share, f"step {progress.step:,}")
        self._bar = self._stack.enter_context(terminal.progress(self._name, total=1.0, completed=share))

    def stepped(self, progress: Progress, share: float, loss: float, lr: float, speed: float) -> None:
        self._place = (share, f"step {progress.step:,}")
        assert self._bar is not None  # a run begins with `started`
        self._bar.update(share, f"step {progress.step:,}  loss {loss:.3f}  {speed:,.0f} tokens/s")

    def working(self, what: str, done: int, total: int | None) -> None:
        """Shows the progress of an evaluation; the number of steps of the first one may be unknown."""
        total = total or self._steps.get(what)
        if done:
            self._steps[what] = max(done, self._steps.get(what, 0)) if total else done
        if self._bar is not None:
            share, step = self._place
            self._bar.update(share, f"{step}  {terminal.how_far(what, done, total)}")

    def evaluated(self, progress: Progress, metrics: Mapping[str, float], improved: bool) -> None:
        short = {name: value for name, value in metrics.items() if not name.startswith(("word_", "byte_"))}
        shown = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in short.items())
        terminal.notify(
            f"step {progress.step:,} (epoch {progress.epoch}): {shown}{'  (best so far)' if improved else ''}"
        )

    def stopped(self, progress: Progress, reason: str) -> None:
        self.close()
        terminal.notify(f"stopped after step {progress.step:,}, {terminal.duration(progress.seconds)}: {reason}")

    def close(self) -> None:
        self._stack.close()


@contextmanager
def watched(
    command: str, again: str | None = None, *, seeds: int | None = None, trains: bool = True
) -> Iterator[Watcher]:
    """A watcher for one run of `nlpcli COMMAND`; an interrupt shows the command that resumes the run.

    again: that command, where it does not resume the run that was interrupted. seeds: of the runs that are one call;
    each has a folder below that of all. trains: whether anything is to be resumed.
    """
    from nlpcli.data.progress import following

    watcher = Watcher(command)
    try:
        with following(watcher.working):
            yield watcher
    except KeyboardInterrupt:
        watcher.close()
        if trains and watcher.run is None:
            terminal.notify(f"training had not begun; start it with: {again or command_line()}")
        elif trains:
            terminal.notify(f"resume with: {again or _resuming(command, watcher.run, seeds)}")
        raise
    finally:
        watcher.close()


def _resuming(command: str, run: Path | None, seeds: int | None) -> str:
    folder = run.parent if run is not None and seeds is not None else run
    more = "" if seeds is None else f" --seeds {seeds}"
    return f"nlpcli {command} --resume{more} --out {shlex.quote(str(folder))}"


def report(run: Path, outcome: Outcome, *, json: bool, use: str) -> None:
    """The end of a run: its best checkpoint, and how to use it."""
    terminal.notify(f"best checkpoint: {outcome.kept}, in {run}")
    terminal.notify(f"use it: {use}")
    if json:
        from nlpcli.runs.train import record_of

        terminal.write_json(record_of(run, outcome))
    else:
        terminal.write_line(str(run))
