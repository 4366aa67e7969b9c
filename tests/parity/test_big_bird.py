"""Our BigBird against that of `transformers`: short texts, full attention, and long texts with our random blocks.

In evaluation the reference takes block 0 for each random block, so that it counts R + 1 times; a test shows this too.
One batch of short texts turns a model there to full attention for good, so that each call gets a fresh copy.
"""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch

from nlpcli.attention.random_patterns import BigBird
from nlpcli.config.model_settings import ModelConfig
from nlpcli.convert.family_table import FAMILIES
from nlpcli.convert.huggingface_in import read_huggingface
from nlpcli.convert.huggingface_out import write_huggingface
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model, build_on_meta, count_parameters

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, LENGTH, BLOCK = 50, 300, 8
SETTINGS = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 320, "block_size": BLOCK, "pad_token_id": 0,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "sep_token_id": 2,
}  # fmt: skip


def big_bird(scattered, kind="BigBirdForMaskedLM", **changes):
    return scattered(getattr(transformers, kind)(transformers.BigBirdConfig(**(SETTINGS | changes))), 6)


def text(length, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(5, VOCABULARY, (1, length), generator=draw), torch.randint(2, (1, length), generator=draw)


def theirs_of(model, ids, kinds, mask=None):
    return copy.deepcopy(model)(input_ids=ids, token_type_ids=kinds, attention_mask=mask).logits


def ours_of(model, ids, kinds, mask=None):
    return model.logits(model.mlm_hidden(model(ids, mask, kinds)))


@pytest.mark.parametrize(
    ("changes", "attention", "lengths"),
    [
        ({"attention_type": "original_full", "hidden_act": "gelu"}, ["full"], (LENGTH, 41, 1)),
        # all are short
        ({"num_random_blocks": 20}, ["bigbird:8:20", "bigbird:8:20:1", "bigbird:8:20:2"], (LENGTH, 257, 40, 1)),
        ({}, ["bigbird:8", "bigbird:8:3:1", "bigbird:8:3:2"], (88, 3)),
        # their class can't compute long texts without random blocks
        ({"num_random_blocks": 0, "block_size": 16, "rescale_embeddings": True}, ["bigbird:16:0"], (80, 79, 2)),
    ],
)
@torch.inference_mode()
def test_logits_are_theirs_where_no_block_is_random(scattered, read, changes, attention, lengths):
    theirs = big_bird(scattered, **changes)
    ours = read(theirs)
    assert ours.config["attention"] == attention and ours.left_out == [] and ours.config["pooler"]
    assert count_parameters(ours.model) == sum(p.numel() for p in theirs.parameters())
    for length in lengths:
        expected = theirs_of(theirs, *text(length))
        assert float(expected.std()) > 0.5
        assert torch.allclose(ours_of(ours.model, *text(length)), expected, atol=1e-5)


@torch.inference_mode()
def test_a_padded_batch_of_short_texts_is_theirs(scattered, read):
    theirs = big_bird(scattered)
    ours, (ids, kinds) = read(theirs), (x.view(2, 40) for x in text(80))
    mask = torch.arange(40) < torch.tensor([40, 17])[:, None]
    found = ours_of(ours.model, ids, kinds, mask)
    assert torch.allclose(found[mask], theirs_of(theirs, ids, kinds, mask.long())[mask], atol=1e-5)


def with_our_blocks(model, count):
    """Their model, each layer of which takes for random blocks those that ours draws, the same for each head."""
    for number, layer in enumerate(model.bert.encoder.layer):
        attention = layer.attention.self

        def drawn(from_seq_length, block_size, number=number):
            return BigBird(BLOCK, count, number).sampled(from_seq_length // block_size).numpy()[1:-1].astype(np.int32)

        def of_heads(*, from_seq_length, from_block_size, num_heads, drawn=drawn, **_):
            return [drawn(from_seq_length, from_block_size)] * num_heads

        attention._bigbird_block_rand_mask_with_head = of_heads
    return model


@torch.inference_mode()
def test_padding_counts_as_if_each_text_were_alone(scattered, read):
    theirs = big_bird(scattered)
    ours, lengths = read(theirs), [LENGTH, 258, 97, 30]
    texts = [text(length, length) for length in lengths]
    ids, kinds = (torch.zeros(4, LENGTH, dtype=torch.long) for _ in range(2))
    for row, (own, kind) in enumerate(texts):
        ids[row, : own.size(1)], kinds[row, : own.size(1)] = own[0], kind[0]
    mask = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    found = ours_of(ours.model, ids, kinds, mask)
    for row, given in enumerate(texts):
        alone = with_our_blocks(copy.deepcopy(theirs), 3)(input_ids=given[0], token_type_ids=given[1]).logits
        assert torch.allclose(found[row, : lengths[row]], alone[0], atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("count", [1, 3])
@torch.inference_mode()
def test_logits_are_theirs_with_the_same_random_blocks(scattered, read, count, training):
    theirs = big_bird(scattered, num_random_blocks=count).train(training)
    ours = read(theirs)
    for length in (LENGTH, 257, 144):
        given = text(length)
        patched = with_our_blocks(copy.deepcopy(theirs), count)
        found = patched(input_ids=given[0], token_type_ids=given[1]).logits
        assert torch.allclose(ours_of(ours.model, *given), found, atol=1e-5)


@torch.inference_mode()
def test_in_evaluation_their_random_blocks_are_all_the_first_one(scattered, read):
    """A claim of the documentation: the keys of block 0 count R + 1 times, as if log(R + 1) were added to scores."""
    count = 3
    theirs = big_bird(scattered, num_random_blocks=count, num_hidden_layers=1)
    ours = read(theirs)
    layer, given = ours.model.encoder.layers[0], text(LENGTH)
    first = torch.zeros(LENGTH, LENGTH, dtype=torch.float64)
    first[BLOCK : LENGTH - LENGTH % BLOCK, :BLOCK] = math.log(count + 1)

    class Repeated:
        def dense(self, n, m):
            return first[None, None]

    pattern = BigBird(BLOCK, 0).dense(LENGTH)
    attention = layer.self_attention
    x = ours.model.encoder_embedding(given[0], segments=given[1])
    query, memory = attention._query(x, 0), attention.project_memory(x)
    context = attention.core.context(query, memory.key, memory.value, pattern, Repeated().dense(LENGTH, LENGTH))
    x = layer._add(x, attention._merged(context), layer.self_attention_norm)
    states = layer._above(x, None, None, 1)
    expected = theirs_of(theirs, *given)
    assert torch.allclose(ours.model.logits(ours.model.mlm_hidden(states)), expected, atol=1e-5)
    assert not torch.allclose(ours_of(ours.model, *given), expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["BigBirdModel", "BigBirdForPreTraining", "BigBirdForMaskedLM"])
@torch.inference_mode()
def test_a_folder_goes_out_as_what_it_was_and_comes_back_to_the_bit(scattered, read, tmp_path, kind):
    theirs = big_bird(scattered, kind)
    ours = read(theirs)
    weights = {name: tensor.float() for name, tensor in ours.weights.items()}
    name = write_huggingface(tmp_path, config=ours.config, weights=weights, tokenizer=ours.tokenizer, info=ours.info)
    assert name == kind
    again = read_huggingface(tmp_path)
    assert again.config == ours.config and again.weights.keys() == weights.keys()
    assert all(torch.equal(again.weights[key], weights[key]) for key in weights)
    written, original = json.loads((tmp_path / "config.json").read_text()), theirs.config.to_dict()
    for key in ("attention_type", "block_size", "num_random_blocks", "rescale_embeddings", "hidden_act"):
        assert written[key] == original[key]
    reloaded, report = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    given = text(40)
    expected, found = (model(input_ids=given[0])[0] for model in (theirs, reloaded.double().eval()))
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("changes", [{"attention_type": "sparse"}, {"block_size": 0}, {"num_random_blocks": "3"}])
def test_settings_that_make_no_sense_are_refused(scattered, read, changes):
    folder = read(big_bird(scattered)).folder
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | changes))
    with pytest.raises(NlpcliError, match="this BigBird model is not supported, because its"):
        read_huggingface(folder)


@pytest.mark.parametrize(
    "attention", [["bigbird:8", "full"], ["bigbird:8", "bigbird:4"], ["bigbird:8+window:3"], ["window:3"]]
)
def test_other_attention_is_no_big_bird_there(scattered, read, attention):
    config, family = read(big_bird(scattered)).config, FAMILIES.load("big_bird")
    assert family.misfits(config | {"attention": attention}) == ["attention"]
    assert family.misfits(config | {"attention": ["bigbird:8", "bigbird:8:3:4"]}) == []


def test_a_model_of_ours_without_a_pooler_has_one_of_zeros_there_and_none_when_it_comes_back(scattered, read, tmp_path):
    example = read(big_bird(scattered))
    config = example.config | {"pooler": False}
    model = scattered(build_model(config, VOCABULARY), 2)
    write_huggingface(
        tmp_path, config=config, weights=model.state_dict(), tokenizer=example.tokenizer, info={"task": "encoder"}
    )
    theirs, report = transformers.BigBirdForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()) and not theirs.bert.pooler.weight.any()
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in described.items() if k != "nlpcli"}))
    assert not read_huggingface(tmp_path).config["pooler"]


PUBLISHED = {
    "model_type": "big_bird", "attention_probs_dropout_prob": 0.1, "attention_type": "block_sparse", "block_size": 64,
    "hidden_act": "gelu_new", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02,
    "intermediate_size": 3072, "is_decoder": False, "layer_norm_eps": 1e-12, "max_position_embeddings": 4096,
    "num_attention_heads": 12, "num_hidden_layers": 12, "num_random_blocks": 3, "rescale_embeddings": False,
    "type_vocab_size": 2, "use_bias": True, "vocab_size": 50358,
}  # fmt: skip


def test_the_published_shape_has_as_many_parameters_as_there_and_goes_out_as_it_was():
    family = FAMILIES.load("big_bird")
    given = {"cls.predictions.transform.dense.weight": torch.empty(0), "bert.pooler.weight": torch.ones(1)}
    given["cls.seq_relationship.weight"] = torch.empty(0)
    ours = family.config_in(PUBLISHED, given, "bigbird-roberta-base")
    with torch.device("meta"):
        theirs = transformers.BigBirdForPreTraining(transformers.BigBirdConfig(**PUBLISHED))
    count = count_parameters(build_on_meta(ModelConfig.model_validate(ours), PUBLISHED["vocab_size"]))
    assert count == sum(p.numel() for p in theirs.parameters()) == 128_112_824
    assert ours["attention"][:2] == ["bigbird:64", "bigbird:64:3:1"] and len(ours["attention"]) == 12
    written = family.config_out(ours)
    assert {key: written[key] for key in PUBLISHED.keys() - {"vocab_size"}} == {
        key: value for key, value in PUBLISHED.items() if key != "vocab_size"
    }
