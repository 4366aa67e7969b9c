"""Recurrent encoders of sentences against plain torch, and the decoders of their neighbors."""

from __future__ import annotations

import pytest
import torch
from model_settings import of_family
from torch import nn

from nlpcli.config.model_settings import ModelConfig
from nlpcli.models.build import build_model
from nlpcli.models.model_with_head import WithHead
from nlpcli.models.padded_batch import Row, stack
from nlpcli.models.recurrent_sentence_encoder import NeighborDecoder

SETTINGS = {"family": "recurrent-encoder", "d_model": 8, "d_embedding": 6, "dropout": 0.0}
TEXTS = [[3, 4, 5, 6, 7], [8, 9], [3], [4, 4, 9, 2, 5]]


def model_of(**settings):
    torch.manual_seed(1)
    model = build_model(of_family({**SETTINGS, **settings}), 12)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def rows_of(texts):
    return stack([Row(text, [0] * len(text)) for text in texts], 0)


def plain_lstm(model, layers=1):
    """torch.nn.LSTM with the weights of the encoder."""
    lstm = nn.LSTM(6, 4, num_layers=layers, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for number, layer in enumerate(model.encoder.layers):
            for name, weight in layer.named_parameters():
                getattr(lstm, name.replace("_l0", f"_l{number}")).copy_(weight)
    return lstm


@pytest.mark.parametrize("layers", [1, 2])
def test_infersents_vector_is_the_maximum_over_the_states_of_a_plain_bidirectional_lstm(layers):
    model = model_of(rnn_type="lstm", encoder_layers=layers)
    vectors = WithHead(model, width=8, kind="vector", pooling="max")(rows_of(TEXTS))
    lstm = plain_lstm(model, layers)
    for text, vector in zip(TEXTS, vectors, strict=True):
        states, _ = lstm(model.token_embedding.weight[text][None])
        torch.testing.assert_close(vector, states[0].amax(dim=0))


@pytest.mark.parametrize(
    "settings", [{"rnn_type": "lstm"}, {"rnn_type": "gru", "bidirectional": False}, {"rnn_type": "rnn"}]
)
def test_padding_changes_nothing_neither_vectors_nor_gradients(settings):
    model = model_of(**settings)
    vectors = model.vectors(rows_of(TEXTS))
    for text, vector in zip(TEXTS, vectors, strict=True):
        torch.testing.assert_close(model.vectors(rows_of([text]))[0], vector)
    for pooling in ("max", "mean"):
        head = WithHead(model, width=8, kind="vector", pooling=pooling)
        alone = [torch.autograd.grad(head(rows_of([text])).sum(), list(model.parameters())) for text in TEXTS]
        together = torch.autograd.grad(head(rows_of(TEXTS)).sum(), list(model.parameters()))
        for whole, *parts in zip(together, *alone, strict=True):
            torch.testing.assert_close(whole, sum(parts), atol=1e-5, rtol=1e-4)


def test_the_vector_of_an_encoder_with_one_direction_is_its_last_state():
    model = model_of(bidirectional=False)
    rows = rows_of(TEXTS)
    states, vectors = model.states(rows), model.vectors(rows)
    for row, text in enumerate(TEXTS):
        assert torch.equal(vectors[row], states[row, len(text) - 1])
    gru = nn.GRU(6, 8, batch_first=True)
    gru.load_state_dict(model.encoder.layers[0].state_dict())
    torch.testing.assert_close(vectors[0], gru(model.token_embedding.weight[TEXTS[0]][None])[1][0, 0])


def test_a_decoder_adds_the_vector_to_both_gates_and_the_new_state_at_each_step():
    torch.manual_seed(1)
    decoder, tokens, vectors = NeighborDecoder(3, 5), torch.randn(2, 4, 3), torch.randn(2, 5)
    weight_x, weight_h, bias_x, bias_h = decoder.layer.parameters()
    of_tokens, of_vectors = weight_x[:, :3], weight_x[:, 3:]
    state, expected = torch.zeros(2, 5), []
    for step in range(4):
        given = tokens[:, step] @ of_tokens.T + vectors @ of_vectors.T + bias_x
        kept = state @ weight_h.T + bias_h
        reset, update = ((given[:, :10] + kept[:, :10]).sigmoid()).chunk(2, dim=1)
        new = (given[:, 10:] + reset * kept[:, 10:]).tanh()
        state = update * state + (1 - update) * new
        expected.append(state)
    torch.testing.assert_close(decoder(tokens, vectors), torch.stack(expected, dim=1))


def test_the_two_decoders_are_different_and_share_the_output_matrix():
    model = model_of(bidirectional=False, neighbor_decoders=True)
    tokens, vectors = torch.tensor([[2, 3, 4]]), torch.randn(1, 8)
    before, after = (model.neighbor_hidden(side, tokens, vectors) for side in ("before", "after"))
    assert before.shape == after.shape == (1, 3, 8) and not torch.allclose(before, after)
    assert model.output_weight.shape == (12, 8) and model.output_bias.shape == (12,)
    body = model_of(bidirectional=False)
    assert set(body.state_dict()) < set(model.state_dict())
    assert model.trained_example(tokens).shape == (1, 6, 12) and body.trained_example(tokens).shape == (1, 3, 8)


def test_a_body_has_no_decoders():
    config = of_family({**SETTINGS, "neighbor_decoders": True}).without_pretraining_heads()
    assert not config.neighbor_decoders and config == of_family(SETTINGS)


def test_layers_can_be_put_together_where_embeddings_are_as_wide_as_states():
    assert model_of().depth() is None
    model = model_of(d_embedding=None, encoder_layers=2)
    assert model.depth() == 2
    kept = []
    states = model.states(rows_of(TEXTS), hidden_states=kept)
    assert len(kept) == 3 and torch.equal(kept[-1], states)


@pytest.mark.parametrize(
    "change",
    [{"rnn_type": "lstm"}, {"d_model": 10}, {"d_embedding": 4}, {"encoder_layers": 2}, {"bidirectional": False},
     {"neighbor_decoders": True}, {"dropout": 0.5}, {"initialization": "bert"}, {"init_std": 0.3}],
)  # fmt: skip
def test_a_setting_changes_the_model(change):
    found = []
    for settings in (SETTINGS, {**SETTINGS, **change}):
        torch.manual_seed(1)
        base = {"initialization": "normal"} if "init_std" in change else {}
        model = build_model(ModelConfig.model_validate({**settings, **base}), 12).train()
        found.append([*model.state_dict().values(), model(torch.arange(6)[None])])
    assert len(found[0]) != len(found[1]) or any(
        one.shape != other.shape or not torch.equal(one, other) for one, other in zip(*found, strict=True)
    )


def test_an_odd_width_has_no_two_directions():
    with pytest.raises(ValueError, match="a bidirectional encoder needs an even d_model, not 7"):
        of_family({**SETTINGS, "d_model": 7})
