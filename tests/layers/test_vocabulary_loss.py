"""The chunked loss against torch's own, in values and gradients."""

from __future__ import annotations

import itertools
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.layers import vocabulary_loss as module
from nlpcli.layers.vocabulary_loss import LossSettings, vocabulary_loss, vocabulary_losses, vocabulary_nll

WIDTH, VOCABULARY = 12, 29


@pytest.fixture(params=[1, 1 << 20], ids=["chunks-of-32", "one-chunk"])
def chunks(request, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_NUMBERS", request.param)
    monkeypatch.setattr(module, "_LEAST_ROWS", 32)


def parts(n, kind=torch.float32, bias=True, sharpness=2.0):
    generator = torch.Generator().manual_seed(n)
    hidden = (sharpness * torch.randn(n, WIDTH, generator=generator)).to(kind).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator).to(kind).requires_grad_()
    offset = torch.randn(VOCABULARY, generator=generator).to(kind).requires_grad_() if bias else None
    return hidden, weight, offset, torch.randint(0, VOCABULARY, (n,), generator=generator)


def oracle(hidden, weight, offset, target, smoothing):
    """-(1 - ε) log p(target) - ε · mean log p, summed; and the same for ε = 0. In float64."""
    logits = hidden.double() @ weight.double().T + (0 if offset is None else offset.double())
    logp = logits - logits.exp().sum(1, keepdim=True).log()
    nll = -logp[torch.arange(len(target)), target]
    return ((1 - smoothing) * nll - smoothing * logp.mean(1)).sum(), nll.sum()


def gradients(loss, leaves):
    return torch.autograd.grad(3.0 * loss, [leaf for leaf in leaves if leaf is not None])


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 64, 97])
@pytest.mark.parametrize(("bias", "smoothing"), list(itertools.product([True, False], [0.0, 0.1, 0.5])))
def test_it_is_cross_entropy_in_value_and_gradient(chunks, n, bias, smoothing):
    hidden, weight, offset, target = parts(n, bias=bias)
    loss, nll = vocabulary_loss(hidden, weight, target, bias=offset, settings=LossSettings(smoothing))
    logits = F.linear(hidden, weight, offset)
    expected = F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)
    assert torch.allclose(loss, expected, rtol=1e-5, atol=1e-6)
    assert torch.allclose(nll, F.cross_entropy(logits, target, reduction="sum"), rtol=1e-5, atol=1e-6)
    leaves = (hidden, weight, offset)
    for ours, theirs in zip(gradients(loss, leaves), gradients(expected, leaves), strict=True):
        # sums of up to 97 products whose terms are as large as the largest gradient and may cancel
        assert torch.allclose(ours, theirs, rtol=0, atol=97 * 2**-23 * float(theirs.abs().sum() and theirs.abs().max()))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_double_precision_stays_double(chunks, smoothing):
    hidden, weight, offset, target = parts(70, torch.float64)
    loss, nll = vocabulary_loss(hidden, weight, target, bias=offset, settings=LossSettings(smoothing))
    expected, expected_nll = oracle(hidden, weight, offset, target, smoothing)
    assert loss.dtype == torch.float64
    assert torch.allclose(loss, expected, rtol=1e-13)
    assert torch.allclose(nll, expected_nll, rtol=1e-13)
    leaves = (hidden, weight, offset)
    for ours, theirs in zip(gradients(loss, leaves), gradients(expected, leaves), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_gradient_is_the_slope_of_the_value():
    hidden, weight, offset, target = parts(5, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *leaves: vocabulary_loss(leaves[0], leaves[1], target, bias=leaves[2], settings=LossSettings(0.1))[0],
        (hidden, weight, offset),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_under_autocast_it_errs_no_more_than_torchs_own(chunks, smoothing):
    hidden, weight, offset, target = parts(80, sharpness=1.0)
    leaves = (hidden, weight, offset)
    exact, _ = oracle(*leaves, target, smoothing)
    value = float(exact.detach())
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = vocabulary_loss(hidden, weight, target, bias=offset, settings=LossSettings(smoothing))
        logits = F.linear(hidden, weight, offset).float()
        theirs = F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)
    assert loss.dtype == torch.float32
    assert abs(loss.item() - value) <= max(2 * abs(theirs.item() - value), 2e-3 * value)
    for ours, peer, right in zip(*(gradients(value, leaves) for value in (loss, theirs, exact)), strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - right).norm()) <= max(2 * float((peer - right).norm()), 5e-3 * float(right.norm()))


def test_logits_that_would_overflow_are_no_danger():
    hidden, weight, offset, target = parts(40, sharpness=2000.0)
    loss, _ = vocabulary_loss(hidden, weight, target, bias=offset)
    expected = F.cross_entropy(F.linear(hidden, weight, offset), target, reduction="sum")
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert all(bool(grad.isfinite().all()) for grad in gradients(loss, (hidden, weight, offset)))


@pytest.mark.parametrize("trained", list(itertools.product([True, False], repeat=3))[:-1])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same_as_ever(chunks, trained):
    everything = parts(50)
    *leaves, target = everything
    expected = dict(enumerate(gradients(vocabulary_loss(*leaves[:2], target, bias=leaves[2])[0], leaves)))
    for leaf, wanted in zip(leaves, trained, strict=True):
        leaf.requires_grad_(wanted)
    loss, _ = vocabulary_loss(leaves[0], leaves[1], target, bias=leaves[2])
    (3.0 * loss).backward()
    for place, (leaf, wanted) in enumerate(zip(leaves, trained, strict=True)):
        assert (leaf.grad is not None) == wanted
        if wanted:
            assert torch.equal(leaf.grad, expected[place])


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_same_value_costs_one_product_a_chunk(monkeypatch, context):
    hidden, weight, offset, target = parts(90)
    expected, _ = vocabulary_loss(hidden, weight, target, bias=offset)
    products = []
    for name in ("__matmul__", "addmm_"):
        plain = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda *items, plain=plain: products.append(1) or plain(*items))
    monkeypatch.setattr(module, "_CHUNK_NUMBERS", 1)
    monkeypatch.setattr(module, "_LEAST_ROWS", 32)
    vocabulary_loss(hidden, weight, target, bias=offset)
    assert len(products) == 3 * 3
    products.clear()
    with context():
        loss, _ = vocabulary_loss(hidden, weight, target, bias=offset)
    assert torch.allclose(loss, expected)
    assert len(products) == 3


def test_the_loss_without_smoothing_has_no_gradient_of_its_own():
    hidden, weight, _, target = parts(4, bias=False)
    _, nll = vocabulary_loss(hidden, weight, target, settings=LossSettings(0.1))
    assert not nll.requires_grad


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_with_the_nll_of_each_position_is_the_loss(chunks, smoothing):
    hidden, weight, offset, target = parts(97)
    loss, nll = vocabulary_loss(hidden, weight, target, bias=offset, settings=LossSettings(smoothing))
    same, each = vocabulary_losses(hidden, weight, target, bias=offset, settings=LossSettings(smoothing))
    assert torch.equal(same, loss)
    assert torch.allclose(each, vocabulary_nll(hidden, weight, target, bias=offset), atol=1e-5)
    assert torch.allclose(each.sum(), nll, rtol=1e-6)
    assert not each.requires_grad
    for ours, theirs in zip(gradients(same, (hidden, weight, offset)), gradients(loss, (hidden, weight, offset)),
                            strict=True):  # fmt: skip
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [0, 1, 31, 64, 97])
@pytest.mark.parametrize("bias", [True, False])
def test_of_each_position_alone_it_is_what_their_sum_is_made_of(chunks, n, bias, kind):
    hidden, weight, offset, target = parts(n, kind, bias)
    found = vocabulary_nll(hidden, weight, target, bias=offset)
    assert found.dtype == kind and found.shape == (n,) and not found.requires_grad
    wanted = [oracle(hidden[[i]], weight, offset, target[[i]], 0.0)[1] for i in range(n)]
    assert found.tolist() == pytest.approx([float(nll.detach()) for nll in wanted], rel=1e-4, abs=1e-5)
    _, nll = vocabulary_loss(hidden, weight, target, bias=offset)
    assert float(found.sum()) == pytest.approx(float(nll), rel=1e-5)


@given(seed=st.integers(0, 99), smoothing=st.sampled_from([0.0, 0.2]), z_loss=st.sampled_from([1e-4, 0.1]))
def test_the_z_loss_and_its_gradients_are_those_of_the_formula(seed, smoothing, z_loss):
    generator = torch.Generator().manual_seed(seed)
    leaves = [torch.randn(size, generator=generator, dtype=torch.float64) for size in ((9, 5), (13, 5), (13,))]
    target = torch.randint(13, (9,), generator=generator)
    ours, theirs = ([leaf.clone().requires_grad_() for leaf in leaves] for _ in range(2))
    loss, nll = vocabulary_loss(*ours[:2], target, bias=ours[2], settings=LossSettings(smoothing, z_loss))
    logits = F.linear(theirs[0], theirs[1], theirs[2])
    expected = F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)
    expected = expected + z_loss * logits.logsumexp(-1).square().sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, F.cross_entropy(logits, target, reduction="sum"))
    (3 * loss).backward()
    (3 * expected).backward()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad)


@given(seed=st.integers(0, 99), smoothing=st.sampled_from([0.0, 0.2]), z_loss=st.sampled_from([0.0, 0.1]))
def test_r_drop_and_its_gradients_are_those_of_the_formula(seed, smoothing, z_loss):
    generator = torch.Generator().manual_seed(seed)
    leaves = [torch.randn(size, generator=generator, dtype=torch.float64) for size in ((300, 5), (13, 5), (13,))]
    target = torch.randint(13, (150,), generator=generator).repeat_interleave(2)
    ours, theirs = ([leaf.clone().requires_grad_() for leaf in leaves] for _ in range(2))
    settings = LossSettings(smoothing, z_loss, r_drop=3.0)
    with mock.patch.object(module, "_CHUNK_NUMBERS", 13 * 129):  # chunks of 130 rows
        loss, nll = vocabulary_loss(*ours[:2], target, bias=ours[2], settings=settings, twice=True)
    logits = F.linear(theirs[0], theirs[1], theirs[2])
    expected = F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)
    expected = expected + z_loss * logits.logsumexp(-1).square().sum()
    log_p, log_q = logits.log_softmax(-1)[0::2], logits.log_softmax(-1)[1::2]
    for a, b in ((log_p, log_q), (log_q, log_p)):
        expected = expected + 1.5 * F.kl_div(b, a, log_target=True, reduction="sum")  # KL(a || b)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, F.cross_entropy(logits, target, reduction="sum"))
    (3 * loss).backward()
    (3 * expected).backward()
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.grad, their.grad)
    alone, _ = vocabulary_loss(*ours[:2], target, bias=ours[2], settings=settings)
    assert alone < loss
