"""Patterns by tiles against the dense matrix, forward and backward, through both executors."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.attention import tiled_attention as executors
from nlpcli.attention import tiles as tiles_module
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.pattern_parser import parse
from nlpcli.attention.patterns import Full
from nlpcli.attention.position_bias import PassBias
from nlpcli.attention.softmax import SoftmaxAttention, softmax_attention
from nlpcli.attention.tiled_attention import tiled_attention
from nlpcli.attention.tiles import make_tiling, tiling, tiling_by_remainder
from nlpcli.layers.positions import RelativeBias

TEXTS = [
    "full",
    "causal",
    "window:3",
    "window:5+global:2",
    "causal & window:4",
    "causal & (window:3+global@7,2)",
    "causal & fixed:5",
    "causal & fixed:9:2 & window:3",
    "causal & (window:4+strided:4)",
    "dilated:3:4",
    "strided:6",
    "prefix:3",
    "causal+prefix:3",
    "blockwise:7",
    "blockwise:5(window:2+global@0,-1+random:1)",
    "random:3",
    "causal & random-past:2",
]
EXECUTORS = ["private", "public"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks that leave several in a short text."""
    monkeypatch.setattr(tiles_module, "_BLOCK", 8)
    monkeypatch.setattr(tiles_module, "_NEAR", 3)
    tiling.cache_clear()
    yield
    tiling.cache_clear()


def use(executor, monkeypatch):
    if executor == "public":
        monkeypatch.setattr(executors, "_FLASH", None)


def tensors(n, m, *, rows=2, d_value=6, seed=0, kind=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, 3, n, 6), (rows, 3, m, 6), (rows, 3, m, d_value))
    return [torch.randn(shape, generator=generator, dtype=kind).requires_grad_() for shape in shapes]


def value_and_gradients(context, leaves, seed=1):
    direction = torch.randn(context.shape, generator=torch.Generator().manual_seed(seed)).to(context.dtype)
    total = (context * direction).sum() + sum(leaf.sum() * 0 for leaf in leaves)
    return [context.detach(), *torch.autograd.grad(total, leaves)]


def assert_same(found, wanted, tolerance=1e-6):
    for ours, theirs in zip(found, wanted, strict=True):
        assert bool(ours.isfinite().all())
        assert torch.allclose(ours, theirs, atol=tolerance, rtol=1e-5)


@pytest.mark.parametrize("executor", EXECUTORS)
@settings(max_examples=60)
@given(data=st.data(), text=st.sampled_from(TEXTS), m=st.integers(1, 50), seed=st.integers(0, 99))
def test_tiles_give_what_the_matrix_gives_in_value_and_gradient(executor, data, text, m, seed):
    with pytest.MonkeyPatch.context() as patched:
        use(executor, patched)
        pattern, n = parse(text), data.draw(st.integers(1, m))
        generator = torch.Generator().manual_seed(seed)
        keys = documents = None
        if not pattern.depends_on_length and data.draw(st.booleans()):
            keys = torch.arange(m) < torch.randint(1, m + 1, (2, 1), generator=generator)
        if data.draw(st.booleans()):
            documents = torch.randint(0, 2, (2, m), generator=generator).cumsum(1)
        mask = AttentionMask(pattern, keys=keys, documents=documents)
        leaves = tensors(n, m, d_value=data.draw(st.sampled_from([6, 4])), seed=seed)
        found = tiled_attention(*leaves, make_tiling(pattern, n, m), mask)
        wanted = softmax_attention(*leaves, attention_mask=mask.dense(n, m))
        assert_same(value_and_gradients(found, leaves), value_and_gradients(wanted, leaves))


STRIDED = ["strided:3", "causal & strided:4", "window:3+strided:4", "causal & (window:4+strided:4)",
           "causal & (window:2+strided:3+global:2)", "strided:1", "strided:40+window:2", "dilated:3:4",
           "causal & dilated:2:3", "dilated:2:5+global:1", "causal & (dilated:3:2+window:3)"]  # fmt: skip


@settings(max_examples=60)
@given(data=st.data(), text=st.sampled_from(STRIDED), n=st.integers(1, 50), seed=st.integers(0, 99))
def test_two_parts_of_a_softmax_give_what_the_matrix_gives(data, text, n, seed):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tiles_module, "_BLOCK", 4)
        patched.setattr(tiles_module, "_CLASS", 0)
        pattern, generator = parse(text), torch.Generator().manual_seed(seed)
        keys = documents = None
        if data.draw(st.booleans()):
            keys = torch.arange(n) < torch.randint(1, n + 1, (2, 1), generator=generator)
        if data.draw(st.booleans()):
            documents = torch.randint(0, 2, (2, n), generator=generator).cumsum(1)
        mask = AttentionMask(pattern, keys=keys, documents=documents)
        leaves = tensors(n, n, seed=seed)
        found = tiled_attention(*leaves, tiling_by_remainder(pattern, n), mask)
        wanted = softmax_attention(*leaves, attention_mask=mask.dense(n, n))
        assert_same(value_and_gradients(found, leaves), value_and_gradients(wanted, leaves))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_rows_that_see_nothing_in_one_part_or_both(kind, monkeypatch):
    monkeypatch.setattr(tiles_module, "_CLASS", 0)
    leaves = tensors(64, 64, kind=kind)
    pattern = parse("causal & (window:2+strided:4)")
    mask = AttentionMask(pattern, documents=torch.arange(64).expand(2, -1) // 3)
    context = tiled_attention(*leaves, tiling_by_remainder(pattern, 64), mask)
    wanted = softmax_attention(*leaves, attention_mask=mask.dense(64, 64))
    assert torch.allclose(context.float(), wanted.float(), atol=1e-5 if kind == torch.float32 else 0.05)
    hidden = AttentionMask(pattern, keys=torch.zeros(2, 64, dtype=torch.bool))
    nothing = tiled_attention(*leaves, tiling_by_remainder(pattern, 64), hidden)
    assert not nothing.any()
    for gradient in torch.autograd.grad(nothing.float().square().sum() + context.float().square().sum(), leaves):
        assert bool(gradient.isfinite().all())


@given(text=st.sampled_from(TEXTS), m=st.integers(1, 60), data=st.data())
def test_no_query_looks_outside_of_the_reach_and_ranges_rise_and_are_apart(text, m, data):
    pattern = parse(text)
    first = data.draw(st.integers(0, m - 1))
    last = data.draw(st.integers(first + 1, m))
    ranges = pattern.reach(first, last, m)
    assert all(start < end for start, end in ranges)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(ranges))
    inside = torch.zeros(m, dtype=torch.bool)
    for start, end in ranges:
        inside[start:end] = True
    assert not bool(pattern.dense(m)[first:last][:, ~inside].any())


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_rows_that_may_see_nothing_give_zeros_and_finite_gradients(executor, kind, monkeypatch):
    use(executor, monkeypatch)
    leaves = tensors(20, 20, kind=kind)
    mask = AttentionMask(parse("window:2"), keys=torch.arange(20) < torch.tensor([20, 9])[:, None])
    context = tiled_attention(*leaves, make_tiling(mask.pattern, 20, 20), mask)
    assert context.dtype == kind and not context[1, :, 10:].any() and context[1, :, :9].any()
    for gradient in torch.autograd.grad(context.float().square().sum(), leaves):
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("text", ["window:5+global:2", "causal & window:4"])
def test_a_learned_bias_goes_through_tiles_with_its_gradient(text):
    torch.manual_seed(1)
    pattern, leaves = parse(text), tensors(30, 30)
    table = RelativeBias(3, buckets=8, distance=20).double()
    torch.nn.init.normal_(table.weight)
    leaves.append(table.weight)
    mask = AttentionMask(pattern)
    found = tiled_attention(*leaves[:3], make_tiling(pattern, 30, 30), mask, bias=PassBias(table))
    wanted = softmax_attention(*leaves[:3], attention_mask=mask.dense(30, 30), bias=table(30, 30))
    assert_same(value_and_gradients(found, leaves), value_and_gradients(wanted, leaves))


def test_dropout_acts_on_tiles_too():
    leaves, pattern = tensors(20, 20), parse("window:3")
    arguments = (*leaves, make_tiling(pattern, 20, 20), AttentionMask(pattern))
    assert not torch.allclose(tiled_attention(*arguments, dropout=0.5), tiled_attention(*arguments))


@pytest.mark.parametrize(
    ("text", "n", "tiled"),
    [
        ("window:16", 1024, True),
        ("causal & window:16", 1024, True),
        ("window:16+global:2", 1024, True),
        ("blockwise:32(window:2)", 1024, True),
        ("window:16", 100, False),
        ("window:1000", 1024, False),
        ("full", 1024, False),
        ("causal", 1024, False),
        ("random:400", 1024, False),
    ],
)
def test_tiles_are_taken_where_a_text_is_long_and_its_pattern_narrow(text, n, tiled):
    assert (tiling(parse(text), n, n) is not None) == tiled


@pytest.mark.parametrize("text", ["causal & window:16", "window:16+global:3", "causal & (window:8+strided:12)"])
def test_the_core_takes_tiles_for_long_texts_and_says_the_same(text, monkeypatch):
    leaves = tensors(400, 400, kind=torch.float32)
    mask = AttentionMask(parse(text), keys=torch.arange(400) < torch.tensor([400, 333])[:, None])
    called = []
    monkeypatch.setattr(
        "nlpcli.attention.softmax.tiled_attention", lambda *a, **k: called.append(1) or tiled_attention(*a, **k)
    )
    found = SoftmaxAttention().forward(*leaves, mask)
    wanted = softmax_attention(*leaves, attention_mask=mask.dense(400, 400))
    assert called
    assert_same(value_and_gradients(found, leaves), value_and_gradients(wanted, leaves), 1e-5)


def test_blocks_with_the_same_mask_share_it_and_a_full_one_has_none():
    masks = [tile.mask for tile in make_tiling(parse("window:5"), 80, 80).tiles]
    assert len({id(mask) for mask in masks}) == 3  # first, inner and last
    assert all(tile.mask is None for tile in make_tiling(Full(), 80, 80).tiles)
