import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention.multi_head import AttentionSettings, MultiHeadAttention
from nlpcli.attention.patterns import Causal, Full
from nlpcli.attention.worked_example import D_KEY, D_MODEL, MAX_CHARACTERS, MAX_TOKENS, worked_example
from nlpcli.errors import NlpcliError

WORDS = ["the", "cat", "sat", "on", "a", "mat", "猫", "🙂"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=MAX_TOKENS).map(" ".join)


@given(texts, st.booleans(), st.integers(0, 100))
def test_every_number_follows_from_the_equations_in_plain_loops(text, causal, seed):
    example = worked_example(text, causal=causal, seed=seed)
    n = len(example.tokens)
    for i in range(n):
        scores = [
            sum(example.query[i, d].item() * example.key[j, d].item() for d in range(D_KEY)) / math.sqrt(D_KEY)
            for j in range(i + 1 if causal else n)
        ]
        total = sum(math.exp(score) for score in scores)
        weights = [math.exp(score) / total for score in scores] + [0.0] * (n - len(scores))
        assert example.weights[i].tolist() == pytest.approx(weights, abs=1e-12)
        for d in range(D_KEY):
            context = sum(weight * example.value[j, d].item() for j, weight in enumerate(weights))
            assert example.context[i, d].item() == pytest.approx(context, abs=1e-12)


@given(texts, st.booleans())
def test_a_layer_with_these_weights_gives_this_context(text, causal):
    example = worked_example(text, causal=causal)
    pattern = Causal() if causal else Full()
    layer = MultiHeadAttention(D_MODEL, AttentionSettings(1, d_key=D_KEY, d_value=D_KEY), pattern=pattern).double()
    with torch.no_grad():
        layer.query.weight.copy_(example.query_weight.T)
        layer.key.weight.copy_(example.key_weight.T)
        layer.value.weight.copy_(example.value_weight.T)
        found = layer(example.inputs[None])
        expected = layer.output(example.context)
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-12)


def test_the_same_word_has_the_same_vector_and_another_seed_has_other_numbers():
    example = worked_example("the cat and the dog")
    assert torch.equal(example.inputs[0], example.inputs[3])
    assert not torch.equal(example.inputs[0], example.inputs[1])
    assert not torch.equal(example.inputs, worked_example("the cat and the dog", seed=1).inputs)


@pytest.mark.parametrize("text", ["", "   ", "a b c d e f g h i"])
def test_no_words_and_too_many_words_are_refused(text):
    with pytest.raises(NlpcliError, match="--explain"):
        worked_example(text)


@given(st.integers(0, MAX_TOKENS - 1), st.integers(MAX_CHARACTERS - 1, 3 * MAX_CHARACTERS))
def test_a_word_that_is_too_long_is_refused_with_its_number_and_length(place, length):
    words = ["the"] * MAX_TOKENS
    words[place] = "x" * length
    if length <= MAX_CHARACTERS:
        assert worked_example(" ".join(words)).tokens[place] == words[place]
        return
    with pytest.raises(NlpcliError) as refused:
        worked_example(" ".join(words))
    assert refused.value.message == (
        f"--explain takes words of at most {MAX_CHARACTERS} characters, but word {place + 1} has {length:,}"
    )
