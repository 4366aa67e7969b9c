"""What is moved one way is moved back, and a change of order changes nothing that is computed."""

from __future__ import annotations

import pytest
import torch

from nlpcli.convert.bart import BART
from nlpcli.convert.llama_gpt_neox import GPT_NEOX
from nlpcli.convert.name_map import (
    as_row,
    below,
    from_huggingface,
    fused,
    halved,
    modules,
    rolled,
    same,
    shaped,
    to_huggingface,
    transposed,
)
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_weights, unshared

COMPLETE = {"family": "transformer", "norm_bias": True, "norm": "layernorm", "attention_bias": True,
            "feed_forward_bias": True, "segments": 0, "output_bias": True, "kind": "decoder", "decoder_layers": 1,
            "heads": 2, "tie": "all"}  # fmt: skip


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("pair", "ours", "theirs"),
    [
        (same("a", "b"), [(3, 4)], (3, 4)),
        (transposed("a", "b"), [(3, 4)], (4, 3)),
        (fused("acd", "b"), [(2, 5)] * 3, (6, 5)),
        (fused("acd", "b", turn=True), [(2, 5)] * 3, (5, 6)),
        (as_row("a", "b"), [(7,)], (1, 7)),
        (below("a", "b", 2), [(4, 3)], (6, 3)),
        (rolled("a", "b", -1), [(4, 3)], (4, 3)),
        (shaped("a", "b", (2, 3, 2), (2, 6)), [(2, 6)], (2, 3, 2)),
        (shaped("a", "b", (6, 2, 3), (6, 6), turn=True), [(6, 6)], (6, 2, 3)),
    ],
)
def test_every_pair_moves_there_and_back(pair, ours, theirs):
    weights = {name: numbers(*shape) + i for i, (name, shape) in enumerate(zip(pair.ours, ours, strict=True))}
    found = to_huggingface([pair], weights, COMPLETE)
    assert found["b"].shape == theirs
    back = from_huggingface([pair], found, COMPLETE)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weights[name]) for name in weights)


def test_fused_heads_go_head_by_head():
    pair = next(pair for pair in GPT_NEOX.pairs(COMPLETE, {}) if pair.theirs.endswith("query_key_value.bias"))
    weights = {name: torch.arange(4.0) + 10 * i for i, name in enumerate(pair.ours)}
    found = to_huggingface([pair], weights, COMPLETE)[pair.theirs]
    assert found.tolist() == [0, 1, 10, 11, 20, 21, 2, 3, 12, 13, 22, 23]


def test_what_ours_lacks_is_zero_there():
    pairs = modules({"x.feed_forward.inner": "fc1"})
    weights = {"x.feed_forward.inner.weight": numbers(3, 2)}
    found = to_huggingface(pairs, weights, COMPLETE | {"feed_forward_bias": False})
    assert found["fc1.bias"].tolist() == [0, 0, 0]
    assert from_huggingface(pairs, found, COMPLETE | {"feed_forward_bias": False}).keys() == weights.keys()


def test_a_missing_weight_of_theirs_is_named():
    with pytest.raises(KeyError, match="b"):
        from_huggingface([same("a", "b")], {}, COMPLETE)


@pytest.mark.parametrize("norm_position", ["pre", "post"])
@torch.inference_mode()
def test_sinusoids_in_another_order_with_the_weights_moved_along_give_the_same_logits(norm_position):
    torch.manual_seed(0)
    config = {"d_model": 12, "heads": 2, "d_ff": 20, "encoder_layers": 2, "decoder_layers": 2, "attention_bias": True,
              "norm_position": norm_position}  # fmt: skip
    first = build_model({**config, "positions": "sinusoidal"}, 30).eval()
    for weight in first.parameters():
        weight.copy_(torch.randn_like(weight) * 0.4)
    second = build_model({**config, "positions": "sinusoidal-halves"}, 30).eval()
    weights = unshared(first.state_dict())
    moved = halved(weights)
    load_weights(second, moved, "moved")
    source, target = torch.randint(0, 30, (3, 7)), torch.randint(0, 30, (3, 5))
    assert torch.allclose(first(source, None, target), second(source, None, target), atol=1e-4)
    back = halved(moved, back=True)
    assert all(torch.equal(back[name], weights[name]) for name in weights)


def test_positions_stand_two_rows_lower_in_bart():
    ours = {**COMPLETE, "encoder_layers": 0, "decoder_layers": 0, "position_offset": 0}
    pair = next(pair for pair in BART.pairs(ours, {}) if pair.theirs == "model.encoder.embed_positions.weight")
    table = numbers(3, 2)
    found = pair.out([table])
    assert torch.equal(found[2:], table)
    assert not found[:2].any()
