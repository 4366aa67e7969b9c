from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention.pattern_parser import parse
from nlpcli.attention.random_patterns import Random


@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 5))
def test_each_query_draws_its_number_of_random_keys_and_the_same_ones_again(length, count, seed):
    drawn = Random(count, seed).dense(length)
    assert (drawn.sum(1) == min(count, length)).all()
    assert torch.equal(drawn, parse(f"random:{count}", seed=seed).dense(length))


def test_other_seeds_draw_other_keys_and_all_keys_are_drawn_alike():
    draws = torch.stack([Random(3, seed).dense(16) for seed in range(400)]).float()
    assert not torch.equal(draws[0], draws[1])
    assert (draws.mean(0) - 3 / 16).abs().max() < 0.1  # five standard deviations of 400 draws
