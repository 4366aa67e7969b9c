"""Recurrent language models against PyTorch's layers and masks written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nlpcli.config.recurrent_lm_settings import RecurrentLMConfig
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.layers.dropout import Dropout
from nlpcli.models.build import build_model
from nlpcli.models.padded_batch import Row, stack
from nlpcli.models.past_attention import PastAttention

VOCABULARY = 30
SHAPES = [
    {},
    {"rnn_type": "gru", "past_states": 3},
    {"rnn_type": "rnn", "decoder_layers": 1, "d_embedding": 5, "tie": "none", "output_bias": False},
    {"decoder_layers": 3, "d_hidden": 12, "past_states": 4, "score": "additive"},
]
AWD = {
    "decoder_layers": 3, "d_hidden": 12, "dropout": 0.4, "input_dropout": 0.3, "hidden_dropout": 0.2,
    "embedding_dropout": 0.2, "weight_dropout": 0.5, "variational_dropout": True,
}  # fmt: skip
ROUNDED = 64 * 2**-23


def build(**settings):
    torch.manual_seed(1)
    model = build_model(RecurrentLMConfig(**{"d_model": 8, **settings}), VOCABULARY).eval()
    for layer in model.layers:
        for weight in layer.parameters():
            nn.init.normal_(weight, std=0.4)
    if model.attention is not None:
        nn.init.normal_(model.attention.readout, std=0.4)
    return model


def text(length, rows=3, seed=0):
    return torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@torch.inference_mode()
def test_without_attention_it_is_the_network_of_pytorch_to_the_bit(cell):
    model, tokens = build(rnn_type=cell, d_embedding=5, tie="none"), text(9)
    theirs = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](5, 8, num_layers=2, batch_first=True)
    for number, layer in enumerate(model.layers):
        theirs.load_state_dict(
            {name.replace("l0", f"l{number}"): weight for name, weight in layer.state_dict().items()}, strict=False
        )
    states = theirs(model.token_embedding(tokens))[0]
    assert torch.equal(model.hidden(tokens)[0], states)
    wanted = nn.functional.linear(states, model.output_weight, model.output_bias)
    assert torch.equal(model(tokens), wanted)


@torch.inference_mode()
def test_a_window_of_0_past_states_is_the_plain_network_to_the_bit():
    plain, tokens = build(), text(9)
    wanted = plain(tokens)
    plain.attention = PastAttention(8, 0, score="general")
    nn.init.normal_(plain.attention.readout)
    assert torch.equal(plain(tokens), wanted)
    assert build(past_states=0).attention is None


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_segments_are_one_long_text(shape):
    model, tokens = build(**shape), text(20)
    memory, parts = None, []
    for start, stop in ((0, 7), (7, 8), (8, 14), (14, 20)):
        hidden, memory = model.hidden(tokens[:, start:stop], memory)
        parts.append(hidden)
    assert torch.allclose(torch.cat(parts, dim=1), model.hidden(tokens)[0], atol=ROUNDED)
    assert all(part.size(0) == 3 for part in memory)


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_step_by_step_equals_reading_all_at_once(shape):
    model, tokens = build(**shape), text(11)
    state, start = model.init_state(3), 0
    for stop in (4, 5, 6, 9, 11):
        logits, state = model.step(tokens[:, start:stop], state)
        assert state.length == stop
        assert torch.allclose(logits, model(tokens[:, :stop])[:, -1], atol=ROUNDED)
        order = torch.tensor([2, 0, 0])
        tokens, state, start = tokens[order], model.reorder(state, order), stop


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_the_decoding_state_does_not_grow_and_is_as_large_as_its_settings_say(shape):
    model, sizes = build(**shape), []
    for length in (5, 50):
        sizes.append(model.state_after(text(length, rows=1)).bytes())
    numbers = RecurrentLMConfig(**{"d_model": 8, **shape}).cached_numbers()
    assert sizes == [4 * numbers.window] * 2 and numbers.per_token == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_no_gradient_flows_into_the_memory_and_none_comes_from_a_later_token(shape):
    model, tokens, read = build(**shape), text(12), []
    model.embedding.register_forward_hook(lambda module, ids, x: read.append(x) or x)
    _, memory = model.hidden(tokens[:, :6])
    assert not any(part.requires_grad for part in memory)
    hidden, _ = model.hidden(tokens[:, 6:], memory)
    for i in range(6):
        before, now = torch.autograd.grad(
            hidden[:, i].square().sum(), read, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        assert not before.any()
        assert ((now.abs().sum((0, 2)) > 0).tolist()) == [place <= i for place in range(6)]


@torch.inference_mode()
def test_greedy_search_is_the_most_probable_token_of_the_whole_text_again_and_again():
    model, ids = build(past_states=3), text(4, rows=1)[0].tolist()
    [[found]] = greedy_search(model, model.init_state(1), [ids], StopConditions(None, 6))
    for token in found.ids:
        assert token == int(model(torch.tensor([ids]))[0, -1].argmax())
        ids.append(token)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_weight_dropout_is_the_network_with_a_mask_on_its_recurrent_weights(cell):
    model, tokens = build(rnn_type=cell, weight_dropout=0.5).train(), text(7)
    torch.manual_seed(5)
    hidden, _ = model.hidden(tokens)
    slopes = torch.autograd.grad(hidden.square().sum(), [layer.weight_hh_l0 for layer in model.layers])
    torch.manual_seed(5)
    masks = [Dropout(0.5)(torch.ones_like(layer.weight_hh_l0)) for layer in model.layers]
    plain = build(rnn_type=cell)
    with torch.no_grad():
        for layer, mask in zip(plain.layers, masks, strict=True):
            layer.weight_hh_l0.mul_(mask)
    wanted, _ = plain.hidden(tokens)
    theirs = torch.autograd.grad(wanted.square().sum(), [layer.weight_hh_l0 for layer in plain.layers])
    assert torch.equal(hidden, wanted)
    for mine, right, mask in zip(slopes, theirs, masks, strict=True):
        assert 0.3 < float((mask == 0).float().mean()) < 0.7
        assert torch.allclose(mine, right * mask, atol=100 * ROUNDED)


def test_all_dropout_of_awd_is_that_of_masks_written_out():
    model, tokens = build(**AWD).train(), text(7)
    torch.manual_seed(5)
    hidden, _ = model.hidden(tokens)
    copies = [nn.LSTM(layer.input_size, layer.hidden_size, batch_first=True) for layer in model.layers]
    torch.manual_seed(5)
    words = Dropout(0.2)(torch.ones(VOCABULARY, 1))
    x = model.token_embedding.weight[tokens] * words[tokens] * Dropout(0.3)(torch.ones(3, 1, 8))
    for number, (layer, copy) in enumerate(zip(model.layers, copies, strict=True)):
        if number:
            x = x * Dropout(0.2)(torch.ones(3, 1, 12))
        recurrent = Dropout(0.5)(layer.weight_hh_l0.detach())
        copy.load_state_dict({**layer.state_dict(), "weight_hh_l0": recurrent})
        x = copy(x)[0]
    assert torch.allclose(hidden, x * Dropout(0.4)(torch.ones(3, 1, 8)), atol=ROUNDED)
    model.eval()
    assert torch.equal(model.hidden(tokens)[0], build(**{**AWD, "weight_dropout": 0.0}).hidden(tokens)[0])


def test_the_penalty_is_that_of_the_paper():
    model, tokens = build(dropout=0.5, activation_regularization=2.0, temporal_activation_regularization=3.0), text(7)
    assert model.regularizes_activations and not build().regularizes_activations
    model.train()
    torch.manual_seed(5)
    hidden, _, penalty = model.regularized(tokens)
    torch.manual_seed(5)
    dropped, _ = model.hidden(tokens)
    raw = build().hidden(tokens)[0]
    changes = torch.stack([raw[:, t + 1] - raw[:, t] for t in range(6)])
    assert torch.equal(hidden, dropped) and not torch.equal(dropped, raw)
    wanted = 2 * (dropped**2).mean() + 3 * (changes**2).mean()
    assert penalty.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert model.regularized(tokens[:, :1])[2].item() > 0  # one token has no change


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_padding_changes_no_state_of_a_text_at_batch_size_1_too(shape):
    model = build(**shape)
    texts = [text(length, rows=1)[0].tolist() for length in (3, 7, 5)]
    together = model.states(stack([Row(ids, [0] * len(ids)) for ids in texts], 0))
    for row, ids in enumerate(texts):
        alone = model.states(stack([Row(ids, [0] * len(ids))], 0))
        assert torch.allclose(together[row, : len(ids)], alone[0], atol=ROUNDED)
        assert torch.allclose(alone, model.hidden(torch.tensor([ids]))[0], atol=ROUNDED)


@torch.inference_mode()
def test_states_of_all_layers_are_given_where_they_have_one_width():
    model, tokens, kept = build(), text(5), []
    last = model.states(stack([Row(row, [0] * 5) for row in tokens.tolist()], 0), hidden_states=kept)
    assert len(kept) == model.depth() + 1 == 3
    assert torch.equal(kept[0], model.token_embedding(tokens)) and torch.equal(kept[-1], last)
    assert torch.equal(kept[1], model.layers[0](kept[0])[0])
    assert build(d_hidden=12).depth() is None


def test_embeddings_that_are_not_as_wide_as_the_top_layer_cannot_be_tied():
    with pytest.raises(ValueError, match="d_embedding 5 is not d_model 8; set tie to none"):
        RecurrentLMConfig(d_model=8, d_embedding=5)
    model = build()
    assert model.output_weight is model.token_embedding.weight
