"""Our decoder against GPT-2's in `transformers`, random weights, no download."""

from __future__ import annotations

import pytest
import torch

from nlpcli.decoding.greedy import greedy_search
from nlpcli.models.build import build_model

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, WIDTH, LENGTH = 50, 24, 20


def scattered(model, seed):
    """Every number random, so that no part can be left out unnoticed."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            gain = name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight", "LayerNorm.weight"))
            weight.copy_(torch.randn_like(weight) * 0.2 + gain)
    return model.eval()


@pytest.fixture(scope="module")
def gpt2():
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=WIDTH,
        n_layer=3,
        n_head=4,
        n_positions=LENGTH,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=0,
    )
    return scattered(transformers.GPT2LMHeadModel(config), 5)


@pytest.fixture(scope="module")
def ours(gpt2):
    config = {
        "kind": "decoder",
        "d_model": WIDTH,
        "heads": 4,
        "d_ff": 4 * WIDTH,
        "decoder_layers": 3,
        "norm_position": "pre",
        "activation": "gelu_tanh",
        "positions": "learned",
        "max_length": LENGTH,
        "scale_embeddings": False,
        "attention_bias": True,
        "tie": "all",
        "dropout": 0.0,
    }
    model = build_model(config, VOCABULARY).eval()
    theirs = gpt2.transformer
    with torch.no_grad():
        model.decoder_embedding.tokens.weight.copy_(theirs.wte.weight)
        model.decoder_embedding.positions.weight.copy_(theirs.wpe.weight)
        model.decoder.norm.load_state_dict(theirs.ln_f.state_dict())
        for mine, block in zip(model.decoder.layers, theirs.h, strict=True):
            attention = mine.self_attention
            parts = [attention.query, attention.key, attention.value]
            pieces = zip(parts, block.attn.c_attn.weight.chunk(3, 1), block.attn.c_attn.bias.chunk(3), strict=True)
            linear = [
                *pieces,
                (attention.output, block.attn.c_proj.weight, block.attn.c_proj.bias),
                (mine.feed_forward.inner, block.mlp.c_fc.weight, block.mlp.c_fc.bias),
                (mine.feed_forward.outer, block.mlp.c_proj.weight, block.mlp.c_proj.bias),
            ]
            for layer, weight, bias in linear:
                layer.weight.copy_(weight.T)  # Conv1D keeps its matrices the other way round
                layer.bias.copy_(bias)
            mine.self_attention_norm.load_state_dict(block.ln_1.state_dict())
            mine.feed_forward_norm.load_state_dict(block.ln_2.state_dict())
    return model


def tokens(rows=4, length=LENGTH, seed=0):
    return torch.randint(2, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_logits_are_gpt2s(gpt2, ours):
    theirs = gpt2(input_ids=tokens()).logits
    assert float(theirs.std()) > 0.5
    assert torch.allclose(ours(tokens()), theirs, atol=1e-4)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in gpt2.parameters())


@torch.inference_mode()
def test_greedy_text_is_gpt2s(gpt2, ours):
    prompt = tokens(rows=6, length=3, seed=4)
    theirs = gpt2.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=15,
        eos_token_id=None,
        pad_token_id=0,
    )
    found = greedy_search(ours, ours.init_state(6), prompt.tolist(), eos=None, max_length=15)
    assert [list(row[0].ids) for row in found] == theirs[:, 3:].tolist()
