"""Our encoder and its heads against BERT's in `transformers`."""

from __future__ import annotations

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, WIDTH, LENGTH = 50, 24, 20


def config(**changes):
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": LENGTH,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return transformers.BertConfig(**(settings | changes))


@pytest.fixture(scope="module")
def bert(scattered):
    return scattered(transformers.BertForPreTraining(config()), 6)


@pytest.fixture(scope="module")
def ours(bert, read):
    return read(bert)


def batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (5, LENGTH), generator=generator)
    mask = torch.arange(LENGTH) < torch.tensor([20, 13, 7, 2, 1])[:, None]
    segments = torch.randint(0, 2, (5, LENGTH), generator=generator)
    return ids, mask, segments


@torch.inference_mode()
def test_hidden_states_are_berts_for_padded_batches(bert, ours):
    ids, mask, segments = batch()
    theirs = bert.bert(input_ids=ids, attention_mask=mask.long(), token_type_ids=segments).last_hidden_state
    assert float(theirs.std()) > 0.5
    assert torch.allclose(ours.model(ids, mask, segments)[mask], theirs[mask], atol=1e-4)
    whole = bert.bert(input_ids=ids).last_hidden_state
    assert torch.allclose(ours.model(ids), whole, atol=1e-4)


@torch.inference_mode()
def test_both_heads_are_berts(bert, ours):
    ids, mask, segments = batch()
    theirs = bert(input_ids=ids, attention_mask=mask.long(), token_type_ids=segments)
    states = ours.model(ids, mask, segments)
    logits = ours.model.logits(ours.model.mlm_hidden(states))
    assert float(theirs.prediction_logits.std()) > 0.5
    assert torch.allclose(logits[mask], theirs.prediction_logits[mask], atol=1e-4)
    assert torch.allclose(ours.model.pair_logits(states), theirs.seq_relationship_logits, atol=1e-4)
    assert sum(p.numel() for p in ours.model.parameters()) == sum(p.numel() for p in bert.parameters())
    assert ours.left_out == []


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("BertModel", {"mlm_head": False, "pooler": True, "pair_head": False}),
        ("BertForMaskedLM", {"mlm_head": True, "pooler": False, "pair_head": False}),
        ("BertForNextSentencePrediction", {"mlm_head": False, "pooler": True, "pair_head": True}),
    ],
)
@torch.inference_mode()
def test_the_heads_are_those_the_folder_has(scattered, read, name, heads):
    theirs = scattered(getattr(transformers, name)(config(hidden_act="gelu_new", type_vocab_size=3)), 2)
    found = read(theirs)
    assert {head: found.config[head] for head in heads} == heads
    ids, mask, segments = batch()
    output = theirs(input_ids=ids, attention_mask=mask.long(), token_type_ids=segments)
    states = found.model(ids, mask, segments)
    if name == "BertModel":
        assert torch.allclose(states[mask], output.last_hidden_state[mask], atol=1e-4)
        assert torch.allclose(found.model.pooled(states), output.pooler_output, atol=1e-4)
    elif heads["mlm_head"]:
        assert torch.allclose(found.model.logits(found.model.mlm_hidden(states))[mask], output.logits[mask], atol=1e-4)
    else:
        assert torch.allclose(found.model.pair_logits(states), output.logits, atol=1e-4)
