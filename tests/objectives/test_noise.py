"""BART's noises: what they hide, how much of it, and what they leave alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations
from math import exp, factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.objectives.noise import (
    Bart,
    Symbols,
    Text,
    budget,
    delete_tokens,
    infill,
    mask_tokens,
    permute_sentences,
    rotate,
    span_lengths,
)
from nlpcli.text import SpecialTokens, train_tokenizer

SPECIAL = SpecialTokens.first(sentinels=3)
MASK, EOS = SPECIAL.mask, SPECIAL.eos
VOCABULARY = 2000
SYMBOLS = Symbols(
    SPECIAL,
    np.isin(np.arange(VOCABULARY), list(SPECIAL.all())),
    lambda ids: np.asarray(ids) % 2 == 0,  # even ids begin words
    lambda sequences: [" ".join(map(str, ids)) for ids in sequences],
)
FIRST = len(SPECIAL.all())
LENGTH = 512
WINDOWS = 200  # of 512 tokens: 102,400

texts = st.lists(st.integers(0, 60), max_size=40).map(lambda ids: np.array(ids, dtype=np.int64))
rates = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)
seeds = st.integers(0, 2**32)


def windows(*, specials=False):
    """Windows without a recurring token, so that it shows which are gone."""
    rng = np.random.default_rng(7)
    for _ in range(WINDOWS):
        ids = rng.permutation(np.arange(FIRST, VOCABULARY))[:LENGTH]
        if specials:
            ids[rng.choice(LENGTH, 5, replace=False)] = EOS
        yield ids


def is_subsequence(short, long):
    rest = iter(long)
    return all(id_ in rest for id_ in short)


@pytest.mark.parametrize("specials", [False, True])
def test_15_percent_of_100k_tokens_are_masked_and_nothing_else_changes(specials):
    rng, masked, total = np.random.default_rng(1), 0, 0
    for ids in windows(specials=specials):
        out = mask_tokens(ids, rng, SYMBOLS, rate=0.15)
        changed = out != ids
        assert (out[changed] == MASK).all() and not SYMBOLS.is_special[ids[changed]].any()
        masked, total = masked + changed.sum(), total + (~SYMBOLS.is_special[ids]).sum()
    assert masked / total == pytest.approx(0.15, abs=0.0005)


@pytest.mark.parametrize("specials", [False, True])
def test_15_percent_of_100k_tokens_are_deleted_and_the_others_keep_their_order(specials):
    rng, deleted, total = np.random.default_rng(1), 0, 0
    for ids in windows(specials=specials):
        out = delete_tokens(ids, rng, SYMBOLS, rate=0.15)
        assert is_subsequence(out, ids) and (out == EOS).sum() == (ids == EOS).sum()
        deleted, total = deleted + len(ids) - len(out), total + (~SYMBOLS.is_special[ids]).sum()
    assert deleted / total == pytest.approx(0.15, abs=0.0005)


def test_every_place_is_masked_equally_often():
    rng = np.random.default_rng(2)
    ids = np.arange(20, 30)
    hits = sum(mask_tokens(ids, rng, SYMBOLS, rate=0.25) == MASK for _ in range(20_000)) / 20_000
    assert np.allclose(hits, 0.25, atol=0.015)


def test_the_mean_number_of_hidden_tokens_is_exact_for_short_texts_too():
    rng = np.random.default_rng(3)
    for count in (1, 2, 3, 7):
        drawn = [budget(count, 0.15, rng) for _ in range(20_000)]
        assert max(drawn) - min(drawn) <= 1 and np.mean(drawn) == pytest.approx(0.15 * count, abs=0.01)


def gaps(out, ids):
    """For each stretch between two tokens that stayed: how many masks stand there, and how many tokens are gone."""
    place = {int(id_): i for i, id_ in enumerate(ids)}
    before, masks = -1, 0
    for id_ in [*out.tolist(), None]:
        if id_ == MASK:
            masks += 1
            continue
        here = len(ids) if id_ is None else place[id_]
        yield masks, here - before - 1
        before, masks = here, 0


@pytest.mark.parametrize("mean", [3.0, 1.5])
def test_infilling_hides_30_percent_of_100k_tokens_in_spans_of_poisson_length(mean):
    rng = np.random.default_rng(4)
    hidden, masks, alone = 0, 0, Counter()
    for ids in windows():
        out = infill(ids, rng, SYMBOLS, rate=0.3, mean=mean)
        for count, gone in gaps(out, ids):
            assert count > 0 or gone == 0  # nothing is gone without a mask
            hidden, masks = hidden + gone, masks + count
            if count == 1:
                alone[gone] += 1  # whether spans touch has nothing to do with their lengths
    assert hidden / (WINDOWS * LENGTH) == pytest.approx(0.3, abs=0.0005)
    assert hidden / masks == pytest.approx(mean, rel=0.005)
    for length in range(8):
        wanted = exp(-mean) * mean**length / factorial(length)
        assert alone[length] / alone.total() == pytest.approx(wanted, abs=0.012)


def test_span_lengths_sum_to_what_is_wanted_and_are_poisson_with_zeros():
    rng = np.random.default_rng(5)
    lengths = [span_lengths(150, 3.0, rng) for _ in range(1000)]
    assert all(part.sum() == 150 and len(part) == 50 for part in lengths)
    counts = np.bincount(np.concatenate(lengths)) / 50_000
    wanted = [exp(-3) * 3**k / factorial(k) for k in range(len(counts))]
    assert np.allclose(counts, wanted, atol=0.006)
    assert np.mean([len(span_lengths(4, 3.0, rng)) for _ in range(20_000)]) == pytest.approx(4 / 3, abs=0.02)


def test_a_span_lies_everywhere_equally_often():
    rng = np.random.default_rng(6)
    ids = np.arange(20, 26)
    found = Counter(tuple(infill(ids, rng, SYMBOLS, rate=0.5)) for _ in range(8000))
    one = {(*ids[:i], MASK, *ids[i + 3 :]) for i in range(4)}
    assert set(found) == one and all(abs(found[out] / 8000 - 0.25) < 0.015 for out in one)


def test_spans_stop_at_special_tokens_and_go_on_after_them():
    ids = np.array([20, 21, EOS, 22, 23, EOS])
    out = infill(ids, np.random.default_rng(0), SYMBOLS, rate=1.0, mean=4.0)
    assert out.tolist() == [MASK, EOS, MASK, EOS]


def test_with_word_starts_whole_words_are_hidden_and_lengths_count_words():
    rng = np.random.default_rng(8)
    hidden = masks = words = 0
    for ids in windows():
        starts = SYMBOLS.word_starts(ids)
        word = np.cumsum(starts | (np.arange(len(ids)) == 0))
        out = infill(ids, rng, SYMBOLS, rate=0.3, starts=starts)
        gone = ~np.isin(ids, out)
        for number in np.unique(word[gone]):
            assert gone[word == number].all()
        hidden += len(np.unique(word[gone]))
        masks += (out == MASK).sum()
        words += word[-1]
    assert hidden / words == pytest.approx(0.3, abs=0.0005) and hidden / masks == pytest.approx(3.0, rel=0.005)


def test_all_orders_of_sentences_are_equally_likely():
    rng = np.random.default_rng(9)
    parts = [[20], [21, 22], [23, 24, 25]]
    ids, lengths = np.concatenate(parts), np.array([1, 2, 3])
    found = Counter(tuple(permute_sentences(ids, rng, lengths)) for _ in range(12_000))
    assert set(found) == {tuple(np.concatenate(order)) for order in permutations(parts)}
    assert all(abs(count / 12_000 - 1 / 6) < 0.015 for count in found.values())


def test_a_rotation_begins_with_any_token_equally_often():
    rng = np.random.default_rng(10)
    ids = np.arange(20, 25)
    found = Counter(tuple(rotate(ids, rng, SYMBOLS)) for _ in range(10_000))
    assert set(found) == {tuple(np.roll(ids, k)) for k in range(5)}
    assert all(abs(count / 10_000 - 0.2) < 0.02 for count in found.values())


def test_each_document_of_a_window_is_rotated_by_itself():
    ids = np.array([20, 21, 22, EOS, 23, 24, EOS, EOS, 25])
    found = {tuple(rotate(ids, np.random.default_rng(seed), SYMBOLS)) for seed in range(100)}
    assert len(found) == 6
    for out in found:
        assert set(out[:3]) == {20, 21, 22} and set(out[4:6]) == {23, 24} and out[8] == 25
        assert out[3] == out[6] == out[7] == EOS


@given(texts, rates, st.floats(1, 10), st.booleans(), seeds)
def test_whatever_the_text_special_tokens_stay_and_no_source_is_longer_than_it(ids, rate, mean, whole_words, seed):
    plain = ids[~SYMBOLS.is_special[ids]]
    special = ids[SYMBOLS.is_special[ids]]
    starts = SYMBOLS.word_starts(ids) if whole_words else None
    before = ids.copy()
    rng = np.random.default_rng(seed)
    masked = mask_tokens(ids, rng, SYMBOLS, rate=rate)
    deleted = delete_tokens(ids, rng, SYMBOLS, rate=rate)
    filled = infill(ids, rng, SYMBOLS, rate=rate, mean=mean, starts=starts)
    rotated = rotate(ids, rng, SYMBOLS)
    assert (ids == before).all()
    assert len(masked) == len(rotated) == len(ids) and max(len(deleted), len(filled)) <= len(ids)
    for out in (masked, deleted, filled, rotated):
        assert out.dtype == np.int64
        assert [id_ for id_ in out if id_ < FIRST and id_ != MASK] == [id_ for id_ in special if id_ != MASK]
    for out in (masked, deleted, filled):
        assert is_subsequence([id_ for id_ in out if id_ != MASK], ids)
    if rate == 0:
        assert all((out == ids).all() for out in (masked, deleted, filled))
    if rate == 1:
        assert SYMBOLS.is_special[masked].all() and SYMBOLS.is_special[filled].all()
        assert (deleted == special).all()
        assert len(plain) == 0 or (filled == MASK).sum() > (ids == MASK).sum()


@given(st.lists(st.integers(1, 5), max_size=6), seeds)
def test_permuted_sentences_are_the_sentences(lengths, seed):
    ids = np.arange(100, 100 + sum(lengths))
    out = permute_sentences(ids, np.random.default_rng(seed), np.array(lengths, dtype=np.int64))
    ends = np.cumsum(lengths) - 1
    assert sorted(out) == ids.tolist()
    assert all(b == a + 1 or a - 100 in ends for a, b in pairwise(out))


# --- together -------------------------------------------------------------------------------------------------------


def test_noises_are_joined_and_the_target_is_the_text():
    text = Text(np.arange(100, 200), np.array([10, 30, 20, 40]))
    noised = Bart(permute=True, infill=0.3)(text, np.random.default_rng(0), SYMBOLS)
    assert noised.target is text.ids and (noised.source == MASK).sum() == 10
    assert len(noised.source) == 100 - 30 + 10 and not is_subsequence(noised.source[noised.source != MASK], text.ids)


def test_the_same_generator_gives_the_same_noise():
    text = Text(np.arange(100, 200), np.array([10, 30, 20, 40]))
    noise = Bart(mask=0.1, delete=0.1, infill=0.2, permute=True, rotate=True, whole_words=True)
    one, same, other = (noise(text, np.random.default_rng(seed), SYMBOLS).source for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_masks_are_not_deleted():
    text = Text(np.arange(100, 200))
    source = Bart(mask=0.5, delete=1.0)(text, np.random.default_rng(0), SYMBOLS).source
    assert source.tolist() == [MASK] * 50


@pytest.mark.parametrize("settings", [{"mask": -0.1}, {"delete": 1.5}, {"infill": float("nan")}])
def test_rates_outside_0_to_1_are_refused(settings):
    with pytest.raises(NlpcliError, match="is not between 0 and 1"):
        Bart(**settings)


def test_a_mean_length_below_1_is_refused():
    with pytest.raises(NlpcliError, match=r"mean length must be at least 1 and finite, not 0\.5"):
        Bart(infill=0.3, mean=0.5)


def test_a_tokenizer_without_a_mask_is_refused_where_one_is_needed():
    without = SpecialTokens(absent=("mask",))
    with pytest.raises(NlpcliError, match="no mask token"):
        Bart(infill=0.3).check(without, 100)
    Bart(delete=0.3).check(without, 100)


def test_in_a_script_without_spaces_whole_words_are_not_whole_texts():
    text = "我们在北京大学读书" * 20
    tokenizer = train_tokenizer("chars", [text])
    symbols = Symbols.of(tokenizer)
    ids = np.array(tokenizer.encode([text])[0])
    noise, rng = Bart(infill=0.3, whole_words=True), np.random.default_rng(1)
    for _ in range(20):
        kept = (noise(Text(ids), rng, symbols).source != symbols.special.mask).sum()
        assert kept == pytest.approx(0.7 * len(ids), abs=1)


def test_random_ids_are_every_ordinary_id_and_no_other():
    drawn = SYMBOLS.random_ids(40_000, np.random.default_rng(1))
    assert np.array_equal(np.unique(drawn), np.flatnonzero(~SYMBOLS.is_special))
    assert SYMBOLS.ordinary is SYMBOLS.ordinary
