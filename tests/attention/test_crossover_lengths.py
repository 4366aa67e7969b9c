"""From which length on attention is faster than full attention: what is used is what decides."""

from __future__ import annotations

import pytest

from nlpcli.attention.crossover_lengths import LONGEST, faster_from, is_full
from nlpcli.attention.kinds import KINDS, parse_attention
from nlpcli.attention.tiles import tiling


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("text", ["window:32", "window:200", "window:64+global:2", "blockwise:64"])
def test_a_pattern_is_faster_from_the_length_on_at_which_tiles_are_used(text, causal):
    pattern, found = parse_attention(text).pattern_of(causal=causal), faster_from(text, causal=causal)
    assert found is not None and tiling(pattern, found, found) is not None
    assert tiling(pattern, found // 2, found // 2) is None


def test_a_stride_pays_once_enough_keys_have_one_remainder():
    assert faster_from("window:64+strided:64", causal=True) == 2048
    assert faster_from("strided:16", causal=True) < 2048


def test_wider_windows_pay_later_and_patterns_of_all_keys_never():
    assert faster_from("window:32", causal=False) < faster_from("window:1000", causal=False) <= LONGEST
    assert faster_from("window:6000", causal=False) is None
    assert faster_from("prefix:9000", causal=False) is None


def test_of_other_kinds_it_is_what_was_measured():
    for name, kind in KINDS.items():
        if name != "softmax":
            text = name + ":4" * kind.form.count(":")
            for causal in (False, True):
                expected = kind.faster_from and kind.faster_from[causal]
                assert faster_from(text, causal=causal) == expected
            assert not is_full(text)


@pytest.mark.parametrize(
    ("text", "full"), [("full", True), ("causal", True), ("softmax", True), ("window:4", False), ("linear", False)]
)
def test_full_attention_is_distinguished(text, full):
    assert is_full(text) == full
