"""Memory of a training step with a large vocabulary: the loss in chunks, beside plain cross-entropy.

    python benchmarks/speed/vocabulary_loss_memory.py [--vocab 32000] [--tokens 4096]

The loss alone (hidden states of width 256 to gradients of them and of the matrix), and a step of a causal Transformer
(4 layers, d_model 256, rows of 256 tokens), in float32 and under bfloat16. Plain is `F.cross_entropy(F.linear(…))`, as
in most training scripts, on logits in float32. Memory is the most that a process of its own holds during the step above
what it held before, gradients included (Linux only). Both give the same loss and the same gradients; the script says
by how much they differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

MODEL = {"kind": "decoder", "d_model": 256, "heads": 4, "d_ff": 1024, "decoder_layers": 4, "norm_position": "pre",
         "dropout": 0.0}  # fmt: skip
ROW = 256


def losses() -> dict[str, Any]:
    """By name a function of hidden states (n, d), matrix (vocab, d) and targets (n)."""
    from torch.nn import functional as F

    from nlpcli.layers.vocabulary_loss import vocabulary_loss

    def plain(hidden: Any, weight: Any, target: Any) -> Any:
        return F.cross_entropy(F.linear(hidden, weight).float(), target, reduction="sum")

    return {"plain": plain, "chunks": lambda *given: vocabulary_loss(*given)[0]}


def step(what: str, loss: Any, vocab: int, tokens: int, precision: str) -> tuple[Any, list[Any]]:
    """A function that computes a loss and its gradients, and the parameters that have them afterwards."""
    import torch

    from nlpcli.models.build import build_model

    torch.manual_seed(1)
    ids = torch.randint(5, vocab, (tokens // ROW, ROW + 1))
    half = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")
    if what == "loss":
        weight = (torch.randn(vocab, MODEL["d_model"]) / 16).requires_grad_()
        states = torch.randn(tokens, MODEL["d_model"]).requires_grad_()
        parameters = [weight, states]

        def compute() -> Any:
            return loss(states, weight, ids[:, 1:].flatten())
    else:
        model: Any = build_model(MODEL, vocab).train()
        parameters = list(model.parameters())

        def compute() -> Any:
            return loss(model.hidden(ids[:, :-1]).flatten(0, 1), model.output_weight, ids[:, 1:].flatten())

    def once() -> float:
        with half:
            total = compute() / tokens
        total.backward()
        return total.item()

    return once, parameters


def status(name: str) -> int:
    """Of this process, in bytes, as Linux tells it."""
    with open("/proc/self/status", encoding="ascii") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(name))


def measured(what: str, which: str, vocab: int, tokens: int, precision: str) -> dict[str, float]:
    """The peak of one step in this process, its loss, and the norm of its gradients."""
    import torch

    torch.set_num_threads(1)
    step(what, losses()[which], 1000, 2 * ROW, precision)[0]()  # what is set up once does not count
    once, parameters = step(what, losses()[which], vocab, tokens, precision)
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # the peak begins anew
    before = status("VmRSS")
    loss = once()
    peak = status("VmHWM") - before
    norm = torch.stack([parameter.grad.norm() for parameter in parameters if parameter.grad is not None]).norm()
    return {"peak": peak, "loss": loss, "norm": float(norm)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vocab", type=int, default=32_000)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        what, which, precision = given.one
        print(json.dumps(measured(what, which, given.vocab, given.tokens, precision)))
        return
    print(f"{given.vocab:,} tokens in the vocabulary, {given.tokens:,} in the batch\n")
    print("| step | precision | plain, MB | in chunks, MB | ratio | loss differs by | norm of the gradient by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for what in ("loss", "model"):
        for precision in ("float32", "bfloat16"):
            sizes = ["--vocab", str(given.vocab), "--tokens", str(given.tokens)]
            plain, chunks = (
                json.loads(subprocess.check_output([sys.executable, __file__, *sizes, "--one", what, which, precision]))
                for which in ("plain", "chunks")
            )
            loss, norm = (abs(chunks[name] / plain[name] - 1) for name in ("loss", "norm"))
            print(
                f"| {what} | {precision} | {plain['peak'] / 1e6:,.0f} | {chunks['peak'] / 1e6:,.0f} "
                f"| {chunks['peak'] / plain['peak']:.2f} | {loss:.0e} | {norm:.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
