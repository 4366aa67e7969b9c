"""The settings of recurrent encoder-decoders: what fits together, and what each of them changes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nlpcli import presets
from nlpcli.attention.score_functions import SCORES
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.recurrent_settings import RecurrentConfig
from nlpcli.models.build import build_model
from nlpcli.models.recurrent_layers import CELLS

OWN = ["rnn-seq2seq", "bahdanau", "luong-global", "luong-local-m", "luong-local-p", "luong-location", "hard-attention"]


def made(**settings):
    return ModelConfig.model_validate({"family": "recurrent", "d_model": 8, **settings})


def choices(setting):
    return RecurrentConfig.model_fields[setting].annotation.__args__


def test_every_score_and_cell_that_there_is_can_be_chosen():
    assert set(choices("score")) == set(SCORES)
    assert set(choices("rnn_type")) == set(CELLS)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"d_model": 7}, "a bidirectional encoder needs an even d_model, not 7"),
        ({"decoder": "fixed-context", "attention_window": "local-p"}, "attention_window has no effect"),
        ({"decoder": "fixed-context", "hard_attention": "sample"}, "hard_attention has no effect"),
        ({"score": "location", "attention_window": "local-m"}, "the score 'location' needs attention_window 'global'"),
        ({"heads": 2}, "recurrent has no setting 'heads'"),
        ({"kind": "decoder"}, "Input should be 'encoder-decoder'"),
    ],
)
def test_what_does_not_fit_is_refused(settings, error):
    with pytest.raises(ValidationError, match=error):
        made(**settings)


def test_embeddings_as_wide_as_the_states_are_null():
    assert made(d_embedding=8) == made()
    assert made(d_embedding=6).d_embedding == 6
    assert made(d_model=7, bidirectional=False).d_model == 7


CHANGES = {
    "input_feeding": False,
    "score": "dot",
    "attention_window": "local-m",
    "hard_attention": "gumbel",
    "window_size": 3,
    "gumbel_temperature": 0.5,
    "max_length": 12,
}


@pytest.mark.parametrize("settings", [
    {"decoder": "fixed-context"}, {}, {"decoder": "luong"}, {"attention_window": "local-p"},
    {"hard_attention": "gumbel"}, {"decoder": "luong", "score": "location"},
])  # fmt: skip
def test_settings_without_effect_change_neither_the_model_nor_its_description(settings):
    config = made(**settings)
    for name in config.without_effect & CHANGES.keys():
        other = config.model_copy(update={name: CHANGES[name]})
        models = (build_model(config, 9), build_model(other, 9))
        assert repr(models[0]) == repr(models[1]), name
        assert {k: v.shape for k, v in models[0].state_dict().items()} == {
            k: v.shape for k, v in models[1].state_dict().items()
        }, name
        if name not in ("attention_window", "hard_attention"):  # which are refused
            assert config.layer_type == other.layer_type, name


@pytest.mark.parametrize("preset", OWN)
def test_the_state_while_decoding_has_as_many_numbers_as_the_settings_say(preset):
    config = ModelConfig.model_validate(presets.load(preset)["model"])
    model = build_model(config, 9).eval()
    import torch

    state = model.state_after(torch.ones(1, 5, dtype=torch.long))
    cached = config.cached_numbers()
    fixed = 0 if config.decoder != "fixed-context" else state.source.vector.numel()
    assert state.bytes() / 4 + fixed == cached.window
    assert cached.per_token == 0
    if config.decoder != "fixed-context" and config.score != "location":
        assert (state.source.key.numel() + state.source.value.numel()) / 6 == cached.per_source_token


def test_layers_are_described_in_words():
    assert made().layer_type == "bidirectional GRU encoder, GRU decoder with Bahdanau's attention (score additive)"
    luong = made(
        rnn_type="lstm", bidirectional=False, decoder="luong", score="dot", attention_window="local-p", window_size=4
    )
    assert luong.layer_type == "LSTM encoder, LSTM decoder with Luong's attention (score dot, local-p:4, input feeding)"
    hard = made(decoder="luong", input_feeding=False, hard_attention="sample")
    assert hard.layer_type.endswith("(score additive, hard, sample)")
    assert made(decoder="fixed-context").layer_type.endswith("GRU decoder without attention")
