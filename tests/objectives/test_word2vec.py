"""Negative sampling: the loss is the paper's, its gradient the update of the authors' program."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from model_settings import of_family

from nlpcli.data.shards import build_shards
from nlpcli.models.build import build_model
from nlpcli.objectives.word2vec import WordPrediction, sampling_losses, window_loss
from nlpcli.objectives.word_windows import WindowBatch, WindowSampler, WindowSettings, WordCounts
from nlpcli.text import train_tokenizer

VOCAB, WIDTH = 9, 5
ARCHITECTURES = ["skip-gram", "cbow", "pv-dm", "pv-dbow"]


def model_of(architecture, documents=0, vocab=VOCAB, width=WIDTH):
    torch.manual_seed(3)
    settings = {"family": "word-vectors", "d_model": width, "architecture": architecture, "documents": documents}
    model = build_model(of_family(settings), vocab).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def some_batch(architecture, n=12):
    rng = np.random.default_rng(4)
    counts = WordCounts(np.array([0, 9, 8, 7, 6, 5, 4, 3, 2]))
    made = WindowSampler(counts, WindowSettings(window=2, negatives=3), architecture)
    return made.batch(rng.integers(1, VOCAB, n), np.repeat([0, 1], n // 2), rng, tokens=n)


def published_updates(architecture, vectors, outputs, documents, batch: WindowBatch):
    """The authors' program, with a rate of 1: loss, and what is added to each vector, in plain float64 loops."""
    loss = 0.0
    added = [np.zeros_like(part) for part in (vectors, outputs, documents)]
    for row in range(len(batch.targets)):
        near = batch.contexts[row][batch.mask[row]].tolist()
        document = int(batch.documents[row])
        if architecture == "skip-gram":
            inputs = [([word], []) for word in near]
        else:
            inputs = [({"pv-dbow": []}.get(architecture, near), [document] if "pv" in architecture else [])]
        for words, paragraphs in inputs:
            of = [vectors[word] for word in words] + [documents[number] for number in paragraphs]
            hidden = sum(of) / len(of)
            error = np.zeros(WIDTH)
            for place, word in enumerate(batch.targets[row].tolist()):
                if not batch.counted[row, place]:
                    continue
                label = float(place == 0)
                p = 1 / (1 + math.exp(-hidden @ outputs[word]))
                loss -= math.log(p if label else 1 - p)
                error += (label - p) * outputs[word]
                added[1][word] += (label - p) * hidden
            for word in words:
                added[0][word] += error / len(of)
            for number in paragraphs:
                added[2][number] += error / len(of)
    return loss, added


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradient_are_those_of_a_loop_over_the_published_update(architecture):
    model, batch = model_of(architecture, documents=2), some_batch(architecture)
    documents = None if model.documents is None else model.documents[batch.documents]
    loss = window_loss(model, batch, documents)
    loss.total.backward()
    trained = [model.token_embedding.weight, model.output]
    trained += [] if model.documents is None else [model.documents]
    before = [p.detach().numpy().copy() for p in trained] + [np.zeros((2, WIDTH))] * (3 - len(trained))
    expected, added = published_updates(architecture, *before, batch)
    assert loss.total.item() == pytest.approx(expected, rel=1e-6)
    for parameter, step in zip(trained, added, strict=False):
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        np.testing.assert_allclose(-gradient.numpy(), step, atol=1e-6)


def test_the_loss_of_zero_vectors_is_that_of_guessing():
    losses = sampling_losses(torch.zeros(4, 2, 6), torch.ones(4, 6, dtype=torch.bool))
    torch.testing.assert_close(losses, torch.full((4, 2), 6 * math.log(2)))


def test_extreme_scores_have_finite_losses():
    counted = torch.ones(1, 2, dtype=torch.bool)
    for scores, expected in (([1e4, -1e4], 0.0), ([-1e4, 1e4], 2e4)):
        assert sampling_losses(torch.tensor([[scores]]), counted).item() == pytest.approx(expected)


@pytest.fixture
def corpus(tmp_path):
    """Documents of two words; words of the same topic come together."""
    rng = np.random.default_rng(1)
    topics = [[f"{name}{i}" for i in range(8)] for name in "abcd"]
    lines = [" ".join(rng.choice(topics[rng.integers(4)], 2)) for _ in range(2000)]
    tokenizer = train_tokenizer("words", lines)
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines) + "\n")
    return build_shards([path], tokenizer, out=tmp_path / "shards", documents="lines", workers=1), tokenizer


@pytest.mark.parametrize("architecture", ["skip-gram", "cbow"])
def test_words_that_stand_together_become_neighbours(corpus, architecture):
    shards, tokenizer = corpus
    settings = WindowSettings(window=1, subsample=0.0)
    task = WordPrediction(shards, shards, tokenizer, architecture=architecture, settings=settings, batch_tokens=512)
    config = of_family({"family": "word-vectors", "d_model": 12, "architecture": architecture})
    torch.manual_seed(1)
    model = build_model(config, tokenizer.vocab_size)
    task.prime(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for epoch in range(5):
        for place, item in enumerate(task.plan(epoch)):
            loss, _ = task.loss(model, task.collate(item, np.random.default_rng([1, epoch, place])))
            (loss.total / loss.count).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.inference_mode():
            parts = list(task.evaluate(model, torch.device("cpu")))
        losses.append(sum(float(part.nll) for part in parts) / sum(part.count for part in parts))
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.9 * losses[0]
    assert not model.token_embedding.weight[sorted(tokenizer.special.all())].any()
    words = [id_ for id_ in range(tokenizer.vocab_size) if task.counts.counts[id_]]
    units = torch.nn.functional.normalize(model.token_embedding.weight[words], dim=1)
    cosines = units @ units.T - 2 * torch.eye(len(words))
    topics = np.array([tokenizer.id_to_piece(id_)[0] for id_ in words])
    assert (topics[cosines.topk(5).indices.numpy()] == topics[:, None]).mean() > 0.95


def test_the_dev_set_is_measured_alike_every_time(corpus):
    shards, tokenizer = corpus
    task = WordPrediction(shards, shards, tokenizer, architecture="skip-gram", settings=WindowSettings())
    model = model_of("skip-gram", vocab=tokenizer.vocab_size).eval()
    one, two = ([float(part.nll) for part in task.evaluate(model, torch.device("cpu"))] for _ in range(2))
    assert one == two


def test_samples_show_the_words_near_a_word_and_its_noise_words(corpus):
    shards, tokenizer = corpus
    task = WordPrediction(shards, shards, tokenizer, architecture="skip-gram", settings=WindowSettings(subsample=0.0))
    for sample in task.samples(5, np.random.default_rng(1)):
        assert len(sample.original) == 2 and len(sample.corrupted) == 1 and len(sample.target) == 6
        assert sorted(sample.original) == sorted([*sample.corrupted, sample.target[0]])
