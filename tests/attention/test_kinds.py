"""The entries of `model.attention`: how they are read, what they make, and what is refused in words."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nlpcli.attention.kinds import KINDS, AttentionKind, check_attention, parse_attention
from nlpcli.attention.linear import LinearAttention
from nlpcli.attention.linformer import LinformerAttention
from nlpcli.attention.lsh import LSHAttention
from nlpcli.attention.patterns import Causal, Full, Global, Window
from nlpcli.attention.performer import HyperbolicPerformerAttention, PerformerAttention
from nlpcli.attention.random_patterns import BigBird, RandomPast
from nlpcli.attention.routing import RoutingAttention
from nlpcli.attention.softmax import SoftmaxAttention
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model

CORES = {
    "softmax": SoftmaxAttention,
    "linear": LinearAttention,
    "performer": PerformerAttention,
    "performer-hyperbolic": HyperbolicPerformerAttention,
    "linformer": LinformerAttention,
    "lsh": LSHAttention,
    "routing": RoutingAttention,
}


@pytest.mark.parametrize(
    ("text", "name", "pattern"),
    [
        ("full", "softmax", Full()),
        ("softmax", "softmax", Full()),
        ("window:128+global:2", "softmax", Window(128) | Global(2)),
        ("softmax & window:3+global:1", "softmax", Window(3) | Global(1)),
        (" linear ", "linear", Full()),
        ("linear & causal", "linear", Causal()),
        ("performer:64", "performer", Full()),
        ("linformer:64", "linformer", Full()),
        ("bigbird:64:2", "softmax", BigBird(64, 2)),
        ("performer-hyperbolic:64 & causal", "performer-hyperbolic", Causal()),
    ],
)
def test_an_entry_is_a_pattern_a_kind_or_both(text, name, pattern):
    entry = parse_attention(text)
    assert (entry.name, entry.pattern) == (name, pattern)
    assert type(entry.core()) is CORES[name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear:3", "'linear:3' is not of the form linear"),
        ("linear+window:3", "unknown pattern 'linear'"),
        ("windw:3", "unknown pattern 'windw'"),
        ("", "the pattern is empty"),
    ],
)
def test_a_mistake_is_named(text, message):
    with pytest.raises(NlpcliError, match=message):
        parse_attention(text)
    with pytest.raises(ValueError, match="attention"):
        TransformerConfig(attention=[text])


def test_numbers_of_a_kind_reach_its_core(monkeypatch):
    monkeypatch.setitem(KINDS, "halving", AttentionKind(f"{__name__}:Halving", "halving:K:R"))
    core = parse_attention("halving:4:2").core(scale=False)
    assert (core.numbers, core.scale) == ((4, 2), False)
    with pytest.raises(NlpcliError, match="'halving:4' is not of the form halving:K:R"):
        parse_attention("halving:4 ")


class Halving:
    def __init__(self, *numbers, scale=True):
        self.numbers, self.scale = numbers, scale


def test_a_kind_that_looks_one_way_only_is_refused_where_the_other_is_needed(monkeypatch):
    kinds = {"onward": {"bidirectional": False}, "around": {"causal": False, "why": "mixes all positions"}}
    for name, flags in kinds.items():
        monkeypatch.setitem(KINDS, name, AttentionKind("nlpcli.attention.softmax:SoftmaxAttention", name, **flags))
    with pytest.raises(ValueError, match="attention 'onward': onward does not support bidirectional attention"):
        TransformerConfig(kind="encoder", attention=["onward"])
    with pytest.raises(ValueError, match="around does not support causal attention, because it mixes all positions"):
        TransformerConfig(kind="decoder", attention=["around"])
    with pytest.raises(ValueError, match="attention 'around': around does not support causal attention"):
        TransformerConfig(attention=["around"])
    TransformerConfig(attention=["around"], decoder_attention=["onward"])
    with pytest.raises(NlpcliError) as caught:
        check_attention(["around"], setting="here", needs=["causal"])
    able = caught.value.hint.removeprefix("choose one that supports it: ").split(", ")
    assert able == [name for name, kind in KINDS.items() if kind.causal] and able[-1] == "onward"
    assert "softmax" in able and not {"linformer", "longformer", "around"} & set(able)


def test_the_decoder_of_an_encoder_decoder_attends_as_the_encoder_unless_it_is_set_otherwise():
    shape = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 2, "decoder_layers": 2}

    def patterns(**changes):
        model = build_model({**shape, **changes}, 20)
        return [
            [str(layer.self_attention.pattern) for layer in stack.layers] for stack in (model.encoder, model.decoder)
        ]

    assert patterns(attention=["window:3"]) == [["window:3"] * 2, ["causal & window:3"] * 2]
    own = patterns(attention=["window:3"], decoder_attention=["full", "window:2"])
    assert own == [["window:3"] * 2, ["causal", "causal & window:2"]]
    assert TransformerConfig(decoder_attention=["full"]) == TransformerConfig()
    with pytest.raises(
        ValueError, match="needs a model of kind encoder-decoder; for one of kind decoder, set attention"
    ):
        TransformerConfig(kind="decoder", decoder_attention=["window:2"])


def test_random_keys_of_a_decoder_are_drawn_from_its_past():
    model = build_model({"kind": "decoder", "d_model": 16, "heads": 2, "d_ff": 16, "attention": ["random:3"]}, 20)
    assert model.decoder.layers[0].self_attention.pattern == Causal() & RandomPast(3)
    dense = RandomPast(3).dense(20)
    assert dense.sum(1).tolist() == [min(i + 1, 3) for i in range(20)] and not dense.triu(1).any()
    assert torch.equal(RandomPast(3).dense(9), dense[:9, :9])


def test_settings_are_read_without_torch():
    probe = "import sys, nlpcli.config.schema; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", probe], check=True)
