"""Where each parameter stands between the embeddings and the head."""

from __future__ import annotations

import itertools

import pytest
import torch
from model_settings import of_family
from torch import nn

from nlpcli.models.build import build_model
from nlpcli.models.layer_groups import compile_layers, depth_groups, layer_scales
from nlpcli.models.model_with_head import WithHead

SMALL = {"d_model": 8, "heads": 2, "d_ff": 16, "encoder_layers": 3, "decoder_layers": 2, "max_length": 16}
MODELS = {
    "bert": {"kind": "encoder", "mlm_head": True, "pooler": True, "pair_head": True, "segments": 2,
             "embedding_norm": True, "positions": "learned"},
    "plain encoder": {"kind": "encoder"},
    "untied encoder": {"kind": "encoder", "mlm_head": True, "tie": "none", "norm_position": "pre"},
    "gpt": {"kind": "decoder", "norm_position": "pre", "positions": "learned"},
    "untied decoder": {"kind": "decoder", "tie": "none", "output_bias": True, "qk_norm": True, "positions": "rotary"},
    "bart": {"kind": "encoder-decoder", "embedding_norm": True, "positions": "learned", "output_bias": True},
    "t5": {"kind": "encoder-decoder", "norm_position": "pre", "positions": "relative", "tie": "source-target"},
    "untied": {"kind": "encoder-decoder", "tie": "none"},
    "transformer-xl": {"family": "transformer-xl", "kind": "decoder", "adaptive_cutoffs": [10], "tie": "all"},
    "transformer-xl pre": {"family": "transformer-xl", "kind": "decoder", "norm_position": "pre", "tie": "none"},
    "xlnet": {"family": "xlnet", "kind": "encoder"},
    "hierarchical": {"family": "hierarchical", "kind": "encoder", "word_layers": 2},
}  # fmt: skip


class Headed(nn.Module):
    """A body, a head, and something of its own beside them."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.mixture = nn.Parameter(torch.zeros(4))
        self.head = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.Linear(8, 3))


@pytest.fixture(params=list(itertools.product(MODELS, (False, True))), ids=lambda p: f"{p[0]}{' with a head' * p[1]}")
def named(request):
    """A model, and the names of its groups' parameters."""
    name, headed = request.param
    model = build_model(of_family(SMALL | MODELS[name]), 20)
    model = Headed(model) if headed else model
    names = {id(parameter): path for path, parameter in model.named_parameters()}
    return model, {group.name: [names[id(p)] for p in group.parameters] for group in depth_groups(model)}


def test_every_parameter_stands_in_one_group_and_once(named):
    model, groups = named
    found = [name for names in groups.values() for name in names]
    assert sorted(found) == sorted(name for name, _ in model.named_parameters())
    assert all(groups.values())


def test_groups_rise_from_the_embeddings_over_the_layers_to_the_head(named):
    _, groups = named
    order = [["embeddings"], ["encoder", "layers", "words"], ["decoder", "sentences"], ["final"], ["head"]]
    ranks = [next(rank for rank, names in enumerate(order) if name.split(".")[0] in names) for name in groups]
    numbers = [(rank, int(name.partition(".")[2] or 0)) for rank, name in zip(ranks, groups, strict=True)]
    assert numbers == sorted(numbers)
    for name, paths in groups.items():
        stack, dot, number = name.partition(".")
        if dot:
            inside = f"layers.{number}." if stack != "layers" else f"{name}."
            beside = ("encoder.norm.weight", "encoder.norm.bias")  # the norm after an encoder, and attention
            assert all(inside in path or path.endswith(beside) or f"{stack}.attention." in path for path in paths)
            assert stack == "layers" or all(f"{stack}." in path for path in paths)


def test_a_head_is_all_outside_the_body(named):
    model, groups = named
    if model.body is not model:
        assert groups["head"] == ["mixture", "head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias"]
        assert not any("head" in path.split(".")[0] for name in list(groups)[:-1] for path in groups[name])


def test_the_layers_are_as_many_as_the_model_has():
    groups = [group.name for group in depth_groups(build_model(of_family(SMALL | MODELS["t5"]), 20))]
    assert groups == ["embeddings", "encoder.0", "encoder.1", "encoder.2", "decoder.0", "decoder.1", "final", "head"]
    groups = [group.name for group in depth_groups(build_model(of_family(SMALL | MODELS["transformer-xl"]), 20))]
    assert groups == ["embeddings", "layers.0", "layers.1", "head"]


def test_bert_stands_as_in_the_paper():
    model = build_model(of_family(SMALL | MODELS["bert"]), 20)
    names = {id(parameter): path for path, parameter in model.named_parameters()}
    groups = {group.name: {names[id(p)] for p in group.parameters} for group in depth_groups(model)}
    assert groups["embeddings"] == {
        "encoder_embedding.tokens.weight", "encoder_embedding.positions.weight", "encoder_embedding.segments.weight",
        "encoder_embedding.norm.weight", "encoder_embedding.norm.bias",
    }  # fmt: skip
    assert groups["final"] == {"pooler.dense.weight", "pooler.dense.bias"}
    assert {path.split(".")[0] for path in groups["head"]} == {"mlm_head", "output_bias", "pair_head"}


def test_the_rate_falls_by_the_decay_from_group_to_group(named):
    model, groups = named
    scales = layer_scales(model, 0.5)
    names = dict(model.named_parameters())
    expected = 1.0
    for paths in reversed(groups.values()):
        assert {scales[names[path]] for path in paths} == {expected}
        expected /= 2


def test_several_heads_on_one_body_are_one_group():
    body = build_model(of_family(SMALL | MODELS["bert"]), 20)
    heads = [Headed(body), Headed(body)]
    model = nn.Module()
    model.body, model.tasks = body, nn.ModuleList(heads)
    groups = {group.name: group.parameters for group in depth_groups(model)}
    assert list(groups) == ["embeddings", "encoder.0", "encoder.1", "encoder.2", "final", "head"]
    own = [parameter for one in heads for parameter in (one.mixture, *one.head.parameters())]
    assert {id(parameter) for parameter in groups["head"]} == {id(parameter) for parameter in own}


@pytest.mark.parametrize("layers", ["last", "weighted"])
def test_a_tasks_model_ends_in_its_head(layers):
    body = build_model(of_family(SMALL | MODELS["bert"]), 20)
    model = WithHead(body, kind="text", width=8, layers=layers, outputs=3, pooling="first", dense=True)
    head = depth_groups(model)[-1]
    names = {id(parameter): path for path, parameter in model.named_parameters()}
    own = {"head.dense.weight", "head.dense.bias", "head.output.weight", "head.output.bias"}
    mixture = {"layer_weights", "layer_scale"} if layers == "weighted" else set()
    assert head.name == "head" and {names[id(parameter)] for parameter in head.parameters} == own | mixture


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_of_a_model_is_compiled_and_its_weights_keep_their_names(name, monkeypatch):
    calls = []

    def counting(function, *, dynamic):
        def called(*inputs, **named):
            calls.append(function)
            return function(*inputs, **named)

        assert dynamic
        return called

    monkeypatch.setattr(torch, "compile", counting)
    model = build_model(of_family(SMALL | MODELS[name]), 20).eval()
    tokens = torch.randint(5, 20, (1, 6))
    plain, names = model.example(tokens), list(model.state_dict())
    compile_layers(model)
    assert torch.equal(model.example(tokens), plain) and list(model.state_dict()) == names
    layers = {part for name, part in model.layer_groups() if name[-1].isdigit()}
    assert {function.__self__ for function in calls} == layers
