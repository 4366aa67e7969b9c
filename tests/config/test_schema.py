from __future__ import annotations

import pytest

from nlpcli.config.loading import parse
from nlpcli.config.schema import DataConfig, ModelConfig, RunConfig, TrainingConfig
from nlpcli.errors import NlpcliError


def test_the_defaults_are_the_papers_base_model():
    model = ModelConfig()
    assert (model.d_model, model.heads, model.d_ff, model.encoder_layers, model.decoder_layers) == (512, 8, 2048, 6, 6)
    assert (model.norm, model.norm_position, model.activation, model.positions) == (
        "layernorm",
        "post",
        "relu",
        "sinusoidal",
    )
    assert (model.tie, model.attention_bias, model.scale_embeddings, model.dropout) == ("all", False, True, 0.1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"d_model": 10, "heads": 4}, "d_model 10 can't be split into 4 heads"),
        ({"d_model": 10, "heads": 4, "d_key": 2}, "d_model 10 can't be split into 4 heads"),
        ({"d_model": 9, "heads": 3}, "sinusoidal positions need an even d_model, not 9"),
        ({"d_model": 12, "heads": 4, "positions": "rotary"}, "rotary positions need heads of even width"),
        ({"d_key": 5, "positions": "rotary"}, "rotary positions need heads of even width"),
    ],
)
def test_a_shape_that_cant_be_built_is_refused_when_it_is_read(settings, words):
    with pytest.raises(NlpcliError, match=words):
        parse(ModelConfig, settings, "here")


@pytest.mark.parametrize(
    "settings",
    [
        {"d_model": 10, "heads": 4, "d_key": 2, "d_value": 3},
        {"d_model": 9, "heads": 3, "positions": "learned"},
        {"d_model": 12, "heads": 4, "positions": "rotary", "d_key": 2},
    ],
)
def test_the_remedies_it_names_work(settings):
    assert parse(ModelConfig, settings, "here").d_model == settings["d_model"]


@pytest.mark.parametrize("kind", [ModelConfig, DataConfig, TrainingConfig, RunConfig])
def test_every_default_is_a_value_that_may_be_given(kind):
    assert parse(kind, kind().model_dump(), "here") == kind()
