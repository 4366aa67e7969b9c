"""The recurrent encoder: padding is no part of it, and each direction ends where its text does."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from nlpcli.models.recurrent_encoder import RecurrentEncoder
from nlpcli.models.recurrent_layers import CELLS

D_IN, D, LENGTHS = 4, 6, (7, 3, 1)
ROUNDED = 64 * 2**-23
MASK = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]


def encoder(cell="lstm", layers=2, bidirectional=True, dropout=0.0):
    torch.manual_seed(2)
    return RecurrentEncoder(cell, D_IN, D, layers, bidirectional=bidirectional, dropout=dropout)


def inputs():
    return torch.randn(len(LENGTHS), max(LENGTHS), D_IN, generator=torch.Generator().manual_seed(3))


every = pytest.mark.parametrize(
    ("cell", "layers", "bidirectional"), list(itertools.product(CELLS, [1, 3], [False, True]))
)


@every
def test_it_is_torchs_own_network_of_as_many_layers(cell, layers, bidirectional):
    ours = encoder(cell, layers, bidirectional)
    theirs = CELLS[cell](D_IN, D // (1 + bidirectional), layers, batch_first=True, bidirectional=bidirectional)
    for number, layer in enumerate(ours.layers):
        for name, weight in layer.named_parameters():
            getattr(theirs, name.replace("_l0", f"_l{number}")).data.copy_(weight.data)
    assert torch.allclose(ours(inputs()), theirs(inputs())[0], atol=ROUNDED)


@every
def test_padding_changes_no_state_and_no_gradient(cell, layers, bidirectional):
    ours, x = encoder(cell, layers, bidirectional), inputs().requires_grad_()
    states = ours(x, MASK)
    assert torch.equal(states[~MASK], torch.zeros_like(states[~MASK]))
    for row, length in enumerate(LENGTHS):
        alone = ours(x[row : row + 1, :length])
        assert torch.allclose(states[row, :length], alone[0], atol=ROUNDED)
    [slope] = torch.autograd.grad(states[0].sum() + states.square().sum(), [x])
    assert torch.equal(slope[~MASK], torch.zeros_like(slope[~MASK]))
    other = torch.where(MASK[..., None], x, 1e3)
    assert torch.equal(ours(other, MASK), states)


@every
def test_one_text_with_padding_is_the_text_without(cell, layers, bidirectional):
    ours, x = encoder(cell, layers, bidirectional), inputs()
    padded = ours(x[1:2], MASK[1:2])
    assert torch.allclose(padded[:, : LENGTHS[1]], ours(x[1:2, : LENGTHS[1]]), atol=ROUNDED)


@every
def test_the_final_states_are_those_torch_ends_with(cell, layers, bidirectional):
    ours, x = encoder(cell, layers, bidirectional), inputs()
    final = ours.final(ours(x, MASK), MASK)
    for row, length in enumerate(LENGTHS):
        kept: list[torch.Tensor] = []
        alone = ours(x[row : row + 1, :length], hidden_states=kept)
        _, after = ours.layers[-1](kept[-2])
        after = after[0] if isinstance(after, tuple) else after
        assert torch.allclose(final[row], after[:, 0].flatten(), atol=ROUNDED)
        assert torch.allclose(ours.final(alone, None)[0], final[row], atol=ROUNDED)


@pytest.mark.parametrize("mask", [None, MASK])
def test_the_states_of_all_layers_are_given_and_the_last_of_them_are_the_result(mask):
    ours, x = encoder(layers=3), inputs()
    kept: list[torch.Tensor] = []
    states = ours(x, mask, kept)
    assert len(kept) == 4
    assert kept[0] is x
    assert kept[-1] is states
    assert torch.allclose(ours(x, mask), states)


def test_dropout_stands_after_every_layer_and_only_in_training():
    ours, x = encoder(layers=2, dropout=0.5), inputs()
    kept: list[torch.Tensor] = []
    ours.train()(x, None, kept)
    for states in kept[1:]:
        assert 0.3 < float((states == 0).float().mean()) < 0.7
    assert torch.equal(ours.eval()(x), encoder(layers=2)(x))


def test_it_holds_torchs_fused_modules():
    assert all(type(layer) is nn.LSTM for layer in encoder().layers)
