"""word2vec beside gensim: the statistics of the text, and what is learned from the same pairs of words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_settings import of_family

from nlpcli.data.shards import build_shards
from nlpcli.models.build import build_model
from nlpcli.objectives.word2vec import WordPrediction
from nlpcli.objectives.word_windows import WindowSettings
from nlpcli.text import train_tokenizer

word2vec = pytest.importorskip("gensim.models.word2vec")

WIDTH, NEGATIVES, POWER, SUBSAMPLE = 16, 5, 0.75, 2e-2


def pairs_of_words():
    """Pairs whose words come from one of five overlapping topics, frequent words more often."""
    rng = np.random.default_rng(1)
    weights = 1 / np.arange(1, 13)
    lines = []
    for _ in range(3000):
        topic = rng.integers(5)
        one, two = rng.choice(12, 2, p=weights / weights.sum())
        lines.append(f"w{topic * 9 + one} w{topic * 9 + two}")
    return lines


@pytest.fixture(scope="module")
def lines():
    return pairs_of_words()


@pytest.fixture(scope="module")
def task(lines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "text.txt").write_text("\n".join(lines) + "\n")
    tokenizer = train_tokenizer("words", lines)
    shards = build_shards([folder / "text.txt"], tokenizer, out=folder / "shards", documents="lines", workers=1)
    settings = WindowSettings(window=1, negatives=NEGATIVES, noise_power=POWER, subsample=0.0)
    made = WordPrediction(shards, shards, tokenizer, architecture="skip-gram", settings=settings, batch_tokens=256)
    return made, tokenizer


def theirs(lines, **settings):
    usual = {"vector_size": WIDTH, "window": 1, "negative": NEGATIVES, "ns_exponent": POWER, "min_count": 1, "sg": 1,
             "workers": 1, "seed": 1, "sample": 0}  # fmt: skip
    return word2vec.Word2Vec(**{**usual, **settings})


def test_counts_subsampling_and_noise_are_those_of_gensim(lines, task):
    made, tokenizer = task
    model = theirs(lines, sample=SUBSAMPLE)
    model.build_vocab([line.split() for line in lines])
    ids = [tokenizer.piece_to_id(word) for word in model.wv.index_to_key]
    assert made.counts.counts[ids].tolist() == [model.wv.get_vecattr(w, "count") for w in model.wv.index_to_key]
    assert made.counts.counts.sum() == model.corpus_total_words
    kept = [model.wv.get_vecattr(word, "sample_int") / 2**32 for word in model.wv.index_to_key]
    np.testing.assert_allclose(made.counts.kept(SUBSAMPLE)[ids], kept, atol=1e-6)
    assert 0 < min(kept) < 0.9
    noise = np.diff(made.counts.noise(POWER), prepend=0.0)[ids]
    np.testing.assert_allclose(noise, np.diff(model.cum_table / model.cum_table[-1], prepend=0.0), atol=1e-6)


def test_the_same_pairs_make_the_same_neighbours(lines, task):
    made, tokenizer = task
    model = theirs(lines, alpha=0.05, min_alpha=0.005, epochs=15)
    model.build_vocab([line.split() for line in lines])
    model.train([line.split() for line in lines], total_examples=len(lines), epochs=15)
    torch.manual_seed(1)
    ours = build_model(of_family({"family": "word-vectors", "d_model": WIDTH}), tokenizer.vocab_size)
    made.prime(ours)
    optimizer = torch.optim.Adam(ours.parameters(), lr=0.01)
    for epoch in range(15):
        for place, item in enumerate(made.plan(epoch)):
            loss, _ = made.loss(ours, made.collate(item, np.random.default_rng([1, epoch, place])))
            (loss.total / loss.count).backward()
            optimizer.step()
            optimizer.zero_grad()
    ids = [tokenizer.piece_to_id(word) for word in model.wv.index_to_key]
    their_cosines, our_cosines = cosines(model.wv.vectors), cosines(ours.token_embedding.weight[ids].detach().numpy())
    upper = np.triu_indices(len(ids), 1)
    assert np.corrcoef(their_cosines[upper], our_cosines[upper])[0, 1] > 0.8
    shared = [len(set(a) & set(b)) / 5 for a, b in zip(nearest(their_cosines), nearest(our_cosines), strict=True)]
    assert np.mean(shared) > 0.6  # 0.1 by chance
    # what both approach: the scores are shifted pointwise mutual information (Levy and Goldberg 2014, eq. 11)
    mutual = mutual_information(lines, model.wv.index_to_key)
    there = np.isfinite(mutual)
    for vectors, outputs in (
        (model.wv.vectors, model.syn1neg),
        (ours.token_embedding.weight[ids].detach().numpy(), ours.output[ids].detach().numpy()),
    ):
        assert np.corrcoef((vectors @ outputs.T)[there], mutual[there])[0, 1] > 0.7


def cosines(vectors):
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units @ units.T


def nearest(found):
    return np.argsort(-(found - 3 * np.eye(len(found))), axis=1)[:, :5]


def mutual_information(lines, words):
    """log P(w, c) / (P(w) P_noise(c)) - log k of the pairs that occur, -inf of others."""
    places = {word: place for place, word in enumerate(words)}
    together = np.zeros((len(words), len(words)))
    for line in lines:
        one, two = (places[word] for word in line.split())
        together[one, two] += 1
        together[two, one] += 1
    counts = together.sum(axis=1)
    noise = counts**POWER / (counts**POWER).sum()
    with np.errstate(divide="ignore"):
        return np.log(together / (counts[:, None] * noise)) - np.log(NEGATIVES)
