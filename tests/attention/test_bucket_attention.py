"""Attention within buckets is what a loop over positions gives, however it is computed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.attention import bucket_layout, bucket_tiles
from nlpcli.attention.bucket_attention import BucketAttention, normalized
from nlpcli.attention.bucket_layout import tile_size
from nlpcli.attention.lsh import LSHAttention
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.patterns import Causal, Full, Window


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several tiles in a bucket, and several chunks of a text, at a dozen tokens."""
    for name, value in (("_SMALLEST", 2), ("_LARGEST", 4), ("_ALIGNED", 1)):
        monkeypatch.setattr(bucket_layout, name, value)
    monkeypatch.setattr(bucket_tiles, "_MOST_SCORES", 64)
    monkeypatch.setattr(bucket_tiles, "_POSITIONS", 60)


class GivenBuckets(BucketAttention):
    """Positions are in the buckets that are given."""

    def __init__(self, given, count, window):
        super().__init__(count, window)
        self.given = given

    def buckets(self, key):
        return self.given


def seen(buckets, window, lengths, *, causal):
    """For each row, head and position the set of positions it sees, by walking from it to both sides."""
    rows, heads, rounds, _ = buckets.shape
    found = {}
    for row in range(rows):
        for head in range(heads):
            for i in range(lengths[row]):
                keys = {i}
                for number in range(rounds):
                    own = buckets[row, head, number].tolist()
                    for way in (range(i - 1, -1, -1), range(i + 1, lengths[row])):
                        near = [j for j in way if own[j] == own[i]][: window - 1]
                        keys |= set(near) if way.step < 0 or not causal else set()
                found[row, head, i] = sorted(keys - {i}) or [i]
    return found


def looped(query, key, value, visible):
    """The contexts, each by a softmax of its own; of padding 0."""
    keys = key / (key.square().sum(-1, keepdim=True) + 1e-6 * key.size(-1)).sqrt()
    found = torch.zeros(*query.shape[:3], value.size(-1), dtype=torch.float64)
    for (row, head, i), others in visible.items():
        weights = (keys[row, head, others] @ query[row, head, i]).softmax(0)
        found = found.index_put(
            tuple(map(torch.tensor, (row, head, i))), (weights[:, None] * value[row, head, others]).sum(0)
        )
    return found


def inputs(rows, heads, m, *, d_value=5, seed=0, kind=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = (6, 6, d_value)
    return [torch.randn(rows, heads, m, d, generator=generator, dtype=kind).requires_grad_() for d in shapes]


CASES = {
    "m": st.integers(1, 30),
    "count": st.integers(1, 5),
    "rounds": st.integers(1, 4),
    "window": st.integers(1, 7),
    "causal": st.booleans(),
    "seed": st.integers(0, 1000),
}


def case(m, count, rounds, window, causal, seed, *, rows=2, heads=2):
    generator = torch.Generator().manual_seed(seed)
    buckets = torch.randint(count, (rows, heads, rounds, m), generator=generator)
    lengths = [m, *torch.randint(1, m + 1, (rows - 1,), generator=generator).tolist()]
    keys = None if causal else torch.arange(m) < torch.tensor(lengths)[:, None]
    core = GivenBuckets(buckets, count, window)
    lengths = [m] * rows if causal else lengths
    return core, AttentionMask(Causal() if causal else Full(), keys=keys), buckets, lengths


@settings(max_examples=40, deadline=None)
@given(**CASES)
def test_contexts_and_gradients_are_those_of_a_loop_over_positions(m, count, rounds, window, causal, seed):
    core, mask, buckets, lengths = case(m, count, rounds, window, causal, seed)
    leaves = inputs(2, 2, m, seed=seed)
    found = core.forward(*leaves, mask)
    expected = looped(*leaves, seen(buckets, window, lengths, causal=causal))
    assert torch.allclose(found, expected, atol=1e-12)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((x * direction).sum(), leaves, allow_unused=True) for x in (found, expected))
    for mine, right in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, torch.zeros_like(mine) if right is None else right, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(**CASES)
def test_the_weights_are_exactly_those_that_are_applied(m, count, rounds, window, causal, seed):
    core, mask, buckets, lengths = case(m, count, rounds, window, causal, seed)
    query, key, value = inputs(2, 2, m, seed=seed)
    weights = core.weights(query, key, mask)
    assert torch.allclose(weights @ value, core.forward(query, key, value, mask), atol=1e-12)
    visible = seen(buckets, window, lengths, causal=causal)
    for row in range(2):
        for head in range(2):
            for i in range(m):
                own = weights[row, head, i].nonzero().flatten().tolist()
                assert own == visible.get((row, head, i), [])


@settings(max_examples=20, deadline=None)
@given(m=st.integers(2, 60), cut=st.integers(1, 59), rounds=st.integers(1, 3), window=st.integers(1, 6))
def test_the_weights_of_a_step_are_those_of_the_whole(m, cut, rounds, window):
    cut = min(cut, m - 1)
    core, mask = LSHAttention(4, rounds, window), AttentionMask(Causal())
    query, key, value = inputs(2, 2, m)
    _, state = core.step(query[:, :, :cut], key[:, :, :cut], value[:, :, :cut], core.start(mask), mask)
    found = core.weights(query[:, :, cut:], key[:, :, cut:], mask, state=state)
    assert torch.allclose(found, core.weights(query, key, mask)[:, :, cut:], atol=1e-12)


def test_texts_of_many_steps_and_long_steps_are_read_as_in_one():
    core, mask = LSHAttention(4, 2, 5), AttentionMask(Causal())
    query, key, value = inputs(2, 2, 300)
    whole, state, parts, start = core.forward(query, key, value, mask), core.start(mask), [], 0
    for stop in (70, 71, 72, 290, 300):  # one step is longer than what is read at a time
        part = slice(start, stop)
        context, state = core.step(query[:, :, part], key[:, :, part], value[:, :, part], state, mask)
        parts.append(context)
        start = stop
    assert torch.allclose(torch.cat(parts, dim=2), whole, atol=1e-12)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(2, 4, 1), (16, 64, 16)])
def test_later_tokens_change_no_bit_of_earlier_contexts(monkeypatch, kind, sizes):
    for name, value in zip(("_SMALLEST", "_LARGEST", "_ALIGNED"), sizes, strict=True):
        monkeypatch.setattr(bucket_layout, name, value)
    monkeypatch.setattr(bucket_tiles, "_MOST_SCORES", 1 << 14)
    core, mask = LSHAttention(6, 3, 20), AttentionMask(Causal())
    leaves = inputs(2, 3, 500, d_value=6, kind=kind)
    whole = core.forward(*leaves, mask)
    for place in (1, 63, 250, 499):
        changed = [x.detach().clone() for x in leaves]
        for x in changed:
            x[:, :, place:] = torch.randn_like(x[:, :, place:])
        assert torch.equal(core.forward(*changed, mask)[:, :, :place], whole[:, :, :place])


def test_a_position_sees_itself_only_where_it_sees_nothing_else():
    buckets = torch.tensor([[[[0, 1, 0, 0, 2]]]])
    weights = GivenBuckets(buckets, 3, 9).weights(*inputs(1, 1, 5)[:2], AttentionMask(Causal()))[0, 0]
    assert weights.diagonal().tolist() == [1, 1, 0, 0, 1] and bool((weights[3, [0, 2]] > 0).all())


def test_with_one_bucket_and_a_window_as_long_as_the_text_it_is_attention_to_all_others():
    query, key, value = inputs(1, 2, 17)
    scores = (query @ normalized(key).transpose(2, 3)).masked_fill(torch.eye(17, dtype=torch.bool), float("-inf"))
    for rounds in (1, 3):
        found = LSHAttention(1, rounds, 17).forward(query, key, value, AttentionMask())
        assert torch.allclose(found, scores.softmax(-1) @ value, atol=1e-12)


def test_keys_have_length_one_and_keys_of_zero_do_no_harm():
    x = torch.randn(3, 8, dtype=torch.float64) * torch.tensor([1e3, 1.0, 0.0])[:, None]
    assert normalized(x).norm(dim=-1).tolist() == pytest.approx([1, 1, 0], abs=1e-5)
    leaves = [torch.zeros(1, 1, 9, 4, requires_grad=True) for _ in range(3)]
    LSHAttention(4, 2, 4).forward(*leaves, AttentionMask()).sum().backward()
    assert all(x.grad.isfinite().all() for x in leaves)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_large_queries_give_finite_contexts_and_gradients(kind):
    leaves = [x.detach().to(kind).mul(300).requires_grad_() for x in inputs(1, 2, 50)]
    context = LSHAttention(4, 3, 6).forward(*leaves, AttentionMask(Causal()))
    context.float().square().sum().backward()
    assert context.dtype == kind and context.isfinite().all() and all(x.grad.isfinite().all() for x in leaves)


def test_a_mask_that_buckets_can_not_keep_to_is_refused():
    leaves = inputs(1, 1, 4)
    for mask in (AttentionMask(Window(2)), AttentionMask(documents=torch.zeros(1, 4))):
        with pytest.raises(ValueError, match="does not support patterns, document masks"):
            LSHAttention(2, 1, 4).forward(*leaves, mask)


def test_tiles_are_about_as_large_as_buckets(monkeypatch):
    monkeypatch.undo()
    assert [tile_size(m, 8, 64) for m in (1, 128, 256, 512, 9999)] == [16, 16, 32, 64, 64]
    assert tile_size(9999, 8, 20) == 32
