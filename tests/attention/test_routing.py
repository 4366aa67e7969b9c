"""Routing attention: clusters are those of the nearest centroids, and training moves these to the means of vectors."""

from __future__ import annotations

import pytest
import torch

from nlpcli.attention.bucket_attention import normalized
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.patterns import Causal
from nlpcli.attention.routing import RoutingAttention
from nlpcli.models.build import build_model


def test_a_vector_is_in_the_cluster_of_the_centroid_whose_direction_is_nearest():
    torch.manual_seed(0)
    core, key = RoutingAttention(5, 4, heads=2, d_key=6), torch.randn(3, 2, 7, 6)
    with torch.no_grad():
        core.centroids[:, 1] *= 9  # its length does not matter
    found = core.buckets(key)
    assert found.shape == (3, 2, 1, 7)
    for row in range(3):
        for head in range(2):
            for place in range(7):
                near = torch.cosine_similarity(key[row, head, place], core.centroids[head], dim=-1)
                assert found[row, head, 0, place] == near.argmax()
    assert torch.equal(core.buckets(5 * key), found)


@pytest.mark.parametrize("padded", [False, True])
def test_a_centroid_gets_the_gradient_of_its_distance_to_the_mean_of_its_vectors(padded):
    torch.manual_seed(1)
    core = RoutingAttention(6, 4, heads=2, d_key=5)
    query, value = torch.randn(2, 2, 9, 5, requires_grad=True), torch.randn(2, 2, 9, 5)
    keys = torch.arange(9) < torch.tensor([9, 4])[:, None] if padded else None
    core.forward(query, query, value, AttentionMask(keys=keys)).sum().backward()
    vectors, clusters = normalized(query.detach()), core.buckets(query)[:, :, 0]
    own = keys if padded else torch.ones(2, 9, dtype=torch.bool)
    empty = 0
    for head in range(2):
        for number in range(6):
            members = vectors[:, head][(clusters[:, head] == number) & own]
            centroid = core.centroids[head, number].detach().requires_grad_()
            if len(members):
                (0.01 * 0.5 * (centroid - members.mean(0)).square().sum()).backward()
                assert torch.allclose(core.centroids.grad[head, number], centroid.grad, atol=1e-7)
            else:
                empty += 1
                assert not core.centroids.grad[head, number].any()
    assert empty < 6


def test_nothing_is_trained_in_use_and_a_forward_pass_changes_nothing():
    core = RoutingAttention(4, 4, heads=2, d_key=5)
    query = torch.randn(2, 2, 9, 5, requires_grad=True)
    before = core.centroids.detach().clone()
    first = core.forward(query, query, query, AttentionMask())
    assert torch.equal(first, core.forward(query, query, query, AttentionMask()))
    assert torch.equal(core.centroids, before)
    core.eval().forward(query, query, query, AttentionMask()).sum().backward()
    assert core.centroids.grad is None and query.grad is not None
    with torch.no_grad():
        assert torch.equal(core.train().forward(query, query, query, AttentionMask()), first)


def planted(generator, centers, rows, m):
    """Vectors (rows, 1, m, d) of length 1 or so around centers (clusters, d), and which center each is of."""
    which = torch.randint(len(centers), (rows, 1, m), generator=generator)
    noise = 0.5 * torch.randn(rows, 1, m, centers.size(1), generator=generator) / centers.size(1) ** 0.5
    return centers[which] + noise, which


@pytest.mark.parametrize("seed", range(3))
def test_training_finds_planted_clusters(seed):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(100 + seed)
    centers = torch.nn.functional.normalize(torch.randn(6, 16, generator=generator), dim=-1)
    core = RoutingAttention(12, 64, heads=1, d_key=16)
    optimizer = torch.optim.AdamW(core.parameters(), lr=0.01)
    inside = []
    for step in range(201):
        query, which = planted(generator, centers, 4, 64)
        query.requires_grad_()
        if step % 200 == 0:
            weights = core.weights(query, query, AttentionMask())
            same = which[..., :, None] == which[..., None, :]
            inside.append(float((weights.detach() * same).sum(-1).mean()))
        core.forward(query, query, query, AttentionMask()).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert inside[0] < 0.8 and inside[1] >= 0.95


def test_centroids_are_saved_with_the_model_and_trained_by_the_loss_of_a_language_model():
    shape = {
        "kind": "decoder", "d_model": 16, "heads": 2, "d_ff": 24, "decoder_layers": 2, "attention": ["routing:4:8"],
    }  # fmt: skip
    model = build_model(shape, 20).train()
    names = [name for name in model.state_dict() if "centroids" in name]
    assert names == [f"decoder.layers.{number}.self_attention.core.centroids" for number in range(2)]
    model(torch.randint(20, (2, 30))).square().sum().backward()
    assert all(model.get_parameter(name).grad.abs().sum() > 0 for name in names)


def test_it_sees_the_last_of_its_cluster_only():
    torch.manual_seed(0)
    core = RoutingAttention(3, 3, heads=1, d_key=4)
    query = torch.randn(1, 1, 40, 4)
    clusters = core.buckets(query)[0, 0, 0].tolist()
    weights = core.weights(query, query, AttentionMask(Causal()))[0, 0]
    for i in range(40):
        earlier = [j for j in range(i) if clusters[j] == clusters[i]][-2:]
        assert weights[i].nonzero().flatten().tolist() == (earlier or [i])
