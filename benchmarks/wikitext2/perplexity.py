"""The perplexity of a text under the language model of a run, with its signature.

    python benchmarks/wikitext2/perplexity.py RUN TEXT [--stride N] [--memory N]

The text is one stream, line ends included, and every token of it but the first is predicted once: within windows of
the run's own context that move on by `--stride` tokens (the context when it is not given), or, by a model with memory,
segment after segment of that length, with the states of the last `--memory` positions (the model's own number).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from nlpcli.data.packing import PackedWindows, StreamedWindows, TokenStream
from nlpcli.data.shards import build_shards
from nlpcli.models.directory import load_model
from nlpcli.objectives.clm import CausalLanguageModelling, has_memory
from nlpcli.recipes.run import text_metrics


def main(run: Path, text: str, stride: int | None, memory: int | None) -> None:
    loaded = load_model(run)
    context, remembers = loaded.info["context"], has_memory(loaded.model)
    if remembers and memory is not None:
        loaded.model.memory_length = memory
    shards = build_shards([text], loaded.tokenizer, documents="file")
    windows = (StreamedWindows if remembers else PackedWindows)(shards, context, eos=None, batch_size=1)
    task = CausalLanguageModelling(
        windows, TokenStream(shards, eos=None), context=context, stride=None if remembers else stride
    )
    signatures: dict[str, str] = {}
    cut = {"window": context, "stride": task.stride, "memory": loaded.model.memory_length if remembers else 0}
    with torch.inference_mode():
        losses = task.evaluate(loaded.model, torch.device("cpu"))
        metrics = text_metrics(losses, shards, loaded.tokenizer, signatures, **cut)
    for name in ("loss", "perplexity"):
        print(f"{name} {metrics[name]:.4f} ({shards.tokens - 1} tokens) {signatures[name]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("text")
    parser.add_argument("--stride", type=int)
    parser.add_argument("--memory", type=int)
    main(**vars(parser.parse_args()))
