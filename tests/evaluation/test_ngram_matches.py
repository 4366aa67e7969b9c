"""Clipped n-gram matches beside counting with dictionaries, and the statistics of lines beside sacreBLEU's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from nlpcli.evaluation import ngram_matches
from nlpcli.evaluation.bleu import Bleu
from nlpcli.evaluation.chrf import Chrf
from nlpcli.evaluation.ngram_matches import Units, WordIds, characters, clipped_matches

LETTERS = st.text("ab .,-'19&;<>\u00a0\u3000\t\u0085\x1cßİΣ你\U0001f600\ud800", max_size=14) | st.text(max_size=12)
ENTITIES = st.sampled_from(["&quot;", "&amp;lt;", "<skipped>", "1.", ".5", "..", ",", "-", "1-", "\n", "-\n", " ", "x"])
TEXT = LETTERS | st.lists(ENTITIES, max_size=8).map("".join)


def columns(sets):
    """Corpora of 1 to 5 lines with so many sets of references."""
    return st.lists(st.tuples(*[TEXT] * (1 + sets)), min_size=1, max_size=5).map(
        lambda rows: [list(lines) for lines in zip(*rows, strict=True)]
    )


def counted(sides, order):
    """The definition, with a dictionary for each line and order."""
    found = []
    for ours, *theirs in zip(*sides, strict=True):
        row = []
        for n in range(1, order + 1):
            best = Counter()
            for line in theirs:
                best |= Counter(line[i : i + n] for i in range(len(line) - n + 1))
            row.append((Counter(ours[i : i + n] for i in range(len(ours) - n + 1)) & best).total())
        found.append(row)
    return found


@given(st.integers(1, 3).flatmap(columns), st.integers(1, 12))
def test_matches_are_those_counted_with_dictionaries(sides, order):
    found = clipped_matches([characters(lines) for lines in sides], order)
    assert found.tolist() == counted(sides, order)


@pytest.mark.parametrize("different", [40, 3000, 200_000])
def test_many_different_units_are_counted_as_few_are(different):
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 60, size=(2, 40))
    ids = [rng.integers(1, different, size=lengths[side].sum()) for side in (0, 1)]
    ids[1][: len(ids[0]) : 2] = ids[0][: len(ids[1]) : 2][: len(ids[1][: len(ids[0]) : 2])]
    sides = [Units(*side) for side in zip(ids, lengths, strict=True)]
    lines = [[tuple(side.between(i, i + 1).ids.tolist()) for i in range(len(side.lengths))] for side in sides]
    assert clipped_matches(sides, 6).tolist() == counted(lines, 6)


def test_a_line_with_more_different_units_than_numbers_hold_is_counted():
    line = "".join(chr(code) for code in range(0x4E00, 0x4E00 + 3000))
    sides = [[line + "ab", "ab"], [line[::-1] + line, "xab"]]
    assert clipped_matches([characters(lines) for lines in sides], 7).tolist() == counted(sides, 7)


def test_portions_do_not_change_the_matches(monkeypatch):
    sides = [characters([f"line {n} of {n % 7}" for n in range(50)]), characters([f"{n} lines" for n in range(50)])]
    expected = clipped_matches(sides, 4)
    monkeypatch.setattr(ngram_matches, "_PORTION", 64)
    assert (clipped_matches(sides, 4) == expected).all()


def test_what_words_take_in_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(ngram_matches, "_HELD", 1000)
    words = WordIds(str.split)
    for number in range(1000):
        words.forget()
        units = words.units([f"a{number} b{number} a{number}"])
        assert units.ids[0] == units.ids[2] != units.ids[1]
        assert len(words) < 600


@settings(max_examples=150)
@given(
    st.integers(1, 3).flatmap(columns),
    st.sampled_from(["13a", "none", "intl", "char", "zh"]),
    st.booleans(),
    st.integers(1, 5),
)
def test_statistics_of_bleu_are_sacrebleus(sides, tokenize, lowercase, order):
    hypotheses, *references = sides
    theirs = BLEU(tokenize=tokenize, lowercase=lowercase, max_ngram_order=order, force=True)
    ours = Bleu(tokenize=tokenize, lowercase=lowercase, max_ngram_order=order)
    expected = theirs._extract_corpus_statistics(hypotheses, references)
    assert ours.line_statistics(hypotheses, references).tolist() == expected


@settings(max_examples=150)
@given(
    st.integers(1, 3).flatmap(columns),
    st.booleans(),
    st.booleans(),
    st.integers(1, 6),
    st.integers(0, 3),
    st.booleans(),
)
def test_statistics_of_chrf_are_sacrebleus(sides, lowercase, whitespace, char_order, word_order, eps):
    hypotheses, *references = sides
    theirs = CHRF(char_order, word_order, lowercase=lowercase, whitespace=whitespace, eps_smoothing=eps)
    ours = Chrf(
        lowercase=lowercase, chrf_char_order=char_order, chrf_word_order=word_order, chrf_whitespace=whitespace,
        chrf_eps_smoothing=eps,
    )  # fmt: skip
    expected = theirs._extract_corpus_statistics(hypotheses, references)
    assert ours.line_statistics(hypotheses, references).tolist() == expected
