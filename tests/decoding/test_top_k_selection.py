from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.decoding.top_k_selection import best_tokens, log_normalizer, top_candidates


@given(
    seed=st.integers(0, 10_000),
    sentences=st.integers(1, 4),
    beams=st.integers(1, 5),
    vocabulary=st.integers(1, 400),
    k=st.integers(1, 12),
    banned=st.floats(0, 1),
)
def test_the_best_candidates_are_those_of_a_full_sort(seed, sentences, beams, vocabulary, k, banned):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(sentences, beams, vocabulary, generator=generator)
    logits[torch.rand(logits.shape, generator=generator) < banned] = -torch.inf
    base = torch.randn(sentences, beams, generator=generator)
    values, beam, token = top_candidates(logits, base, k)
    flat = (logits + base[:, :, None]).flatten(1)
    expected = flat.sort(descending=True).values[:, :k]
    expected = torch.nn.functional.pad(expected, (0, k - expected.shape[1]), value=-torch.inf)
    assert torch.equal(values, expected)
    real = values > -torch.inf
    assert torch.equal(flat.gather(1, beam * vocabulary + token)[real], values[real])
    for row in range(sentences):
        pairs = list(zip(beam[row][real[row]].tolist(), token[row][real[row]].tolist(), strict=True))
        assert len(set(pairs)) == len(pairs)


@given(seed=st.integers(0, 10_000), vocabulary=st.integers(1, 300))
def test_the_best_token_is_the_argmax(seed, vocabulary):
    logits = torch.randn(5, vocabulary, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(best_tokens(logits), logits.argmax(-1))


@pytest.mark.parametrize("rows", [1, 3, 2000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_normalizer_is_the_logarithm_of_the_sum(rows, dtype):
    logits = (10 * torch.randn(rows, 500, generator=torch.Generator().manual_seed(1))).to(dtype)
    logits[:, 0] = -torch.inf
    assert torch.allclose(log_normalizer(logits), logits.float().logsumexp(-1), atol=2e-5)
