"""Text into shards of token ids beside the libraries' own encoding of the same lines: processor time and memory.

    python benchmarks/speed/encoding.py TEXT [--megabytes 100 400] [--kinds unigram wordpiece]

TEXT is repeated up to so many million bytes. Ours reads the file, encodes, counts words and bytes, writes and syncs the
shards and takes digests; the library's program reads the file and encodes it, 10,000 lines at a time, in one thread.
Each is a process of its own, in turn.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def shards(text: Path, tokenizer: Path, work: Path) -> int:
    from nlpcli.data.shards import build_shards

    shutil.rmtree(work / "shards", ignore_errors=True)
    return build_shards(text, tokenizer, out=work / "shards", documents="lines", workers=1).tokens


def library(text: Path, tokenizer: Path, work: Path) -> int:
    from nlpcli.text import load_tokenizer

    kind = load_tokenizer(tokenizer).kind
    if kind in ("unigram", "bpe"):
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor(model_file=str(next(tokenizer.glob("*.model"))))

        def encode(lines: list[str]) -> list[list[int]]:
            return processor.encode(lines, num_threads=1)
    else:
        import tokenizers

        fast = tokenizers.Tokenizer.from_file(str(tokenizer / "tokenizer.json"))

        def encode(lines: list[str]) -> list[list[int]]:
            return [found.ids for found in fast.encode_batch_fast(lines, add_special_tokens=False)]

    count = 0
    with text.open(encoding="utf-8") as file:
        while lines := [line.rstrip("\n") for line in islice(file, 10_000)]:
            count += sum(map(len, encode([line for line in lines if line and not line.isspace()])))
    return count


def measured(what: str, text: Path, tokenizer: Path, work: Path) -> tuple[float, float, int]:
    """Seconds of processor time, megabytes at most, and tokens."""
    command = [sys.executable, __file__, str(text), "--child", what, str(tokenizer), str(work)]
    process = subprocess.Popen(command, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    tokens = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, int(tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--kinds", nargs="+", default=["unigram", "wordpiece"])
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "TOKENIZER", "WORK"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        what, tokenizer, work = given.child
        print({"shards": shards, "library": library}[what](given.text, Path(tokenizer), Path(work)))
        return
    from nlpcli.text import train_tokenizer

    once = given.text.read_bytes()
    print("| tokenizer | MB | library, MB/s | ours, MB/s | ratio | lowest, highest | memory of ours | same tokens |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        lines = once.decode("utf-8").split("\n")
        for kind in given.kinds:
            train_tokenizer(kind, lines, vocab_size=given.vocabulary, seed=1).save(work / kind)
        for size in given.megabytes:
            path = work / "text"
            with path.open("wb") as file:
                while file.tell() < size * 1e6:
                    file.write(once)
            for kind in given.kinds:
                rows = [[measured(one, path, work / kind, work) for one in ("library", "shards")]
                        for _ in range(given.rounds)]  # fmt: skip
                seconds = [statistics.median(row[side][0] for row in rows) for side in (0, 1)]
                ratios = [theirs[0] / ours[0] for theirs, ours in rows]
                same = "yes" if len({found[2] for row in rows for found in row}) == 1 else "no"
                print(
                    f"| {kind} | {size} | {size / seconds[0]:.1f} | {size / seconds[1]:.1f} "
                    f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} "
                    f"| {max(row[1][1] for row in rows):.0f} MB | {same} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
