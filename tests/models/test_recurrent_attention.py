"""Attention of a recurrent decoder: weights as in the papers, windows that end where they end, sampled positions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from nlpcli.attention.hooks import Recorder
from nlpcli.attention.score_functions import SCORES
from nlpcli.models.decoder_state import Memory
from nlpcli.models.recurrent_attention import MonotonicWindow, PredictiveWindow, SourceAttention

D, M, N, LENGTHS = 4, 9, 5, (9, 6, 1)
MASK = torch.arange(M) < torch.tensor(LENGTHS)[:, None]
ROUNDED = 64 * 2**-23


def attention(score="general", window=None, size=2, **settings):
    torch.manual_seed(6)
    windows = {None: lambda: None, "m": lambda: MonotonicWindow(size), "p": lambda: PredictiveWindow(size, D)}
    return SourceAttention(SCORES[score](D, D), D, window=windows[window](), **settings)


def tensors(kind=torch.float32):
    generator = torch.Generator().manual_seed(7)
    states = torch.randn(len(LENGTHS), M, D, generator=generator, dtype=kind)
    return Memory(states, MASK), torch.randn(len(LENGTHS), N, D, generator=generator, dtype=kind)


def looked(layer, query, source, start=0):
    """Context and weights of one call."""
    layer.recorder = Recorder()
    recording = layer.recording(query.size(1), source)
    context = layer(query, source, start, recording).context
    recording.finish()
    [weights] = layer.recorder
    layer.recorder = None
    return context, weights


@pytest.mark.parametrize("window", [None, "m", "p"])
@pytest.mark.parametrize("score", SCORES)
def test_the_context_is_the_sum_of_values_with_the_recorded_weights(score, window):
    layer, (memory, query) = attention(score, window), tensors()
    source = layer.prepare(memory)
    context, weights = looked(layer, query, source)
    assert weights.shape == (3, 1, N, M)
    assert torch.allclose((weights @ memory.states[:, None])[:, 0], context, atol=ROUNDED)
    assert torch.allclose(layer(query, source, 0).context, context, atol=ROUNDED)  # nobody looks
    assert torch.equal(weights[~MASK[:, None, None].expand_as(weights)], torch.zeros(int((~MASK).sum()) * N))
    if window != "p":
        assert torch.allclose(weights.sum(-1), torch.ones(3, 1, N), atol=ROUNDED)
        scores = layer.score(query[:, None], memory.states[:, None]).masked_fill(~MASK[:, None, None], -math.inf)
        if window is None:
            assert torch.allclose(weights, scores.softmax(-1), atol=ROUNDED)


@pytest.mark.parametrize("window", [None, "m", "p"])
@pytest.mark.parametrize("score", ["general", "additive", "location"])
def test_queries_one_by_one_and_rows_that_share_a_source_give_the_same_as_all_at_once(score, window):
    layer, (memory, query) = attention(score, window), tensors()
    source = layer.prepare(memory)
    whole, all_weights = looked(layer, query, source)
    for step in range(N):
        context, weights = looked(layer, query[:, step : step + 1], source, step)
        assert torch.allclose(context[:, 0], whole[:, step], atol=ROUNDED)
        assert torch.allclose(weights[:, :, 0], all_weights[:, :, step], atol=ROUNDED)
    rows = torch.tensor([2, 2, 0, 0])
    shared = source.select(rows, 2)
    assert (shared.key.size(0), shared.width) == (2, 2)
    others = torch.stack([query[2], query[1], query[0], query[1]])
    context, weights = looked(layer, others, shared)
    alone = [looked(layer, others[i : i + 1], source.select(rows[i : i + 1], 1)) for i in range(4)]
    assert torch.allclose(context, torch.cat([a for a, _ in alone]), atol=ROUNDED)
    assert torch.allclose(weights, torch.cat([b for _, b in alone]), atol=ROUNDED)


def test_selecting_all_sources_copies_nothing():
    layer, (memory, _) = attention(), tensors()
    source = layer.prepare(memory)
    shared = source.select(torch.tensor([0, 0, 1, 1, 2, 2]), 2)
    assert shared.key is source.key
    assert shared == replace(source, width=2)
    again = shared.select(torch.tensor([1, 0, 2, 3, 5, 5]), 2)
    assert again.value is source.value


# --- local attention


def test_the_monotonic_window_moves_with_the_target_and_stays_at_the_end_of_the_source():
    layer, (memory, query) = attention("dot", "m", size=1), tensors()
    _, weights = looked(layer, query, layer.prepare(memory), start=3)
    for row, length in enumerate(LENGTHS):
        for step in range(N):
            center = min(3 + step, length - 1)
            inside = [s for s in range(length) if abs(s - center) <= 1]
            found = weights[row, 0, step].nonzero()[:, 0].tolist()
            assert found == inside
            scores = (memory.states[row, inside] @ query[row, step]).softmax(-1)
            assert torch.allclose(weights[row, 0, step, inside], scores, atol=ROUNDED)


def test_the_predictive_window_is_that_of_the_paper_and_nothing_outside_of_it_has_weight():
    layer, (memory, query) = attention("dot", "p", size=2), tensors(torch.float64)
    layer = layer.double()
    _, weights = looked(layer, query, layer.prepare(memory))
    w, v = layer.window.inner.weight.detach(), layer.window.outer.weight[0].detach()
    cut = 0
    for row, length in enumerate(LENGTHS):
        for step in range(N):
            p = length / (1 + math.exp(-float(v @ (w @ query[row, step]).tanh())))
            assert 0 < p < length
            inside = [s for s in range(length) if p - 2 <= s <= p + 2]
            cut += length - len(inside)
            scores = [float(memory.states[row, s] @ query[row, step]) for s in inside]
            total = sum(map(math.exp, scores))
            right = {
                s: math.exp(a) / total * math.exp(-((s - p) ** 2) / (2 * (2 / 2) ** 2))
                for s, a in zip(inside, scores, strict=True)
            }
            expected = [right.get(s, 0.0) for s in range(M)]
            assert weights[row, 0, step].tolist() == pytest.approx(expected, abs=1e-12)
    assert cut > 20  # the window hides something
    assert float(weights.sum(-1).max()) < 1


def test_gradients_of_the_predictive_window_are_finite_differences():
    layer, (memory, query) = attention("additive", "p", size=2), tensors(torch.float64)
    layer = layer.double()
    source = layer.prepare(memory)
    centers = layer.window.centers(query[:, None], source)
    edges = (centers.detach()[..., None] - torch.arange(M)).abs() - 2
    assert float(edges.abs().min()) > 1e-3  # where a position enters or leaves the window, there is no derivative
    direction = torch.randn(len(LENGTHS), N, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value():
        return (layer(query, layer.prepare(memory), 0).context * direction).sum()

    weights = list(layer.parameters())
    slopes = torch.autograd.grad(value(), weights)
    for weight, slope in zip(weights, slopes, strict=True):
        flat = weight.data.view(-1)
        for place in range(0, flat.numel(), 3):
            before = float(flat[place])
            both = []
            for moved in (before + 1e-6, before - 1e-6):
                flat[place] = moved
                both.append(float(value()))
            flat[place] = before
            assert float(slope.reshape(-1)[place]) == pytest.approx((both[0] - both[1]) / 2e-6, abs=1e-7)
    assert all(float(slope.abs().max()) > 1e-4 for slope in slopes)  # the place of the window learns, too


def test_a_source_of_one_token_has_all_of_the_monotonic_weight():
    layer, (memory, query) = attention("dot", "m"), tensors()
    _, weights = looked(layer, query, layer.prepare(memory), start=40)
    assert torch.equal(weights[2, 0, :, 0], torch.ones(N))


# --- hard attention


def one_hot(weights):
    return bool(((weights == 0) | (weights == 1)).all()) and torch.equal(
        weights.sum(-1), torch.ones_like(weights[..., 0])
    )


@pytest.mark.parametrize("hard", ["sample", "gumbel"])
def test_hard_attention_takes_the_most_probable_position_when_it_is_not_trained(hard):
    layer, (memory, query) = attention("dot", hard=hard).eval(), tensors()
    context, weights = looked(layer, query, layer.prepare(memory))
    assert one_hot(weights)
    scores = (query @ memory.states.transpose(1, 2)).masked_fill(~MASK[:, None], -math.inf)
    best = scores.argmax(-1)
    assert torch.equal(weights[:, 0].argmax(-1), best)
    assert torch.equal(context, memory.states.gather(1, best[..., None].expand(-1, -1, D)))


@pytest.mark.parametrize("hard", ["sample", "gumbel"])
def test_hard_attention_samples_positions_as_often_as_their_weights_say(hard):
    layer, (memory, query) = attention("dot", hard=hard).train(), tensors()
    source = layer.prepare(memory)
    torch.manual_seed(3)
    found = torch.stack([looked(layer, query, source)[1] for _ in range(2000)])
    assert one_hot(found)
    scores = (query @ memory.states.transpose(1, 2)).masked_fill(~MASK[:, None], -math.inf)
    assert torch.allclose(found.mean(0)[:, 0], scores.softmax(-1), atol=4 * 0.5 / 2000**0.5)
    assert torch.equal(found[..., ~MASK[1]][:, 1], torch.zeros(2000, 1, N, 3))


def test_what_is_sampled_comes_with_its_log_probability_its_entropy_and_a_baseline_that_moves_nothing_else():
    layer, (memory, query) = attention("dot", hard="sample").train(), tensors()
    query.requires_grad_()
    source = layer.prepare(memory)
    layer.recorder = Recorder()
    recording = layer.recording(N, source)
    found = layer(query, source, 0, recording)
    recording.finish()
    scores = (query @ memory.states.transpose(1, 2)).masked_fill(~MASK[:, None], -math.inf)
    distribution = torch.distributions.Categorical(logits=scores)
    chosen = layer.recorder[0][:, 0].argmax(-1)
    choices = found.choices
    assert torch.allclose(choices.log_probability, distribution.log_prob(chosen), atol=ROUNDED)
    assert torch.allclose(choices.entropy, distribution.entropy(), atol=ROUNDED)
    assert not choices.lasting
    assert torch.allclose(choices.baseline, layer.baseline(query)[..., 0], atol=ROUNDED)
    assert torch.autograd.grad(choices.baseline.sum(), [query], allow_unused=True)[0] is None
    [slope] = torch.autograd.grad(choices.log_probability.sum() + choices.entropy.sum(), [query])
    assert bool(slope.isfinite().all())
    assert layer.eval()(query, source, 0).choices is None


def test_the_straight_through_gradient_is_that_of_the_softmax_with_the_same_noise():
    layer, (memory, query) = attention("dot", hard="gumbel", temperature=0.5).train(), tensors(torch.float64)
    query.requires_grad_()
    torch.manual_seed(9)
    context = layer(query, layer.prepare(memory), 0).context
    [ours] = torch.autograd.grad(context.square().sum(), [query])
    scores = (query @ memory.states.transpose(1, 2)).masked_fill(~MASK[:, None], -math.inf)
    torch.manual_seed(9)
    noise = -torch.empty_like(scores[:, None]).exponential_().log()[:, 0]
    soft = ((scores + noise) / 0.5).softmax(-1)
    [right] = torch.autograd.grad((soft @ memory.states), [query], grad_outputs=2 * context.detach())
    assert torch.allclose(ours, right, atol=1e-12)
