"""Our encoder against BERT's in `transformers`, random weights, no download. Token types, which we lack, are zero."""

from __future__ import annotations

import pytest
import torch

from nlpcli.models.build import build_model

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, WIDTH, LENGTH = 50, 24, 20
PARTS = {
    "self_attention.query": "attention.self.query",
    "self_attention.key": "attention.self.key",
    "self_attention.value": "attention.self.value",
    "self_attention.output": "attention.output.dense",
    "self_attention_norm": "attention.output.LayerNorm",
    "feed_forward.inner": "intermediate.dense",
    "feed_forward.outer": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


@pytest.fixture(scope="module")
def bert():
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    torch.manual_seed(6)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.randn_like(weight) * 0.3 + name.endswith("LayerNorm.weight"))
        model.embeddings.token_type_embeddings.weight.zero_()
    return model


@pytest.fixture(scope="module")
def ours(bert):
    config = {
        "kind": "encoder",
        "d_model": WIDTH,
        "heads": 4,
        "d_ff": 40,
        "encoder_layers": 3,
        "norm_position": "post",
        "norm_eps": 1e-12,
        "activation": "gelu",
        "positions": "learned",
        "max_length": LENGTH,
        "scale_embeddings": False,
        "embedding_norm": True,
        "attention_bias": True,
        "dropout": 0.0,
    }
    model = build_model(config, VOCABULARY).eval()
    theirs = bert.state_dict()
    weights = {
        "encoder_embedding.tokens.weight": theirs["embeddings.word_embeddings.weight"],
        "encoder_embedding.positions.weight": theirs["embeddings.position_embeddings.weight"],
        "encoder_embedding.norm.weight": theirs["embeddings.LayerNorm.weight"],
        "encoder_embedding.norm.bias": theirs["embeddings.LayerNorm.bias"],
    }
    for name in model.state_dict().keys() - weights.keys():
        _, _, layer, rest = name.split(".", 3)
        part, kind = rest.rsplit(".", 1)
        weights[name] = theirs[f"encoder.layer.{layer}.{PARTS[part]}.{kind}"]
    model.load_state_dict(weights)
    return model


@torch.inference_mode()
def test_hidden_states_are_berts_for_padded_batches(bert, ours):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (5, LENGTH), generator=generator)
    mask = torch.arange(LENGTH) < torch.tensor([20, 13, 7, 2, 1])[:, None]
    theirs = bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    assert float(theirs.std()) > 0.5
    assert torch.allclose(ours(ids, mask)[mask], theirs[mask], atol=1e-4)
    whole = bert(input_ids=ids).last_hidden_state
    assert torch.allclose(ours(ids), whole, atol=1e-4)
