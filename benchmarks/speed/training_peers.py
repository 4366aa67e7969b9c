"""Training beside the programs that people use for it: processor time of a step, the programs in turn.

    python benchmarks/speed/training_peers.py nanogpt --peer FOLDER_OF_NANOGPT
    python benchmarks/speed/training_peers.py mlm --preset bert-mini --text TEXT --python PYTHON
    python benchmarks/speed/training_peers.py classify --model MINILM --train train.tsv.gz --dev dev.tsv --python PYTHON

Each program trains twice, for few and for more steps, and the difference is what the steps cost: starting, tokenizing
and evaluating are left out. One thread; float32 on both sides, and bfloat16 of ours besides. PYTHON is an interpreter
with transformers and accelerate. Prints medians over the rounds, with the lowest and highest ratio.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
Start = Callable[[int], Sequence[str]]
"""The command that trains so many steps."""


def seconds(command: Sequence[str], folder: Path | None = None) -> tuple[float, str]:
    """Processor time of a command and what it wrote to both outputs."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | ONE_THREAD, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        _, status, used = os.wait4(process.pid, 0)
        output.seek(0)
        text = output.read()
    if status:
        sys.exit(f"{' '.join(command)}\n{text}")
    return used.ru_utime + used.ru_stime, text


def a_step(start: Start, steps: Sequence[int], folder: Path | None = None) -> tuple[float, str]:
    """Processor time of one step, and what the longer run wrote."""
    few, more = steps
    before, _ = seconds(start(few), folder)
    after, text = seconds(start(more), folder)
    return (after - before) / (more - few), text


def ours(out: Path, *words: str) -> Start:
    def start(steps: int) -> list[str]:
        return [
            sys.executable, "-m", "nlpcli", *words, f"--max-steps={steps}", f"--out={out}", "--overwrite",
            "--set=training.evaluate_every=1000000", "--threads=1",
        ]  # fmt: skip

    return start


def compare(name: str, programs: dict[str, tuple[Start, Path | None]], steps: Sequence[int], rounds: int) -> None:
    """The first program is the peer."""
    times: dict[str, list[float]] = {program: [] for program in programs}
    texts = {}
    for _ in range(rounds):
        for program, (start, folder) in programs.items():
            found, texts[program] = a_step(start, steps, folder)
            times[program].append(found)
    peer, *others = programs
    print(f"| {name} | {peer} | {1000 * statistics.median(times[peer]):.0f} ms | 1 | | {_loss(texts[peer])} |")
    for program in others:
        ratios = [a / b for a, b in zip(times[peer], times[program], strict=True)]
        print(
            f"| {name} | {program} | {1000 * statistics.median(times[program]):.0f} ms "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} | {_loss(texts[program])} |",
            flush=True,
        )


def _loss(text: str) -> str:
    """The last loss that a program reports."""
    found = re.findall(r"(?:loss|val loss)[ :]+(\d+\.\d+)", text)
    return found[-1] if found else ""


def nanogpt(given: argparse.Namespace, work: Path) -> None:
    recipe = ["pretrain", f"--config={ROOT}/benchmarks/tinyshakespeare/nanogpt.yaml",
              f"--data={ROOT}/sample_data/tinyshakespeare.txt.gz"]  # fmt: skip
    shape = ("--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128", "--dropout=0.0")

    def theirs(steps: int) -> list[str]:
        return [
            str(given.python), "train.py", "config/train_shakespeare_char.py", "--device=cpu", "--compile=False",
            "--eval_iters=20", f"--eval_interval={steps}", "--log_interval=1000", f"--max_iters={steps}",
            "--lr_decay_iters=2000", f"--out_dir={work}/nanogpt", *shape,
        ]  # fmt: skip

    programs: dict[str, tuple[Start, Path | None]] = {"nanoGPT": (theirs, given.peer)}
    for precision in ("float32", "bfloat16"):
        programs[precision] = (ours(work / precision, *recipe, f"--precision={precision}"), None)
    compare("GPT of 0.8 M", programs, (50, 50 + given.steps), given.rounds)


def mlm(given: argparse.Namespace, work: Path) -> None:
    length, batch = 128, 32
    recipe = [
        "pretrain", "--objective=mlm", f"--preset={given.preset}", f"--data={given.text}", f"--context={length}",
        f"--batch-tokens={length * batch}", f"--set=tokenizer.vocab_size={given.vocabulary}",
        "--set=training.lr=0.001", "--set=training.schedule=constant", "--set=training.warmup_steps=0",
    ]  # fmt: skip
    programs: dict[str, tuple[Start, Path | None]] = {}
    seconds(ours(work / "first", *recipe, "--precision=float32")(1))
    convert = ("convert", str(work / "first"), "--to=huggingface", f"--out={work / 'folder'}")
    seconds([sys.executable, "-m", "nlpcli", *convert])
    peer = HERE / "peers" / "masked_language_model.py"

    def theirs(steps: int) -> list[str]:
        more = (f"--steps={steps}", f"--length={length}", f"--batch={batch}")
        return [str(given.python), str(peer), str(work / "folder"), str(given.text), *more]

    programs["Trainer"] = (theirs, None)
    for precision in ("float32", "bfloat16"):
        start = ours(work / precision, *recipe, f"--tokenizer={work}/first", f"--precision={precision}")
        programs[precision] = (start, None)
    compare(given.preset, programs, (2, 2 + given.steps), given.rounds)


def classify(given: argparse.Namespace, work: Path) -> None:
    script = ROOT / "benchmarks/finetuning/peers/sst2.py"
    files = [f"--train={given.train}", f"--dev={given.dev}"]
    recipe = ["finetune", f"--config={ROOT}/benchmarks/finetuning/sst2.yaml", f"--model={given.model}", *files]

    def theirs(steps: int) -> list[str]:
        return [
            str(given.python), str(script), str(given.model), str(given.train), str(given.dev), f"--max-steps={steps}"
        ]  # fmt: skip

    programs: dict[str, tuple[Start, Path | None]] = {"Trainer": (theirs, None)}
    for precision in ("float32", "bfloat16"):
        programs[precision] = (ours(work / precision, *recipe, f"--precision={precision}"), None)
    compare("MiniLM on SST-2", programs, (10, 10 + given.steps), given.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[function.__name__ for function in (nanogpt, mlm, classify)])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--peer", type=Path, help="the folder of nanoGPT, its characters prepared")
    parser.add_argument("--preset", default="bert-mini")
    parser.add_argument("--vocabulary", type=int, default=16_000)
    for name in ("text", "model", "train", "dev"):
        parser.add_argument(f"--{name}", type=Path)
    given = parser.parse_args()
    print("| task | program | a step | times as fast | lowest, highest | last loss |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        {"nanogpt": nanogpt, "mlm": mlm, "classify": classify}[given.what](given, Path(work))


if __name__ == "__main__":
    main()
