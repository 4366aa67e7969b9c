"""What a kind of attention can look up: associative recall and duplication, by small decoders trained here.

    python benchmarks/attention/synthetic_tasks.py recall --pairs 4 --pairs 16 --attention full --attention linear
    python benchmarks/attention/synthetic_tasks.py duplication --attention lsh:4:4:8 --evaluate lsh:4:1:8

recall (multi-query associative recall, Arora et al. 2024): P keys of 64, each with a value of 64 behind it, all drawn
at random; then the P keys in another order. At each of these the model predicts the value. duplication (Kitaev et al.
2020, section 5): 0 w 0 w, with w of `--symbols` symbols of 64; the second w is to be predicted.

Each entry trains the same model with the same seed on the same examples, which are drawn anew for each step; then 1,000
examples are tested. Prints a line of JSON for each: the share of the right symbols, and seconds of processor time.
--evaluate: the weights are also tested with another entry, such as another number of rounds of LSH.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import torch.nn.functional as F

from nlpcli.models.build import build_model

SYMBOLS = 64
VOCABULARY = 2 * SYMBOLS + 1


def recall(rows: int, pairs: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (rows, 4 P) and targets of the same shape, -100 where nothing is predicted."""
    keys = torch.rand(rows, SYMBOLS, generator=generator).argsort(1)[:, :pairs]
    values = torch.randint(SYMBOLS, (rows, pairs), generator=generator)
    order = torch.rand(rows, pairs, generator=generator).argsort(1)
    shown = torch.stack((keys, values + SYMBOLS), dim=2).flatten(1)
    queries = torch.stack((keys.gather(1, order), values.gather(1, order) + SYMBOLS), dim=2).flatten(1)
    targets = torch.full_like(torch.cat((shown, queries), dim=1), -100)
    targets[:, 2 * pairs :: 2] = queries[:, 1::2]
    return torch.cat((shown, queries), dim=1), targets


def duplication(rows: int, symbols: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (rows, 2 n + 2) and targets, -100 in the first copy."""
    word = torch.randint(1, SYMBOLS + 1, (rows, symbols), generator=generator)
    zero = torch.zeros(rows, 1, dtype=torch.long)
    ids = torch.cat((zero, word, zero, word), dim=1)
    targets = torch.full_like(ids, -100)
    targets[:, symbols + 1 : -1] = word
    return ids, targets


TASKS = {"recall": recall, "duplication": duplication}


def config(text: str, given: argparse.Namespace, length: int) -> dict[str, object]:
    return {
        "kind": "decoder", "d_model": given.width, "heads": given.heads, "d_ff": 2 * given.width,
        "decoder_layers": given.layers, "max_length": length, "attention": [text], "positions": given.positions,
        "norm_position": "pre", "dropout": 0.0, "scale_embeddings": True, "tie": "none",
    }  # fmt: skip


def accuracy(model, given: argparse.Namespace, size: int) -> float:
    generator = torch.Generator().manual_seed(12345)
    right = total = 0
    with torch.inference_mode():
        for _ in range(10):
            ids, targets = TASKS[given.task](100, size, generator)
            counted = targets != -100
            right += int((model(ids).argmax(-1)[counted] == targets[counted]).sum())
            total += int(counted.sum())
    return right / total


def train(text: str, given: argparse.Namespace, size: int) -> None:
    generator = torch.Generator().manual_seed(given.seed)
    torch.manual_seed(given.seed)
    length = TASKS[given.task](1, size, generator)[0].size(1)
    model = build_model(config(text, given, length), VOCABULARY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=given.lr, betas=(0.9, 0.98), weight_decay=0.1)
    begin, losses, steps = time.process_time(), [], given.steps
    for step in range(steps):
        rate = min(1.0, (step + 1) / (steps * 0.1)) * (1 - step / steps)
        for group in optimizer.param_groups:
            group["lr"] = given.lr * rate
        ids, targets = TASKS[given.task](given.rows, size, generator)
        loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    seconds = time.process_time() - begin
    row = {"task": given.task, "size": size, "attention": text, "seed": given.seed, "steps": steps,
           "loss": round(sum(losses[-20:]) / len(losses[-20:]), 4), "seconds": round(seconds, 1)}  # fmt: skip
    print(json.dumps(row | {"evaluated": text, "accuracy": round(accuracy(model.eval(), given, size), 4)}), flush=True)
    for other in given.evaluate or []:
        same = build_model(config(other, given, length), VOCABULARY).eval()
        same.load_state_dict(model.state_dict())
        print(json.dumps(row | {"evaluated": other, "accuracy": round(accuracy(same, given, size), 4)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--attention", action="append", required=True)
    parser.add_argument("--evaluate", action="append")
    parser.add_argument("--pairs", type=int, action="append", help="of recall; default: 4")
    parser.add_argument("--symbols", type=int, action="append", help="of duplication; default: 31")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--positions", default="sinusoidal")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for size in (given.pairs or [4]) if given.task == "recall" else (given.symbols or [31]):
        for text in given.attention:
            train(text, given, size)


if __name__ == "__main__":
    main()
