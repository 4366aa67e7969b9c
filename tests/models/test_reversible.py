"""Reversible layers: the same gradients as with states that are kept, and memory that does not grow with depth."""

from __future__ import annotations

import pytest
import torch

from nlpcli.attention.hooks import recording
from nlpcli.config.schema import RunConfig
from nlpcli.layers.dropout import Dropout
from nlpcli.models import stack
from nlpcli.models.build import build_model
from nlpcli.models.reversible import Sublayer, reversible
from nlpcli.training.flops import counted

SHAPE = {
    "kind": "decoder", "d_model": 16, "heads": 2, "d_ff": 24, "decoder_layers": 3, "encoder_layers": 3,
    "norm_position": "pre", "reversible": True, "initialization": "normal", "init_std": 0.3,
}  # fmt: skip
VARIANTS = {
    "plain": {},
    "dropout": {"dropout": 0.3, "activation_dropout": 0.2, "attention_dropout": 0.1},
    "t5 positions": {"positions": "relative", "dropout": 0.2},
    "alibi": {"positions": "alibi"},
    "encoder": {"kind": "encoder", "dropout": 0.2},
    "lsh": {"attention": ["lsh:4:2:4"], "dropout": 0.2},
    "routing and full": {"attention": ["routing:4:8", "full"]},
}


def kept(first, second, layers):
    """The same network, whose states autograd keeps."""
    for f, g in layers:
        first = first + f.call(second)
        second = second + g.call(first)
    return first, second


def model_of(**changes):
    torch.manual_seed(3)
    return build_model({**SHAPE, "dropout": 0.0, **changes}, 20).double().train()


def gradients(model, ids):
    torch.manual_seed(5)
    out = model(ids)
    trained = dict(model.named_parameters())
    found = torch.autograd.grad(out.square().sum(), [*trained.values()], materialize_grads=True, allow_unused=True)
    return out, dict(zip(trained, found, strict=True)), torch.get_rng_state()


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_gradients_are_those_of_the_network_whose_states_are_kept(monkeypatch, changes):
    model, ids = model_of(**changes), torch.randint(20, (3, 17))
    out, found, random = gradients(model, ids)
    monkeypatch.setattr(stack, "reversible", kept)
    expected, right, also = gradients(model, ids)
    assert torch.allclose(out, expected, atol=1e-12) and torch.equal(random, also)
    for name, gradient in right.items():
        assert torch.allclose(found[name], gradient, rtol=1e-10, atol=1e-10 * float(gradient.abs().max())), name
    assert sum(bool(gradient.any()) for gradient in right.values()) > 20


def test_a_layer_is_two_sums():
    model, x = model_of(decoder_layers=2).eval(), torch.randn(2, 7, 16, dtype=torch.float64)
    first = second = x
    for layer in model.decoder.layers:
        mask = None
        first = first + layer.self_attention(layer.self_attention_norm(second), mask)
        second = second + layer.feed_forward(layer.feed_forward_norm(first))
    assert torch.allclose(model.decoder(x), model.decoder.norm((first + second) / 2), atol=1e-12)


def test_backward_accumulates_and_frozen_parameters_get_nothing():
    model, ids = model_of(), torch.randint(20, (2, 9))
    frozen = model.decoder.layers[1].requires_grad_(False)
    model(ids).sum().backward()
    once = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model(ids).sum().backward()
    assert all(p.grad is None for p in frozen.parameters())
    assert len(once) == sum(p.requires_grad for p in model.parameters())
    assert all(torch.allclose(model.get_parameter(name).grad, 2 * gradient) for name, gradient in once.items())


def saved_bytes(layers, *, reversible_, attention="full"):
    """What autograd keeps of a forward pass, the parameters aside."""
    shape = {"reversible": reversible_, "decoder_layers": layers, "dropout": 0.1, "attention": [attention]}
    model, sizes = model_of(**shape), {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(x):
        if x.untyped_storage().data_ptr() not in own:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = model(torch.randint(20, (4, 40)))
    assert out.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize("attention", ["full", "lsh:4:2:8"])
def test_what_is_kept_for_the_backward_pass_does_not_grow_with_depth(attention):
    two, twelve = (saved_bytes(layers, reversible_=True, attention=attention) for layers in (2, 12))
    assert two == twelve
    assert saved_bytes(12, reversible_=False, attention=attention) > 10 * twelve


@pytest.mark.parametrize("attention", ["full", "lsh:4:2:8", "routing:3:6"])
@torch.inference_mode()
def test_decoding_gives_what_reading_gives(attention):
    model, ids = model_of(attention=[attention]).eval(), torch.randint(20, (3, 20))
    state, parts = model.init_state(3), []
    for start, stop in ((0, 5), (5, 6), (6, 20)):
        hidden, state = model.advance(ids[:, start:stop], state)
        parts.append(hidden)
    assert torch.allclose(model.logits(torch.cat(parts, dim=1)), model(ids), atol=1e-10)


def test_weights_that_are_recorded_have_gradients_and_requested_states_are_given():
    model, ids = model_of(), torch.randint(20, (2, 9))
    with recording(*[layer.self_attention for layer in model.decoder.layers], gradients=True) as recorders:
        out = model(ids)
    assert torch.allclose(out, model(ids), atol=1e-12)
    assert all(gradient.any() for gradient in torch.autograd.grad(out.square().sum(), [r[0] for r in recorders]))
    states = []
    x = model.decoder_embedding(ids)
    last = model.decoder(x, hidden_states=states)
    assert len(states) == 4 and torch.equal(states[0], x) and torch.equal(states[-1], last)


def test_choices_near_a_border_are_made_once():
    """The inputs that are computed again differ by rounding, so that some would be in another bucket."""
    torch.manual_seed(0)
    model = build_model({**SHAPE, "dropout": 0.0, "attention": ["lsh:16:4:64"]}, 20).train()  # float32
    made = []
    for layer in model.decoder.layers:
        core = layer.self_attention.core
        core.buckets = lambda key, own=core.buckets: made.append(key) or own(key)
    out = model(torch.randint(20, (4, 60)))
    assert len(made) == 3
    out.sum().backward()
    assert len(made) == 3 and all(p.grad.isfinite().all() for p in model.parameters())


def test_mixed_precision_is_that_of_the_forward_pass():
    model, ids = model_of().float(), torch.randint(20, (2, 9))
    kinds = []
    handle = model.decoder.layers[0].feed_forward.inner.register_forward_hook(
        lambda module, inputs, output: kinds.append(output.dtype)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(ids).float().square().mean()
    loss.backward()
    handle.remove()
    assert kinds == [torch.bfloat16] * 2
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_streams_may_be_anything_and_share_parameters():
    torch.manual_seed(0)
    linear, drop = torch.nn.Linear(4, 4).double(), Dropout(0.5)
    part = Sublayer(lambda x: drop(linear(x).tanh()), [*linear.parameters()])
    first, second = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    leaves = [first, second, *linear.parameters()]
    found = []
    for run in (reversible, kept):
        torch.manual_seed(1)
        out = run(first, second, [(part, part)] * 3)
        found.append(torch.autograd.grad((out[0] * 2 + out[1]).square().sum(), leaves))
    for mine, right in zip(*found, strict=True):
        assert torch.allclose(mine, right, rtol=1e-10)


def test_operations_of_its_training_can_be_counted():
    """Those of the forward pass three times, as ever, and the recomputation."""
    ids = torch.randint(20, (2, 9))
    found = []
    for reversible_ in (False, True):
        model = model_of(reversible=reversible_)
        with counted() as total:
            model(ids).sum().backward()
        found.append(total())
    assert 1.2 < found[1] / found[0] < 4 / 3


def test_it_is_refused_with_torch_compile():
    config = {"model": {**SHAPE}, "training": {"compile": True}}
    with pytest.raises(ValueError, match=r"training\.compile can't be used with model\.reversible"):
        RunConfig.model_validate(config)
    RunConfig.model_validate({**config, "training": {}})
