from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention.pattern_parser import parse
from nlpcli.attention.random_patterns import BigBird, Random
from nlpcli.config.transformer_settings import TransformerConfig


@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 5))
def test_each_query_draws_its_number_of_random_keys_and_the_same_ones_again(length, count, seed):
    drawn = Random(count, seed).dense(length)
    assert (drawn.sum(1) == min(count, length)).all()
    assert torch.equal(drawn, parse(f"random:{count}", seed=seed).dense(length))


def test_other_seeds_draw_other_keys_and_all_keys_are_drawn_alike():
    draws = torch.stack([Random(3, seed).dense(16) for seed in range(400)]).float()
    assert not torch.equal(draws[0], draws[1])
    assert (draws.mean(0) - 3 / 16).abs().max() < 0.1  # five standard deviations of 400 draws


@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 5), st.integers(1, 60))
def test_bigbird_is_its_definition_block_by_block(size, count, seed, length):
    pattern, blocks = BigBird(size, count, seed), -(-length // size)
    dense = pattern.dense(length)
    if length <= (5 + 2 * count) * size:
        assert dense.all() and pattern.reach(0, 1, length) == [(0, length)]
        return
    drawn = pattern.sampled(blocks).tolist()
    for i in range(length):
        block = i // size
        seen = {j // size for j in range(length) if dense[i, j]}
        assert all(bool(dense[i, j]) == (j // size in seen) for j in range(length))
        if block in (0, blocks - 1):
            assert seen == set(range(blocks))
            continue
        always = {0, block - 1, block, block + 1, blocks - 1}
        assert always <= seen and seen - always == set(drawn[block]) and len(seen - always) == count


@given(st.integers(1, 9), st.integers(0, 3), st.integers(1, 200), st.integers(0, 199), st.integers(1, 200))
def test_bigbird_reaches_all_that_it_allows(size, count, length, first, last):
    first, last = sorted((first % length, last % length))
    pattern = BigBird(size, count)
    seen = pattern.dense(length)[first : last + 1].any(0)
    reached = torch.zeros(length, dtype=torch.bool)
    for start, end in pattern.reach(first, last + 1, length):
        reached[start:end] = True
    assert not (seen & ~reached).any()
    assert all(0 < place < length for place in pattern.breaks(length))


def test_bigbird_draws_all_other_blocks_alike_and_is_drawn_anew_with_another_seed_or_length():
    draws = torch.stack([BigBird(1, 2, seed).dense(12) for seed in range(400)]).float().mean(0)
    assert (draws[5, [2, 3, 7, 8, 9, 10]] - 2 / 7).abs().max() < 0.12 and draws[5, 1] < 0.5  # 7 others
    assert torch.equal(BigBird(1, 2).dense(12), BigBird(1, 2).dense(12))
    assert not torch.equal(BigBird(1, 2).dense(13)[:11, :11], BigBird(1, 2).dense(12)[:11, :11])
    assert parse("bigbird:4", seed=3) == BigBird(4, 3, 3) and str(BigBird(4)) == "bigbird:4"
    assert str(BigBird(4, 3, 2)) == "bigbird:4:3:2" and str(BigBird(4, 0)) == "bigbird:4:0"


def test_bigbird_is_refused_in_a_decoder():
    with pytest.raises(ValueError, match="depends on the length of the text"):
        TransformerConfig(kind="decoder", attention=["bigbird:4"])
