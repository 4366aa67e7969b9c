from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.objectives.masking import UNITS, Masking
from nlpcli.objectives.noise import Symbols
from nlpcli.text.special_tokens import SpecialTokens

SPECIAL = SpecialTokens.first(2)
VOCAB = 1000
IS_SPECIAL = np.zeros(VOCAB, dtype=bool)
IS_SPECIAL[list(SPECIAL.all())] = True
SYMBOLS = Symbols(SPECIAL, IS_SPECIAL, lambda ids: [True] * len(ids), lambda rows: [])


def corpus(length, *, seed=0, total=100_000):
    """Examples of `length` tokens, cls and sep among them, and where their words begin."""
    rng = np.random.default_rng(seed)
    for _ in range(total // length):
        ids = rng.integers(len(SPECIAL.all()), VOCAB, length)
        ids[0], ids[length // 2], ids[-1] = SPECIAL.cls, SPECIAL.sep, SPECIAL.sep
        yield ids, rng.random(length) < 0.7


def hidden_of(masking, length, seed=1):
    rng = np.random.default_rng(seed)
    return [(ids, starts, masking(ids, rng, SYMBOLS, starts)) for ids, starts in corpus(length)]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("length", [128, 510])
def test_fifteen_per_cent_are_hidden_eighty_masked_ten_random_ten_kept(unit, length):
    found = hidden_of(Masking(unit=unit), length)
    ordinary = sum(length - 3 for _ in found)
    places = sum(len(masked.places) for _, _, masked in found)
    assert places / ordinary == pytest.approx(0.15, abs=0.002)
    read = np.concatenate([masked.corrupted[masked.places] for _, _, masked in found])
    goals = np.concatenate([masked.targets for _, _, masked in found])
    tolerance = 0.04 if unit == "span" else 0.015  # a fate for a whole span has more variance
    assert np.mean(read == SPECIAL.mask) == pytest.approx(0.8, abs=tolerance)
    assert np.mean(read == goals) == pytest.approx(0.1, abs=tolerance)
    assert np.mean((read != goals) & (read != SPECIAL.mask)) == pytest.approx(0.1, abs=tolerance)


@pytest.mark.parametrize("rate", [0.05, 0.4])
@pytest.mark.parametrize("unit", UNITS)
def test_other_rates_hold_as_well(unit, rate):
    found = hidden_of(Masking(rate=rate, unit=unit), 256)
    share = sum(len(masked.places) for _, _, masked in found) / sum(253 for _ in found)
    assert share == pytest.approx(rate, abs=0.004)


def test_spans_hold_their_rate_in_very_long_texts():
    masking, rng, ids = Masking(rate=0.4, unit="span"), np.random.default_rng(0), np.full(4000, 500)
    shares = [len(masking(ids, rng, SYMBOLS).places) / 4000 for _ in range(50)]
    assert np.mean(shares) == pytest.approx(0.4, abs=0.001) and np.ptp(shares) < 0.01


EXAMPLES = st.lists(st.one_of(st.sampled_from(sorted(SPECIAL.all())), st.integers(20, VOCAB - 1)), max_size=40)
SETTINGS = st.builds(
    Masking,
    rate=st.floats(0.01, 0.99),
    mask_share=st.floats(0, 0.5),
    random_share=st.floats(0, 0.5),
    unit=st.sampled_from(UNITS),
    span_p=st.floats(0.05, 0.95),
    span_max=st.integers(1, 12),
)


@given(EXAMPLES, SETTINGS, st.integers(0, 99), st.data())
def test_goals_restore_the_original_and_nothing_special_is_touched(ids, masking, seed, data):
    ids = np.array(ids, dtype=np.int64)
    starts = np.array(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))), dtype=bool)
    before = ids.copy()
    corrupted, places, goals = masking(ids, np.random.default_rng(seed), SYMBOLS, starts)
    assert np.array_equal(ids, before)
    restored = corrupted.copy()
    restored[places] = goals
    assert np.array_equal(restored, ids)
    assert not IS_SPECIAL[ids[places]].any() and np.all(np.diff(places) > 0)
    changed = corrupted[corrupted != ids]
    assert not IS_SPECIAL[changed[changed != SPECIAL.mask]].any()
    assert (len(places) > 0) == (not IS_SPECIAL[ids].all())
    again = masking(ids, np.random.default_rng(seed), SYMBOLS, starts)
    assert all(np.array_equal(one, other) for one, other in zip(again, (corrupted, places, goals), strict=True))


def whole_words(ids, starts):
    """Which word each place is in; special tokens are in none (-1)."""
    word, number = np.full(len(ids), -1), -1
    for place, id_ in enumerate(ids):
        if IS_SPECIAL[id_]:
            continue
        if starts[place] or place == 0 or IS_SPECIAL[ids[place - 1]]:
            number += 1
        word[place] = number
    return word


@given(EXAMPLES, SETTINGS, st.integers(0, 99), st.data())
def test_words_are_hidden_whole(ids, masking, seed, data):
    ids = np.array(ids, dtype=np.int64)
    starts = np.array(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))), dtype=bool)
    word = whole_words(ids, starts)
    hidden = np.zeros(len(ids), dtype=bool)
    hidden[masking(ids, np.random.default_rng(seed), SYMBOLS, starts).places] = True
    if masking.unit != "token":
        for number in range(word.max(initial=-1) + 1):
            assert hidden[word == number].all() or not hidden[word == number].any()


def spans_of(ids, starts, masked):
    """Lengths in words of the runs of hidden words."""
    word = whole_words(ids, starts)
    numbers = np.unique(word[masked.places])
    return [len(run) for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)]


def test_span_lengths_are_geometric_up_to_ten_with_mean_3_8():
    found = [example for seed in range(4) for example in hidden_of(Masking(unit="span"), 510, seed)]
    lengths = np.concatenate([spans_of(*example) for example in found])
    chances = 0.8 ** np.arange(10)
    assert lengths.mean() == pytest.approx(3.8, abs=0.1)
    counted = np.bincount(lengths, minlength=11)[1:] / len(lengths)
    assert len(counted) == 10 and counted == pytest.approx(chances / chances.sum(), abs=0.015)


def test_what_replaces_a_span_is_drawn_once_for_all_of_it():
    for ids, starts, masked in hidden_of(Masking(unit="span"), 60):
        word = whole_words(ids, starts)
        is_mask = masked.corrupted[masked.places] == SPECIAL.mask
        run = np.cumsum(np.diff(word[masked.places], prepend=-5) > 1)
        assert all(len(set(is_mask[run == number])) == 1 for number in range(1, run.max() + 1))


@pytest.mark.parametrize("unit", UNITS)
def test_every_place_is_as_likely_to_be_hidden(unit):
    masking, rng, ids = Masking(unit=unit), np.random.default_rng(0), np.arange(100, 220)
    counts = np.zeros(len(ids))
    for _ in range(2000):
        counts[masking(ids, rng, SYMBOLS).places] += 1
    inner = slice(10, -10) if unit == "span" else slice(None)  # a word at an edge is reached from one side only
    assert counts[inner] / 2000 == pytest.approx(np.full(len(counts[inner]), 0.15), abs=0.04)


def test_the_original_is_nowhere_in_the_input_when_all_hidden_tokens_are_masked():
    masking = Masking(mask_share=1.0, random_share=0.0)
    for ids, _, masked in hidden_of(masking, 100):
        assert np.all(masked.corrupted[masked.places] == SPECIAL.mask)
        other = ids.copy()
        other[masked.places] = 999
        assert np.array_equal(np.delete(other, masked.places), np.delete(masked.corrupted, masked.places))


def test_wrong_settings_are_refused():
    for settings, message in (
        ({"rate": 1.0}, "rate must be between 0 and 1, not 1$"),
        ({"unit": "words"}, "'words'"),
        ({"mask_share": 0.8, "random_share": 0.3}, "their sum at most 1"),
        ({"span_max": 0}, "span_max must be at least 1 word, not 0"),
    ):
        with pytest.raises(NlpcliError, match=message):
            Masking(**settings)
