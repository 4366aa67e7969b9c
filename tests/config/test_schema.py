from __future__ import annotations

import pytest

from nlpcli.config.loading import parse
from nlpcli.config.model_settings import FAMILIES, ModelConfig
from nlpcli.config.schema import DataConfig, RunConfig, TrainingConfig
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.errors import NlpcliError


def test_the_defaults_are_the_papers_base_model():
    model = TransformerConfig()
    assert (model.d_model, model.heads, model.d_ff, model.encoder_layers, model.decoder_layers) == (512, 8, 2048, 6, 6)
    assert (model.norm, model.norm_position, model.activation, model.positions) == (
        "layernorm",
        "post",
        "relu",
        "sinusoidal",
    )
    assert (model.tie, model.attention_bias, model.scale_embeddings, model.dropout) == ("all", False, True, 0.1)


XL = {"family": "transformer-xl", "kind": "decoder"}
XLNET = {"family": "xlnet", "kind": "encoder"}
ROTARY = {"positions": "rotary"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"d_model": 10, "heads": 4}, "d_model 10 can't be split into 4 heads"),
        ({"d_model": 10, "heads": 4, "d_key": 2}, "d_model 10 can't be split into 4 heads"),
        ({"d_model": 9, "heads": 3}, "sinusoidal positions need an even d_model, not 9"),
        ({"d_model": 12, "heads": 4, "positions": "rotary"}, "rotary positions need an even d_key"),
        ({"d_key": 5, "positions": "rotary"}, "rotary positions need an even d_key"),
        ({"d_embedding": 8}, "d_embedding needs a model of kind encoder, not encoder-decoder"),
        ({"d_embedding": 8, "kind": "decoder"}, "d_embedding needs a model of kind encoder, not decoder"),
        ({"d_embedding": 9, "kind": "encoder"}, "sinusoidal positions need an even d_embedding, not 9"),
        ({"kv_heads": 3}, "8 heads can't share 3 kv_heads evenly; choose a divisor of heads"),
        ({"kv_heads": 16}, "8 heads can't share 16 kv_heads evenly"),
        ({"parallel_residual": True, "kind": "decoder"}, "parallel_residual needs norm_position 'pre'"),
        ({"parallel_residual": True, "norm_position": "pre"}, "and a model of kind encoder or decoder"),
        ({"reversible": True, "kind": "decoder"}, "reversible needs norm_position 'pre'"),
        ({"reversible": True, "norm_position": "pre"}, "and a model of kind encoder or decoder"),
        (
            {"reversible": True, "norm_position": "pre", "parallel_residual": True, "kind": "decoder"},
            "reversible can't be used with parallel_residual",
        ),
        ({"first_norm": False}, "first_norm has no effect with norm_position 'post'; it needs 'pre'"),
        ({"mlm_head_bias": False}, "mlm_head, mlm_head_bias, pooler and pair_head need a model of kind encoder"),
        ({"rope_local_theta": 5.0}, "rope_local_theta has no effect with positions 'sinusoidal'"),
        ({"relative_bias": True, "positions": "relative"}, "relative_bias has no effect with positions 'relative'"),
        ({"relative_bias": True, "positions": "alibi"}, "relative_bias can't be used with positions 'alibi'"),
        (
            {"relative_bias": True, "attention": ["linear"], "kind": "encoder"},
            "linear does not support relative positions",
        ),
        ({"rope_theta": 5.0}, "rope_theta has no effect with positions 'sinusoidal'; it needs 'rotary'"),
        ({"rope_share": 0.5, "positions": "learned"}, "rope_share has no effect with positions 'learned'"),
        ({"rope_scaling": {"method": "yarn"}}, "rope_scaling has no effect with positions 'sinusoidal'"),
        (
            {**ROTARY, "d_key": 10, "rope_share": 0.3},
            "rope_share 0.3 turns 3 of a head's 10 numbers; it must be an even number",
        ),
        ({**ROTARY, "rope_share": 0.01}, "rope_share 0.01 turns 0 of a head's 64 numbers"),
        ({**ROTARY, "d_key": 2, "rope_scaling": {"method": "dynamic", "factor": 2}}, "needs heads of 4 numbers"),
        ({**ROTARY, "rope_scaling": {"factor": 2.0}}, "rope_scaling.factor has no effect with the method 'none'"),
        ({**ROTARY, "rope_scaling": {"method": "linear", "beta_fast": 8}}, "beta_fast has no effect with the method"),
        ({**ROTARY, "rope_scaling": {"method": "yarn", "low_freq_factor": 2}}, "low_freq_factor has no effect"),
        ({**ROTARY, "rope_scaling": {"method": "llama3", "low_freq_factor": 4}}, "low_freq_factor 4 is not below 4"),
        ({**ROTARY, "rope_scaling": {"method": "longrope"}}, "model.rope_scaling.method must be|must be 'none'"),
        ({**XL, "kv_heads": 2}, "transformer-xl has no setting 'kv_heads'; transformer has it"),
        ({**XLNET, "rope_theta": 2.0}, "xlnet has no setting 'rope_theta'; transformer has it"),
        ({**XL, "d_model": 9, "heads": 3}, "the relative positions of transformer-xl need an even d_model, not 9"),
        ({**XL, "d_model": 10, "heads": 4}, "d_model 10 can't be split into 4 heads; set d_key$"),
        ({**XL, "adaptive_cutoffs": [10, 10]}, r"adaptive_cutoffs \[10, 10\] are not in increasing order"),
        ({**XL, "adaptive_cutoffs": [30, 10]}, r"adaptive_cutoffs \[30, 10\] are not in increasing order"),
        ({**XL, "norm": "rmsnorm"}, "transformer-xl has no setting 'norm'; transformer has it"),
        ({**XL, "d_value": 3}, "transformer-xl has no setting 'd_value'"),
        ({**XL, "positions": "learned"}, "transformer-xl has no setting 'positions'"),
        (
            {**XLNET, "norm_position": "pre"},
            "xlnet has no setting 'norm_position'; transformer and transformer-xl have",
        ),
        ({"memory_length": 16}, "transformer has no setting 'memory_length'; transformer-xl and xlnet have it"),
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
        {**XL, "d_model": 10, "heads": 4, "d_key": 2},
        {**XL, "d_model": 10, "heads": 5, "adaptive_cutoffs": [10, 30]},
    ],
)
def test_the_remedies_it_names_work(settings):
    assert parse(ModelConfig, settings, "here").d_model == settings["d_model"]


@pytest.mark.parametrize("kind", [TransformerConfig, DataConfig, TrainingConfig, RunConfig])
def test_every_default_is_a_value_that_may_be_given(kind):
    assert parse(kind, kind().model_dump(), "here") == kind()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_settings_of_a_family_are_read_as_they_are_written(family):
    shown = parse(ModelConfig, {"family": family}, "here")
    assert type(shown) is FAMILIES.load(family) and shown.family == family
    assert parse(ModelConfig, shown.model_dump(), "here") == shown
    config = RunConfig(model=shown)
    assert parse(RunConfig, config.model_dump(), "here").model == shown


def test_a_family_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(NlpcliError, match=r"model.family must be 'transformer'.*got 'xl'"):
        parse(RunConfig, {"model": {"family": "xl", "memory_length": 3}}, "here")
