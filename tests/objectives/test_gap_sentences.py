"""PEGASUS's gap sentences against ROUGE and selections written out word by word."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.objectives.gap_sentences import GapSentences, gap_count, principal_sentences, rouge_1, words_of
from nlpcli.objectives.noise import Symbols, Text
from nlpcli.text import SpecialTokens

SPECIAL = SpecialTokens.first()
MASK = SPECIAL.mask
FIRST = len(SPECIAL.all())
VOCABULARY = 600
SYMBOLS = Symbols(
    SPECIAL,
    np.arange(VOCABULARY) < FIRST,
    lambda ids: [True] * len(ids),
    lambda sequences: [" ".join(f"w{id_}" for id_ in ids) for ids in sequences],
)

documents = st.lists(st.lists(st.sampled_from("abcde"), max_size=6), min_size=1, max_size=7)


def f1(candidate, reference, unique):
    """ROUGE-1 from precision and recall, as it is defined."""
    kind = (lambda words: Counter(set(words))) if unique else Counter
    candidate, reference = kind(candidate), kind(reference)
    matches = (candidate & reference).total()
    if not matches:
        return 0.0
    precision, recall = matches / candidate.total(), matches / reference.total()
    return 2 * precision * recall / (precision + recall)


def score(document, chosen, unique):
    inside = [word for i, words in enumerate(document) for word in words if i in chosen]
    outside = [word for i, words in enumerate(document) for word in words if i not in chosen]
    return f1(inside, outside, unique)


@given(documents, st.booleans(), st.integers(1, 7))
def test_independent_selection_takes_the_sentences_with_the_highest_scores(document, unique, count):
    count = min(count, len(document))
    chosen = principal_sentences(document, count, unique=unique).tolist()
    scores = [score(document, {i}, unique) for i in range(len(document))]
    wanted = sorted(range(len(document)), key=lambda i: (round(scores[i], 9), i))[-count:]
    assert chosen == sorted(wanted)


@given(documents, st.booleans(), st.integers(1, 7))
def test_sequential_selection_is_algorithm_1(document, unique, count):
    count = min(count, len(document))
    chosen = set()
    for _ in range(count):
        rest = [i for i in range(len(document)) if i not in chosen]
        chosen.add(max(rest, key=lambda i: (round(score(document, chosen | {i}, unique), 9), i)))
    assert principal_sentences(document, count, sequential=True, unique=unique).tolist() == sorted(chosen)


def test_the_first_of_a_sequential_selection_is_the_best_single_sentence():
    document = [["a", "b"], ["a", "b", "c"], ["d"], ["a", "c"]]
    assert principal_sentences(document, 1).tolist() == principal_sentences(document, 1, sequential=True).tolist()


def test_repeated_words_count_once_when_counts_are_unique():
    document = [["a", "a", "a", "a"], ["a", "b"], ["b", "c"]]
    for i, unique in [(i, unique) for i in range(3) for unique in (False, True)]:
        counts = [[words.count(word) for word in "abc"] for words in document]
        candidate, reference = np.array(counts[i]), np.array(counts).sum(axis=0) - counts[i]
        if unique:
            candidate, reference = candidate > 0, reference > 0
        assert rouge_1(candidate, reference) == pytest.approx(score(document, {i}, unique))
    assert score(document, {0}, False) != score(document, {0}, True)


def test_words_are_lowercased_letters_and_digits_and_each_han_character_is_one():
    assert words_of("The cat's 2nd_life: Größe, 東京 and カナ") == [
        *("the", "cat", "s", "2nd", "life", "größe", "東", "京", "and", "カ", "ナ")
    ]


@pytest.mark.parametrize(("sentences", "count"), [(0, 0), (1, 1), (2, 1), (6, 1), (7, 2), (10, 3), (20, 6)])
def test_three_in_ten_sentences_are_taken_and_at_least_one(sentences, count):
    assert gap_count(sentences, 0.3) == count


def example(seed=0, longest=8):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, size=10)
    return Text(rng.integers(FIRST, FIRST + 30, size=lengths.sum()), lengths)


def parts(text):
    return [part.tolist() for part in np.split(text.ids, np.cumsum(text.sentences)[:-1])]


@pytest.mark.parametrize("choice", ["principal", "random", "lead"])
@pytest.mark.parametrize("selection", ["independent", "sequential"])
@pytest.mark.parametrize("counts", ["original", "unique"])
def test_the_target_put_where_the_masks_are_gives_the_text_back(choice, selection, counts):
    noise = GapSentences(choice=choice, selection=selection, counts=counts)
    for seed in range(20):
        text = example(seed)
        noised = noise(text, np.random.default_rng(seed), SYMBOLS)
        assert (noised.source == MASK).sum() == 3 and len(noised.source) + len(noised.target) == len(text.ids) + 3
        found = []
        for chosen in combinations(range(10), 3):
            sentences = parts(text)
            target = [id_ for i in chosen for id_ in sentences[i]]
            source = [id_ for i, ids in enumerate(sentences) for id_ in ([MASK] if i in chosen else ids)]
            if (source, target) == (noised.source.tolist(), noised.target.tolist()):
                found.append(chosen)
        assert found and (choice != "lead" or (0, 1, 2) in found)


def test_principal_sentences_of_a_text_are_those_of_its_words():
    text = example(3)
    sentences = parts(text)
    for selection, counts in [("independent", "original"), ("sequential", "unique")]:
        noise = GapSentences(selection=selection, counts=counts)
        selected = noise.select([np.array(ids) for ids in sentences], np.random.default_rng(0), SYMBOLS)
        wanted = principal_sentences(
            sentences, 3, sequential=selection == "sequential", unique=counts == "unique"
        )  # in this vocabulary each id is a word
        assert selected.tolist() == wanted.tolist()


def test_random_sentences_are_all_taken_equally_often():
    sentences = [np.array([FIRST + i]) for i in range(10)]
    rng = np.random.default_rng(1)
    counts = Counter(i for _ in range(4000) for i in GapSentences(choice="random").select(sentences, rng, SYMBOLS))
    assert all(abs(counts[i] / 4000 - 0.3) < 0.03 for i in range(10))


def test_with_mlm_15_percent_of_the_other_tokens_are_predicted_by_the_encoder():
    rng = np.random.default_rng(2)
    predicted = masked = kept = total = 0
    for seed in range(400):
        text = example(seed, longest=80)
        plain = GapSentences(choice="lead")(text, rng, SYMBOLS).source
        noised = GapSentences(choice="lead", mlm=1.0)(text, rng, SYMBOLS)
        restored = noised.source.copy()
        restored[noised.places] = noised.hidden
        assert np.array_equal(restored, plain) and MASK not in noised.hidden
        read = noised.source[noised.places]
        predicted, masked, kept = (
            predicted + len(read),
            masked + (read == MASK).sum(),
            kept + (read == noised.hidden).sum(),
        )
        total += (plain != MASK).sum()
        assert not SYMBOLS.is_special[read[read != MASK]].any()
    assert total > 100_000 and predicted / total == pytest.approx(0.15, abs=0.002)
    assert masked / predicted == pytest.approx(0.8, abs=0.01)
    assert kept / predicted == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(("masks", "others"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_with_mlm_the_shares_of_masks_and_random_tokens_count(masks, others):
    noise = GapSentences(choice="lead", mlm=1.0, mlm_rate=0.5, mask_share=masks, random_share=others)
    noised = noise(example(1, longest=80), np.random.default_rng(1), SYMBOLS)
    read = noised.source[noised.places]
    assert np.mean(read == MASK) == masks
    assert np.mean((read != MASK) & (read != noised.hidden)) == pytest.approx(others, abs=0.05)


def test_pegasus_own_mask_of_sentences_is_used_where_the_tokenizer_has_it():
    special = replace(SPECIAL, spellings=((2, "<mask_1>"), (MASK, "<mask_2>")))
    symbols = replace(SYMBOLS, special=special)
    text = example(longest=40)
    noised = GapSentences(choice="lead", mlm=1.0)(text, np.random.default_rng(0), symbols)
    assert noised.source[0] == 2 and (noised.source == 2).sum() == 3 and (noised.source == MASK).sum() > 3


def test_the_same_generator_gives_the_same_gaps():
    noise = GapSentences(choice="random", mlm=1.0)
    one, same, other = (noise(example(), np.random.default_rng(seed), SYMBOLS) for seed in (1, 1, 2))
    assert np.array_equal(one.source, same.source) and np.array_equal(one.hidden, same.hidden)
    assert not np.array_equal(one.source, other.source)


@given(st.lists(st.integers(1, 4), max_size=6), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_any_text_will_do(lengths, ratio, seed):
    text = Text(np.arange(FIRST, FIRST + sum(lengths)), np.array(lengths, dtype=np.int64))
    noised = GapSentences(ratio)(text, np.random.default_rng(seed), SYMBOLS)
    assert len(noised.source) <= len(text.ids) and len(noised.target) <= len(text.ids)
    if lengths:
        assert (noised.source == MASK).sum() == gap_count(len(lengths), ratio)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0.0}, "ratio 0 is not between 0 and 1"),
        ({"choice": "leading"}, "unknown strategy for gap sentences 'leading'"),
        ({"selection": "both"}, "unknown selection of gap sentences"),
        ({"counts": "uniq"}, "unknown ROUGE counts of gap sentences"),
        ({"mlm": -1.0}, "weight of mlm must be at least 0 and finite, not -1"),
        ({"mlm_rate": 1.5}, r"rate must be between 0 and 1, not 1\.5"),
        ({"mask_share": 0.9, "random_share": 0.2}, "their sum at most 1"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(NlpcliError, match=message):
        GapSentences(**settings)
