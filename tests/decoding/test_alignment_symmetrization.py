from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.decoding.alignment_symmetrization import (
    SYMMETRISED,
    agreed,
    agreement,
    links_of_sources,
    links_of_targets,
    shares,
    symmetrised,
    turned,
)
from nlpcli.errors import NlpcliError

LINKS = st.frozensets(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=14)
GROWN = ("grow-diag", "grow-diag-final", "grow-diag-final-and")

WEIGHTS = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 10_000)).map(
    lambda shape: np.random.default_rng(shape[2]).random(shape[:2]) * (np.arange(shape[1]) != shape[2] % 7)
)


@given(WEIGHTS)
def test_shares_of_a_target_word_sum_to_one_and_keep_their_order(weights):
    found = shares(weights)
    assert found.sum(axis=1) == pytest.approx(np.where(weights.any(axis=1), 1.0, 0.0))
    assert links_of_targets(found) == links_of_targets(weights)


@given(WEIGHTS)
def test_each_word_is_linked_with_the_one_of_the_largest_weight(weights):
    of_targets, of_sources = links_of_targets(weights), links_of_sources(weights)
    assert {j for _, j in of_targets} == set(np.flatnonzero(weights.any(axis=1)) if weights.size else [])
    assert all(weights[j, i] == weights[j].max() for i, j in of_targets)
    assert {i for i, _ in of_sources} == set(np.flatnonzero(weights.any(axis=0)) if weights.size else [])
    assert all(weights[j, i] == weights[:, i].max() for i, j in of_sources)
    assert links_of_sources(weights.T) == turned(of_targets)


@given(WEIGHTS)
def test_a_model_that_agrees_with_itself_changes_no_best_word(weights):
    found = agreed(shares(weights), shares(weights))
    there = weights.any(axis=1)[:, None] & weights.any(axis=0) if weights.size else np.zeros_like(weights, dtype=bool)
    assert ((found > 0) == there).all()
    assert links_of_targets(found) == links_of_targets(np.where(there, weights, 0))


def test_two_models_outvote_each_other_by_how_sure_they_are():
    forward = np.array([[0.6, 0.4], [0.1, 0.9]])
    backward = np.array([[0.2, 0.7], [0.8, 0.3]])
    assert links_of_targets(forward) == {(0, 0), (1, 1)}
    assert agreed(forward, backward) == pytest.approx(forward * backward, abs=1e-5)
    assert links_of_targets(agreed(forward, backward)) == {(1, 0), (1, 1)}
    assert not agreed(np.array([[0.0, 0.0]]), np.array([[1.0, 1.0]])).any()


# x: both directions, f: forward alone, b: backward alone
PICTURE = """
x f . . .
. . b . .
. . x . .
. f . . b
f . . . .
"""


def drawn(picture):
    cells = {(i, j): mark for i, row in enumerate(picture.split("\n")[1:-1]) for j, mark in enumerate(row.split())}
    return tuple(frozenset(cell for cell, mark in cells.items() if mark in ("x", side)) for side in "fb")


def test_a_drawn_example_grows_as_by_hand():
    forward, backward = drawn(PICTURE)
    assert symmetrised(forward, backward, "intersection") == {(0, 0), (2, 2)}
    # 0-1 is beside 0-0 and links a new target word, 1-2 beside 2-2 and links a new source word;
    # 3-1 is diagonal to 2-2; 4-0 is diagonal to 3-1; 3-4 is beside nothing
    grown = {(0, 0), (0, 1), (1, 2), (2, 2), (3, 1), (4, 0)}
    assert symmetrised(forward, backward, "grow-diag") == grown
    assert symmetrised(forward, backward, "grow-diag-final") == grown | {(3, 4)}
    assert symmetrised(forward, backward, "grow-diag-final-and") == grown
    lonely = symmetrised(forward, backward | {(6, 6)}, "grow-diag-final-and")
    assert lonely == grown | {(6, 6)}


@given(LINKS, LINKS, st.sampled_from(GROWN))
def test_what_is_grown_lies_between_intersection_and_union(forward, backward, method):
    found = symmetrised(forward, backward, method)
    assert forward & backward <= symmetrised(forward, backward, "grow-diag") <= found <= forward | backward


@given(LINKS, LINKS)
def test_the_final_step_leaves_no_word_without_a_link_that_has_one_in_either_direction(forward, backward):
    found = symmetrised(forward, backward, "grow-diag-final")
    for side in (0, 1):
        assert {link[side] for link in found} == {link[side] for link in forward | backward}
    both = symmetrised(forward, backward, "grow-diag-final-and")
    assert both <= forward | backward
    for i, j in (forward | backward) - both:
        assert i in {i for i, _ in both} or j in {j for _, j in both}


@given(LINKS, LINKS)
def test_grow_diag_adds_nothing_more_to_what_it_made(forward, backward):
    found = symmetrised(forward, backward, "grow-diag")
    assert symmetrised(found, forward | backward, "grow-diag") == found
    for i, j in (forward | backward) - found:
        near = any((i + a, j + b) in found for a in (-1, 0, 1) for b in (-1, 0, 1))
        taken = i in {i for i, _ in found} and j in {j for _, j in found}
        assert taken or not near


@given(LINKS, LINKS, st.sampled_from(("intersection", "union")))
def test_sets_do_not_care_which_direction_comes_first(forward, backward, method):
    assert symmetrised(forward, backward, method) == symmetrised(backward, forward, method)
    assert symmetrised(turned(forward), turned(backward), method) == turned(symmetrised(forward, backward, method))


@given(LINKS, st.sampled_from(SYMMETRISED))
def test_directions_that_agree_are_left_as_they_are(links, method):
    assert symmetrised(links, links, method) == links


def test_agreement_is_the_share_of_common_links():
    some, others = [frozenset({(0, 0), (1, 1)}), frozenset()], [frozenset({(0, 0)}), frozenset({(2, 2)})]
    assert agreement(some, others) == pytest.approx(2 / 4)
    assert agreement(some, some) == 1 and agreement([frozenset()], [frozenset()]) == 1


def test_an_unknown_method_is_refused():
    with pytest.raises(NlpcliError, match="unknown symmetrization method 'grow'"):
        symmetrised(frozenset(), frozenset(), "grow")
