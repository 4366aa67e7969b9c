from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.bucketing import restore_order, token_budget_batches
from nlpcli.errors import NlpcliError

LENGTHS = st.one_of(
    st.lists(st.integers(0, 60), max_size=80).map(np.array),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=80).map(np.array),
)
SETTINGS = st.fixed_dictionaries(
    {
        "max_tokens": st.integers(1, 200),
        "max_sentences": st.none() | st.integers(1, 20),
        "multiple": st.integers(1, 8),
        "seed": st.integers(0, 3),
        "epoch": st.integers(0, 3),
        "shuffle": st.booleans(),
        "like_length": st.booleans(),
    }
)


def longest(lengths, batch):
    return lengths[batch].reshape(len(batch), -1).max()


@given(LENGTHS, SETTINGS)
def test_every_example_is_in_exactly_one_batch(lengths, settings):
    batches = token_budget_batches(lengths, **settings)
    assert sorted(int(index) for batch in batches for index in batch) == list(range(len(lengths)))


@given(LENGTHS, SETTINGS)
def test_no_batch_exceeds_the_budget_unless_it_is_one_overlong_example(lengths, settings):
    for batch in token_budget_batches(lengths, **settings):
        assert len(batch) == 1 or len(batch) * longest(lengths, batch) <= settings["max_tokens"]
        assert len(batch) <= (settings["max_sentences"] or len(lengths))


@given(LENGTHS, SETTINGS)
def test_batches_depend_on_seed_and_epoch_alone(lengths, settings):
    np.random.seed(np.random.randint(1000))
    first, second = token_budget_batches(lengths, **settings), token_budget_batches(lengths, **settings)
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]


@given(LENGTHS, SETTINGS)
def test_batches_don_t_overlap_in_length(lengths, settings):
    if not len(lengths):
        return
    sides = lengths.reshape(len(lengths), -1)
    batches = token_budget_batches(lengths, **settings | {"like_length": True})
    spans = sorted((sides[batch].max(axis=1).min(), longest(lengths, batch)) for batch in batches)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


@given(st.lists(st.integers(1, 9), min_size=200, max_size=200).map(np.array), st.integers(1, 8))
def test_batches_of_a_multiple_have_such_a_number_of_rows_but_for_the_last_rest(lengths, multiple):
    batches = token_budget_batches(lengths, max_tokens=200, multiple=multiple, shuffle=False)
    assert all(len(batch) % multiple == 0 for batch in batches[:-1])


def test_random_batches_hold_all_lengths():
    lengths = np.random.default_rng(0).integers(1, 50, 2000)
    batches = token_budget_batches(lengths, max_tokens=2000, like_length=False)
    means = [lengths[batch].mean() for batch in batches[:-1]]
    assert min(means) > 15 and max(means) < 35
    alike = [lengths[batch].mean() for batch in token_budget_batches(lengths, max_tokens=2000)]
    assert min(alike) < 10 and max(alike) > 45


def test_a_greedy_batch_has_no_room_for_the_next_example():
    lengths = np.random.default_rng(0).integers(1, 50, 500)
    batches = token_budget_batches(lengths, max_tokens=300, shuffle=False)
    for batch, following in itertools.pairwise(batches):
        assert (len(batch) + 1) * lengths[following[0]] > 300


def test_another_epoch_has_other_batches_in_another_order():
    lengths = np.random.default_rng(0).integers(1, 10, 500)
    plans = [token_budget_batches(lengths, max_tokens=100, seed=1, epoch=epoch) for epoch in (0, 1)]
    assert {frozenset(batch.tolist()) for batch in plans[0]} != {frozenset(batch.tolist()) for batch in plans[1]}
    sizes = [[longest(lengths, batch) for batch in plan] for plan in plans]
    assert sizes[0] != sizes[1] and sizes[0] != sorted(sizes[0])


def test_pairs_of_natural_lengths_waste_less_than_a_tenth_on_padding():
    random = np.random.default_rng(0)
    source = random.integers(3, 40, 5000)
    lengths = np.column_stack([source, np.maximum(source + random.integers(-3, 4, 5000), 1)])
    padded = sum(lengths[batch].max(axis=0) * len(batch) for batch in token_budget_batches(lengths, max_tokens=2048))
    assert lengths.sum() / padded.sum() > 0.9


@given(LENGTHS, SETTINGS)
def test_results_come_back_in_the_order_of_the_examples(lengths, settings):
    batches = token_budget_batches(lengths, **settings)
    results = [[f"result {index}" for index in batch] for batch in batches]
    assert restore_order(batches, results) == [f"result {index}" for index in range(len(lengths))]


@pytest.mark.parametrize("setting", ["max_tokens", "max_sentences", "multiple"])
def test_a_budget_of_nothing_is_refused(setting):
    with pytest.raises(NlpcliError, match=f"{setting} must be at least 1, not 0"):
        token_budget_batches(np.array([1]), **{"max_tokens": 5, setting: 0})
