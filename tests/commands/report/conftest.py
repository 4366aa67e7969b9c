"""Runs as folders, made by hand: quick, and with numbers that a test knows."""

from __future__ import annotations

import json
import math

import pytest

from nlpcli.config.loading import dump_yaml
from nlpcli.config.schema import RunConfig

CARD = """# {name}

A translator: translation, 1,234,567 parameters.

- command: `nlpcli finetune --out {name}`
- data: `train.de, train.en`, fingerprint `abc`
- trained: {steps} steps, {tokens:,} tokens, 2.0 minutes
- machine: cpu, float32, 1 CPU thread
- stopped: {steps} steps done, 2026-01-02
- best checkpoint: step {kept}
"""
PAIRS = [
    ("Ein Mann schläft .", "A man is sleeping ."),
    ("Zwei Hunde spielen im Schnee .", "Two dogs are playing in the snow ."),
    ("Eine Frau liest <script>alert(1)</script> .", "A woman is reading ."),
]
WORDS = ["a", "man", "two", "dogs", "woman", "is", "are", "sleeping", "playing", "reading", "in", "the", "snow"]


def metrics(steps, every, *, rate=1.0, flops=True):
    """Lines of metrics.jsonl of a run whose loss falls as exp(-rate · share)."""
    lines = []
    for step in range(every, steps + 1, every):
        share = step / steps
        line = {"kind": "train", "step": step, "epoch": int(2 * share), "loss": 1 + 5 * math.exp(-3 * rate * share),
                "lr": 0.002 * (1 - share), "grad_norm": 1.5 - share, "tokens_per_second": 1000.0 + step,
                "tokens": 500 * step, "seconds": 1.2 * step, "flops": 3e9 * step}  # fmt: skip
        lines.append(line if flops else {key: value for key, value in line.items() if key != "flops"})
        if step % (2 * every) == 0:
            loss = 1.5 + 4 * math.exp(-3 * rate * share)
            dev = {"loss": loss, "perplexity": math.exp(loss), "bleu": 30 * rate * share}
            lines.append({"kind": "dev", "step": step, "epoch": int(2 * share), "seconds": 1.2 * step, **dev})
    return lines


@pytest.fixture
def make_run(tmp_path):
    """make_run("a", rate=…, …) -> the folder of a translator's run.

    outputs: whether it left some; settings: of the configuration; finished: whether it has a card.
    """

    def make(name="a", *, steps=100, rate=1.0, outputs=True, samples=True, settings=None, finished=True,
             flops=True, task="translation", lines=None, shift=0):  # fmt: skip
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = RunConfig(task=task).model_dump()
        config["training"] |= {"max_steps": 100, "lr": 0.002, "metric": "loss", **(settings or {})}
        (folder / "config.yaml").write_text(dump_yaml(config))
        found = metrics(steps, 10, rate=rate, flops=flops) if lines is None else lines
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in found))
        dev = [line for line in found if line["kind"] == "dev"]
        if samples:
            texts = ["in in in", "a man is", None]
            rows = [
                {"kind": "dev", "step": line["step"], "items": [
                    {"source": source, "reference": right,
                     "output": (texts[min(i // 2, 2)] or right) + " ." * (i == 3) + "!" * int(rate < 1)}
                    for source, right in PAIRS
                ]}
                for i, line in enumerate(dev)
            ]  # fmt: skip
            (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if dev:
            last = dev[-1]
            values = {name: value for name, value in last.items() if name not in ("kind", "step", "epoch", "seconds")}
            info = {"task": task, "step": last["step"], "metrics": values, "signatures": {"bleu": "BLEU|beam:1"}}
            if outputs:
                info["metrics"]["bleu"] = leave_outputs(folder, last["step"], shift)
            (folder / "model.yaml").write_text(dump_yaml(info))
        if finished:
            kept = dev[-1]["step"] if dev else steps
            (folder / "README.md").write_text(CARD.format(name=name, steps=steps, tokens=500 * steps, kept=kept))
        return folder

    return make


def leave_outputs(folder, step, shift):
    """Outputs of 60 sentences, and their BLEU."""
    from nlpcli.evaluation.bleu import bleu

    gold, outputs = [], []
    for i in range(60):
        right = [WORDS[(3 * i + k * (i % 5 + 1)) % len(WORDS)] for k in range(8)]
        wrong = [WORDS[(i + k) % len(WORDS)] if (i + k) % 4 == shift or k == shift else w for k, w in enumerate(right)]
        gold.append(" ".join(right))
        outputs.append(" ".join(wrong))
    options = {"tokenize": "13a", "lowercase": False}
    head = {"step": step, "data": "dev", "measures": {
        "bleu": {"metric": "bleu", "options": options, "suffix": "sentences:60|beam:1"}
    }}  # fmt: skip
    items = [{"reference": right, "output": text} for right, text in zip(gold, outputs, strict=True)]
    (folder / "outputs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (head, *items)))
    return bleu(outputs, [gold]).value
