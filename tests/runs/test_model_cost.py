"""Parameters and operations are those that the equations of the papers give."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli import presets
from nlpcli.commands.config import resolve
from nlpcli.commands.inspect.model_report import same_shape
from nlpcli.commands.inspect.parameter_groups import parameters_by_part, part_of, shared_matrices
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.build import build_model, count_parameters
from nlpcli.runs.model_cost import memory, operations

SMALL = [
    name for name in presets.names() if name.endswith(("nano", "tiny", "mini", "t5-small", "gpt2", "bert-base", "han"))
]
SHAPES = st.fixed_dictionaries(
    {"heads": st.sampled_from([1, 2]), "d_model": st.sampled_from([8, 12]), "d_ff": st.sampled_from([8, 20]),
     "encoder_layers": st.integers(1, 2), "decoder_layers": st.integers(1, 2)}
)  # fmt: skip


def layer(d: int, d_ff: int, *, keys: int, projections: int = 4) -> int:
    """Operations of a token in self-attention over `keys` tokens, and in the feed-forward layer."""
    return 2 * projections * d * d + 4 * keys * d + 4 * d * d_ff


def built(name: str):
    config = resolve(name)
    with torch.device("meta"):
        return config.model, build_model(config.model, config.tokenizer.vocab_size)


@pytest.mark.parametrize("name", SMALL)
def test_the_parts_of_every_preset_are_all_its_parameters(name):
    config, model = built(name)
    parts = parameters_by_part(model, config.kind)
    assert sum(parts.values()) == count_parameters(model) == sum(p.numel() for p in model.parameters())
    assert "other" not in parts


def test_the_parts_of_bert_base_are_those_of_the_paper():
    config, model = built("bert-base")
    parts = parameters_by_part(model, config.kind)
    d, d_ff = 768, 3072
    assert parts["encoder self-attention"] == 12 * 4 * (d * d + d)
    assert parts["encoder feed-forward"] == 12 * (2 * d * d_ff + d_ff + d)
    assert parts["encoder norms"] == 12 * 2 * 2 * d
    assert parts["positions"] == 512 * d
    assert parts["pooler"] == d * d + d


def test_parameters_of_heads_and_of_a_source_encoder_have_their_parts():
    assert part_of("body.encoder.layers.3.self_attention.query.weight") == "encoder self-attention"
    assert part_of("head.output.weight") == part_of("tasks.rte.head.output.bias") == "task head"
    assert part_of("source_encoder.encoder.layers.0.feed_forward.inner.weight") == "source encoder feed-forward"
    assert part_of("source_encoder.embedding.tokens.weight") == "source token embeddings"
    assert part_of("decoder.layers.0.cross_attention_norm.weight") == "decoder norms"
    assert part_of("encoder_embedding.projection.weight") == "token embeddings"
    config = TransformerConfig(d_model=8, heads=2, d_ff=8, encoder_layers=1, decoder_layers=1, source_layers=1)
    model = build_model(config, 20, {"kind": "text", "outputs": 3, "pooling": "mean"})
    parts = parameters_by_part(model)
    assert "other" not in parts and sum(parts.values()) == count_parameters(model)


def test_shared_matrices_are_named():
    config = TransformerConfig(kind="decoder", d_model=8, heads=2, d_ff=8, decoder_layers=1)
    assert shared_matrices(build_model(config, 20)) == [
        ["decoder_embedding.tokens.weight", "output_weight_owner.weight"]
    ]
    assert shared_matrices(build_model(config.model_copy(update={"tie": "none"}), 20)) == []


@settings(max_examples=4)
@given(SHAPES, st.integers(2, 9))
def test_operations_of_a_decoder_are_those_of_the_equation(shape, n):
    d, d_ff, layers, vocab = shape["d_model"], shape["d_ff"], shape["decoder_layers"], 30
    found = operations(TransformerConfig(kind="decoder", **shape), vocab, length=n)
    expected = layers * layer(d, d_ff, keys=n) + 2 * d * vocab
    assert found.forward == expected
    assert found.training == 3 * expected
    assert found.decoding == expected


@settings(max_examples=4)
@given(SHAPES, st.integers(2, 9))
def test_operations_of_an_encoder_decoder_are_those_of_the_equation(shape, n):
    d, d_ff, vocab = shape["d_model"], shape["d_ff"], 30
    found = operations(ModelConfig.model_validate(shape), vocab, length=n)
    encoder = shape["encoder_layers"] * layer(d, d_ff, keys=n)
    decoder = shape["decoder_layers"] * (layer(d, d_ff, keys=n) + 8 * d * d + 4 * n * d) + 2 * d * vocab
    assert found.forward == (encoder + decoder) / 2
    # to write a token, the keys and values of the source are there already
    assert found.decoding == decoder - shape["decoder_layers"] * 4 * d * d


def test_an_encoder_predicts_hidden_tokens_only_in_training():
    config = TransformerConfig(kind="encoder", d_model=8, heads=2, d_ff=16, encoder_layers=2, mlm_head=True)
    found = operations(config, 50, length=20)
    states = 2 * layer(8, 16, keys=20)
    assert found.forward == states
    assert found.training == pytest.approx(3 * (states + 0.15 * (2 * 8 * 8 + 2 * 8 * 50)))
    assert found.decoding is None


def test_operations_of_a_head_are_counted():
    config = TransformerConfig(kind="encoder", d_model=8, heads=2, d_ff=16, encoder_layers=2)
    head = {"kind": "text", "outputs": 5, "pooling": "first"}
    bare, tuned = (operations(config, 50, given, length=10) for given in (None, head))
    assert tuned.forward - bare.forward == pytest.approx(2 * 8 * 5 / 10)
    tagged = operations(config, 50, {"kind": "tokens", "outputs": 5, "recurrent": 4}, length=10)
    assert tagged.forward - bare.forward == pytest.approx(2 * 8 * 5)


@pytest.mark.parametrize("name", ["transformer-xl-nano", "xlnet-nano"])
def test_models_with_memory_are_counted_too(name):
    config = resolve(name)
    found = operations(config.model, config.tokenizer.vocab_size, length=16)
    assert 0 < found.forward < found.training
    assert (found.decoding is None) == (name == "xlnet-nano")


def test_memory_is_four_bytes_a_number():
    config = TransformerConfig(d_model=512, heads=8, encoder_layers=6, decoder_layers=6)
    found = memory(config, 1000)
    assert found == {
        "weights": 4000,
        "training": 16000,
        "cache_per_token": 6 * 2 * 512 * 4,
        "cache_per_source_token": 6 * 2 * 512 * 4,
    }
    assert "cache_per_token" not in memory(TransformerConfig(kind="encoder"), 1000)
    narrow = TransformerConfig(kind="decoder", d_key=16, d_value=64, heads=2, decoder_layers=1)
    assert memory(narrow, 0)["cache_per_token"] == 2 * (16 + 64) * 4


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_heads_that_share_keys_remember_so_many_fewer_of_them(kv_heads):
    config = TransformerConfig(kind="decoder", d_model=32, heads=4, kv_heads=kv_heads, decoder_layers=3, d_ff=16)
    model = build_model(config, 50)
    _, state = model.advance(torch.randint(50, (1, 7)), model.init_state(1))
    assert 7 * memory(config, 0)["cache_per_token"] == state.bytes() == 7 * 3 * kv_heads * 2 * 8 * 4


def test_layers_with_a_window_remember_no_more_than_it_and_linear_ones_a_matrix_and_a_sum_per_head():
    shape = {"kind": "decoder", "d_model": 32, "heads": 2, "decoder_layers": 4}
    token = 2 * 32 * 4
    windows = memory(TransformerConfig(**shape, attention=["full", "window:8+global:2"]), 0)
    assert windows["cache_per_token"] == 2 * token and windows["cache_window"] == 2 * (8 + 2) * token
    linear = memory(TransformerConfig(**shape, attention=["linear"]), 0)
    assert linear["cache_per_token"] == 0 and linear["cache_window"] == 4 * 2 * (16 * 16 + 16) * 4


@pytest.mark.parametrize("attention", ["window:8", "window:8+global:2", "linear", "softmax & dilated:4:2"])
def test_operations_of_sparse_attention_grow_with_what_is_looked_at(attention):
    shape = {"d_model": 32, "heads": 2, "d_ff": 64, "decoder_layers": 2, "encoder_layers": 2}
    for kind in ("encoder", "decoder"):
        full = operations(TransformerConfig(kind=kind, **shape), 50, length=1024)
        sparse = operations(TransformerConfig(kind=kind, attention=[attention], **shape), 50, length=1024)
        assert sparse.training < full.training and sparse.forward < full.forward
        if kind == "decoder":
            assert sparse.decoding < full.decoding


def test_presets_of_a_shape_are_found_whatever_their_dropout():
    config = resolve("bert-base").model
    assert "bert-base" in same_shape(config.model_copy(update={"dropout": 0.3, "pooler": False, "pair_head": False}))
    assert same_shape(config.model_copy(update={"d_ff": 1000})) == []
