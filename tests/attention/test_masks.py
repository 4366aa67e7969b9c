"""Masks in parts against the matrix by its definition."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.pattern_parser import parse
from nlpcli.attention.patterns import Causal, Full

TEXTS = ["full", "causal", "window:3", "causal & window:2", "window:2+global@0,-1", "random:2", "global@-1"]


@given(
    text=st.sampled_from(TEXTS), n=st.integers(1, 8), more=st.integers(0, 4), seed=st.integers(0, 99), data=st.data()
)
def test_a_key_is_seen_where_all_parts_allow_it(text, n, more, seed, data):
    m, pattern, generator = n + more, parse(text), torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, m + 1, (2,), generator=generator).tolist()
    keys = torch.arange(m) < torch.tensor(lengths)[:, None]
    documents = torch.randint(0, 2, (2, m), generator=generator)
    order = torch.rand(2, n, m, generator=generator) < 0.7
    given_parts = {
        name: part if data.draw(st.booleans()) else None
        for name, part in (("keys", keys), ("documents", documents), ("permutation", order))
    }
    mask = AttentionMask(pattern, **given_parts)
    found = mask.dense(n, m)
    causal, rest = mask.split(n, m)
    if causal:
        lower = Causal().dense(n, m)
        rest = lower if rest is None else rest & lower
    for row in range(2):
        length = lengths[row] if given_parts["keys"] is not None and pattern.depends_on_length else m
        for i in range(n):
            for j in range(m):
                place = m - n + i
                if given_parts["keys"] is not None and (place >= lengths[row] or j >= lengths[row]):
                    continue  # padding: nobody reads what is made of it
                wanted = bool(pattern.allows(torch.tensor(place), torch.tensor(j), length))
                if given_parts["documents"] is not None:
                    wanted &= bool(documents[row, place] == documents[row, j])
                if given_parts["permutation"] is not None:
                    wanted &= bool(order[row, i, j])
                for matrix in (found, rest):
                    seen = True if matrix is None else bool(matrix.expand(2, 1, n, m)[row, 0, i, j])
                    assert seen == wanted


@given(n=st.integers(1, 9), length=st.integers(1, 9))
def test_padding_is_never_seen_and_what_counts_from_the_end_counts_from_the_last_token(n, length):
    length = min(n, length)
    keys = (torch.arange(n) < length)[None]
    matrix = AttentionMask(parse("global@-1"), keys=keys).dense(n, n)[0, 0]
    assert not matrix[:, length:].any()
    assert torch.equal(matrix[:length, :length], parse("global@-1").dense(length))


def test_a_mask_that_hides_nothing_is_none():
    assert AttentionMask().dense(3, 5) is None
    assert AttentionMask(parse("window:9")).dense(3, 5) is None
    assert AttentionMask(Causal()).split(4, 4) == (True, None)


def test_a_layers_pattern_narrows_a_mask():
    mask = AttentionMask(keys=torch.ones(1, 4, dtype=torch.bool)).within(Causal())
    assert mask.pattern == Causal() and mask.keys is not None
    assert AttentionMask(Causal()).within(Full()).pattern == Full() & Causal()
