from __future__ import annotations

import torch
from torch import nn

from nlpcli.layers.embeddings import Embedding, added_positions
from nlpcli.layers.positions import sinusoids

IDS = torch.tensor([[4, 1, 4], [0, 2, 3]])


def test_tokens_are_scaled_by_the_root_of_the_width_before_positions_are_added():
    tokens = nn.Embedding(5, 16)
    expected = tokens.weight[IDS] * 4 + sinusoids(3, 16)
    positions = added_positions("sinusoidal", 16)
    assert torch.allclose(Embedding(tokens, positions=positions)(IDS), expected)
    added = Embedding(tokens, positions=positions, scale=False)(IDS)
    assert torch.allclose(added, tokens.weight[IDS] + sinusoids(3, 16))
    for kind in ("none", "rotary", "relative"):
        assert torch.equal(Embedding(tokens, positions=added_positions(kind, 16), scale=False)(IDS), tokens.weight[IDS])


def test_a_later_start_takes_later_positions():
    embedding = Embedding(nn.Embedding(5, 8), positions=added_positions("learned", 8, max_length=7))
    nn.init.normal_(embedding.positions.weight)
    difference = embedding(IDS, 4) - embedding(IDS, 0)
    weight = embedding.positions.weight
    assert torch.allclose(difference, (weight[4:7] - weight[:3]).expand_as(difference), atol=1e-5)


def test_the_norm_comes_after_the_sum_and_dropout_last():
    tokens = nn.Embedding(5, 16)
    embedding = Embedding(tokens, positions=added_positions("sinusoidal", 16), norm=nn.LayerNorm(16), dropout=0.5)
    expected = nn.functional.layer_norm(tokens.weight[IDS] * 4 + sinusoids(3, 16), (16,))
    assert torch.allclose(embedding.eval()(IDS), expected, atol=1e-6)
    dropped = embedding.train()(IDS)
    assert torch.allclose(dropped[dropped != 0], 2 * expected[dropped != 0], atol=1e-5)
    assert bool((dropped == 0).any())


def test_one_matrix_may_serve_two_embeddings():
    tokens = nn.Embedding(5, 8)
    both = nn.ModuleList([Embedding(tokens), Embedding(tokens)])
    assert sum(parameter.numel() for parameter in both.parameters()) == 40
