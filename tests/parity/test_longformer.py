"""Our Longformer against that of `transformers`: logits of padded and other texts, folders both ways, and pictures."""

from __future__ import annotations

import json

import pytest
import torch

from nlpcli.attention.hooks import recording
from nlpcli.config.model_settings import ModelConfig
from nlpcli.convert.family_table import FAMILIES
from nlpcli.convert.huggingface_in import read_huggingface
from nlpcli.convert.huggingface_out import write_huggingface
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model, build_on_meta, count_parameters
from nlpcli.models.model_folder import load_weights

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, LENGTH, PAD = 50, 300, 1
SETTINGS = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": LENGTH + PAD + 1, "type_vocab_size": 2, "pad_token_id": PAD,
    "layer_norm_eps": 1e-5, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "sep_token_id": 2,
}  # fmt: skip
LENGTHS = [LENGTH, 171, 16, 3]


def longformer(scattered, kind="LongformerForMaskedLM", window=(8, 16, 8)):
    config = transformers.LongformerConfig(**SETTINGS, attention_window=list(window))
    return scattered(getattr(transformers, kind)(config), 6)


def batch(lengths):
    draw, longest = torch.Generator().manual_seed(1), max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    ids = torch.randint(5, VOCABULARY, mask.shape, generator=draw).masked_fill(~mask, PAD)
    return ids, mask, torch.randint(2, mask.shape, generator=draw)


def theirs_of(model, ids, mask, kinds, tokens):
    seen = (torch.arange(ids.size(1)) < tokens).long().expand_as(ids)
    return model(
        input_ids=ids, attention_mask=mask.long(), token_type_ids=kinds, global_attention_mask=seen
    ).logits  # fmt: skip


def ours_of(model, ids, mask, kinds):
    return model.logits(model.mlm_hidden(model(ids, None if mask.all() else mask, kinds)))


def with_global(found, tokens):
    """Our model of a folder, with that many global tokens in the place of one."""
    entries = [f"{text}:{tokens}" for text in found.config["attention"]]
    model = build_model(found.config | {"attention": entries}, VOCABULARY)
    load_weights(model, found.weights, "here")
    return model.double().eval()


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("lengths", [LENGTHS, [LENGTH], [40], [3]])
@torch.inference_mode()
def test_logits_are_theirs_with_and_without_padding(scattered, read, tokens, lengths):
    theirs = longformer(scattered)
    found = read(theirs)
    assert found.config["attention"] == ["longformer:8", "longformer:16"]
    assert found.config["position_offset"] == PAD + 1 and found.left_out == []
    assert count_parameters(found.model) == sum(p.numel() for p in theirs.parameters())
    ours = found.model if tokens == 1 else with_global(found, tokens)
    given = batch(lengths)
    mask = given[1]
    expected = theirs_of(theirs, *given, tokens)[mask]
    assert float(expected.std()) > 0.5
    assert torch.allclose(ours_of(ours, *given)[mask], expected, atol=1e-5)


@torch.inference_mode()
def test_a_model_of_ours_is_the_same_there(scattered, tmp_path, read):
    entries = ["longformer:4:2", "longformer:8:2"]
    example = read(longformer(scattered, window=[8] * 3))
    config = ModelConfig.model_validate(example.config | {"attention": entries}).model_dump()
    model = scattered(build_model(config, VOCABULARY), 9)
    weights = model.state_dict()
    info = {"task": "encoder"}
    name = write_huggingface(tmp_path, config=config, weights=weights, tokenizer=example.tokenizer, info=info)
    assert name == "LongformerForMaskedLM"
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["attention_window"] == [4, 8, 4]
    (tmp_path / "config.json").write_text(json.dumps(described | {"pad_token_id": PAD}))  # the tokenizer has none
    theirs, report = transformers.LongformerForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    given = batch(LENGTHS)
    expected = theirs_of(theirs.double().eval(), *given, 2)[given[1]]
    assert torch.allclose(ours_of(model.double().eval(), *given)[given[1]], expected, atol=1e-5)
    again = read_huggingface(tmp_path)
    assert again.config == config  # with its two global tokens
    assert all(torch.equal(again.weights[key], weights[key].float()) for key in again.weights)


def test_a_window_that_was_changed_in_the_folder_counts(scattered, tmp_path, read):
    ours = read(longformer(scattered))
    config = ours.config | {"attention": ["longformer:8:2"]}
    write_huggingface(tmp_path, config=config, weights=ours.weights, tokenizer=ours.tokenizer, info=ours.info)
    assert read_huggingface(tmp_path).config["attention"] == ["longformer:8:2"]
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(described | {"attention_window": 6}))
    assert read_huggingface(tmp_path).config["attention"] == ["longformer:6"]


@pytest.mark.parametrize("window", [7, [8, 8], [8, 7, 8], "8"])
def test_a_window_that_is_no_window_is_refused(scattered, tmp_path, read, window):
    folder = read(longformer(scattered)).folder
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | {"attention_window": window}))
    with pytest.raises(NlpcliError, match="this Longformer model is not supported, because"):
        read_huggingface(folder)


@pytest.mark.parametrize("entries", [["full"], ["longformer:8", "full"], ["longformer:8:1", "longformer:8:2"]])
def test_other_attention_is_no_longformer_there(entries):
    family = FAMILIES.load("longformer")
    config = ModelConfig.model_validate(
        {"kind": "encoder", "positions": "learned", "embedding_norm": True, "activation": "gelu", "attention": entries,
         "initialization": "bert", "attention_bias": True, "scale_embeddings": False}
    ).model_dump()  # fmt: skip
    assert family.misfits(config) == ["attention"]
    assert family.misfits(config | {"attention": ["longformer:8:3", "longformer:6:3"]}) == []


@torch.inference_mode()
def test_the_states_without_a_head_and_the_weights_in_pictures_are_theirs(scattered, read):
    theirs = longformer(scattered, "LongformerModel")
    theirs.config._attn_implementation = "eager"
    ours = read(theirs)
    ids, mask, kinds = batch([40, 23])
    seen = (torch.arange(40) < 1).long().expand_as(ids)
    given = {"input_ids": ids, "attention_mask": mask.long(), "token_type_ids": kinds}
    found = theirs(**given, global_attention_mask=seen, output_attentions=True)
    layers = ours.model.attention_sites()["encoder"]
    with recording(*layers) as records:
        states = ours.model(ids, mask, kinds)
    assert torch.allclose(states[mask], found.last_hidden_state[mask], atol=1e-5)
    assert torch.allclose(ours.model.pooled(states), found.pooler_output, atol=1e-5)
    for number, window in enumerate((8, 16, 8)):
        [weights], side = records[number], window // 2
        local, of_first = found.attentions[number], found.global_attentions[number]  # (b, h, n, 1 + window + 1)
        assert torch.allclose(weights[:, :, 0], of_first[:, :, :40, 0], atol=1e-5)
        for place in range(1, 23):
            row = torch.zeros_like(weights[:, :, place])
            for offset in range(-side, side + 1):
                if 0 <= place + offset < 40:
                    row[:, :, place + offset] += local[:, :, place, 1 + side + offset]
            row[:, :, 0] += local[:, :, place, 0]
            assert torch.allclose(weights[:, :, place], row, atol=1e-5)


PUBLISHED = {
    "model_type": "longformer", "attention_probs_dropout_prob": 0.1, "attention_window": [512] * 12,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02,
    "intermediate_size": 3072, "layer_norm_eps": 1e-05, "max_position_embeddings": 4098, "num_attention_heads": 12,
    "num_hidden_layers": 12, "type_vocab_size": 1, "vocab_size": 50265,
}  # fmt: skip


def test_the_published_shape_has_as_many_parameters_as_there_and_goes_out_as_it_was():
    family = FAMILIES.load("longformer")
    ours = family.config_in(PUBLISHED, {"lm_head.dense.weight": torch.empty(0)}, "longformer-base-4096")
    with torch.device("meta"):
        theirs = transformers.LongformerForMaskedLM(transformers.LongformerConfig(**PUBLISHED))
    count = count_parameters(build_on_meta(ModelConfig.model_validate(ours), PUBLISHED["vocab_size"]))
    assert count == sum(p.numel() for p in theirs.parameters()) == 148_711_257
    written = family.config_out(ours)
    assert {key: written[key] for key in PUBLISHED.keys() - {"vocab_size"}} == {
        key: value for key, value in PUBLISHED.items() if key != "vocab_size"
    }
