"""Which class of `transformers` a configuration of ours goes to, and what none can express."""

from __future__ import annotations

import pytest
from model_settings import of_family

from nlpcli.config.model_settings import ModelConfig
from nlpcli.convert.family_table import FAMILIES, choose_family
from nlpcli.errors import NlpcliError


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bert", {"positions": "rotary"}, "BERT does not support model.positions 'rotary'"),
        ("bert", {"qk_norm": True}, "BERT does not support model.qk_norm true"),
        ("bert", {"score": "cosine"}, "BERT does not support model.score 'cosine'"),
        ("gpt2", {"head_aggregation": "mean"}, "GPT-2 does not support model.head_aggregation 'mean'"),
        ("gpt2", {"attention": ["full", "window:4"]}, r"GPT-2 does not support model.attention \['full', 'window:4'\]"),
        ("gpt2", {"output_bias": True}, "GPT-2 does not support model.output_bias true"),
        ("gpt2", {"d_key": 4, "d_value": 4}, "GPT-2 does not support model.d_key 4, model.d_value 4"),
        ("t5-v1.1", {"activation": "geglu"}, "T5 does not support model.activation 'geglu'"),
        ("marian", {"tie": "none"}, "Marian does not support model.tie 'none'"),
        ("marian", {"norm_eps": 1e-6}, "Marian does not support model.norm_eps 1e-06"),
        ("bart", {"qk_norm": True}, "BART does not support model.qk_norm true"),
        ("bart", {"kv_heads": 1}, "BART does not support model.kv_heads 1"),
        ("gpt2", {"kv_heads": 1}, "GPT-2 does not support model.kv_heads 1"),
        ("gpt2", {"parallel_residual": True}, "GPT-2 does not support model.parallel_residual true"),
        ("neox", {"kv_heads": 1}, "GPT-NeoX does not support model.kv_heads 1"),
        ("llama", {"rope_share": 0.5}, "Llama does not support model.rope_share 0.5"),
        (
            "mistral",
            {"attention": ["window:5", "full"]},
            r"does not support model.attention \['window:5', 'full'\]",
        ),
        ("mistral", {"attention": ["window:5+global:1"]}, "does not support model.attention"),
        ("qwen3", {"attention": ["window:5", "window:4"]}, "Qwen3 does not support model.attention"),
        (
            "qwen3",
            {"rope_scaling": {"method": "linear", "factor": 2.0, "original_max_length": 5}},
            "Qwen3 does not support model.rope_scaling",
        ),
    ],
)
def test_what_no_class_can_express_is_named(settings, name, change, message):
    config = ModelConfig.model_validate(settings(name) | change).model_dump()
    with pytest.raises(NlpcliError, match=message):
        choose_family(config).config_out(config)


def test_a_family_without_a_class_is_named():
    config = ModelConfig.model_validate({"family": "transformer-xl", "kind": "decoder"}).model_dump()
    with pytest.raises(NlpcliError, match=r"transformers has no class for model.family 'transformer-xl'"):
        choose_family(config)


def test_every_preset_of_a_published_family_has_its_class():
    from nlpcli.presets import load

    expected = {
        "bert-base": "BertForPreTraining", "roberta-base": "RobertaForMaskedLM", "gpt": "OpenAIGPTLMHeadModel",
        "gpt2": "GPT2LMHeadModel", "bart-base": "BartForConditionalGeneration",
        "t5-small": "T5ForConditionalGeneration", "t5-v1.1-small": "T5ForConditionalGeneration",
        "pegasus-large": "PegasusForConditionalGeneration", "marian-base": "MarianMTModel",
        "xlnet-base": "XLNetLMHeadModel", "transformer-base": "MarianMTModel",
        "transformer-tiny": "PegasusForConditionalGeneration",
        "longformer-base": "LongformerForMaskedLM", "longformer-nano": "LongformerForMaskedLM",
        "bigbird-base": "BigBirdForMaskedLM", "bigbird-nano": "BigBirdForMaskedLM",
        "gpt-mini": "GPTNeoXForCausalLM",
        "modern-decoder": "Qwen3ForCausalLM",
    }  # fmt: skip
    for name, architecture in expected.items():
        config = ModelConfig.model_validate(load(name)["model"]).model_dump()
        assert choose_family(config).architecture(config) == architecture


def test_every_family_has_a_model_that_is_tried_both_ways(all_settings, origins):
    tried = set()
    for name, settings in all_settings.items():
        config = of_family(settings).model_dump()
        tried.add(choose_family(config, origins(name).get("read_from")).model_type)
    assert tried == set(FAMILIES)


def test_every_family_can_be_loaded():
    assert {FAMILIES.load(name).model_type for name in FAMILIES} == set(FAMILIES)
