"""The linear layer by oneDNN: the numbers of PyTorch's own, whichever processor the tests run on."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nlpcli.layers import linear as module
from nlpcli.layers.linear import FrozenLinear, FrozenVocabulary, Linear, linear, padded_rows, product
from nlpcli.training.flops import counted

pytestmark = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this PyTorch has no oneDNN",
)


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the products that oneDNN computes; it is taken wherever a shape is worth it."""
    seen = []
    multiply = module._multiply

    def noted(x, weight, *others):
        seen.append((tuple(x.shape), tuple(weight.shape)))
        return multiply(x, weight, *others)

    monkeypatch.setattr(module, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(module, "_multiply", noted)
    return seen


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def close(a, b):
    return torch.allclose(a, b, rtol=1e-5, atol=1e-5 * float(b.detach().abs().max()))


@pytest.mark.parametrize("rows", [(128,), (4, 321), (1300,)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", ["", "x", "weight"])
def test_values_and_gradients_are_those_of_pytorch(calls, rows, bias, frozen):
    found = []
    for compute in (linear, F.linear):
        x, weight = numbers(*rows, 128, seed=1), numbers(192, 128, seed=2)
        b = numbers(192, seed=3).requires_grad_() if bias else None
        x.requires_grad_(frozen != "x")
        weight.requires_grad_(frozen != "weight")
        y = compute(x, weight, b)
        (y * numbers(*rows, 192, seed=4)).sum().backward()
        found.append([y, x.grad, weight.grad, None if b is None else b.grad])
    assert calls
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or close(ours, theirs)


@pytest.mark.parametrize("rows", [64, 8192], ids=str)
def test_a_product_of_matrices_may_lie_across(calls, rows):
    a, b = numbers(256, rows).t(), numbers(256, 192, seed=1).t()
    assert close(product(a, b), a @ b.t())
    assert calls == [((rows, 256), (192, 256))]


def test_nothing_is_recorded_without_gradients(calls):
    weight = numbers(256, 128).requires_grad_()
    with torch.no_grad():
        assert not linear(numbers(64, 128), weight).requires_grad
    assert calls == [((64, 128), (256, 128))]


@pytest.mark.parametrize(
    ("rows", "taken"), [(0, False), (1, False), (127, False), (128, True), (129, True), (8192, True)]
)
def test_the_shape_alone_chooses_the_library(calls, rows, taken):
    x, weight = numbers(rows, 128), numbers(128, 128, seed=1)
    assert close(linear(x, weight), F.linear(x, weight)) if rows else linear(x, weight).shape == (0, 128)
    assert bool(calls) == taken


def test_other_precisions_and_traces_are_pytorchs(calls):
    layer = Linear(128, 128)
    x = numbers(128, 128)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    assert Linear(128, 128, device="meta")(x.to("meta")).is_meta
    assert not calls


def test_operations_are_counted_as_pytorchs_are(calls):
    found = []
    for layer in (Linear(128, 192), nn.Linear(128, 192)):
        x = numbers(4, 320, 128).requires_grad_()
        with counted() as flops:
            layer(x).sum().backward()
        found.append(flops())
    assert calls
    assert found[0] == found[1] == 3 * 2 * 4 * 320 * 128 * 192


def test_the_vendor_is_read_from_the_system(monkeypatch, tmp_path):
    described = tmp_path / "cpuinfo"
    described.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: some\n")
    monkeypatch.setattr(module, "Path", lambda _: described)
    assert module._vendor() == "AuthenticAMD"
    described.unlink()
    assert module._vendor() == ""


@pytest.mark.parametrize("rows", [1, 2, 8, 40, 65, 320])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_frozen_layers_are_one_product(calls, monkeypatch, rows, bias):
    monkeypatch.setattr(module, "_WORTHWHILE_PACKED", 1 << 17)
    layers = [nn.Linear(96, size, bias=bias) for size in (96, 32)]
    x = numbers(rows, 96)
    expected = torch.cat([layer(x) for layer in layers], -1)
    assert close(FrozenLinear(*layers)(x), expected)
    assert len(calls) == (rows > 2**17 / (96 * 128))
    weight, b = numbers(500, 96), numbers(500, seed=1) if bias else None
    assert close(FrozenVocabulary(weight, b)(x), F.linear(x, weight, b))


@torch.inference_mode()
def test_frozen_layers_are_pytorchs_on_other_processors(monkeypatch):
    monkeypatch.setattr(module, "onednn_is_faster", lambda: False)
    monkeypatch.setattr(module, "_multiply", None)
    layer, x = nn.Linear(256, 256), numbers(64, 256)
    assert close(FrozenLinear(layer)(x), layer(x))
    assert close(FrozenVocabulary(layer.weight, layer.bias)(x), layer(x))


@pytest.mark.parametrize("least", [1, 8, 64])
def test_few_numbers_of_rows_need_a_kernel(least):
    sizes = {rows: padded_rows(rows, least) for rows in range(1, 8193)}
    assert all(rows <= size < rows + max(least, rows / 8 + 1) for rows, size in sizes.items())
    assert len({size for size in sizes.values() if size > 512}) == 8 * 4
    assert all(padded_rows(size, least) == size for size in sizes.values())


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="oneDNN multiplies bfloat16 with AVX-512 alone"
)
@pytest.mark.parametrize("vocabulary", [640, 701])
def test_the_best_tokens_by_way_of_bfloat16_are_those_of_float32(monkeypatch, vocabulary):
    monkeypatch.setattr(module, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(module, "has_bfloat16_products", lambda: True)
    monkeypatch.setattr(module, "_NARROWED", 0)
    weight, hidden, never = numbers(vocabulary, 32, seed=1), numbers(50, 32, seed=2), torch.tensor([3, 5])
    weight[7] = weight[8] * 1.0001  # closer than bfloat16 can tell
    weight[vocabulary - 1] = weight[8] * 0.9999
    hidden[:20] = weight[8]
    hidden[20] = weight[3]  # the best token is never chosen
    found = FrozenVocabulary(weight, None)
    expected = F.linear(hidden, weight).index_fill_(1, never, -torch.inf).argmax(1)
    assert found.best(hidden, never).tolist() == expected.tolist()
    assert found._narrowing is not None
    assert found.best(hidden[:2], never).tolist() == expected[:2].tolist()


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("bias", [True, False])
def test_a_frozen_layer_adds_and_cuts(calls, rows, bias):
    layer = nn.Linear(128, 256, bias=bias)
    x, to = numbers(rows, 128, seed=1), numbers(rows, 256, seed=2)
    with torch.inference_mode():
        assert close(FrozenLinear(layer)(x, to), to + layer(x))
        assert close(FrozenLinear(layer, relu=True)(x), layer(x).relu())
    mixed = FrozenLinear(nn.Linear(128, 8), nn.Linear(128, 8, bias=False))
    assert mixed(x).shape == (rows, 16)
