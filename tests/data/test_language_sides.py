"""The language of a line is recognized by what the two sides themselves look like."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import pytest

import nlpcli
from nlpcli.data.language_sides import Sides

DATA = Path(nlpcli.__file__).resolve().parents[1] / "sample_data" / "tatoeba-en-de"


def lines(name: str) -> list[str]:
    return gzip.decompress((DATA / name).read_bytes()).decode("utf-8").splitlines()[:6000]


@pytest.fixture(scope="module")
def evidence():
    """Evidence of both lines of each pair, of which one in a hundred was exchanged; and which these are."""
    english, german = lines("train.en.gz"), lines("train.de.gz")
    exchanged = np.zeros(len(english), dtype=bool)
    exchanged[random.Random(1).sample(range(len(english)), len(english) // 100)] = True
    for place in np.flatnonzero(exchanged):
        english[place], german[place] = german[place], english[place]
    sides = Sides()
    sides.count(0, english)
    sides.count(1, german)
    return sides.evidence(0, english), sides.evidence(1, german), exchanged


def test_exchanged_pairs_are_found_and_no_others(evidence):
    first, second, exchanged = evidence
    found = (first < 0) & (second > 0) & (second - first > 6)
    assert (found & exchanged).sum() / found.sum() >= 0.99
    assert (found & exchanged).sum() / exchanged.sum() >= 0.99


def test_lines_of_their_own_side_have_evidence_for_it(evidence):
    first, second, exchanged = evidence
    assert (first[~exchanged] > 0).mean() > 0.995
    assert (second[~exchanged] < 0).mean() > 0.995


def test_two_sides_in_one_language_are_not_distinguished():
    english = lines("train.en.gz")
    sides = Sides()
    sides.count(0, english[::2])
    sides.count(1, english[1::2])
    assert (sides.evidence(0, english[::2]) < -10).mean() < 0.01


def test_the_portions_make_no_difference():
    text, other = ["ein Haus", "", "zwei", "Bäume 12"], ["a house", "two", "trees 12", ""]
    whole, parts = Sides(), Sides()
    whole.count(0, text)
    whole.count(1, other)
    for line, second in zip(text, other, strict=True):
        parts.count(0, [line])
        parts.count(1, [second])
    np.testing.assert_allclose(
        whole.evidence(0, text), np.concatenate([parts.evidence(0, [t]) for t in text]), rtol=1e-5
    )
    assert len(whole.evidence(1, [])) == 0


def test_evidence_is_the_sum_the_equation_says():
    text, other = ["aa"], ["bb"]
    sides = Sides()
    sides.count(0, text)
    sides.count(1, other)
    # " aa " has three 2-grams, two 3-grams and one 4-gram; each stands once on its own side, and is taken out of it
    expected = sum(n * (np.log(0.5 / n) - np.log(0.5 / n)) for n in (3, 2, 1)) / 3
    assert sides.evidence(0, text)[0] == pytest.approx(expected, abs=1e-6)
    expected = sum(n * (np.log(0.5) - np.log(1.5)) for n in (3, 2, 1)) / 3
    assert sides.evidence(0, other)[0] == pytest.approx(expected, abs=1e-6)
