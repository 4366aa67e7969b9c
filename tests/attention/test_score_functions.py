"""Each score function against a loop in float64, and which of them go through the fused softmax kernel exactly."""

from __future__ import annotations

import math

import pytest
import torch

from nlpcli.attention import score_functions
from nlpcli.attention.score_functions import SCORES
from nlpcli.attention.softmax import softmax_attention

ROWS, N, M, D_QUERY, D_KEY = 2, 3, 5, 6, 6
ROUNDED = 64 * 2**-23


def dot(q, k):
    return sum(a * b for a, b in zip(q, k, strict=True))


def affine(vector, matrix):
    """vector (d) times matrix (d, e)."""
    return [dot(vector, column) for column in zip(*matrix, strict=True)]


def expected(name, score, head, query, keys):
    """The scores of one query for all keys, by the formula of the paper, in Python's floats."""
    own = {key: value[head].tolist() for key, value in score.named_parameters()}
    found = []
    for place, key in enumerate(keys):
        if name == "dot":
            value = dot(query, key)
        elif name == "scaled-dot":
            value = dot(query, key) / math.sqrt(len(key))
        elif name == "general":
            value = dot(query, affine(key, own["weight"]))
        elif name == "cosine":
            lengths = math.sqrt(dot(query, query) * dot(key, key))
            value = dot(query, key) / lengths / math.exp(own["log_temperature"][0][0])
        elif name == "gaussian":
            width = math.exp(own["log_bandwidth"][0][0])
            distance = sum((a - b) ** 2 for a, b in zip(query, key, strict=True))
            value = -distance / (2 * width**2)
        elif name == "additive":
            inner = zip(affine(query, own["query_weight"]), affine(key, own["key_weight"]), strict=True)
            value = dot([math.tanh(a + b) for a, b in inner], [number for [number] in own["vector"]])
        elif name == "concat":
            inner = affine(query + key, own["weight"])
            value = dot([math.tanh(a) for a in inner], [number for [number] in own["vector"]])
        else:
            value = affine(query, own["weight"])[place]
        found.append(value)
    return found


def softmax(values):
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def made(name, heads=1, **settings):
    torch.manual_seed(4)
    return SCORES[name](D_QUERY, D_KEY, heads=heads, **settings).double()


def inputs(heads=1, n=N, m=M):
    generator = torch.Generator().manual_seed(5)
    query = torch.randn(ROWS, heads, n, D_QUERY, generator=generator, dtype=torch.float64)
    key = torch.randn(ROWS, heads, m, D_KEY, generator=generator, dtype=torch.float64)
    return query, key


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("name", SCORES)
def test_a_score_and_its_softmax_are_those_of_a_loop(name, heads):
    score, (query, key) = made(name, heads), inputs(heads)
    found = score(query, key)
    assert found.shape == (ROWS, heads, N, M)
    for row in range(ROWS):
        for head in range(heads):
            for i in range(N):
                right = expected(name, score, head, query[row, head, i].tolist(), key[row, head].tolist())
                same_for_all = 0.0
                if name == "gaussian":  # a number for each query that is the same for all keys is left out
                    bandwidth = math.exp(2 * score.log_bandwidth[head].item())
                    same_for_all = query[row, head, i].square().sum().item() / (2 * bandwidth)
                mine = found[row, head, i].tolist()
                assert [value - same_for_all for value in mine] == pytest.approx(right, abs=1e-12)
                assert torch.tensor(mine).softmax(-1).tolist() == pytest.approx(softmax(right), abs=1e-6)


PRODUCTS = [name for name in SCORES if SCORES[name].is_product]


def test_five_of_the_scores_are_products():
    assert PRODUCTS == ["dot", "scaled-dot", "general", "cosine", "gaussian"]


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_score_goes_through_the_fused_kernel_exactly_with_gradients(name, kind):
    score = made(name, heads=2).to(kind)
    query, key = (x.to(kind).requires_grad_() for x in inputs(heads=2, n=4, m=7))
    value = torch.randn(ROWS, 2, 7, 3, dtype=kind, generator=torch.Generator().manual_seed(1))
    allowed = torch.rand(ROWS, 1, 4, 7, generator=torch.Generator().manual_seed(2)) < 0.7
    fused = softmax_attention(score.queries(query), score.keys(key), value, attention_mask=allowed, scale=1.0)
    explicit = score(query, key).masked_fill(~allowed, -torch.inf).softmax(-1) @ value
    rounded = ROUNDED if kind is torch.float32 else 1e-14
    assert torch.allclose(fused, explicit, atol=rounded)
    leaves = [query, key, *score.parameters()]
    direction = torch.randn(fused.shape, generator=torch.Generator().manual_seed(3)).to(kind)
    ours = torch.autograd.grad((fused * direction).sum(), leaves)
    theirs = torch.autograd.grad((explicit * direction).sum(), leaves)
    for mine, right in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, right, atol=16 * rounded)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("name", ["additive", "concat"])
def test_blocks_of_queries_change_neither_scores_nor_gradients(name, heads, monkeypatch):
    score = made(name, heads)
    query, key = (x.requires_grad_() for x in inputs(heads, n=7))
    leaves = [query, key, *score.parameters()]
    direction = torch.randn(ROWS, heads, 7, M, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    whole = score(query, key)
    right = torch.autograd.grad((whole * direction).sum(), leaves)
    monkeypatch.setattr(score_functions, "_BLOCK", 2 * ROWS * heads * M * D_KEY)  # two queries, and one at the end
    inner = []
    monkeypatch.setattr(
        score_functions, "_tanh_scores", lambda *given, own=score_functions._tanh_scores: inner.append(1) or own(*given)
    )
    parts = score(query, key)
    assert len(inner) == 4
    assert torch.allclose(parts, whole, atol=1e-14)
    for mine, other in zip(torch.autograd.grad((parts * direction).sum(), leaves), right, strict=True):
        assert torch.allclose(mine, other, atol=1e-13)


def test_blocks_never_hold_hidden_units_of_all_queries(monkeypatch):
    score = made("additive")
    monkeypatch.setattr(score_functions, "_BLOCK", 3 * ROWS * M * D_KEY)
    sizes = []

    def watched(query, key, vector, own=score_functions._tanh_scores):
        sizes.append(query.size(2))
        return own(query, key, vector)

    monkeypatch.setattr(score_functions, "_tanh_scores", watched)
    query, key = inputs(n=100)
    score(query.requires_grad_(), key).sum().backward()
    assert max(sizes) == 3
    assert sum(sizes) == 200  # once to and once fro


@pytest.mark.parametrize("name", ["dot", "scaled-dot", "cosine", "gaussian"])
def test_a_score_without_a_matrix_refuses_queries_of_another_width_than_keys(name):
    with pytest.raises(ValueError, match=f"'{name}' needs queries as wide as keys, not 6 and 8"):
        SCORES[name](6, 8)


@pytest.mark.parametrize("name", ["general", "additive", "concat", "location"])
def test_a_score_with_a_matrix_takes_queries_of_another_width_than_keys(name):
    query, key = torch.randn(2, 1, 3, 6), torch.randn(2, 1, 5, 8)
    assert SCORES[name](6, 8)(query, key).shape == (2, 1, 3, 5)


def test_location_scores_look_at_no_key_and_leave_out_keys_behind_their_last_position():
    score = made("location", positions=4)
    query, key = inputs(m=6)
    found = score(query, key)
    assert torch.equal(found, score(query, torch.zeros_like(key)))
    assert bool((found[..., 4:] == -math.inf).all())
    assert torch.equal(found.softmax(-1)[..., 4:], torch.zeros(ROWS, 1, N, 2, dtype=torch.float64))
    assert torch.equal(score(query, key[:, :, :3]), found[..., :3])


def test_cosine_and_gaussian_begin_with_what_they_are_given():
    query, key = inputs()
    cosines = torch.nn.functional.cosine_similarity(query[..., :, None, :], key[..., None, :, :], dim=-1)
    assert torch.allclose(made("cosine", temperature=0.5)(query, key), cosines / 0.5, atol=1e-12)
    near = made("gaussian", bandwidth=0.1)(query, key).argmax(-1)
    assert torch.equal(near, torch.cdist(query, key).argmin(-1))
