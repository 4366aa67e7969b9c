"""Kills training runs by SIGKILL at random moments, resumes them, and compares what they leave with an unbroken run's.

python benchmarks/reliability/kill_campaign.py                  all cases, ten kills each way
python benchmarks/reliability/kill_campaign.py --short          a few cases and kills, in less than a minute
python benchmarks/reliability/kill_campaign.py --cases clm tag --kills 3

A run is killed in three ways: at random moments of its time; just before random file operations (a file that is opened
to be written, flushed to the disk, renamed or removed), which is where checkpoints, the model and the log are written;
and in each phase: while a tokenizer is trained, shards are built, a checkpoint is written, the dev set is evaluated,
and the end is written. After a kill the run is resumed with --resume, or started again where it had no folder yet.
Compared are the bytes of the model, the tensors of the last checkpoint (weights, optimizer, random states, averages),
the log without times and speeds, and leftovers. Exit status 1: something differs, or a run could not be resumed.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlpcli.data.readers import read_lines
from nlpcli.data.sample_data import sample_file
from nlpcli.training.checkpoint import checkpoints

_EVERY = [
    "--max-steps=24", "--device=cpu", "--precision=float32", "--threads=1", "--set=training.evaluate_every=6",
    "--set=training.save_every=2", "--set=training.log_every=5", "--set=training.keep_checkpoints=2",
]  # fmt: skip
_CHARS = ["--set=tokenizer.type=chars", "--set=tokenizer.vocab_size=400"]
_NARROW = ["--set=model.d_model=16", "--set=model.d_ff=32", "--set=model.heads=2"]
_PRETRAIN = [*_EVERY, *_CHARS, "--batch-tokens=256", "--data=text.txt"]
_FINETUNE = [*_EVERY, *_CHARS, *_NARROW, "--set=training.batch_size=4", "--set=data.dev_fraction=0.2"]

CASES = {
    "clm": ["pretrain", "--objective=clm", "--preset=gpt-mini", "--context=32", *_NARROW, *_PRETRAIN,
            "--set=model.decoder_layers=1", "--set=training.average_last=3"],
    "clm, subwords": ["pretrain", "--objective=clm", "--preset=gpt-mini", "--context=32", *_NARROW,
                      *_PRETRAIN[:-1], "--data=long.txt", "--set=model.decoder_layers=1",
                      "--set=tokenizer.type=unigram", "--set=tokenizer.vocab_size=600"],
    "clm, Transformer-XL": ["pretrain", "--objective=clm", "--preset=transformer-xl-nano", *_PRETRAIN],
    "clm, LSTM, ASGD": ["pretrain", "--objective=clm", "--preset=awd-lstm-nano", *_PRETRAIN],
    "plm, XLNet": ["pretrain", "--objective=plm", "--preset=xlnet-nano", *_PRETRAIN],
    "mlm, moving average": ["pretrain", "--objective=mlm", "--preset=bert-nano", *_PRETRAIN,
                            "--set=training.ema_decay=0.9", "--set=training.accumulate=2"],
    "nsp": ["pretrain", "--objective=mlm+nsp", "--preset=bert-nano", *_PRETRAIN],
    "denoise": ["pretrain", "--objective=denoise", "--preset=t5-nano", *_PRETRAIN],
    "gap-sentences": ["pretrain", "--objective=gap-sentences", "--preset=pegasus-nano", *_PRETRAIN],
    "word2vec": ["pretrain", "--objective=word2vec", *_EVERY, "--data=text.txt", "--set=tokenizer.type=words"],
    "classify": ["finetune", "--task=classify", "--model=bert-nano", "--train=classify.tsv", "--dev=classify.tsv",
                 *_FINETUNE, "--set=training.patience=2", "--set=training.metric=accuracy"],
    "tag": ["finetune", "--task=tag", "--model=bert-nano", "--train=tag.conll", "--dev=tag.conll", *_FINETUNE],
    "span": ["finetune", "--task=span", "--model=bert-nano", "--train=span.json", "--dev=span.json", *_FINETUNE],
    "translation": ["finetune", "--task=translation", "--model=transformer-mini", "--train", "train.en", "train.de",
                    "--dev", "train.en", "train.de", *_EVERY, *_CHARS, *_NARROW, "--batch-tokens=512",
                    "--set=model.encoder_layers=1", "--set=model.decoder_layers=1",
                    "--set=training.bleu_sentences=4"],
}  # fmt: skip
"""What is trained: the arguments of `nlpcli`, in a folder with the sample files."""

SHORT = ("clm", "classify")
PHASES = ("tokenizer training", "shard building", "checkpoint writing", "evaluation", "final write")
_TIMES = ("seconds", "tokens_per_second")


# --- one process ---------------------------------------------------------------------------------------------------


@dataclass
class Child:
    """How a process ended, and how long it ran. operations: how many file operations it made, where it tells."""

    status: int
    seconds: float
    operations: int = 0

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL


def run_child(
    arguments: list[str], folder: Path, *, prepare: Callable[[], None] | None = None, after: float | None = None
) -> Child:
    """`nlpcli ARGUMENTS` in `folder`, in a process that has loaded the libraries. after: seconds until it is killed."""
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_nlpcli(arguments, folder, prepare)
    if after is not None:
        timer = threading.Timer(after, os.kill, (child, signal.SIGKILL))
        timer.start()
    try:
        _, status = os.waitpid(child, 0)
    finally:
        if after is not None:
            timer.cancel()
            timer.join()
    return Child(status, time.monotonic() - begun)


def _be_nlpcli(arguments: list[str], folder: Path, prepare: Callable[[], None] | None) -> None:
    try:
        os.chdir(folder)
        os.environ["NLPCLI_CACHE"] = str(folder / "cache")
        os.environ["TMPDIR"] = str(folder / "tmp")
        tempfile.tempdir = None
        log = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from nlpcli.cli.main import main

        if prepare is not None:
            prepare()
        sys.argv = ["nlpcli", *arguments]
        status = main()
        sys.stderr.flush()
    except BaseException as error:
        print(f"campaign: {error!r}", file=sys.stderr, flush=True)
        status = 99
    os._exit(status)


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_operation(number: int, counter: Path | None = None) -> Callable[[], None]:
    """Kills the process just before its file operation `number`; counter: a file that has the count in the end."""

    def prepare() -> None:
        seen = 0

        def operation() -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                kill_self()
            if counter is not None:
                descriptor = os.open(counter, os.O_WRONLY | os.O_CREAT, 0o600)
                os.pwrite(descriptor, b"%09d" % seen, 0)
                os.close(descriptor)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link") or (
                event == "open"
                and isinstance(arguments[2], int)
                and arguments[2] & (os.O_WRONLY | os.O_RDWR)
                and str(arguments[0]) != str(counter)
            ):
                operation()

        sync = os.fsync

        def fsync(descriptor: int) -> None:
            operation()
            sync(descriptor)

        os.fsync = fsync
        sys.addaudithook(hook)

    return prepare


def in_phase(phase: str, call: int, delay: float) -> Callable[[], None]:
    """Kills the process `delay` seconds after the function of a phase was called for the `call`-th time."""

    def prepare() -> None:
        owner, name = _function_of(phase)
        plain = getattr(owner, name)
        calls = 0

        def watched(*arguments: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                threading.Timer(delay, kill_self).start()
            return plain(*arguments, **more)

        setattr(owner, name, watched)

    return prepare


def _function_of(phase: str) -> tuple[Any, str]:
    from nlpcli.data.encoding import ShardWriter
    from nlpcli.runs import tokenizer_cache, train
    from nlpcli.training import save_and_resume
    from nlpcli.training.evaluator import Evaluator

    return {
        "tokenizer training": (tokenizer_cache, "_trained"),
        "shard building": (ShardWriter, "add"),
        "checkpoint writing": (save_and_resume, "save_checkpoint"),
        "evaluation": (Evaluator, "measure"),
        "final write": (train, "card_of"),
    }[phase]


# --- one run and its kills -----------------------------------------------------------------------------------------


@dataclass
class Result:
    """What came of a run that was killed. problems: in words, none where it equals the unbroken one."""

    case: str
    how: str
    kills: int
    problems: list[str] = field(default_factory=list)
    compared: int = 0  # bytes


Kill = tuple[Callable[[], None] | None, float | None]
"""What is done in a process before it begins, and after how many seconds it is killed."""


def survive(case: str, how: str, folder: Path, whole: Path, kills: Iterator[Kill]) -> Result:
    """Trains `case` in `folder`, killing it in each way of `kills` in turn, and compares it with `whole`."""
    result = Result(case, how, 0)
    for prepare, after in kills:
        child = run_child(_arguments(case, folder), folder, prepare=prepare, after=after)
        result.kills += child.killed
        if not child.killed:
            if child.status != 0:
                result.problems.append(f"a resumed run ended with {_exit(child.status)}: {_last_words(folder)}")
                return result
            if how != "in phases":
                break
    child = run_child(_arguments(case, folder), folder)
    if child.status != 0:
        result.problems.append(f"the last resumption ended with {_exit(child.status)}: {_last_words(folder)}")
        return result
    result.compared, result.problems = differences(whole / "run", folder / "run")
    left = [str(path.relative_to(folder)) for path in folder.rglob(".*") if "inductor" not in str(path)]
    left += [path.name for path in (folder / "tmp").glob("nlpcli*")]
    if left:
        result.problems.append(f"leftovers: {', '.join(left)}")
    return result


def _arguments(case: str, folder: Path) -> list[str]:
    """The call as a user makes it now: the first one, or one that resumes."""
    if (folder / "run" / "config.yaml").exists():
        return [CASES[case][0], "--resume", "--out=run"]
    return [*CASES[case], "--out=run"]


def _exit(status: int) -> str:
    return f"status {os.waitstatus_to_exitcode(status)}"


def _last_words(folder: Path) -> str:
    return " / ".join((folder / "output.txt").read_text(errors="replace").splitlines()[-2:])


def differences(whole: Path, other: Path) -> tuple[int, list[str]]:
    """The number of bytes that were compared in two runs, and what differs."""
    found, compared = [], 0
    names = ["model.safetensors", *(f"tokenizer/{path.name}" for path in sorted((whole / "tokenizer").iterdir()))]
    last, other_last = checkpoints(whole), checkpoints(other)
    if [path.name for path in last] != [path.name for path in other_last]:
        found.append(f"checkpoints: {[path.name for path in last]} and {[path.name for path in other_last]}")
    for path in last:
        names += [f"checkpoints/{path.name}/{file.name}" for file in sorted(path.glob("*.safetensors"))]
    names += [str(path.relative_to(whole)) for path in sorted(whole.glob("checkpoints/**/*.safetensors"))]
    for name in dict.fromkeys(names):
        one, two = whole / name, other / name
        compared += one.stat().st_size
        if not two.exists():
            found.append(f"{name} is missing")
        elif one.read_bytes() != two.read_bytes():
            found.append(f"{name} differs")
    for name in ("metrics.jsonl", "samples.jsonl"):
        if _lines(whole / name) != _lines(other / name):
            found.append(f"{name} differs")
    weights = {str(p.relative_to(r)) for r in (whole, other) for p in r.rglob("*.safetensors")}
    more = sorted(name for name in weights if not (whole / name).exists())
    if more:
        found.append(f"more files of weights: {', '.join(more)}")
    return compared, found


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in _TIMES} for line in lines]


# --- the campaign --------------------------------------------------------------------------------------------------


def prepare_folder(folder: Path) -> Path:
    """A folder with the sample files that the cases read."""
    (folder / "tmp").mkdir(parents=True)
    text = list(read_lines(sample_file("tinyshakespeare.txt.gz")))
    (folder / "text.txt").write_text("\n".join(text[:1000]) + "\n", encoding="utf-8")
    (folder / "long.txt").write_text("\n".join(text[:4000]) + "\n", encoding="utf-8")  # trained on by a process
    rows = [f"{('good', 'bad')[i % 2]}\t{line}" for i, line in enumerate(filter(None, text[:80]))]
    (folder / "classify.tsv").write_text("\n".join(["label\ttext", *rows]) + "\n", encoding="utf-8")
    for language in ("en", "de"):
        lines = list(read_lines(sample_file(f"tatoeba-en-de/dev.{language}")))[:60]
        (folder / f"train.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = [line.split() for line in text[:200] if line.strip()]
    tagged = ["\n".join(f"{word} {'B-PER' if word[0].isupper() else 'O'}" for word in line) for line in words[:40]]
    (folder / "tag.conll").write_text("\n\n".join(tagged) + "\n", encoding="utf-8")
    paragraphs = [_question(number, line) for number, line in enumerate(words[:40]) if len(line) > 2]
    (folder / "span.json").write_text(json.dumps({"version": "1", "data": [{"title": "", "paragraphs": paragraphs}]}))
    return folder


def _question(number: int, words: list[str]) -> dict[str, Any]:
    context = " ".join(words)
    answer = {"text": words[1], "answer_start": len(words[0]) + 1}
    return {"context": context, "qas": [{"id": str(number), "question": "Which word is second?", "answers": [answer]}]}


def campaign(case: str, kills: int, root: Path, rng: random.Random) -> Iterator[Result]:
    """Kills one case in all ways."""
    root.mkdir(parents=True)
    whole, counter = prepare_folder(root / "whole"), root / "operations"
    child = run_child(_arguments(case, whole), whole, prepare=before_operation(0, counter))
    if child.status != 0:
        yield Result(case, "unbroken", 0, [f"ended with {_exit(child.status)}: {_last_words(whole)}"])
        return
    operations, seconds = int(counter.read_text()), child.seconds

    left = kills
    for number in range(kills):  # a run that has ended early is followed by another one
        times: Iterator[Kill] = ((None, rng.uniform(0.0, seconds * 0.6)) for _ in range(left))
        result = survive(case, "at random moments", prepare_folder(root / f"times-{number}"), whole, times)
        yield result
        left -= result.kills
        if left <= 0 or result.problems:
            break
    writes: list[Kill] = [(before_operation(rng.randint(1, max(operations // 3, 1))), None) for _ in range(kills // 2)]
    yield survive(case, "before file operations", prepare_folder(root / "writes"), whole, iter(writes))
    phases: list[Kill] = [
        (in_phase(phase, 1, rng.choice((0.0, rng.uniform(0.0, 0.05)))), None)
        for phase in PHASES
        if phase != "shard building" or "--objective" in " ".join(CASES[case])
        for _ in range(max(kills // 10, 1))
    ]
    yield survive(case, "in phases", prepare_folder(root / "phases"), whole, iter(phases))


def load_libraries(root: Path) -> None:
    """Loads what a process needs, before others are forked from this one; nothing is computed, so it has no threads."""
    folder = prepare_folder(root)
    for name in ("torch._dynamo", "nlpcli.runs.train"):  # most of it
        importlib.import_module(name)
    for case in ("clm", "classify"):  # the processes themselves say what they load
        run_child([*CASES[case], f"--out={case}"], folder, prepare=lambda: write_modules(folder / "modules"))
        for name in (folder / "modules").read_text().split():
            with suppress(Exception):
                importlib.import_module(name)
    gc.freeze()  # or each training would search all modules for garbage


def write_modules(path: Path) -> None:
    """Has the process write the names of its modules when its command has ended."""
    from nlpcli.cli import training_options

    plain = training_options.report

    def report(*arguments: Any, **more: Any) -> None:
        plain(*arguments, **more)
        path.write_text("\n".join(sys.modules))

    training_options.report = report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=None, metavar="CASE")
    parser.add_argument("--kills", type=int, default=10, help="kills of each run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help=f"only {', '.join(SHORT)}, with 3 kills")
    parser.add_argument("--keep", type=Path, help="a new folder for the runs, which stay there")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    kills = 3 if given.short else given.kills
    root = given.keep or Path(tempfile.mkdtemp(prefix="kill-campaign-"))
    load_libraries(root / "libraries")
    results = []
    print(f"{'case':<24}{'killed':<26}{'kills':>6}{'bytes compared':>16}  result")
    try:
        for number, case in enumerate(given.cases or (SHORT if given.short else CASES)):
            for result in campaign(case, kills, root / str(number), random.Random(f"{given.seed} {case}")):
                results.append(result)
                verdict = "; ".join(result.problems) or "identical"
                print(f"{case:<24}{result.how:<26}{result.kills:>6}{result.compared:>16,}  {verdict}", flush=True)
    finally:
        if given.keep is None:
            with suppress(OSError):
                shutil.rmtree(root)
    bad = sum(bool(result.problems) for result in results)
    killed, compared = sum(result.kills for result in results), sum(result.compared for result in results)
    print(f"{len(results)} runs, {killed} kills, {compared:,} bytes compared, {bad} runs that differ")
    return 1 if bad or not killed else 0


if __name__ == "__main__":
    sys.exit(main())
