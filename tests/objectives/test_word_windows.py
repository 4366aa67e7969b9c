"""Which words are read, kept, near each other and drawn as noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError
from nlpcli.objectives.word_windows import WindowSampler, WindowSettings, WordCounts, WordWindows
from nlpcli.text import train_tokenizer

TEXT = ["the dog sees the cat", "the cat runs", "a", "the dog and the cat run home", "cats see dogs"] * 6
COUNTS = WordCounts(np.array([0, 0, 900, 60, 30, 9, 1]))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("words", TEXT, vocab_size=None)


@pytest.fixture
def shards(tmp_path, tokenizer):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXT) + "\n")
    return build_shards([path], tokenizer, out=tmp_path / "shards", documents="lines", workers=1)


def sampler(architecture="skip-gram", counts=COUNTS, **settings):
    return WindowSampler(counts, WindowSettings(**settings), architecture)


def test_words_are_counted_and_special_tokens_are_not(shards, tokenizer):
    counts = WordCounts.of(shards, tokenizer.special.all()).counts
    words = " ".join(TEXT).split()
    assert {tokenizer.id_to_piece(id_): n for id_, n in enumerate(counts) if n} == {w: words.count(w) for w in words}


def test_a_text_without_words_is_refused(shards, tokenizer):
    with pytest.raises(NlpcliError, match="the text contains no words"):
        WordCounts.of(shards, frozenset(range(tokenizer.vocab_size)))


@pytest.mark.parametrize("t", [1e-3, 1e-2])
def test_frequent_words_are_kept_with_the_probability_of_the_authors_program(t):
    share = COUNTS.counts / 1000
    for kept, f in zip(COUNTS.kept(t), share, strict=True):
        assert kept == pytest.approx(1.0 if f == 0 else min(1.0, ((f / t) ** 0.5 + 1) * t / f))
    assert (COUNTS.kept(0.0) == 1.0).all()


def test_as_many_words_are_kept_as_the_probabilities_say():
    ids = np.repeat(np.arange(7), 4000)
    places = sampler(subsample=0.01).keep(ids, np.random.default_rng(1))
    expected = np.where(COUNTS.counts > 0, COUNTS.kept(0.01), 0.0)
    np.testing.assert_allclose(np.bincount(ids[places], minlength=7) / 4000, expected, atol=0.03)


def test_noise_words_come_as_often_as_their_counts_to_a_power_say():
    drawn = sampler(noise_power=0.75).noise((200_000,), np.random.default_rng(1))
    expected = COUNTS.counts**0.75 / (COUNTS.counts**0.75).sum()
    np.testing.assert_allclose(np.bincount(drawn, minlength=7) / 200_000, expected, atol=0.005)
    assert set(drawn) == {2, 3, 4, 5, 6}


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=8), window=st.integers(1, 4), seed=st.integers(0, 99))
def test_contexts_are_the_words_of_the_same_document_in_reach(lengths, window, seed):
    documents = np.repeat(np.arange(len(lengths)), lengths)
    ids = np.arange(len(documents))
    found = sampler(window=window)
    contexts, mask = found.contexts(ids, documents, np.random.default_rng(seed))
    reach = np.random.default_rng(seed).integers(1, window + 1, size=(len(ids), 1))[:, 0]
    for place, (near, shown) in enumerate(zip(contexts, mask, strict=True)):
        expected = [
            other
            for other in range(place - reach[place], place + reach[place] + 1)
            if other != place and 0 <= other < len(ids) and documents[other] == documents[place]
        ]
        assert near[shown].tolist() == expected


def test_blocks_hold_every_word_once_in_an_order_that_depends_on_the_epoch_alone(shards, tokenizer):
    counts = WordCounts.of(shards, tokenizer.special.all())
    windows = WordWindows(shards, sampler("pv-dbow", counts, subsample=0.0), block=7)
    orders = [windows.plan(1, epoch).tolist() for epoch in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == sorted(orders[2])
    batches = [windows.batch(start, np.random.default_rng(1)) for start in windows.starts]
    assert np.concatenate([batch.targets[:, 0] for batch in batches]).tolist() == shards.read(0, shards.tokens).tolist()
    numbers = np.repeat(np.arange(shards.documents), shards.lengths)
    assert np.concatenate([batch.documents for batch in batches]).tolist() == numbers.tolist()
    assert sum(batch.tokens for batch in batches) == sum(batch.count for batch in batches) == shards.tokens


def test_what_is_counted_are_the_predictions(shards, tokenizer):
    counts = WordCounts.of(shards, tokenizer.special.all())
    for architecture in ("skip-gram", "cbow", "pv-dm"):
        made = sampler(architecture, counts, subsample=0.0, window=2)
        batch = WordWindows(shards, made, block=200).batch(0, np.random.default_rng(1))
        alone = int((~batch.mask.any(dim=1)).sum())
        expected = {"skip-gram": int(batch.mask.sum()), "cbow": len(batch.targets), "pv-dm": shards.tokens}
        assert batch.count == expected[architecture]
        assert (alone == 0) == (architecture == "cbow")  # documents of one word


def test_a_noise_word_that_is_the_word_itself_does_not_count():
    ids = np.full(50, 2)
    batch = sampler(negatives=8).batch(ids, np.zeros(50, int), np.random.default_rng(1), tokens=50)
    assert batch.counted[:, 0].all()
    assert ((batch.targets[:, 1:] == 2) == ~batch.counted[:, 1:]).all() and not batch.counted[:, 1:].all()
