"""Sentences with their neighbors, and the loss of writing these."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_settings import of_family
from torch.nn.functional import cross_entropy

from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.objectives.batching import Batching
from nlpcli.objectives.skip_thought import Sentences, SkipThought
from nlpcli.text import train_tokenizer

DOCUMENTS = [["a b c", "d e", "f"], ["alone"], ["g h", "i j k l m"]]
PLANTED = [[f"{x} {x} one", f"{x} two {x}"] for x in "pqrs" for _ in range(12)]


def shards_of(folder, documents):
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_text("\n\n".join("\n".join(document) for document in documents) + "\n")
    tokenizer = train_tokenizer("words", [line for document in documents for line in document])
    shards = build_shards(
        [folder / "text.txt"], tokenizer, out=folder / "shards", documents="paragraphs", sentences="lines", workers=1
    )
    return shards, tokenizer


@pytest.fixture
def small(tmp_path):
    return shards_of(tmp_path / "small", DOCUMENTS)


def objective(shards, tokenizer, **options):
    return SkipThought(shards, shards, tokenizer, batching=Batching(**{"context": 12, "batch_tokens": 40, **options}))


def model_for(tokenizer, width=8):
    torch.manual_seed(1)
    settings = {"family": "recurrent-encoder", "d_model": width, "bidirectional": False, "neighbor_decoders": True,
                "dropout": 0.0}  # fmt: skip
    return build_model(of_family(settings), tokenizer.vocab_size)


def test_every_sentence_with_a_neighbor_comes_once_with_those_of_its_document(small):
    shards, tokenizer = small
    sentences = Sentences(shards, 10)
    found = [
        tuple(tokenizer.decode([sentences.read(number, offset)])[0].strip() for offset in (-1, 0, 1))
        for number in range(len(sentences))
    ]
    assert found == [("", "a b c", "d e"), ("a b c", "d e", "f"), ("d e", "f", ""), ("", "g h", "i j k l m"),
                     ("g h", "i j k l m", "")]  # fmt: skip
    task = objective(shards, tokenizer)
    for epoch in (0, 1):
        assert sorted(np.concatenate(task.plan(epoch)).tolist()) == list(range(5))
    assert [item.tolist() for item in task.plan(0)] == [item.tolist() for item in task.plan(0)]


def test_long_sentences_are_cut(small):
    sentences = Sentences(small[0], 2)
    assert sentences.lengths.max() == 2 and all(len(sentences.read(number)) <= 2 for number in range(len(sentences)))


def test_documents_of_one_sentence_are_refused(tmp_path):
    shards, tokenizer = shards_of(tmp_path / "alone", [["a b"], ["c d"]])
    with pytest.raises(NlpcliError, match="no document has two or more sentences"):
        objective(shards, tokenizer)


def test_the_loss_is_that_of_each_neighbor_written_alone(small):
    shards, tokenizer = small
    task, model, special = (
        objective(shards, tokenizer, batch_tokens=1000),
        model_for(tokenizer).eval(),
        tokenizer.special,
    )
    batch = task.collate(np.arange(5), np.random.default_rng(1))
    loss, carry = task.loss(model, batch)
    expected, count = 0.0, 0
    for number in range(5):
        vector = model.vectors(task.rows([task.train.read(number)]))
        for side, offset in (("before", -1), ("after", 1)):
            if text := task.train.read(number, offset):
                hidden = model.neighbor_hidden(side, torch.tensor([[special.bos, *text]]), vector)
                labels = torch.tensor([*text, special.eos])
                expected += cross_entropy(model.output(hidden[0]), labels, reduction="sum").item()
                count += len(labels)
    assert carry is None and loss.count == batch.count == count
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
    assert batch.tokens == count + sum(len(task.train.read(number)) + 2 for number in range(5))


def test_it_learns_what_stands_beside_a_sentence(tmp_path):
    shards, tokenizer = shards_of(tmp_path / "planted", PLANTED)
    task, model = objective(shards, tokenizer, batch_tokens=160), model_for(tokenizer, 24)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    for epoch in range(14):
        for item in task.plan(epoch):
            loss, _ = task.loss(model, task.collate(item, np.random.default_rng(1)))
            (loss.total / loss.count).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.inference_mode():
            parts = list(task.evaluate(model.eval(), torch.device("cpu")))
        losses.append(sum(float(part.nll) for part in parts) / sum(part.count for part in parts))
        model.train()
    assert losses[-1] < 0.2 < losses[0]
    with torch.inference_mode():
        shown = list(task.nearest_sentences(model.eval(), torch.device("cpu"), 8))
    texts = [tokenizer.decode(list(pair)) for pair in shown]
    assert all(one.split()[0] == other.split()[0] for one, other in texts)


def test_samples_show_what_is_to_be_written(small):
    shards, tokenizer = small
    for sample in objective(shards, tokenizer).samples(6, np.random.default_rng(1)):
        assert sample.target.count(tokenizer.special.eos) in (1, 2)
        assert sorted(set(sample.original)) == sorted({*sample.corrupted, *sample.target} - {tokenizer.special.eos})
