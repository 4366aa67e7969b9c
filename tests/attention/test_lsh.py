"""LSH attention: buckets are those of the paper, and chunks of the paper are those of `transformers`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import ReformerConfig
from transformers.models.reformer.modeling_reformer import LSHSelfAttention

from nlpcli.attention import lsh
from nlpcli.attention.bucket_attention import normalized
from nlpcli.attention.bucket_layout import SELF
from nlpcli.attention.lsh import LSHAttention, rotations
from nlpcli.attention.masks import AttentionMask
from nlpcli.models.build import build_model


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_buckets_are_the_directions_that_a_vector_is_nearest_to(count):
    core = LSHAttention(count, 3, 4, layer=2)
    key = torch.randn(2, 4, 9, 6, dtype=torch.float64)
    found = core.buckets(key)
    matrices = rotations(4, 6, 3, -(-count // 2), 2).double().numpy().reshape(4, 6, 3, -1)
    turned = np.einsum("bhmd,hdrc->bhrmc", key.numpy(), matrices)
    expected = np.concatenate((turned, -turned), axis=-1)[..., :count].argmax(-1)
    assert found.shape == (2, 4, 3, 9) and np.array_equal(found.numpy(), expected)


def test_vectors_that_point_in_about_the_same_direction_share_a_bucket_in_most_rounds():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 50, 16, generator=generator)
    near = x + 0.1 * torch.randn(x.shape, generator=generator)
    core = LSHAttention(16, 64, 4)
    same, other = core.buckets(x) == core.buckets(near), core.buckets(x) == core.buckets(x.roll(1, 2))
    assert float(same.float().mean()) > 0.8 and float(other.float().mean()) < 0.2
    assert torch.equal(core.buckets(x), core.buckets(3 * x))  # lengths do not matter


def test_more_rounds_find_more_of_what_full_attention_finds():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 2, 256, 16, generator=generator) * 4
    value = torch.randn(1, 2, 256, 16, generator=generator)
    mask = AttentionMask()
    full = LSHAttention(1, 1, 256).forward(query, query, value, mask)
    errors = [
        float((LSHAttention(8, rounds, 256).forward(query, query, value, mask) - full).square().mean())
        for rounds in (1, 2, 4, 8, 16)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.2 * errors[0]


def test_buckets_belong_to_a_layer_and_are_the_same_for_every_model_seed_and_length():
    shape = {
        "kind": "decoder", "d_model": 16, "heads": 2, "d_ff": 24, "decoder_layers": 2, "attention": ["lsh:4:2:4"],
    }  # fmt: skip
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append([layer.self_attention.core for layer in build_model(shape, 20).decoder.layers])
    x = torch.randn(1, 2, 30, 8)
    (first, second), (again, _) = [[core.buckets(x) for core in cores] for cores in found]
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert torch.equal(found[0][0].buckets(x[:, :, :7]), first[..., :7])


def test_a_layer_has_no_keys_of_its_own():
    shape = {"kind": "encoder", "d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 1}
    names = [
        {name for name, _ in build_model({**shape, "attention": [text]}, 20).named_parameters()}
        for text in ("lsh:4:2:4", "full")
    ]
    assert names[1] - names[0] == {"encoder.layers.0.self_attention.key.weight"} and not names[0] - names[1]


# --- the chunks of the paper --------------------------------------------------------------------------------------


def chunked(core, query, value, length, *, before=1, after=0, once):
    """Attention to chunks of the sorted positions (Kitaev et al. 2020), written out over all pairs.

    As in `transformers`, the sorted positions of all rounds are one ring of chunks, and a pair that meets in several
    rounds counts so often, unless `once`.
    """
    rows, heads, m, _ = query.shape
    rounds = core.rounds
    order = (core.buckets(query) + torch.arange(rounds)[:, None] * core.count).flatten(2).sort(stable=True).indices % m
    chunks = order.view(rows, heads, -1, length)
    near = torch.cat([chunks.roll(-shift, 2) for shift in range(-before, after + 1)], dim=-1)
    times = torch.zeros(rows, heads, rounds, m, m)
    number = torch.arange(chunks.size(2)) // (m // length)
    for row in range(rows):
        for head in range(heads):
            for chunk in range(chunks.size(2)):
                for j in near[row, head, chunk].tolist():
                    times[row, head, number[chunk], chunks[row, head, chunk], j] += 1
    times = (times.sum(2) > 0).float() if once else times.sum(2)
    scores = query @ normalized(query).transpose(2, 3) + torch.eye(m) * SELF + times.log()
    return scores.softmax(-1) @ value


@pytest.mark.parametrize("rounds", [1, 2, 4])
@pytest.mark.parametrize(("before", "after"), [(1, 0), (1, 1)])
def test_chunks_of_our_buckets_are_the_attention_of_transformers(monkeypatch, rounds, before, after):
    torch.manual_seed(0)
    config = ReformerConfig(
        hidden_size=24, num_attention_heads=3, attention_head_size=8, num_hashes=rounds, num_buckets=4, hash_seed=5,
        lsh_attn_chunk_length=8, lsh_num_chunks_before=before, lsh_num_chunks_after=after, is_decoder=False,
        lsh_attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    theirs = LSHSelfAttention(config, layer_idx=0).eval()
    x = torch.randn(2, 48, 24)
    expected = theirs(x).hidden_states.detach()
    torch.manual_seed(5)
    drawn = torch.randn(3, 8, rounds, 2).flatten(2)
    monkeypatch.setattr(lsh, "rotations", lambda *_: drawn)
    core = LSHAttention(4, rounds, 8)
    query, value = (
        matrix(x).detach().unflatten(2, (3, 8)).transpose(1, 2) for matrix in (theirs.query_key, theirs.value)
    )
    assert torch.equal(core.buckets(query) + torch.arange(rounds)[:, None] * 4, theirs(x).buckets)
    found = chunked(core, query, value, 8, before=before, after=after, once=False)
    assert torch.allclose(found.transpose(1, 2).flatten(2), expected, atol=1e-5)


def test_in_one_chunk_it_is_our_attention_in_one_bucket(monkeypatch):
    """A text that is not longer than a chunk: the whole is one chunk there, and here one bucket with a long window."""
    torch.manual_seed(0)
    config = ReformerConfig(hidden_size=24, num_attention_heads=3, attention_head_size=8, lsh_attn_chunk_length=64)
    theirs = LSHSelfAttention(config, layer_idx=0).eval()
    x = torch.randn(2, 48, 24)
    query, value = (matrix(x).unflatten(2, (3, 8)).transpose(1, 2) for matrix in (theirs.query_key, theirs.value))
    found = LSHAttention(1, 2, 64).forward(query, query, value, AttentionMask())
    assert torch.allclose(found.transpose(1, 2).flatten(2), theirs(x).hidden_states, atol=1e-5)
