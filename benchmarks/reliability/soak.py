"""Soak: many lines through the commands that answer line by line, with readers that are slow or stop.

    python benchmarks/reliability/soak.py --command predict --lines 1000000
    python benchmarks/reliability/soak.py --lines 20000 --readers plain slow head pause

The input is numbered lines, which a model of random weights answers, or which are scored against themselves. Checked
are: one output line for each input line, in order (`report` gives the scores of all lines, and their number); the exit
status; that a reader that stops (as `head`) ends the command without a message; and the memory: the largest resident
size over the second half of the lines may exceed that over the first tenth by at most --growth MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

TINY = [
    *("--set", "tokenizer.type=chars", "--set", "model.d_model=8", "--set", "model.d_ff=8", "--set", "model.heads=1"),
    *("--max-steps", "1", "--device", "cpu", "--precision", "float32"),
]
MODELS = {
    "mlm": ["pretrain", "--objective", "mlm", "--preset", "roberta-nano", *TINY, "--set", "model.encoder_layers=1",
            "--data", "text"],
    "lm": ["pretrain", "--objective", "clm", "--preset", "gpt-mini", *TINY, "--set", "model.decoder_layers=1",
           "--data", "text"],
    "cls": ["finetune", "--task", "classify", "--model", "mlm", "--train", "labels.tsv", "--dev", "labels.tsv",
            "--max-steps", "1", "--device", "cpu"],
    "mt": ["finetune", "--task", "translation", "--model", "transformer-tiny", *TINY, "--set", "model.encoder_layers=1",
           "--set", "model.decoder_layers=1", "--train", "text", "text", "--dev", "text", "text"],
}  # fmt: skip
COMMANDS = {
    "translate": ["translate", "--model", "mt", "--json", "--beam-size", "1", "--max-length", "2", "--device", "cpu"],
    "predict": ["predict", "--model", "cls", "--json", "--device", "cpu"],
    "embed": ["embed", "--model", "mlm", "--device", "cpu"],
    "score": ["score", "bleu,wer", "-", "--ref", "references", "--sentence", "--json"],
    "tokenize": ["tokenize", "encode", "mt", "--json"],
}
"""Each writes a JSON object with the text for each line."""
REPORTS = {"report": ["score", "bleu,chrf,wer", "-", "--ref", "references", "--json"]}
"""Each writes one JSON object with the number of lines, as `segments`."""

READERS = ("plain", "slow", "pause", "head")


@dataclass
class Soak:
    """What one command did. sizes: (lines read, resident bytes) while it ran."""

    lines: int = 0
    wrong: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    seconds: float = 0.0
    status: int = -1
    stderr: str = ""

    def first(self, total: int) -> int:
        """The largest resident size up to a tenth of the lines."""
        return max((size for lines, size in self.sizes if lines <= total // 10), default=0)

    def last(self, total: int) -> int:
        """The largest resident size over the second half of the lines."""
        return max((size for lines, size in self.sizes if lines >= total // 2), default=0)


def main(argv: list[str] | None = None) -> int:
    """Runs the commands. Returns 1 when one lost a line, changed the order, failed or grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    choices = [*COMMANDS, *REPORTS]
    parser.add_argument("--command", choices=choices, action="append", help="only this command (repeatable)")
    parser.add_argument("--readers", choices=READERS, nargs="+", default=["plain"])
    parser.add_argument(
        "--growth", type=int, default=16, help="MiB that the memory may grow after a tenth of the lines"
    )
    options = parser.parse_args(argv)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), options.lines)
        print(
            f"{'command':<10} {'reader':<6} {'lines':>9} {'s':>6} {'lines/s':>8} {'MiB at 10 %':>11} {'MiB at end':>10}"
        )
        for command in options.command or choices:
            for reader in options.readers if command in COMMANDS else ["plain"]:
                found = soak(command, reader, Path(folder), options.lines)
                faults = list(faults_of(found, reader, options.lines, options.growth))
                first, last = found.first(options.lines) / 2**20, found.last(options.lines) / 2**20
                print(f"{command:<10} {reader:<6} {found.lines:>9,} {found.seconds:>6.1f} "
                      f"{found.lines / found.seconds:>8,.0f} {first:>11.1f} {last:>10.1f}", flush=True)  # fmt: skip
                for fault in faults:
                    print(f"    FAILED: {fault}", flush=True)
                failed = failed or bool(faults)
    return int(failed)


def prepare(folder: Path, lines: int) -> None:
    """Makes the models, and the references that `score` reads."""
    (folder / "text").write_text("0 1 2 3\n4 5 6\n7 8 9\n\n" * 12)
    (folder / "labels.tsv").write_text("1\tpos\n2\tneg\n" * 8)
    with open(folder / "references", "w") as file:
        file.writelines(f"{number}\n" for number in range(lines))
    for name, line in MODELS.items():
        done = subprocess.run(
            [sys.executable, "-m", "nlpcli", *line, "--out", name],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])


def soak(command: str, reader: str, folder: Path, lines: int) -> Soak:
    """Sends the lines through the command and reads what comes out."""
    began = time.monotonic()
    with open(folder / "stderr", "w+") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "nlpcli", *(COMMANDS | REPORTS)[command]], cwd=folder, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=stderr, text=True, bufsize=1 << 16,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        found = Soak()
        watched = (found, process.pid) if command in REPORTS else None
        writer = threading.Thread(target=write, args=(process.stdin, lines, reader == "pause", watched), daemon=True)
        writer.start()
        if command in REPORTS:
            found.lines = json.loads(process.stdout.read() or "{}").get("segments", 0)
        for line in process.stdout:
            check(line, found)
            found.lines += 1
            if found.lines % max(1, lines // 200) == 0:
                found.sizes.append((found.lines, resident(process.pid)))
                if reader == "slow":
                    time.sleep(0.05)
            if reader == "head" and found.lines == 10:
                break
        process.stdout.close()
        found.status = process.wait()
        writer.join(60)
        stderr.seek(0)
        found.stderr = stderr.read()
    found.seconds = time.monotonic() - began
    return found


def write(stream: IO[str], lines: int, pauses: bool, watched: tuple[Soak, int] | None) -> None:
    """Writes the numbered lines, with pauses if `pauses`. watched: where to note the size of which process."""
    try:
        for number in range(lines):
            stream.write(f"{number}\n")
            if watched is not None and number % max(1, lines // 200) == 0:
                watched[0].sizes.append((number, resident(watched[1])))
            if pauses and number % max(1, lines // 20) == 0:
                stream.flush()
                time.sleep(0.2)
        stream.close()
    except (BrokenPipeError, ValueError):
        pass


def check(line: str, found: Soak) -> None:
    """Notes a line that is not the answer to the line with its number."""
    record = json.loads(line)
    if record.get("text") != str(found.lines) and len(found.wrong) < 3:
        found.wrong.append(f"output line {found.lines} is {line[:100]!r}")


def faults_of(found: Soak, reader: str, lines: int, growth: int) -> Iterator[str]:
    """What must not be."""
    yield from found.wrong
    if found.status != 0:
        yield f"exit status {found.status}: {found.stderr[-500:]}"
    if reader == "head":
        if "nlpcli: " in found.stderr:
            yield f"a message to a reader that has stopped: {found.stderr[-500:]}"
        return
    if found.lines != lines:
        yield f"{found.lines:,} lines came out of {lines:,}"
    if found.last(lines) - found.first(lines) > growth * 2**20:
        yield f"the memory grew by {(found.last(lines) - found.first(lines)) / 2**20:.1f} MiB"


def resident(process: int) -> int:
    """The bytes of memory of a process."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
