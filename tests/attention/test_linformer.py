"""Linformer: its formula, full attention as a limit, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from nlpcli.attention.linformer import HeadsLinformerAttention, LinformerAttention
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.patterns import Window
from nlpcli.attention.softmax import SoftmaxAttention
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_weights, save_model
from nlpcli.runs.model_cost import operations


def tensors(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, n, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]


def test_it_is_the_papers_formula():
    core, (query, key, value) = LinformerAttention(5, length=9), tensors(7)
    found = core.forward(query, key, value, AttentionMask())
    for row in range(2):
        for head in range(3):
            keys, values = (
                by[:, :7].double() @ x[row, head] for by, x in ((core.key_map, key), (core.value_map, value))
            )
            expected = (query[row, head] @ keys.T / 4**0.5).softmax(-1) @ values
            assert torch.allclose(found[row, head], expected)


def test_with_as_many_slots_as_positions_and_identities_it_is_full_attention():
    core, mask, leaves = LinformerAttention(7, length=7), AttentionMask(), tensors(7)
    with torch.no_grad():
        for by in (core.key_map, core.value_map):
            by.copy_(torch.eye(7))
    ours, theirs = core.forward(*leaves, mask), SoftmaxAttention().forward(*leaves, mask)
    assert torch.allclose(ours, theirs)
    for mine, right in zip(*(torch.autograd.grad(x.square().sum(), leaves) for x in (ours, theirs)), strict=True):
        assert torch.allclose(mine, right)
    assert torch.allclose(core.weights(*leaves[:2], mask), SoftmaxAttention().weights(*leaves[:2], mask))


def test_the_projections_are_trained_and_each_layer_has_its_own():
    shape = {"kind": "encoder", "d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 2, "max_length": 12}
    model = build_model({**shape, "attention": ["linformer:4"], "positions": "sinusoidal"}, 20).train()
    assert model.max_length == 12
    model(torch.randint(20, (2, 9))).square().sum().backward()
    maps = {name: p for name, p in model.named_parameters() if "_map" in name}
    assert {p.shape for p in maps.values()} == {(4, 12)} and len(maps) == 4
    assert all(bool(p.grad[:, :9].any()) and not p.grad[:, 9:].any() for p in maps.values())


def test_each_head_may_have_its_own_mixtures():
    core, (query, key, value) = HeadsLinformerAttention(5, length=9, heads=3, d_key=4), tensors(7)
    found = core.forward(query, key, value, AttentionMask())
    for head in range(3):
        keys, values = (
            by[head, :, :7].double() @ x[:, head] for by, x in ((core.key_map, key), (core.value_map, value))
        )
        expected = (query[:, head] @ keys.transpose(1, 2) / 4**0.5).softmax(-1) @ values
        assert torch.allclose(found[:, head], expected)


def test_all_layers_may_share_one_projection_of_keys_and_values(tmp_path):
    shape = {"kind": "encoder", "d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 3, "max_length": 12}
    config = ModelConfig.model_validate({**shape, "attention": ["linformer-layers:4", "full"], "dropout": 0.0})
    model, ids = build_model(config, 20).eval(), torch.randint(20, (2, 9))
    first, full, last = (layer.self_attention.core for layer in model.encoder.layers)
    assert first is last is not full and first.key_map is first.value_map
    save_model(tmp_path / "run", weights=model.state_dict(), config=config, tokenizer=None, info={"vocab_size": 20})
    again = build_model(config, 20).eval()
    load_weights(again, load_file(tmp_path / "run" / "model.safetensors"), "the file")
    assert torch.equal(model(ids), again(ids))


@pytest.mark.parametrize(("length", "mask"), [(10, AttentionMask()), (5, AttentionMask(Window(2)))])
def test_a_longer_text_and_a_pattern_are_refused(length, mask):
    with pytest.raises(ValueError, match="9" if length == 10 else "patterns"):
        LinformerAttention(4, length=9).forward(*tensors(length), mask)


def test_it_costs_less_than_full_attention():
    shape = {"kind": "encoder", "d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 1, "max_length": 4096}
    ours, full = (
        operations(TransformerConfig(attention=[text], **shape), 20, length=4096).forward
        for text in ("linformer:64", "full")
    )
    assert ours < full / 4
