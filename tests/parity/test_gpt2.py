"""Our decoder against GPT's and GPT-2's in `transformers`."""

from __future__ import annotations

import pytest
import torch

from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import StopConditions

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, WIDTH, LENGTH = 50, 24, 20
SHAPE = {
    "vocab_size": VOCABULARY,
    "n_embd": WIDTH,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": LENGTH,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 0,
}
MODELS = {
    "gpt": lambda: transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(**SHAPE)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**SHAPE)),
    "gpt2-relu": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**SHAPE, n_inner=32, activation_function="relu", tie_word_embeddings=False)
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def theirs(request, scattered):
    return scattered(MODELS[request.param](), 5, 0.2)


@pytest.fixture(scope="module")
def ours(theirs, read):
    return read(theirs)


def tokens(rows=4, length=LENGTH, seed=0):
    return torch.randint(2, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_logits_are_theirs(theirs, ours):
    expected = theirs(input_ids=tokens()).logits
    assert float(expected.std()) > 0.5
    assert torch.allclose(ours.model(tokens()), expected, atol=1e-4)
    assert sum(p.numel() for p in ours.model.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert ours.left_out == []


@torch.inference_mode()
def test_logits_of_a_padded_batch_are_theirs(theirs, ours):
    mask = torch.arange(LENGTH) < torch.tensor([20, 13, 7, 1])[:, None]
    expected = theirs(input_ids=tokens(), attention_mask=mask.long()).logits
    assert torch.allclose(ours.model(tokens())[mask], expected[mask], atol=1e-4)


@torch.inference_mode()
def test_greedy_text_is_theirs(theirs, ours):
    prompt = tokens(rows=6, length=3, seed=4)
    expected = theirs.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=15,
        eos_token_id=None,
        pad_token_id=0,
    )
    found = greedy_search(ours.model, ours.model.init_state(6), prompt.tolist(), StopConditions(None, 15))
    assert [list(row[0].ids) for row in found] == expected[:, 3:].tolist()
