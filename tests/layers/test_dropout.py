from __future__ import annotations

import pytest
import torch

from nlpcli.layers.dropout import Dropout, TokenDropout, VariationalDropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_a_share_p_is_dropped_and_the_rest_scaled_so_that_the_mean_stays(p):
    torch.manual_seed(1)
    n = 200_000
    y = Dropout(p)(torch.ones(n))
    assert float((y == 0).float().mean()) == pytest.approx(p, abs=5 * (p * (1 - p) / n) ** 0.5)
    assert torch.allclose(y[y != 0], torch.tensor(1 / (1 - p)), rtol=2e-4 / (1 - p))
    assert float(y.mean()) == pytest.approx(1.0, abs=5 * (p / (1 - p) / n) ** 0.5 + 1e-4)


def test_the_mask_follows_from_torchs_random_state_alone():
    layer, x = Dropout(0.5), torch.ones(3, 5, 7)
    torch.manual_seed(7)
    first, second = layer(x), layer(x)
    torch.manual_seed(7)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer(x), second)
    assert not torch.equal(first, second)


def test_neighbours_are_dropped_independently_of_each_other():
    torch.manual_seed(3)
    kept = (Dropout(0.5)(torch.ones(400, 1000)) != 0).double() - 0.5
    for step in (1, 2, 3, 4, 8, 1000):  # a draw holds four numbers of 16 bits; a row 1000 of them
        flat = kept.flatten()
        correlation = float((flat[:-step] * flat[step:]).mean()) * 4
        assert abs(correlation) < 5 / flat.numel() ** 0.5


def test_the_gradient_passes_where_the_value_passed_and_with_the_same_scale():
    torch.manual_seed(2)
    x = torch.randn(11, 13, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    assert torch.allclose(x.grad * x, y)
    assert torch.equal(x.grad == 0, y == 0)


@pytest.mark.parametrize("layer", [Dropout(0.5).eval(), Dropout(0.0)])
def test_evaluation_and_p_of_zero_leave_the_input_itself_and_the_random_state(layer):
    x = torch.randn(4, 5)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert layer(x) is x
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_the_kind_of_number_and_the_shape_stay(kind):
    y = Dropout(0.25)(torch.ones(2, 3, 5, dtype=kind))
    assert y.dtype == kind
    assert y.shape == (2, 3, 5)


def test_views_and_empty_tensors_are_dropped_like_any_other():
    assert Dropout(0.5)(torch.ones(0, 4)).shape == (0, 4)
    torch.manual_seed(1)
    y = Dropout(0.5)(torch.ones(6, 4).t())
    assert set(y.unique().tolist()) == {0.0, 2.0}


def test_a_p_that_rounds_to_one_still_gives_numbers():
    y = Dropout(1 - 1e-7)(torch.ones(1000))
    assert bool(y.isfinite().all())


def test_a_variational_mask_is_one_per_sequence():
    torch.manual_seed(4)
    y = VariationalDropout(0.5)(torch.ones(6, 20, 50))
    assert torch.equal(y, y[:, :1].expand_as(y))  # the same at every position
    masks = {tuple(row) for row in (y[:, 0] == 0).tolist()}
    assert len(masks) == 6  # and another for every sequence
    assert float((y == 0).float().mean()) == pytest.approx(0.5, abs=0.15)
    assert torch.allclose(y[y != 0], torch.tensor(2.0), rtol=1e-3)


def test_a_token_is_dropped_wherever_it_occurs_and_as_a_row_of_the_matrix_would_be():
    matrix, ids = torch.randn(40, 5), torch.randint(40, (4, 30), generator=torch.Generator().manual_seed(1))
    dropout = TokenDropout(40, 0.3)
    torch.manual_seed(4)
    found = dropout.of(matrix[ids], ids)
    torch.manual_seed(4)
    rows = Dropout(0.3)(torch.ones(40, 1))
    assert torch.equal(found, (matrix * rows)[ids])
    dropped = {int(id_) for id_ in ids[(found == 0).all(dim=-1)]}
    assert dropped == {int(id_) for id_ in ids.unique() if rows[id_] == 0} and dropped


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_in_evaluation_or_without_a_share_nothing_is_dropped(p):
    x, ids = torch.randn(2, 3, 4), torch.randint(9, (2, 3))
    variational, tokens = VariationalDropout(p), TokenDropout(9, p)
    if p:
        variational.eval()
        tokens.eval()
    assert variational(x) is x and tokens.of(x, ids) is x
