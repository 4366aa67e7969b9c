"""Transformer-XL: memory is context, no more and no less."""

from __future__ import annotations

import pytest
import torch

from nlpcli.attention.masks import AttentionMask
from nlpcli.config.transformer_xl_settings import TransformerXLConfig
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.models.transformer_xl import TransformerXL

VOCABULARY, LENGTH = 30, 6
SHAPES = [
    {},
    {"norm_position": "pre", "share_position_biases": False, "activation": "swiglu", "d_key": 6},
    {"clamp_length": 4, "tie": "none", "output_bias": True},
]


def build(memory_length=100, layers=3, **settings):
    torch.manual_seed(1)
    shape = {"d_model": 16, "heads": 2, "d_ff": 24, "decoder_layers": layers, "dropout": 0.0}
    config = TransformerXLConfig(**{**shape, "memory_length": memory_length, **settings})
    model = TransformerXL(config, VOCABULARY).double().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def text(length, rows=2, seed=0):
    return torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def in_segments(model, tokens, length=LENGTH):
    memory, parts = None, []
    for start in range(0, tokens.size(1), length):
        hidden, memory = model.hidden(tokens[:, start : start + length], memory)
        parts.append(hidden)
    return torch.cat(parts, dim=1), memory


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_with_a_full_memory_segments_are_one_long_segment_at_any_depth(shape):
    model, tokens = build(**shape), text(3 * LENGTH + 2)
    assert torch.allclose(in_segments(model, tokens)[0], model.hidden(tokens)[0], atol=1e-8)


@torch.inference_mode()
def test_one_layer_reads_the_segment_after_the_memorys_part_of_the_text():
    model, tokens = build(layers=1, memory_length=4), text(2 * LENGTH)
    hidden, _ = in_segments(model, tokens)
    alone, _ = model.hidden(tokens[:, LENGTH - 4 :])
    assert torch.allclose(hidden[:, LENGTH:], alone[:, 4:], atol=1e-8)


@torch.inference_mode()
def test_memory_is_what_entered_each_layer_and_never_longer_than_its_limit():
    model, tokens = build(memory_length=8), text(3 * LENGTH)
    _, memory = in_segments(model, tokens)
    assert [states.shape for states in memory] == [(2, 8, 16)] * 3
    assert torch.allclose(memory[0], model.embedding(tokens[:, -8:]))
    model.memory_length = 0
    assert [states.size(1) for states in model.hidden(tokens)[1]] == [0, 0, 0]


@torch.inference_mode()
def test_without_memory_a_segment_knows_nothing_of_the_one_before():
    model, tokens = build(memory_length=0), text(2 * LENGTH)
    alone, _ = model.hidden(tokens[:, LENGTH:])
    assert torch.allclose(in_segments(model, tokens)[0][:, LENGTH:], alone)


def test_no_gradient_flows_into_the_memory_and_none_comes_from_a_later_token():
    model, tokens, read = build(), text(2 * LENGTH), []
    model.embedding.register_forward_hook(lambda module, ids, x: read.append(x) or x)
    hidden, _ = in_segments(model, tokens)
    for i in range(LENGTH, 2 * LENGTH):
        before, now = torch.autograd.grad(
            hidden[:, i].square().sum(), read, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        seen = now.abs().sum((0, 2))
        place = i - LENGTH
        assert not before.any()
        assert bool((seen[: place + 1] > 0).all()) and not seen[place + 1 :].any()


@torch.inference_mode()
def test_what_is_not_allowed_is_not_seen():
    model, tokens = build(), text(LENGTH)
    border = 3
    document = torch.arange(LENGTH) >= border
    hidden, _ = model.hidden(tokens, mask=AttentionMask(documents=document.long()[None]))
    assert torch.allclose(hidden[:, :border], model.hidden(tokens[:, :border])[0])
    assert torch.allclose(hidden[:, border:], model.hidden(tokens[:, border:])[0])


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_step_by_step_equals_reading_all_at_once(shape):
    model, tokens = build(**shape), text(11, rows=3)
    state, start = model.init_state(3), 0
    for stop in (4, 5, 6, 9, 11):
        logits, state = model.step(tokens[:, start:stop], state)
        assert state.length == stop
        assert torch.allclose(logits, model(tokens[:, :stop])[:, -1], atol=1e-8)
        order = torch.tensor([2, 0, 0])
        tokens, state, start = tokens[order], model.reorder(state, order), stop


@torch.inference_mode()
def test_steps_remember_as_segments_do():
    model, tokens = build(memory_length=5), text(24)
    state, memory = model.init_state(2), None
    for start, stop in ((0, 7), (7, 8), (8, 9), (9, 15), (15, 24)):
        found, state = model.advance(tokens[:, start:stop], state)
        wanted, memory = model.hidden(tokens[:, start:stop], memory)
        assert torch.allclose(found, wanted, atol=1e-8)


@pytest.mark.parametrize("settings", [{}, {"adaptive_cutoffs": (8, 20)}])
@torch.inference_mode()
def test_greedy_text_goes_on_without_end(settings):
    model = build(memory_length=6, **settings).float()
    [[short], [long]] = greedy_search(model, model.init_state(2), [[1], [4, 5, 6]], StopConditions(None, 40))
    assert len(short.ids) == len(long.ids) == 40


@torch.inference_mode()
def test_an_adaptive_softmax_gives_normalised_probabilities():
    model = build(adaptive_cutoffs=[8, 20])
    assert torch.allclose(model(text(5)).exp().sum(-1), torch.ones(2, 5, dtype=torch.float64))


def test_the_papers_wikitext_model_has_its_151_million_parameters():
    with torch.device("meta"):
        config = TransformerXLConfig(
            d_model=410, heads=10, d_key=41, d_ff=2100, decoder_layers=16, memory_length=150,
            output_bias=True, adaptive_cutoffs=[20_000, 40_000, 200_000],
        )  # fmt: skip
        model = TransformerXL(config, 267_735)
    assert sum(p.numel() for p in model.parameters()) == 151_107_538


@pytest.mark.parametrize(
    "settings", [{"dropout": 0.5}, {"attention_dropout": 0.5}, {"activation_dropout": 0.5}], ids=str
)
def test_dropout_acts_in_training_and_rests_in_evaluation(settings):
    model, tokens = build(**settings), text(LENGTH)
    assert torch.equal(model(tokens), model(tokens)) and torch.equal(model(tokens), build()(tokens))
    model.train()
    assert not torch.allclose(model(tokens), model(tokens))


def test_shared_biases_are_one_pair():
    count = {share: sum(p.numel() for p in build(share_position_biases=share).parameters()) for share in (True, False)}
    assert count[False] - count[True] == 2 * 2 * 16
