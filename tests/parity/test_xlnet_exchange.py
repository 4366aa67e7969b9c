"""XLNet's weights through our reader: the states and logits of padded batches of two segments."""

from __future__ import annotations

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, LENGTH = 50, 14


@pytest.fixture(scope="module", params=[-1, 5])
def xlnet(request, scattered):
    config = transformers.XLNetConfig(
        vocab_size=VOCABULARY,
        d_model=24,
        n_layer=3,
        n_head=4,
        d_inner=40,
        clamp_len=request.param,
        mem_len=6,
        dropout=0.0,
        pad_token_id=5,
    )
    return scattered(transformers.XLNetLMHeadModel(config), 6)


@torch.inference_mode()
def test_logits_are_xlnets_for_padded_batches(xlnet, read):
    ours = read(xlnet)
    assert ours.config["clamp_length"] == max(0, xlnet.config.clamp_len)
    assert ours.config["memory_length"] == 6
    assert ours.left_out == []
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (4, LENGTH), generator=generator)
    segments = torch.randint(0, 2, (4, LENGTH), generator=generator)
    mask = torch.arange(LENGTH).flip(0) < torch.tensor([14, 9, 5, 1])[:, None]  # its padding stands on the left
    theirs = xlnet(input_ids=ids, attention_mask=mask.float(), token_type_ids=segments).logits
    found = ours.model.logits(ours.model(ids, mask, segments))
    assert float(theirs.std()) > 0.5
    assert torch.allclose(found[mask], theirs[mask], atol=1e-4)
    assert sum(p.numel() for p in ours.model.parameters()) == sum(p.numel() for p in xlnet.parameters())
