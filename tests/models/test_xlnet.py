"""XLNet's two streams: what each position may know, and what it must not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.config.xlnet_settings import XLNetConfig
from nlpcli.models.xlnet import XLNet

VOCABULARY, LENGTH, ROWS = 30, 6, 2


def build(memory_length=4, **options):
    torch.manual_seed(1)
    shape = {"d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 3, "activation": "gelu", "dropout": 0.0}
    config = XLNetConfig(**{**shape, "memory_length": memory_length, **options})
    model = XLNet(config, VOCABULARY).double().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def draw(seed=0, high=VOCABULARY):
    return torch.randint(0, high, (ROWS, LENGTH), generator=torch.Generator().manual_seed(seed))


@given(order=st.permutations(range(LENGTH)), remembers=st.booleans())
@settings(max_examples=10)
def test_a_query_depends_on_strictly_earlier_tokens_of_the_order_and_on_no_others(order, remembers):
    model, read = build(), []
    memory = model.hidden(draw(7))[1] if remembers else None
    model.embedding.register_forward_hook(lambda module, ids, x: read.append(x) or x)
    rank = torch.tensor(order)
    visible = (rank[None] < rank[:, None]).expand(ROWS, -1, -1)
    targets = torch.arange(LENGTH).expand(ROWS, -1)
    queries, _ = model.permutation_hidden(draw(), visible, targets, memory)
    states, _ = model.hidden(draw(), memory, visible=visible)
    for i in range(LENGTH):
        for found, x, seen in ((queries, read[0], rank < rank[i]), (states, read[1], rank <= rank[i])):
            [slope] = torch.autograd.grad(
                found[:, i].square().sum(), x, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            assert torch.equal(slope.abs().sum((0, 2)) > 0, seen)


@torch.inference_mode()
def test_the_content_stream_is_the_same_with_and_without_queries():
    model = build(memory_length=LENGTH)
    rank = torch.tensor([3, 0, 5, 1, 4, 2])
    visible = (rank[None] < rank[:, None]).expand(ROWS, -1, -1)
    targets = torch.tensor([[1, 5], [0, 2]])
    _, memory = model.permutation_hidden(draw(), visible, targets)
    for left, right in zip(memory, model.hidden(draw(), visible=visible)[1], strict=True):
        assert torch.equal(left, right)


@torch.inference_mode()
def test_one_segment_is_the_same_as_none():
    model = build()
    assert torch.allclose(model(draw(), segments=torch.zeros_like(draw())), model(draw()))
    assert not torch.allclose(model(draw(), segments=draw(3, 2)), model(draw()))


@torch.inference_mode()
def test_what_stands_in_the_padding_changes_nothing():
    model = build()
    mask = torch.arange(LENGTH) < torch.tensor([LENGTH, 3])[:, None]
    other = torch.where(mask, draw(), draw(5))
    assert torch.equal(model(draw(), mask)[mask], model(other, mask)[mask])
    assert torch.allclose(model(draw(), mask)[1, :3], model(draw()[1:, :3])[0])


def test_no_gradient_flows_into_the_memory():
    model, read = build(), []
    model.embedding.register_forward_hook(lambda module, ids, x: read.append(x) or x)
    _, memory = model.hidden(draw(1))
    states, _ = model.hidden(draw(2), memory)
    before, now = torch.autograd.grad(states.sum(), read, allow_unused=True, materialize_grads=True)
    assert not before.any() and now.any()
    assert not torch.allclose(states, model.hidden(draw(2))[0])


def test_a_query_that_sees_nothing_has_finite_states_and_gradients():
    model = build()
    nothing = torch.zeros(ROWS, LENGTH, LENGTH, dtype=torch.bool)
    queries, _ = model.permutation_hidden(draw(), nothing, torch.zeros(ROWS, 1, dtype=torch.long))
    assert torch.isfinite(queries).all() and torch.equal(queries[0], queries[1])
    queries.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "options", [{"dropout": 0.5}, {"attention_dropout": 0.5}, {"activation_dropout": 0.5}], ids=str
)
def test_dropout_acts_in_training_and_rests_in_evaluation(options):
    model = build(**options)
    assert torch.equal(model(draw()), model(draw())) and torch.equal(model(draw()), build()(draw()))
    model.train()
    assert not torch.allclose(model(draw()), model(draw()))
