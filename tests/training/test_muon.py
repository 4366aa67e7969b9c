"""Muon: torch's steps bit for bit in bfloat16, and the polynomial of the singular values in float32."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from nlpcli.config.schema import TrainingConfig
from nlpcli.training.device import Machine
from nlpcli.training.muon import Muon, orthogonal
from nlpcli.training.optimizer import make_optimizer

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # Jordan et al. 2024
SHAPES = [(8, 8), (12, 5), (5, 12), (1, 7), (7, 1)]


def matrices(shapes=SHAPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 5])
def test_the_singular_values_go_through_the_polynomial_and_the_vectors_stay(shape, steps):
    (matrix,) = matrices([shape])
    u, s, v = torch.linalg.svd(matrix.detach().double() / matrix.detach().double().norm(), full_matrices=False)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    found = orthogonal(matrix.detach(), COEFFICIENTS, steps)
    torch.testing.assert_close(found, ((u * s) @ v).float(), rtol=1e-4, atol=1e-5)


def test_a_matrix_of_zeros_stays_one():
    assert torch.equal(orthogonal(torch.zeros(3, 4), COEFFICIENTS, 5), torch.zeros(3, 4))


def test_in_bfloat16_the_steps_are_torchs_bit_for_bit():
    ours, theirs = matrices(), matrices()
    unmoved = nn.Parameter(torch.ones(2, 2))
    optimizer = Muon([{"params": [*ours, unmoved]}], lr=0.02, weight_decay=0.1, dtype=torch.bfloat16)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for one, other, gradient in zip(ours, theirs, matrices(seed=step + 1), strict=True):
            one.grad, other.grad = gradient.detach().clone(), gradient.detach().clone()
        optimizer.step()
        reference.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert torch.equal(unmoved, torch.ones(2, 2))  # it had no gradient


def test_a_state_of_torchs_muon_loads():
    ours, theirs = matrices(), matrices()
    optimizer = Muon([{"params": ours}], lr=0.02, weight_decay=0.0, dtype=torch.bfloat16)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for one, gradient in zip(theirs, matrices(seed=1), strict=True):
        one.grad = gradient.detach()
    reference.step()
    optimizer.load_state_dict(deepcopy(reference.state_dict()))
    for one, other in zip(ours, theirs, strict=True):
        one.data.copy_(other.data)
        one.grad = other.grad
    optimizer.step()
    reference.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_float32_is_nearer_to_the_exact_step_than_bfloat16():
    def moved(dtype):
        (matrix,) = matrices([(32, 48)])
        before, matrix.grad = matrix.detach().clone(), torch.randn(32, 48, generator=torch.Generator().manual_seed(7))
        Muon([{"params": [matrix]}], lr=1.0, weight_decay=0.0, dtype=dtype).step()
        return (matrix.detach() - before).double()

    exact = moved(torch.float64)
    errors = {dtype: (moved(dtype) - exact).norm() / exact.norm() for dtype in (torch.float32, torch.bfloat16)}
    assert errors[torch.float32] < 1e-5 < errors[torch.bfloat16] < 0.1


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_run_computes_them_in_its_own_precision(precision):
    machine = Machine(torch.device("cpu"), precision, 1, "as configured")
    net = nn.Linear(4, 4)
    optimizer = make_optimizer(net, TrainingConfig(optimizer="muon"), None, machine.matrix_dtype)
    expected = torch.bfloat16 if precision == "bfloat16" else torch.float32  # float16 has too few small numbers
    assert optimizer.parts[0].dtype == expected
