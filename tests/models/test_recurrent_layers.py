"""Recurrent layers: steps are what the fused kernels compute, and the first weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nlpcli.models.recurrent_layers import (
    CARRIED,
    CELLS,
    StepLayer,
    initialize_layer,
    recurrent_layer,
    run_layer,
)

ROWS, N, D_IN, D = 3, 5, 4, 6
ROUNDED = 64 * 2**-23


def layer_and_inputs(cell):
    torch.manual_seed(1)
    layer = recurrent_layer(cell, D_IN, D)
    carry = tuple(torch.randn(ROWS, D) for _ in range(CARRIED[cell]))
    return layer, torch.randn(ROWS, N, D_IN), carry


@pytest.mark.parametrize("known", [0, 3, 4])
@pytest.mark.parametrize("cell", CELLS)
def test_steps_give_states_and_gradients_of_the_whole_pass(cell, known):
    layer, x, carry = layer_and_inputs(cell)
    whole, last = run_layer(layer, x, carry)
    steps = StepLayer(layer, x[..., :known] if known else None)
    states, after = [], carry
    for number in range(N):
        after = steps(number, x[:, number, known:], after)
        states.append(after[0])
    assert torch.allclose(torch.stack(states, dim=1), whole, atol=ROUNDED)
    for mine, right in zip(after, last, strict=True):
        assert torch.allclose(mine, right, atol=ROUNDED)
    weights = list(layer.parameters())
    ours = torch.autograd.grad(torch.stack(states, dim=1).square().sum(), weights)
    theirs = torch.autograd.grad(whole.square().sum(), weights)
    for mine, right in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, right, atol=100 * ROUNDED)


@pytest.mark.parametrize(("cell", "single"), [("lstm", nn.LSTMCell), ("gru", nn.GRUCell), ("rnn", nn.RNNCell)])
def test_a_step_is_that_of_torchs_cell(cell, single):
    layer, x, carry = layer_and_inputs(cell)
    theirs = single(D_IN, D)
    theirs.load_state_dict({name.removesuffix("_l0"): weight for name, weight in layer.state_dict().items()})
    mine = StepLayer(layer, None)(0, x[:, 0], carry)
    right = theirs(x[:, 0], carry if len(carry) > 1 else carry[0])
    for a, b in zip(mine, right if isinstance(right, tuple) else (right,), strict=True):
        assert torch.allclose(a, b, atol=ROUNDED)


@pytest.mark.parametrize("cell", CELLS)
def test_a_bidirectional_layer_has_half_of_the_features_in_each_direction(cell):
    layer = recurrent_layer(cell, D_IN, D, bidirectional=True)
    assert layer.hidden_size == D // 2
    assert layer(torch.randn(ROWS, N, D_IN))[0].shape == (ROWS, N, D)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_matrices_begin_orthogonal_and_only_the_forget_gate_has_a_bias(cell, bidirectional):
    layer = recurrent_layer(cell, D_IN, D, bidirectional=bidirectional)
    initialize_layer(layer)
    size = layer.hidden_size
    for name, weight in layer.named_parameters():
        if name.startswith("weight_hh"):
            for gate in weight.split(size):
                assert torch.allclose(gate @ gate.T, torch.eye(size), atol=1e-5)
        elif name.startswith("weight_ih"):
            assert float(weight.detach().abs().max()) <= (6 / (D_IN + size)) ** 0.5
            assert float(weight.detach().std()) > 0.2
        else:
            right = torch.zeros_like(weight)
            if cell == "lstm" and name.startswith("bias_ih"):
                right[size : 2 * size] = 1
            assert torch.equal(weight, right)


@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_runs_and_learns_in_bfloat16_on_a_cpu(cell):
    layer, x, carry = layer_and_inputs(cell)
    exact, _ = run_layer(layer, x, carry)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = run_layer(layer, x, carry)
        steps = StepLayer(layer, x)
        first = steps(0, x[:, 0, :0], carry)[0]
    found.float().sum().backward()
    assert all(bool(weight.grad.isfinite().all()) for weight in layer.parameters())
    assert torch.allclose(found.float(), exact, atol=0.05)
    assert torch.allclose(first.float(), exact[:, 0], atol=0.05)


@pytest.mark.parametrize("carried", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_another_recurrent_matrix_takes_the_place_of_the_layers_own(cell, carried):
    layer, x, carry = layer_and_inputs(cell)
    carry = carry if carried else None
    own, other = layer.weight_hh_l0, torch.randn_like(layer.weight_hh_l0)
    same, same_last = run_layer(layer, x, carry, recurrent=own)
    assert torch.equal(same, run_layer(layer, x, carry)[0])
    found, last = run_layer(layer, x, carry, recurrent=other)
    with torch.no_grad():
        own.copy_(other)
    wanted, wanted_last = run_layer(layer, x, carry)
    assert torch.equal(found, wanted) and not torch.equal(found, same)
    assert all(map(torch.equal, last, wanted_last)) and len(last) == len(same_last) == CARRIED[cell]
