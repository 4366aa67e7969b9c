"""Looking into whole models: which layers are found, that they are left as they were, and what gradients are worth."""

from __future__ import annotations

import pytest
import torch
from model_settings import of_family

from nlpcli.models.backbone import OWN
from nlpcli.models.build import build_model
from nlpcli.models.padded_batch import Row, stack
from nlpcli.visualization.capture import capture

VOCABULARY = 20
SIZES = {
    "d_model": 16,
    "heads": 2,
    "d_ff": 16,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "max_length": 32,
    "dropout": 0.0,
}


def model(head=None, **settings):
    torch.manual_seed(3)
    return build_model(of_family({**SIZES, **settings}), VOCABULARY, head).eval()


TOKENS = torch.tensor([[4, 5, 6, 7, 8]])
HEAD = {"kind": "text", "outputs": 3, "pooling": "first"}
FAMILIES = {
    "encoder": ({"kind": "encoder"}, lambda m: m(TOKENS), {"encoder": 3}),
    "decoder": ({"kind": "decoder"}, lambda m: m(TOKENS), {"decoder": 2}),
    "window": ({"kind": "decoder", "attention": ["full", "window:2"]}, lambda m: m(TOKENS), {"decoder": 2}),
    "rotary": ({"kind": "encoder", "positions": "rotary"}, lambda m: m(TOKENS), {"encoder": 3}),
    "shared keys": ({"kind": "decoder", "kv_heads": 1}, lambda m: m(TOKENS), {"decoder": 2}),
    "both": ({}, lambda m: m(TOKENS, None, TOKENS[:, :3]), {"encoder": 3, "decoder": 2, "cross": 2}),
    "source encoder": (
        {"source_layers": 1},
        lambda m: m(TOKENS, None, TOKENS[:, :3]),
        {"encoder": 3, "decoder": 2, "cross": 2, "source-encoder": 1},
    ),
    "t5": ({"positions": "relative"}, lambda m: m(TOKENS, None, TOKENS), {"encoder": 3, "decoder": 2, "cross": 2}),
    "transformer-xl": (
        {"family": "transformer-xl", "kind": "decoder", "memory_length": 4},
        lambda m: m.hidden(TOKENS, m.hidden(TOKENS)[1])[0],
        {OWN: 2},
    ),
    "xlnet": ({"family": "xlnet", "kind": "encoder"}, lambda m: m(TOKENS), {OWN: 3}),
    "hierarchical": ({"family": "hierarchical", "kind": "encoder"}, lambda m: m(TOKENS), {"words": 1, "sentences": 1}),
    "bahdanau": ({"family": "recurrent"}, lambda m: m(TOKENS, None, TOKENS[:, :3]), {"cross": 1}),
    "luong": ({"family": "recurrent", "decoder": "luong"}, lambda m: m(TOKENS, None, TOKENS[:, :3]), {"cross": 1}),
    "head": (
        {"kind": "encoder", "head": HEAD},
        lambda m: m(stack([Row([4, 5, 6], [0, 0, 0])], 0)),
        {"encoder": 3},
    ),
    "head on both": (
        {"head": {**HEAD, "side": "decoder"}},
        lambda m: m(stack([Row([4, 5, 6], [0, 0, 0])], 0)),
        {"encoder": 3, "decoder": 2, "cross": 2},
    ),
}


def recorders(found):
    return [recorder for layers in found.values() for recorder in layers]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_is_found_and_works_as_if_nobody_looked(name):
    settings, call, sites = FAMILIES[name]
    looked_at = model(**settings)
    with torch.no_grad():
        silent = call(looked_at)
        with capture(looked_at) as found:
            assert torch.equal(call(looked_at), silent)
    assert {site: len(layers) for site, layers in found.items()} == sites
    for recorder in recorders(found):
        for weights in recorder:
            assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
    assert all(module.recorder is None for module in looked_at.modules() if hasattr(module, "recorder"))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_output_computed_from_the_weights_is_the_same_and_has_derivatives_by_them(name):
    settings, call, _ = FAMILIES[name]
    looked_at = model(**settings)
    silent = call(looked_at)
    with capture(looked_at, gradients=True) as found:
        output = call(looked_at)
    assert torch.allclose(output, silent, atol=1e-5)
    used = [weights for recorder in recorders(found) for weights in recorder]
    gradients = torch.autograd.grad(output.square().sum(), used, allow_unused=True)
    missing = [gradient is None or not gradient.abs().sum() for gradient in gradients]
    assert sum(missing) == (2 if name == "transformer-xl" else 0)  # no gradient flows into a memory


def test_gradients_are_what_a_small_change_of_a_weight_does():
    looked_at = model(kind="encoder").double()
    direction = torch.randn(1, 5, 16, dtype=torch.float64)
    with capture(looked_at, gradients=True) as found:
        output = (looked_at(TOKENS) * direction).sum()
    weights = found["encoder"][1][0]
    [gradient] = torch.autograd.grad(output, [weights])
    layer = looked_at.encoder.layers[1].self_attention

    def changed(amount):
        def hook(module, inputs):
            context = inputs[0].clone()
            values = layer.project_memory(entering[0]).value
            context.view(1, 5, 2, 8)[0, 3, 1] += amount * values[0, 1, 2]
            return (context,)

        handle = layer.output.register_forward_pre_hook(hook)
        try:
            return float((looked_at(TOKENS) * direction).sum())
        finally:
            handle.remove()

    entering = []
    handle = looked_at.encoder.layers[1].register_forward_pre_hook(lambda module, inputs: entering.append(inputs[0]))
    with torch.no_grad():
        looked_at(TOKENS)
        handle.remove()
        slope = (changed(1e-5) - changed(-1e-5)) / 2e-5
    assert slope == pytest.approx(float(gradient[0, 1, 3, 2]), rel=1e-5)


def test_whoever_looks_first_goes_on_looking_afterwards():
    looked_at = model(kind="encoder")
    with torch.no_grad(), capture(looked_at) as outer:
        with capture(looked_at) as inner:
            looked_at(TOKENS)
        looked_at(TOKENS)
    assert [len(recorder) for recorder in recorders(outer) + recorders(inner)] == [1] * 6


def test_an_error_ends_the_looking():
    looked_at = model(kind="encoder")
    with pytest.raises(ValueError, match="stop"), capture(looked_at):
        raise ValueError("stop")
    assert looked_at.encoder.layers[0].self_attention.recorder is None


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_that_can_be_recorded_stands_at_one_site(name):
    settings, _, _ = FAMILIES[name]
    looked_at = model(**settings)
    layers = [module for module in looked_at.modules() if hasattr(module, "recorder")]
    sites = looked_at.body.attention_sites()
    found = [layer for layers in sites.values() for layer in layers]
    assert sorted(map(id, found)) == sorted(map(id, layers))
    assert all(sites.values())


def test_a_model_without_attention_has_no_site():
    with capture(model(family="recurrent", decoder="fixed-context")) as found:
        assert found == {}
