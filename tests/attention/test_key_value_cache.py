"""The cache of keys and values: what it holds, that it is a value, and how much memory it takes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention import key_value_cache
from nlpcli.attention.key_value_cache import KeyValue, KeyValueCache
from nlpcli.attention.pattern_base import Horizon


@pytest.fixture(autouse=True)
def short_texts_are_written_in_place(monkeypatch):
    monkeypatch.setattr(key_value_cache, "_SHORT", 3)


def pair(length, rows=2):
    """Keys that tell their row and place, and values that are their negatives."""
    key = (
        torch.arange(length, dtype=torch.float64)[:, None].expand(length, 3) + 1000 * torch.arange(rows)[:, None, None]
    )
    return KeyValue(key[:, None], -key[:, None])


def append(cache, whole, start, stop):
    part = whole.part(start, stop)
    return cache.append(part.key, part.value)


HORIZONS = st.builds(Horizon, st.integers(0, 5), st.none() | st.integers(0, 7))


@given(horizon=HORIZONS, cuts=st.sets(st.integers(1, 39)), gradients=st.booleans())
def test_it_holds_the_first_and_the_last_positions_in_their_order(horizon, cuts, gradients):
    whole, cache, start = pair(40), KeyValueCache(horizon), 0
    with torch.set_grad_enabled(gradients):
        for stop in [*sorted(cuts), 40]:
            places = cache.seen_after(stop - start)
            assert cache.held == len(places) - (stop - start)
            held, cache = append(cache, whole, start, stop)
            assert held.key[:, 0, :, 0].tolist() == [(places.tensor() + 1000 * row).tolist() for row in range(2)]
            assert torch.equal(held.value, -held.key)
            needed = {
                place
                for place in range(stop)
                if horizon.last is None or place < horizon.first or place > start - horizon.last or place >= start
            }
            assert needed <= set(places.tensor().tolist())
            start = stop
    assert cache.length == 40


@torch.no_grad()
def test_two_futures_of_one_past_do_not_disturb_each_other():
    whole = pair(40)
    for horizon in (Horizon(), Horizon(2, 5)):
        _, past = append(KeyValueCache(horizon), whole, 0, 10)
        _, past = append(past, whole, 10, 11)  # now there is room
        first, one = append(past, whole, 11, 12)
        second, other = append(past, whole, 20, 21)
        assert first.key[0, 0, -1, 0] == 11 and second.key[0, 0, -1, 0] == 20
        assert append(one, whole, 12, 13)[0].key[0, 0, -2, 0] == 11
        assert append(other, whole, 12, 13)[0].key[0, 0, -2, 0] == 20
        selected = past.select(torch.tensor([1, 1]))
        assert append(selected, whole, 11, 12)[0].key[0, 0, -2, 0] == 1010


@torch.no_grad()
def test_a_step_writes_into_the_memory_that_is_there():
    whole, cache = pair(40), KeyValueCache()
    places = set()
    for place in range(30):
        held, cache = append(cache, whole, place, place + 1)
        places.add(held.key.data_ptr())
    assert len(places) <= 3 + 4  # while it is short, and then once in eight steps


def test_what_was_cached_in_inference_mode_serves_outside_of_it():
    whole, cache = pair(40), KeyValueCache()
    with torch.inference_mode():
        for place in range(12):
            _, cache = append(cache, whole, place, place + 1)
    with torch.no_grad():
        held, _ = append(cache, whole, 12, 13)
    assert held.key[0, 0, :, 0].tolist() == list(range(13))


@torch.no_grad()
def test_after_a_long_step_only_what_is_needed_is_kept():
    for horizon in (Horizon(0, 6), Horizon(3, 6)):
        _, cache = append(KeyValueCache(horizon), pair(5_000), 0, 5_000)
        assert cache.bytes() <= 2 * 2 * 3 * 8 * (3 + 6 + 8 + 3)
