"""T5's objectives: the paper's examples word for word, its counts, and the way back to the text."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.objectives.noise import Symbols, Text
from nlpcli.objectives.span_corruption import KINDS, Spans, random_segments, random_spans, replace_spans, span_counts
from nlpcli.text import SpecialTokens

SPECIAL = SpecialTokens.first(sentinels=100)
SENTINELS = SPECIAL.sentinels
FIRST = len(SPECIAL.all())
VOCABULARY = 2000
SYMBOLS = Symbols(SPECIAL, np.arange(VOCABULARY) < FIRST, lambda ids: [True] * len(ids), lambda sequences: [])
SENTENCE = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]
X, Y, Z = SENTINELS[:3]

texts = st.lists(st.integers(0, 2 * FIRST), max_size=60).map(lambda ids: np.array(ids, dtype=np.int64))
rates = st.floats(0.01, 0.99)


def encode(words):
    names = {"<X>": X, "<Y>": Y, "<Z>": Z}
    return [names[word] if word in names else FIRST + SENTENCE.index(word) for word in words.split()]


def restore(source, target):
    """The text, from the spans of the target put where their sentinels stand in the source."""
    spans, number = {}, None
    for id_ in target.tolist():
        if id_ in SENTINELS and (number is None or id_ == SENTINELS[number]) and id_ not in spans:
            current = spans.setdefault(id_, [])
            number = SENTINELS.index(id_) + 1
        else:
            current.append(id_)
    assert spans.pop(SENTINELS[number - 1]) == []  # the last sentinel ends the target
    return [id_ for token in source.tolist() for id_ in spans.get(token, [token])], len(spans)


@pytest.mark.parametrize(
    ("hidden", "source", "target"),
    [
        ([2, 3, 8], "Thank you <X> me to your party <Y> week .", "<X> for inviting <Y> last <Z>"),
        ([2, 3, 4, 6, 7, 8], "Thank you <X> to <Y> week .", "<X> for inviting me <Y> your party last <Z>"),
    ],
)
def test_spans_are_replaced_as_in_the_papers_table(hidden, source, target):
    noise = np.isin(np.arange(len(SENTENCE)), hidden)
    ours = replace_spans(np.array(encode(" ".join(SENTENCE))), noise, SENTINELS)
    assert [side.tolist() for side in ours] == [encode(source), encode(target)]


@pytest.mark.parametrize(
    ("length", "counts"),
    [(0, (0, 0)), (1, (0, 0)), (2, (1, 1)), (10, (2, 1)), (30, (4, 1)), (31, (5, 2)), (512, (77, 26)), (568, (85, 28))],
)
def test_the_counts_are_those_of_the_authors_code(length, counts):
    assert span_counts(length, 0.15, 3.0) == counts


def test_a_context_of_512_is_filled_by_568_tokens_and_takes_targets_of_115():
    noise = Spans()
    assert noise.text_length(512) == 568
    noised = noise(Text(np.arange(FIRST, FIRST + 568)), np.random.default_rng(0), SYMBOLS)
    assert len(noised.source) + 1 == 512
    assert len(noised.target) + 1 == 115  # the authors' 114 and the paper's last sentinel


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.5, 0.9])
@pytest.mark.parametrize("mean", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("limit", [2, 3, 10, 64, 300])
def test_text_length_is_the_most_that_fits(rate, mean, limit):
    noise = Spans("spans", rate, mean)

    many = SpecialTokens.first(sentinels=1000)
    symbols = Symbols(many, np.arange(VOCABULARY) < len(many.all()), SYMBOLS.word_starts, SYMBOLS.decode)

    def longest(length):
        noised = noise(Text(np.full(length, VOCABULARY - 1)), np.random.default_rng(0), symbols)
        return max(len(noised.source), len(noised.target)) + 1

    length = noise.text_length(limit)
    assert longest(length) <= limit < longest(length + 1)


def test_random_spans_on_100k_tokens_have_the_exact_counts_every_time():
    rng = np.random.default_rng(1)
    for _ in range(200):
        noise = random_spans(512, rng, rate=0.15, mean=3.0)
        assert noise.sum() == 77 and (np.diff(noise.astype(int)) == 1).sum() == 26
        assert not noise[0] and noise[-1]


def test_all_masks_with_these_counts_are_equally_likely():
    rng = np.random.default_rng(2)
    found = Counter(tuple(random_spans(8, rng, rate=0.5, mean=2.0)) for _ in range(9000))
    assert len(found) == 9  # three ways to cut 4 kept tokens in two, three to cut 4 hidden ones
    assert all(abs(count / 9000 - 1 / 9) < 0.015 for count in found.values())


def test_segments_are_all_compositions_equally_often():
    rng = np.random.default_rng(3)
    found = Counter(tuple(random_segments(5, 3, rng)) for _ in range(12_000))
    assert set(found) == {(a, b, 5 - a - b) for a in range(1, 4) for b in range(1, 5 - a)}
    assert all(abs(count / 12_000 - 1 / 6) < 0.015 for count in found.values())


@given(st.integers(0, 400), rates, st.floats(1, 20))
def test_there_are_never_more_spans_than_tokens_of_either_kind(length, rate, mean):
    noise = random_spans(length, np.random.default_rng(0), rate=rate, mean=mean)
    assert len(noise) == length
    assert (noise.sum(), (np.diff(noise.astype(int)) == 1).sum()) == span_counts(length, rate, mean)
    assert length < 2 or 1 <= noise.sum() < length


@given(texts, rates, st.floats(1, 10), st.sampled_from(["spans", "iid"]), st.integers(0, 2**32))
def test_target_and_source_give_the_text_back(ids, rate, mean, kind, seed):
    ids = ids[~np.isin(ids, SENTINELS)]  # no text holds them
    noised = Spans(kind, rate, mean)(Text(ids), np.random.default_rng(seed), SYMBOLS)
    text, spans = restore(noised.source, noised.target)
    assert text == ids.tolist()
    assert spans == np.isin(noised.source, SENTINELS).sum()
    special = ids[SYMBOLS.is_special[ids]].tolist()
    assert [id_ for id_ in noised.source if id_ < FIRST and id_ not in SENTINELS] == special


@given(texts, st.sampled_from(KINDS), rates, st.integers(0, 2**32))
def test_no_objective_touches_special_tokens_or_its_input(ids, kind, rate, seed):
    ids = ids[~np.isin(ids, SENTINELS)]
    before = ids.copy()
    noised = Spans(kind, rate)(Text(ids), np.random.default_rng(seed), SYMBOLS)
    assert (ids == before).all() and noised.source.dtype == noised.target.dtype == np.int64
    special = Counter(ids[SYMBOLS.is_special[ids]].tolist())
    for id_, count in special.items():
        if id_ != SPECIAL.mask:
            both = Counter(noised.source.tolist())[id_] + (noised.target == id_).sum() * (kind == "prefix")
            assert both == count
    again = Spans(kind, rate)(Text(ids), np.random.default_rng(seed), SYMBOLS)
    assert np.array_equal(noised.source, again.source) and np.array_equal(noised.target, again.target)


def test_iid_noise_is_15_percent_of_100k_tokens_and_neighbours_share_a_sentinel():
    rng, hidden, runs = np.random.default_rng(4), 0, 0
    ids = np.arange(FIRST, FIRST + 500)
    for _ in range(200):
        noised = Spans("iid")(Text(ids), rng, SYMBOLS)
        sentinels = np.isin(noised.source, SENTINELS)
        assert not (sentinels[1:] & sentinels[:-1]).any()
        assert noised.source[sentinels].tolist() == list(SENTINELS[: sentinels.sum()])
        runs += sentinels.sum()
        hidden += 500 - (~sentinels).sum()
    assert hidden / 100_000 == pytest.approx(0.15, abs=0.002)
    assert runs / 100_000 == pytest.approx(0.15 * 0.85, abs=0.002)


def test_dropped_tokens_are_the_target():
    rng, hidden = np.random.default_rng(5), 0
    ids = np.arange(FIRST, FIRST + 500)
    for _ in range(200):
        noised = Spans("drop")(Text(ids), rng, SYMBOLS)
        assert sorted([*noised.source, *noised.target]) == ids.tolist()
        assert (np.diff(noised.source) > 0).all() and (np.diff(noised.target) > 0).all()
        hidden += len(noised.target)
    assert hidden / 100_000 == pytest.approx(0.15, abs=0.002)


def test_bert_style_masks_nine_in_ten_of_15_percent_and_puts_another_token_for_the_tenth():
    rng, masked, changed = np.random.default_rng(6), 0, 0
    ids = np.arange(FIRST, FIRST + 500)
    for _ in range(200):
        noised = Spans("bert-style")(Text(ids), rng, SYMBOLS)
        assert noised.target is ids
        different = noised.source != ids
        masked += (noised.source == SPECIAL.mask).sum()
        changed += different.sum()
        others = noised.source[different & (noised.source != SPECIAL.mask)]
        assert not SYMBOLS.is_special[others].any()
    assert changed / 100_000 == pytest.approx(0.15, abs=0.002)
    assert masked / changed == pytest.approx(0.9, abs=0.01)


def test_mass_style_masks_15_percent():
    rng = np.random.default_rng(7)
    ids = np.arange(FIRST, FIRST + 500)
    sources = np.concatenate([Spans("mass-style")(Text(ids), rng, SYMBOLS).source for _ in range(200)])
    different = sources != np.tile(ids, 200)
    assert (sources[different] == SPECIAL.mask).all() and different.mean() == pytest.approx(0.15, abs=0.002)


def test_a_prefix_is_read_and_the_rest_predicted_cut_anywhere_but_at_the_ends():
    rng = np.random.default_rng(8)
    ids = np.arange(FIRST, FIRST + 6)
    cuts = Counter()
    for _ in range(10_000):
        noised = Spans("prefix")(Text(ids), rng, SYMBOLS)
        assert [*noised.source, *noised.target] == ids.tolist()
        cuts[len(noised.source)] += 1
    assert set(cuts) == {1, 2, 3, 4, 5} and all(abs(count / 10_000 - 0.2) < 0.02 for count in cuts.values())


def test_deshuffling_reads_the_same_tokens_in_any_order():
    rng = np.random.default_rng(9)
    ids = np.array([FIRST, FIRST + 1, SPECIAL.eos, FIRST + 2])
    found = Counter()
    for _ in range(6000):
        noised = Spans("deshuffle")(Text(ids), rng, SYMBOLS)
        assert noised.target is ids and sorted(noised.source) == sorted(ids)
        found[tuple(noised.source)] += 1
    assert len(found) == 6 and {out[2] for out in found} == {SPECIAL.eos}
    assert all(abs(count / 6000 - 1 / 6) < 0.02 for count in found.values())


def test_runs_beyond_the_sentinels_stay_as_they_are():
    ids = np.arange(FIRST, FIRST + 9)
    source, target = replace_spans(ids, np.arange(9) % 2 == 0, SENTINELS[:3])
    assert source.tolist() == [X, FIRST + 1, Y, *range(FIRST + 3, FIRST + 9)]
    assert target.tolist() == [X, FIRST, Y, FIRST + 2, Z]


def test_too_few_sentinels_are_refused_with_the_remedy():
    with pytest.raises(
        NlpcliError, match="needs 29 sentinel tokens for texts of 568 tokens, but the tokenizer has 0"
    ) as caught:
        Spans().check(SpecialTokens(), 568)
    assert "tokenizer.sentinels=100" in caught.value.hint
    Spans().check(SPECIAL, 568)
    Spans("iid").check(SPECIAL, 511)
    with pytest.raises(NlpcliError, match="noise 'iid' needs"):
        Spans("iid").check(SPECIAL, 1000)
    for kind in KINDS[2:]:
        Spans(kind).check(SpecialTokens(), 568)


@pytest.mark.parametrize("length", [1, 2, 3, 10, 100, 500])
@pytest.mark.parametrize("rate", [0.05, 0.15, 0.5, 0.95])
def test_the_requested_sentinels_suffice(length, rate):
    rng = np.random.default_rng(10)
    needed = Spans("iid", rate).sentinels(length)
    for _ in range(200):
        noise = rng.random(length) < rate
        assert (np.diff(noise.astype(int), prepend=0) == 1).sum() < needed


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_rates_that_leave_nothing_to_read_or_to_predict_are_refused(rate):
    with pytest.raises(NlpcliError, match="is not between 0 and 1"):
        Spans("spans", rate)


def test_a_mean_length_below_1_is_refused():
    with pytest.raises(NlpcliError, match="must be at least 1 and finite, not 0"):
        Spans("spans", 0.15, 0)
