"""Longformer's attention: its formula, softmax attention as a case, and no matrix of all pairs for long texts."""

from __future__ import annotations

import pytest
import torch

from nlpcli.attention import masks
from nlpcli.attention.kinds import KINDS, parse_attention
from nlpcli.attention.longformer import LongformerAttention
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.multi_head import AttentionSettings, MultiHeadAttention
from nlpcli.attention.pattern_parser import parse
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.errors import NlpcliError
from nlpcli.layers.lora import add_lora
from nlpcli.models.build import build_model
from nlpcli.models.layer_groups import depth_groups

D_MODEL, HEADS = 12, 2


def layer_of(window, tokens, seed=3, **more):
    torch.manual_seed(seed)
    settings = AttentionSettings(HEADS, bias=True, **more)
    return LongformerAttention(window, tokens, d_model=D_MODEL, settings=settings).double().eval()


def states(n, rows=2):
    return torch.randn(rows, n, D_MODEL, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


@pytest.mark.parametrize(("window", "tokens"), [(4, 1), (2, 3), (8, 2)])
@pytest.mark.parametrize("n", [1, 2, 9, 14])
@torch.inference_mode()
def test_it_is_the_formula_row_by_row(window, tokens, n):
    layer, x = layer_of(window, tokens), states(n)
    local = [projection(x).unflatten(2, (HEADS, -1)) for projection in (layer.query, layer.key, layer.value)]
    wide = [
        projection(x).unflatten(2, (HEADS, -1))
        for projection in (layer.global_query, layer.global_key, layer.global_value)
    ]
    rows = []
    for i in range(n):
        query, key, value = wide if i < tokens else local
        seen = [j for j in range(n) if i < tokens or j < tokens or abs(i - j) <= window // 2]
        scores = torch.einsum("bhd,bjhd->bhj", query[:, i], key[:, seen]) / (D_MODEL // HEADS) ** 0.5
        rows.append(torch.einsum("bhj,bjhd->bhd", scores.softmax(-1), value[:, seen]).flatten(1))
    assert torch.allclose(layer(x), layer.output(torch.stack(rows, dim=1)), atol=1e-10)


@pytest.mark.parametrize("rotary", [None, True])
@torch.inference_mode()
def test_with_one_set_of_projections_it_is_softmax_attention_to_a_window_and_global_tokens(rotary):
    settings = AttentionSettings(HEADS, bias=True, qk_norm=True)
    plain = MultiHeadAttention(D_MODEL, settings, rotary=rotary, pattern=parse("window:4+global:2")).double()
    layer = LongformerAttention(6, 2, d_model=D_MODEL, settings=settings, rotary=rotary).double()
    layer.load_state_dict(plain.state_dict(), strict=False)
    layer.begin_as_local()
    for n in (1, 2, 7, 40, 700):
        mask = AttentionMask(keys=torch.arange(n) < torch.tensor([n, max(1, n // 3)])[:, None])
        assert torch.allclose(layer(states(n), mask), plain(states(n), mask), atol=1e-10)


def test_a_long_text_has_no_matrix_of_all_pairs(monkeypatch):
    sizes = []
    dense = masks.dense_pattern

    def noted(pattern, n, m, device):
        sizes.append(n * m)
        return dense(pattern, n, m, device)

    monkeypatch.setattr(masks, "dense_pattern", noted)
    layer, x = layer_of(16, 1), states(3000, rows=1).requires_grad_()
    mask = AttentionMask(keys=torch.arange(3000)[None] < 2900)
    layer(x, mask).square().sum().backward()
    assert not sizes and x.grad.isfinite().all()


SHAPE = {"kind": "encoder", "d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 2, "attention": ["longformer:4"]}


def test_a_model_is_made_of_it_with_adapters_groups_and_first_weights():
    model = build_model(SHAPE | {"initialization": "t5"}, 20)
    layer = model.encoder.layers[1].self_attention
    assert isinstance(layer, LongformerAttention) and str(layer.pattern) == "window:3+global:1"
    assert torch.equal(layer.global_key.weight, layer.key.weight)  # t5 knows no other scheme for them
    groups = {group.name: {id(parameter) for parameter in group.parameters} for group in depth_groups(model)}
    assert id(layer.global_key.weight) in groups["encoder.1"]
    adapted = add_lora(model, rank=2, alpha=4.0)
    assert {name.rpartition(".")[2] for name in adapted} == {"query", "value", "global_query", "global_value"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": ["longformer:5"]}, "attention 'longformer:5': W is 5, but must be even"),
        ({"attention": ["longformer"]}, "'longformer' is not of the form longformer:W"),
        ({"attention": ["longformer:4:1:1"]}, "'longformer:4:1:1' is not of the form longformer:W"),
        ({"attention": ["longformer:4:0"]}, "'longformer:4:0' is not of the form longformer:W"),
        ({"attention": ["longformer:4 & window:3"]}, "longformer does not support patterns"),
        ({"kind": "decoder"}, "longformer does not support causal attention"),
        ({"positions": "relative"}, "longformer does not support relative positions"),
        ({"score": "cosine"}, "longformer does not support other scores"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(settings, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**(SHAPE | settings))


def test_the_number_of_global_tokens_may_be_left_out():
    assert parse_attention("longformer:4").numbers == (4,)
    assert parse_attention("longformer:4:2").numbers == (4, 2)
    assert KINDS["longformer"].form == "longformer:W[:G]"
    with pytest.raises(NlpcliError, match="longformer does not support a document mask"):
        TransformerConfig(**SHAPE).check_document_mask("data.document_mask")
