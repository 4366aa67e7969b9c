"""The published models have the published numbers of parameters, counted without making a single one."""

from __future__ import annotations

import pytest
import torch

from nlpcli import presets
from nlpcli.models.build import build_model, count_parameters

# Counted from the released checkpoints' configurations with the reference implementation; heads included where
# pretraining has them. A paper's "110M" and "340M" for BERT, "117M" for GPT-2 are rounded, or miscounted, ones.
PUBLISHED = {
    "bert-base": 110_106_428,
    "bert-large": 336_226_108,
    "roberta-base": 124_697_433,
    "longformer-base": 148_711_257,
    "bigbird-base": 127_520_694,  # without the pooler that the reference implementation always has
    "gpt": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt3": 174_604_259_328,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "bart-base": 139_420_416,
    "bart-large": 406_291_456,
    "xlnet-base": 116_750_336,
    "transformer-xl-base": 151_107_538,  # as the authors' code counts it
    "pegasus-large": 568_699_904,  # its sinusoids, which the checkpoint stores, not counted
}
# The same without the heads that only pretraining needs
ENCODERS = {"bert-base": 109_482_240, "bert-large": 335_141_888}


def on_paper(name, **changes):
    config = presets.load(name)
    with torch.device("meta"):
        return build_model({**config["model"], **changes}, config["tokenizer"]["vocab_size"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_number_of_parameters(name):
    assert count_parameters(on_paper(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", ENCODERS)
def test_the_encoder_alone_has_the_published_number_of_parameters(name):
    assert count_parameters(on_paper(name, mlm_head=False, pair_head=False)) == ENCODERS[name]


def test_gpt3_alternates_dense_and_banded_layers():
    patterns = [str(layer.self_attention.pattern) for layer in on_paper("gpt3-small").decoder.layers]
    assert patterns[0::2] == ["causal"] * 6
    assert patterns[1::2] == ["causal & window:256"] * 6
