"""A guard against slow changes: the speed of hot paths, as ratios to plain PyTorch in the same process.

    python benchmarks/speed/guard.py                    # exit status 1 where a ratio fell by 10 % or more
    python benchmarks/speed/guard.py --update           # store the ratios as references for this processor

A ratio is the time of the plain twin by ours. Both take turns in one process, on one thread; of each round the ratio of
their processor times counts, and of all rounds the median. A path that seems slower is measured again, with twice the
rounds, before it counts. References (guard.json) are stored by processor, because ratios differ between processors;
without one for this processor the exit status is 2.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from plain_gpt import Block, PlainGPT
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

REFERENCES = Path(__file__).with_suffix(".json")
FALL = 0.1
_REFERENCES = 3  # measurements, of which the middle one is the reference
Work = Callable[[], Any]

VOCAB, WIDTH, HEADS, D_FF, LAYERS, ROWS, LENGTH = 8000, 128, 4, 512, 4, 8, 128
SHAPE = {"kind": "decoder", "d_model": WIDTH, "heads": HEADS, "d_ff": D_FF, "decoder_layers": LAYERS,
         "norm_position": "pre", "activation": "gelu", "positions": "learned", "max_length": 256, "tie": "all",
         "dropout": 0.0}  # fmt: skip


def ids(rows: int = ROWS, length: int = LENGTH + 1) -> torch.Tensor:
    return torch.randint(5, VOCAB, (rows, length), generator=torch.Generator().manual_seed(1))


def training_step() -> tuple[Work, Work]:
    """Forward, loss, backward and AdamW of a small causal Transformer."""
    from nlpcli.layers.vocabulary_loss import vocabulary_loss
    from nlpcli.models.build import build_model

    plain, own = PlainGPT(VOCAB, WIDTH, HEADS, D_FF, LAYERS, 256), build_model(SHAPE, VOCAB).train()
    read, target = ids()[:, :-1], ids()[:, 1:].flatten()
    optimizers = [torch.optim.AdamW(model.parameters(), fused=True) for model in (plain, own)]

    def plain_step() -> None:
        F.cross_entropy(plain(read).flatten(0, 1), target).backward()
        optimizers[0].step()
        optimizers[0].zero_grad()

    def own_step() -> None:
        loss, _ = vocabulary_loss(own.hidden(read).flatten(0, 1), own.output_weight, target)
        (loss / len(target)).backward()
        optimizers[1].step()
        optimizers[1].zero_grad()

    return plain_step, own_step


def loss_over_the_vocabulary() -> tuple[Work, Work]:
    """The loss and its gradients for 1,024 hidden states of width 256 over 16,000 tokens."""
    from nlpcli.layers.vocabulary_loss import vocabulary_loss

    states, weight = torch.randn(1024, 256, requires_grad=True), torch.randn(16_000, 256, requires_grad=True)
    target = torch.randint(16_000, (1024,))

    def plain() -> None:
        states.grad = weight.grad = None
        F.cross_entropy(F.linear(states, weight), target, reduction="sum").backward()

    def own() -> None:
        states.grad = weight.grad = None
        vocabulary_loss(states, weight, target)[0].backward()

    return plain, own


def attention() -> tuple[Work, Work]:
    """Causal multi-head attention with its projections, forward and backward."""
    from nlpcli.attention.multi_head import AttentionSettings, MultiHeadAttention
    from nlpcli.attention.patterns import Causal

    block, layer = Block(256, HEADS, 8), MultiHeadAttention(256, AttentionSettings(HEADS), pattern=Causal())
    x = torch.randn(4, 256, 256, requires_grad=True)

    def plain() -> None:
        block.attend(x).sum().backward()

    def own() -> None:
        layer(x).sum().backward()

    return plain, own


def greedy_decoding() -> tuple[Work, Work]:
    """24 tokens for each of 4 prompts of one token, one after the other."""
    from nlpcli.decoding.greedy import greedy_search
    from nlpcli.decoding.stop_conditions import StopConditions
    from nlpcli.models.build import build_model
    from nlpcli.models.packed_decoder import packed

    plain, own = PlainGPT(VOCAB, WIDTH, HEADS, D_FF, LAYERS, 256).eval(), packed(build_model(SHAPE, VOCAB).eval())
    prompts = ids(4, 1)

    def own_step() -> None:
        conditions = StopConditions(eos=None, max_length=24)
        greedy_search(own, own.init_state(len(prompts)), prompts.tolist(), conditions)

    return lambda: plain.greedy(prompts, 24), own_step


def batch_making() -> tuple[Work, Work]:
    """5,000 pairs of sentences as batches of at most 4,096 tokens, padded: the plan of an epoch and its tensors."""
    from nlpcli.data.bucketing import token_budget_batches
    from nlpcli.objectives.source_target_batches import pair_batch
    from nlpcli.text.special_tokens import SpecialTokens

    random = np.random.default_rng(1)
    lengths = np.clip(random.lognormal(3, 0.5, 5000).astype(int), 2, 100)
    pairs = [tuple(random.integers(5, VOCAB, size) for size in (length, max(length - 1, 1))) for length in lengths]
    special = SpecialTokens()

    def plain() -> None:
        order, batch = np.argsort(lengths, kind="stable"), []
        for place in order:
            if (len(batch) + 1) * (lengths[place] + 1) > 4096:
                collate(batch)
                batch = []
            batch.append(place)
        collate(batch)

    def collate(batch: list[int]) -> tuple[torch.Tensor, ...]:
        end, begin = torch.tensor([3]), torch.tensor([2])
        sources = [torch.cat([torch.as_tensor(pairs[i][0]), end]) for i in batch]
        targets = [torch.cat([begin, torch.as_tensor(pairs[i][1]), end]) for i in batch]
        source, target = pad_sequence(sources, batch_first=True), pad_sequence(targets, batch_first=True)
        return source, source != 0, target[:, :-1], target[:, 1:]

    sides = np.array([(len(x) + 1, len(y) + 1) for x, y in pairs])

    def own() -> None:
        for batch in token_budget_batches(sides, max_tokens=4096):
            pair_batch([pairs[i] for i in batch], special)

    return plain, own


PATHS: dict[str, Callable[[], tuple[Work, Work]]] = {
    "training step": training_step,
    "loss over the vocabulary": loss_over_the_vocabulary,
    "attention": attention,
    "greedy decoding": greedy_decoding,
    "batch making": batch_making,
}


def ratio(path: str, rounds: int) -> float:
    """The time of the plain twin by ours: the median over rounds in which they take turns."""
    torch.manual_seed(1)
    pair = PATHS[path]()
    for work in (*pair, *pair):  # the first calls set things up
        work()
    begun = time.process_time()
    pair[1]()
    repeat = max(1, round(0.05 / max(time.process_time() - begun, 1e-6)))  # so that a clock tick does not count
    found = []
    for number in range(rounds):
        seconds = {}
        for which in (0, 1) if number % 2 else (1, 0):
            begun = time.process_time()
            for _ in range(repeat):
                pair[which]()
            seconds[which] = time.process_time() - begun
        found.append(seconds[0] / seconds[1])
    return statistics.median(found)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
        named = {key.strip(): value.strip() for key, value in facts.items()}
        return f"{named['model name']}, family {named['cpu family']}, model {named['model']}"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def check(names: list[str], references: dict[str, float], rounds: int) -> bool:
    """Prints each path's ratio beside its reference. Returns: whether none fell by FALL or more."""
    print("| path | plain time by ours | reference | change | |\n| --- | --- | --- | --- | --- |")
    good = True
    for name in names:
        found, reference = ratio(name, rounds), references.get(name)
        if reference is None:
            print(f"| {name} | {found:.2f} | none | | |", flush=True)
            continue
        if found < (1 - FALL) * reference:
            found = max(found, ratio(name, 2 * rounds))
        slower = found < (1 - FALL) * reference
        good = good and not slower
        change = 100 * (found / reference - 1)
        print(f"| {name} | {found:.2f} | {reference:.2f} | {change:+.0f} % | {'slower' * slower} |", flush=True)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", action="append", choices=list(PATHS))
    parser.add_argument("--update", action="store_true", help="store the ratios as references")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names, here = given.only or list(PATHS), processor()
    stored = json.loads(REFERENCES.read_text(encoding="utf-8")) if REFERENCES.exists() else {}
    if given.update:
        found = {name: statistics.median(ratio(name, given.rounds) for _ in range(_REFERENCES)) for name in names}
        stored[here] = {**stored.get(here, {}), **{name: round(value, 3) for name, value in found.items()}}
        REFERENCES.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        print(json.dumps(stored[here], indent=2))
        return 0
    good = check(names, stored.get(here, {}), given.rounds)
    if here not in stored:
        print(f"no references for this processor ({here}); store them with --update", file=sys.stderr)
        return 2
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
