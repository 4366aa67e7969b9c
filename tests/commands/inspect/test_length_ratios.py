"""Pairs whose lengths don't fit, and the place where two files part ways."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nlpcli
from nlpcli.commands.inspect.length_ratios import LIMIT, Ratio, parting
from nlpcli.commands.inspect.line_scan import Scan

DATA = Path(nlpcli.__file__).resolve().parents[1] / "sample_data" / "tatoeba-en-de"


@pytest.fixture(scope="module")
def sides():
    found = []
    for name in ("train.en.gz", "train.de.gz"):
        side = Scan(DATA / name)
        side.add(gzip.decompress((DATA / name).read_bytes()).decode("utf-8").splitlines()[:3000])
        found.append((side.characters.copy(), side.numbers.copy()))
    return found


def test_the_mean_ratio_is_that_of_all_lengths():
    ratio = Ratio.of(np.array([10, 20, 0]), np.array([20, 40, 7]))
    assert ratio.c == 2.0
    assert (ratio.z(np.array([10]), np.array([20])) == 0).all()


def test_outliers_stand_out_and_don_t_hide_each_other(sides):
    (source, _), (target, _) = sides
    target = target.copy()
    wrong = np.arange(0, 3000, 100)
    target[wrong] = source[wrong] * 8
    z = Ratio.of(source, target).z(source, target)
    assert (np.abs(z[wrong]) > LIMIT).mean() > 0.9
    assert (np.abs(np.delete(z, wrong)) > LIMIT).mean() < 0.005


def test_exchanging_the_sides_turns_the_sign():
    source, target = np.array([10, 30, 50, 20]), np.array([14, 33, 40, 90])
    there, back = Ratio.of(source, target), Ratio.of(target, source)
    assert np.sign(there.z(source, target)).tolist() == (-np.sign(back.z(target, source))).tolist()


@settings(max_examples=15)
@given(st.integers(50, 2900), st.integers(1, 5), st.booleans())
def test_lines_that_are_missing_in_one_place_are_found(sides, place, missing, of_target):
    kept = np.delete(np.arange(3000), np.arange(place, place + missing))
    one, other = sides if of_target else sides[::-1]
    arguments = (one[0], other[0][kept], one[1], other[1][kept])
    if not of_target:
        arguments = (arguments[1], arguments[0], arguments[3], arguments[2])
    found = parting(*arguments)
    assert found is not None
    assert abs(found - (place + 1)) <= 15


def test_two_texts_that_never_fit_have_no_such_place():
    rng = np.random.default_rng(1)
    same = np.zeros(1000, dtype=np.int64)
    assert parting(rng.integers(5, 60, 1000), rng.integers(5, 60, 1005), same, np.zeros(1005, dtype=np.int64)) is None
    assert parting(np.arange(5), np.arange(5), same[:5], same[:5]) is None
