"""The algebra of who may look at whom: against loops over pairs, the laws of or and and, and the models' own masks."""

from __future__ import annotations

import contextlib
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.pattern_base import Both, Either
from nlpcli.attention.pattern_parser import parse
from nlpcli.attention.patterns import (
    PATTERNS,
    Causal,
    Dilated,
    Fixed,
    Full,
    Global,
    Strided,
    Window,
    decoder_pattern,
    split_causal,
)
from nlpcli.attention.random_patterns import Random
from nlpcli.attention.softmax import causal_mask, softmax_weights
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model

NUMBER = st.integers(1, 9)
ATOMS = st.one_of(
    st.sampled_from(["full", "causal"]),
    st.builds(
        "{}:{}".format,
        st.sampled_from(
            [
                "window",
                "restricted",
                "prefix",
                "global",
                "global-random",
                "random",
                "random-past",
                "blockwise",
                "strided",
                "fixed",
            ]
        ),
        NUMBER,
    ),
    st.builds("dilated:{}:{}".format, NUMBER, NUMBER),
    st.builds("random:{}:{}".format, NUMBER, st.integers(0, 5)),
    st.builds("bigbird:{}:{}:{}".format, st.integers(1, 2), st.integers(0, 2), st.integers(0, 3)),
    st.builds(lambda size, last: f"fixed:{size}:{min(size, last)}", NUMBER, NUMBER),
    st.builds(
        lambda places: "global@" + ",".join(map(str, places)), st.lists(st.integers(-6, 12), min_size=1, max_size=3)
    ),
)
TEXTS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("({}+{})".format, inner, inner),
        st.builds("({} & {})".format, inner, inner),
        st.builds("blockwise:{}({})".format, NUMBER, inner),
    ),
    max_leaves=6,
)
PARSED = TEXTS.map(parse)
SIZES = st.tuples(st.integers(1, 12), st.integers(0, 6)).map(lambda size: (size[0], size[0] + size[1]))


def loop(sees, n, m):
    """The matrix by its definition: `sees(i, j)` for every pair of positions."""
    return torch.tensor([[bool(sees(i, j)) for j in range(m)] for i in range(m - n, m)])


@given(SIZES, NUMBER, NUMBER)
def test_each_part_is_its_definition(size, a, b):
    n, m = size
    last = min(a, b)
    definitions = {
        "full": lambda i, j: True,
        "causal": lambda i, j: j <= i,
        f"prefix:{a}": lambda i, j: j < a,
        f"window:{a}": lambda i, j: abs(i - j) < a,
        f"restricted:{a}": lambda i, j: abs(i - j) <= a,
        f"dilated:{a}:{b}": lambda i, j: any(abs(i - j) == step * b for step in range(a)),
        f"global:{a}": lambda i, j: i < a or j < a,
        f"global@{a},{-b}": lambda i, j: {i, j} & {a, m - b},
        f"blockwise:{a}": lambda i, j: i // a == j // a,
        f"blockwise:{a}(window:{b})": lambda i, j: abs(i // a - j // a) < b,
        f"strided:{a}": lambda i, j: (i - j) % a == 0,
        f"fixed:{a}:{last}": lambda i, j: j % a in range(a - last, a),
    }
    for text, sees in definitions.items():
        assert torch.equal(parse(text).dense(n, m), loop(sees, n, m)), text


@settings(max_examples=30, deadline=None)
@given(PARSED, st.integers(1, 5), st.integers(0, 3))
def test_dense_is_what_allows_says_of_each_pair_alone(pattern, n, more):
    m = n + more
    sees = lambda i, j: pattern.allows(torch.tensor(i), torch.tensor(j), m)  # noqa: E731
    assert torch.equal(pattern.dense(n, m), loop(sees, n, m))


@settings(max_examples=30, deadline=None)
@given(PARSED, st.integers(1, 9))
def test_allows_can_be_mapped_over_single_positions_as_flex_attention_does(pattern, length):
    keys = torch.arange(length)
    row = torch.vmap(lambda i, j: pattern.allows(i, j, length), in_dims=(None, 0))
    assert torch.equal(torch.vmap(row, in_dims=(0, None))(keys, keys), pattern.dense(length))


@given(PARSED, SIZES)
def test_fewer_queries_are_the_last_rows_of_the_whole(pattern, size):
    n, m = size
    assert torch.equal(pattern.dense(n, m), pattern.dense(m)[m - n :])


@given(PARSED, PARSED, PARSED, SIZES)
def test_or_and_and_are_elementwise_and_keep_the_laws_of_sets(a, b, c, size):
    dense = lambda pattern: pattern.dense(*size)  # noqa: E731
    assert torch.equal(dense(a | b), dense(a) | dense(b))
    assert torch.equal(dense(a & b), dense(a) & dense(b))
    assert torch.equal(dense(a & (b | c)), dense(a & b | a & c))
    assert torch.equal(dense(a | b), dense(b | a)) and torch.equal(dense(a & b), dense(b & a))
    assert (a | b) | c == a | (b | c) and (a & b) & c == a & (b & c)
    assert a | a == a == a & a
    assert torch.equal(dense(a | Full()), dense(Full())) and torch.equal(dense(a & Full()), dense(a))


@given(PARSED)
def test_a_pattern_is_what_its_text_says(pattern):
    assert parse(str(pattern)) == pattern


@given(TEXTS, SIZES)
def test_spaces_between_the_parts_change_nothing(text, size):
    assert parse(re.sub(r"([+&()])", r" \1 ", text)) == parse(text)


def test_and_binds_tighter_than_or():
    assert parse("causal & window:4 + global:1") == (Causal() & Window(4)) | Global(1)
    assert parse("causal & (window:4 + global:1)") == Causal() & (Window(4) | Global(1))
    assert isinstance(parse("full & causal + random:1"), Either) and isinstance(parse("full & (causal+full)"), Both)


@given(st.integers(1, 18), NUMBER, st.integers(0, 5))
def test_global_tokens_at_random_positions_are_global_tokens_somewhere(m, count, seed):
    matrix = parse(f"global-random:{count}:{seed}").dense(m)
    places = [i for i in range(m) if matrix[i].all()]
    assert len(places) >= min(count, m)
    drawn = {tuple(parse(f"global-random:1:{seed}").dense(30).all(1).nonzero()[:, 0].tolist()) for seed in range(8)}
    assert len(drawn) > 3 and all(len(place) == 1 for place in drawn)
    if 0 < min(count, m) < m - 1:
        assert torch.equal(matrix, Global(positions=tuple(places)).dense(m))


@given(SIZES)
def test_a_window_as_wide_as_the_text_equals_full_attention(size):
    n, m = size
    assert torch.equal(Window(m).dense(n, m), Full().dense(n, m))


@given(SIZES, NUMBER)
def test_windows_and_causality_are_those_of_the_attention_that_is_trained(size, width):
    n, m = size
    assert torch.equal(Causal().dense(n, m), causal_mask(n, m))
    torch.manual_seed(m)
    query, key = (torch.randn(1, 2, length, 4, dtype=torch.float64) for length in (n, m))
    ours = softmax_weights(query, key, attention_mask=parse(f"causal & window:{width}").dense(n, m))
    theirs = softmax_weights(query, key, attention_mask=Window(width).dense(n, m), causal=True)
    assert torch.equal(ours > 0, parse(f"causal & window:{width}").dense(n, m).expand(1, 2, n, m))
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("width", [1, 3, 20])
def test_a_model_with_a_window_computes_what_the_pattern_allows(width):
    def decoder(attention):
        torch.manual_seed(5)
        settings = {"kind": "decoder", "d_model": 16, "heads": 2, "d_ff": 32, "decoder_layers": 2}
        return build_model({**settings, "attention": [attention]}, 23).double().eval()

    text = torch.randint(23, (2, 11), generator=torch.Generator().manual_seed(1))
    windowed, plain = decoder(f"window:{width}"), decoder("full")
    attention_mask = parse(f"causal & window:{width}").dense(11)
    assert torch.allclose(
        windowed(text), plain.logits(plain.hidden(text, AttentionMask(permutation=attention_mask[None]))), atol=1e-6
    )


def test_a_pattern_of_blocks_is_one_of_tokens_in_blocks():
    pattern = parse("blockwise:4(window:2+global@0,-1+random:2)")
    assert str(pattern) == "blockwise:4(window:2+global@0,-1+random:2)"
    blocks = (Window(2) | Global(positions=(0, -1)) | Random(2)).dense(6)
    assert torch.equal(pattern.dense(24), blocks.repeat_interleave(4, 0).repeat_interleave(4, 1))


def test_the_heads_of_sparse_transformers_reach_every_earlier_key_in_two_steps():
    local, summary = parse("causal & blockwise:4").dense(16).float(), (Causal() & Fixed(4)).dense(16).float()
    near, strided = parse("causal & window:4").dense(16).float(), (Causal() & Strided(4)).dense(16).float()
    before = parse("causal").dense(16)
    assert torch.equal(near @ strided > 0, before)
    assert torch.equal(summary @ local + local > 0, before)


@given(SIZES, NUMBER)
def test_a_prefix_sees_itself_and_the_rest_sees_what_came_before(size, count):
    n, m = size
    assert torch.equal(parse(f"causal+prefix:{count}").dense(n, m), loop(lambda i, j: j < max(count, i + 1), n, m))


def test_a_dilated_window_without_gaps_is_a_window():
    assert torch.equal(Dilated(3, 1).dense(9), Window(3).dense(9))


@pytest.mark.parametrize(
    "text",
    [
        "window:2147483647",
        "dilated:2147483647:2147483647",
        "random:2147483647",
        "fixed:99",
        "bigbird:2147483647",
        "bigbird:1:2147483647",
    ],
)
def test_numbers_beyond_the_text_do_no_harm(text):
    assert parse(text).dense(5).shape == (5, 5)


@pytest.mark.parametrize(
    ("text", "place", "named", "hint"),
    [
        ("window:4+globl:1", 10, "unknown pattern 'globl'", "did you mean 'global'?"),
        ("xyz", 1, "unknown pattern 'xyz'", "choose one of: full, causal, prefix, window"),
        ("causal & window", 10, "'window' is not of the form window:W", "for example window:4"),
        ("dilated:4", 1, "dilated:W:D", "dilated:4:2"),
        ("window:0", 1, "W is 0", "window:4"),
        ("global:0", 1, "K is 0", "global@0,5"),
        ("random:3:-1", 1, "SEED is -1", "random:3:7"),
        ("fixed:2:3", 1, "C is 3, but must be at most S, the 2 keys of a block", "fixed:8:2"),
        ("bigbird:0", 1, "B is 0", "bigbird:8:3:7"),
        ("bigbird:8:3:7:1", 1, "is not of the form bigbird:B[:R[:SEED]]", "bigbird:8:3:7"),
        ("blockwise:0", 1, "B is 0", "blockwise:8"),
        ("causal:3", 1, "is not of the form causal", "for example causal"),
        ("window@3", 1, "is not of the form window:W", "window:4"),
        ("window:99999999999999", 1, "is not of the form window:W", "window:4"),
        ("global@99999999999", 1, "positions must be whole numbers", "global@0,5"),
        ("full|causal", 5, "'|' is not allowed here", "'or' is written +"),
        ("(full causal)", 7, "'causal' is not allowed here", "+ (or) or & (and)"),
        ("full)", 5, "')' is not allowed here", "this ')' has no '('"),
        ("causal & (full", 10, "')' is missing for this '('", None),
        ("full+", 6, "a pattern is missing at the end", None),
        ("full&&causal", 6, "a pattern is missing before '&'", None),
        ("(" * 60, 50, "nested deeper", None),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_remedy(text, place, named, hint):
    with pytest.raises(NlpcliError) as caught:
        parse(text)
    assert f"pattern '{text}', character {place}: " in caught.value.message
    assert named in caught.value.message
    assert caught.value.hint is None if hint is None else hint in caught.value.hint


def test_an_empty_pattern_is_answered_with_all_forms():
    with pytest.raises(NlpcliError) as caught:
        parse(" ")
    assert all(kind.form in caught.value.hint for kind in PATTERNS.values())


@given(st.text(alphabet="window:4+&()global@,-| 0causl", max_size=25))
def test_any_text_is_a_pattern_or_a_mistake_that_is_named(text):
    with contextlib.suppress(NlpcliError):
        assert parse(str(parse(text))) == parse(text)


def test_more_queries_than_keys_are_refused():
    with pytest.raises(ValueError, match="6 queries"):
        Full().dense(6, 5)
    with pytest.raises(ValueError, match="either the first K or"):
        Global(2, (3,))


@given(PARSED, st.integers(1, 14))
def test_a_decoder_sees_the_past_of_its_pattern_and_a_longer_text_changes_nothing(pattern, length):
    if split_causal(pattern.left_to_right())[1].depends_on_length:
        with pytest.raises(ValueError, match="depends on the length of the text"):
            decoder_pattern(pattern)
        return
    own = decoder_pattern(pattern)
    assert parse(str(own)) == own and split_causal(own)[0]
    whole = own.dense(length + 5)
    assert torch.equal(own.dense(length), whole[:length, :length])
    assert torch.equal(whole, (pattern.left_to_right() & Causal()).dense(length + 5))


@given(PARSED, st.integers(1, 30))
def test_beyond_its_horizon_a_decoder_sees_nothing(pattern, length):
    if split_causal(pattern.left_to_right())[1].depends_on_length:
        return
    own = decoder_pattern(pattern)
    first, last = own.horizon.first, own.horizon.last
    if last is None:
        return
    seen = own.dense(length)
    for i in range(length):
        assert not seen[i, first : max(first, i + 1 - max(last, 1))].any()


def test_windows_and_their_like_have_a_horizon_and_strides_have_none():
    horizons = {
        "window:5": (0, 5),
        "window:5+global:2": (2, 5),
        "window:5+global@7": (8, 5),
        "dilated:3:4": (0, 9),
        "prefix:4": (4, 0),
        "blockwise:8": (0, 8),
        "blockwise:8(window:2+global:1)": (8, 16),
        "window:5 & window:3": (0, 3),
        "strided:4": (0, None),
        "fixed:4": (0, None),
        "random:2": (0, None),
        "full": (0, None),
    }
    for text, (first, last) in horizons.items():
        horizon = decoder_pattern(parse(text)).horizon
        assert (horizon.first, horizon.last) == (first, last), text
