"""Time and memory of a token in a long generation, with everything that looks back on the text switched on.

    python benchmarks/attention/generation.py [--tokens 100000]

A language model of 4 layers, d_model 128, with random weights, writes one text of so many tokens by sampling, with a
repetition penalty, a stop text that never comes, and the text streamed. Printed for each kind of attention: the
median time of a token around 1,000 and around the end, their ratio, and the bytes of the state at both places. One
thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

KINDS = ["linear", "performer:128", "window:128", "window:64+global:4"]
_AROUND = 500


class Watched:
    """A model whose steps are timed; state: the last one it has given."""

    def __init__(self, model: Any) -> None:
        self.model, self.max_length, self.parameters = model, None, model.parameters
        self.times: list[float] = []
        self.bytes: list[int] = []

    def step(self, tokens: Any, state: Any) -> Any:
        logits, state = self.model.step(tokens, state)
        self.times.append(time.process_time())
        self.bytes.append(state.bytes())
        return logits, state

    def reorder(self, state: Any, index: Any, width: int = 1) -> Any:
        return self.model.reorder(state, index, width)


def measured(kind: str, tokens: int) -> tuple[float, float, int, int]:
    """Seconds a token around 1,000 and around the end, and bytes of the state there."""
    import torch

    from nlpcli.commands.generate.generate import stopper
    from nlpcli.commands.generate.text_stream import TextStream
    from nlpcli.decoding.constraints import Constraints
    from nlpcli.decoding.sampling import SamplingSettings, sample
    from nlpcli.decoding.stop_conditions import StopConditions
    from nlpcli.models.build import build_model
    from nlpcli.text import train_tokenizer

    torch.set_num_threads(1)
    torch.manual_seed(1)
    tokenizer = train_tokenizer("byte-bpe", ["the cat sat on the mat and looked at the dog"] * 20, vocab_size=280)
    shape = {"kind": "decoder", "d_model": 128, "heads": 4, "d_ff": 512, "decoder_layers": 4, "positions": "none"}
    model = build_model({**shape, "dropout": 0.0, "attention": [kind]}, tokenizer.vocab_size).eval()
    watched, prefix = Watched(model), [5, 6, 7]
    watch = TextStream(tokenizer, ("never\nwritten",), lambda text: None).after(prefix)
    conditions = StopConditions(None, tokens, stop=stopper(tokenizer, prefix, ("never\nwritten",)))
    settings = SamplingSettings(constraints=Constraints(repetition_penalty=1.1))
    sample(watched, model.init_state(1), [prefix], conditions, settings=settings, watch=watch)
    each = [after - before for before, after in zip(watched.times, watched.times[1:], strict=False)]
    early, late = each[1000 - _AROUND : 1000 + _AROUND], each[-2 * _AROUND :]
    return statistics.median(early), statistics.median(late), watched.bytes[1000], watched.bytes[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--attention", action="append")
    options = parser.parse_args()
    print("attention", "ms at 1,000", f"ms at {options.tokens:,}", "ratio", "bytes", "bytes", sep="\t")
    for kind in options.attention or KINDS:
        early, late, few, many = measured(kind, options.tokens)
        row = (f"{1000 * early:.3f}", f"{1000 * late:.3f}", f"{late / early:.3f}", f"{few:,}", f"{many:,}")
        print(kind, *row, sep="\t", flush=True)


if __name__ == "__main__":
    main()
