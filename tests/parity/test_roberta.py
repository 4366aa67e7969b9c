"""Our encoder and its head against RoBERTa's in `transformers`, whose positions begin after the padding id."""

from __future__ import annotations

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, LENGTH = 50, 20


@pytest.fixture(scope="module", params=[1, 0, 4])
def roberta(request, scattered):
    config = transformers.RobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=LENGTH + request.param + 1,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=request.param,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return scattered(transformers.RobertaForMaskedLM(config), 6)


@torch.inference_mode()
def test_logits_are_robertas_for_padded_batches(roberta, read):
    ours = read(roberta)
    pad = roberta.config.pad_token_id
    assert (ours.config["position_offset"], ours.config["max_length"]) == (pad + 1, LENGTH)
    ids = torch.randint(5, VOCABULARY, (4, LENGTH), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(LENGTH) < torch.tensor([20, 13, 7, 1])[:, None]
    ids = ids.masked_fill(~mask, pad)
    theirs = roberta(input_ids=ids, attention_mask=mask.long()).logits
    found = ours.model.logits(ours.model.mlm_hidden(ours.model(ids, mask)))
    assert float(theirs.std()) > 0.5
    assert torch.allclose(found[mask], theirs[mask], atol=1e-4)
    assert ours.left_out == []
