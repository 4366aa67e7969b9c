"""Adapters of low rank: they begin as nothing, learn alone, and go into the weights they stand beside."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_settings import of_family
from torch import nn

from nlpcli.errors import NlpcliError
from nlpcli.layers.lora import LoraLinear, add_lora, has_lora, merged
from nlpcli.models.build import build_model

SMALL = {"d_model": 8, "heads": 2, "d_ff": 16, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
KINDS = {
    "encoder": {"kind": "encoder", "mlm_head": True, "attention_bias": True},
    "decoder": {"kind": "decoder", "activation": "swiglu", "positions": "rotary"},
    "encoder-decoder": {"kind": "encoder-decoder", "tie": "none"},
    "transformer-xl": {"family": "transformer-xl", "kind": "decoder"},
    "xlnet": {"family": "xlnet", "kind": "encoder"},
}
LAYERS = {"encoder": 2, "decoder": 2, "encoder-decoder": 6, "transformer-xl": 2, "xlnet": 2}  # of attention
EACH = {"transformer-xl": 5, "xlnet": 5}  # linear layers in one, 4 in the others
IDS = torch.tensor([[5, 6, 7, 1, 3], [2, 9, 4, 4, 8]])


def made(kind):
    torch.manual_seed(1)
    return build_model(of_family(SMALL | KINDS[kind]), 12).eval()


def output(model):
    arguments = (IDS, None, IDS) if hasattr(model, "encode") else (IDS,)
    return model(*arguments)


def scatter(model, seed=2):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.normal_()


class Headed(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body
        self.head = nn.Linear(8, 3)

    def forward(self, ids):
        return self.head(self.body(ids))


@pytest.mark.parametrize("targets", [("attention",), ("all",)], ids=["query and value", "all"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_new_adapters_gives_the_very_numbers_it_gave(kind, targets):
    model = made(kind)
    before = output(model)
    names = add_lora(model, rank=2, alpha=4, targets=targets)
    assert torch.equal(output(model), before) and has_lora(model)
    assert len(names) == sum(isinstance(module, LoraLinear) for module in model.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_merged_weights_load_into_a_model_without_adapters_and_give_its_output(kind):
    model, plain = made(kind).double(), made(kind).double()
    names = plain.state_dict().keys()
    add_lora(model, rank=3, alpha=2, targets=["all"])
    model.double()
    scatter(model)
    assert not torch.allclose(output(model), output(plain), atol=1e-2)
    assert merged(model).keys() == names
    plain.load_state_dict(merged(model))
    assert torch.allclose(output(model), output(plain), atol=1e-5)


@given(rank=st.integers(1, 9), alpha=st.floats(0.1, 64), bias=st.booleans(), seed=st.integers(0, 99))
def test_an_adapter_adds_alpha_over_rank_times_the_product(rank, alpha, bias, seed):
    torch.manual_seed(seed)
    linear = nn.Linear(6, 4, bias=bias).double()
    layer = LoraLinear(linear, rank=rank, alpha=alpha)
    scatter(layer, seed)
    x = torch.randn(3, 5, 6, dtype=torch.double)
    weight = linear.weight + alpha / rank * layer.lora_b @ layer.lora_a
    expected = nn.functional.linear(x, weight, linear.bias)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    assert (merged(nn.Sequential(layer))["0.weight"] - weight).abs().max() < 1e-6


def test_merging_float32_weights_is_off_by_less_than_a_millionth():
    model = made("decoder")
    add_lora(model, rank=4, alpha=8, targets=["all"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.normal_(std=0.1)
    exact = {name: weight.double() for name, weight in model.state_dict().items()}
    for name, weight in merged(model).items():
        path = name.removesuffix(".weight")
        if f"{path}.lora_a" in exact:
            product = 2 * exact[f"{path}.lora_b"] @ exact[f"{path}.lora_a"]
            assert (weight - (exact[name] + product)).abs().max() < 1e-6


def test_other_weights_of_the_same_model_can_be_merged():
    model = made("encoder")
    add_lora(model, rank=2, alpha=2)
    other = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scatter(model)
    assert torch.equal(
        merged(model, other)["encoder.layers.0.self_attention.query.weight"],
        other["encoder.layers.0.self_attention.query.weight"],
    )


def test_a_model_without_adapters_is_merged_already():
    model = made("encoder")
    assert merged(model).keys() == model.state_dict().keys()


@pytest.mark.parametrize("kind", KINDS)
def test_named_groups_of_layers_are_found_in_every_family(kind):
    count = LAYERS[kind]
    assert len(add_lora(made(kind), rank=1, alpha=1)) == 2 * count
    names = add_lora(made(kind), rank=1, alpha=1, targets=["all"])
    feed_forward = [name.rpartition(".")[2] for name in names if "feed_forward" in name]
    assert set(feed_forward) == {"inner", "outer", *["gate"] * (kind == "decoder")}
    assert len(names) - len(feed_forward) == EACH.get(kind, 4) * count


def test_a_pattern_chooses_layers():
    names = add_lora(made("encoder"), rank=1, alpha=1, targets=[r"layers\.1", "mlm_head"])
    assert {name.split(".self")[0].split(".feed")[0] for name in names} == {"encoder.layers.1", "mlm_head.dense"}


def test_the_layer_that_scores_the_vocabulary_gets_none():
    with pytest.raises(NlpcliError, match="this model has no linear layer that matches 'output_weight_owner'"):
        add_lora(made("encoder-decoder"), rank=1, alpha=1, targets=["output_weight_owner"])


def test_the_base_is_frozen_and_the_head_is_not():
    model = Headed(made("encoder"))
    names = add_lora(model, rank=2, alpha=2, targets=["all", "mlm_head"])
    assert all(name.startswith("body.") for name in names)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"head.weight", "head.bias"} | {f"{name}.lora_{part}" for name in names for part in "ab"}
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        model(IDS).square().sum().backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        dense = "mlm_head" in name  # not used by this output
        assert torch.equal(parameter, before[name]) == (name not in trained or dense)
    assert merged(model).keys() == Headed(made("encoder")).state_dict().keys()


def test_dropout_falls_on_what_the_adapter_reads_in_training_only():
    layer = LoraLinear(nn.Linear(400, 3, bias=False), rank=2, alpha=2, dropout=0.5)
    scatter(layer)
    x = torch.ones(1, 400)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    with torch.no_grad():
        layer.lora_b.zero_()
    assert torch.equal(layer.train()(x), nn.functional.linear(x, layer.weight))


def test_adapters_of_half_precision_are_of_half_precision():
    layer = LoraLinear(nn.Linear(8, 8).bfloat16(), rank=2, alpha=2)
    assert layer.lora_a.dtype == torch.bfloat16 and layer(torch.ones(1, 8).bfloat16()).dtype == torch.bfloat16
    assert merged(layer)["weight"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank of at least 1"),
        ({"alpha": 0}, "positive alpha"),
        ({"targets": "query, querry"}, "this model has no linear layer that matches 'querry'"),
        ({"targets": ["("]}, "is not a valid regular expression"),
        ({"targets": []}, "no layers are named for the low-rank adapters"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(NlpcliError, match=message):
        add_lora(made("encoder"), **{"rank": 1, "alpha": 1, **arguments})


def test_a_misspelt_target_is_refused_with_the_right_one():
    with pytest.raises(NlpcliError) as caught:
        add_lora(made("encoder"), rank=1, alpha=1, targets=["querry"])
    assert caught.value.hint == "did you mean 'query'?"


def test_adapters_on_adapters_are_refused():
    model = made("encoder")
    add_lora(model, rank=1, alpha=1)
    with pytest.raises(NlpcliError, match="already has low-rank adapters"):
        add_lora(model, rank=1, alpha=1)
