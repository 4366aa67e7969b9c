"""The trivial language model: every token as often as in training, whatever stands before it.

    python benchmarks/pretraining/unigram.py tok train.txt valid.txt

Prints the perplexity of the second text's tokens (add-one smoothing) and the accuracy of always saying the most
frequent one, which is what the left-to-right models in the table have to beat.
"""

from __future__ import annotations

import sys

import numpy as np

from nlpcli.data.shards import build_shards
from nlpcli.text import load_tokenizer

if __name__ == "__main__":
    tokenizer = load_tokenizer(sys.argv[1])
    counts = []
    for path in sys.argv[2:4]:
        shards = build_shards([path], tokenizer, documents="paragraphs")
        ids = shards.read(0, shards.tokens).astype(np.int64)
        number = np.bincount(ids, minlength=tokenizer.vocab_size)
        number[tokenizer.special.eos] += shards.documents
        counts.append(number)
    train, held_out = counts
    probabilities = (train + 1) / (train + 1).sum()
    nats = -(held_out * np.log(probabilities)).sum() / held_out.sum()
    print(f"perplexity {np.exp(nats):.1f}, accuracy {held_out[train.argmax()] / held_out.sum():.4f}")
