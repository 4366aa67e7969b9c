"""Candidates read in batches, from the cache of their prompt: the numbers of one plain pass each."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_settings import of_family

from nlpcli.decoding.likelihood import Completions, log_likelihoods, split_completions
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.text import train_tokenizer

VOCABULARY, BOS, EOS, PAD = 60, 2, 3, 0
SHAPES = {
    "gpt": {"positions": "learned", "norm_position": "pre", "max_length": 64, "output_bias": True},
    "llama": {"norm_position": "pre", "norm": "rmsnorm", "activation": "swiglu", "positions": "rotary"},
    "t5-positions": {"positions": "relative"},
    "windows": {"positions": "learned", "attention": ["full", "window:5"], "decoder_layers": 2},
    "xl-plain": {"family": "transformer-xl"},
    "xl-adaptive": {"family": "transformer-xl", "adaptive_cutoffs": [12, 40]},
}


def build(kind="decoder", **shape):
    torch.manual_seed(3)
    sizes = {"kind": kind, "d_model": 16, "heads": 2, "d_ff": 24, "decoder_layers": 2, "encoder_layers": 1}
    model = (
        build_model(of_family(sizes | shape), VOCABULARY).double().eval()
    )  # all that is rounded is what is said below
    with torch.no_grad():
        model.output_weight.mul_(4)
    return model


ROUNDED = {"rel": 32 * 2**-23, "abs": 1e-6}
"""A sum of at most 5 log-probabilities, each of which float32 rounds a few times: the logit, exp, log, difference."""


@pytest.fixture(scope="module")
def models():
    return {name: build(**shape) for name, shape in SHAPES.items()}


def questions(seed=0, count=7, source=False):
    draw = torch.Generator().manual_seed(seed)

    def number(low, high):
        return int(torch.randint(low, high, (), generator=draw))

    def ids(low, high):
        return torch.randint(4, VOCABULARY, (number(low, high),), generator=draw).tolist()

    return [
        Completions(ids(1, 25), [ids(1, 6) for _ in range(number(1, 4))], ids(1, 9) if source else None)
        for _ in range(count)
    ]


def alone(model, question, candidate):
    """One forward pass over prompt and candidate."""
    tokens = torch.tensor([[*question.prefix, *candidate]])
    with torch.inference_mode():
        if question.source is None:
            logits = model(tokens)
        else:
            logits = model(torch.tensor([question.source]), None, tokens)
    logprobs = logits[0].double().log_softmax(-1)
    start = len(question.prefix) - 1
    return sum(float(logprobs[start + i, id_]) for i, id_ in enumerate(candidate))


@pytest.mark.parametrize("name", SHAPES)
def test_a_batch_from_the_cache_gives_the_sums_of_single_full_passes(models, name):
    asked = questions()
    found = log_likelihoods(models[name], asked, pad_id=PAD)
    for question, values in zip(asked, found, strict=True):
        wanted = [alone(models[name], question, candidate) for candidate in question.candidates]
        assert values == pytest.approx(wanted, **ROUNDED)


def test_an_encoder_decoders_candidates_are_scored_given_each_its_own_source():
    model, asked = build("encoder-decoder", tie="none"), questions(1, source=True)
    found = log_likelihoods(model, asked, pad_id=PAD)
    for question, values in zip(asked, found, strict=True):
        wanted = [alone(model, question, candidate) for candidate in question.candidates]
        assert values == pytest.approx(wanted, **ROUNDED)


@given(seed=st.integers(0, 1000), batch_tokens=st.sampled_from([1, 60, 150]), count=st.integers(1, 6))
def test_the_size_of_the_batch_changes_nothing(models, seed, batch_tokens, count):
    asked = questions(seed, count)
    small = log_likelihoods(models["gpt"], asked, pad_id=PAD, batch_tokens=batch_tokens)
    large = log_likelihoods(models["gpt"], asked, pad_id=PAD)
    assert [len(values) for values in small] == [len(question.candidates) for question in asked]
    for one, other in zip(small, large, strict=True):
        assert one == pytest.approx(other, **ROUNDED)


@pytest.mark.parametrize("segment", [4, 7])
def test_a_model_with_memory_reads_segments_from_the_beginning_of_each_text(segment):
    model, asked = build(family="transformer-xl", memory_length=6), questions(2)
    found = log_likelihoods(model, asked, pad_id=PAD, segment=segment)
    for question, values in zip(asked, found, strict=True):
        for candidate, value in zip(question.candidates, values, strict=True):
            tokens, memory, states = torch.tensor([[*question.prefix, *candidate]]), None, []
            with torch.inference_mode():
                for part in tokens.split(segment, dim=1):
                    hidden, memory = model.hidden(part, memory)
                    states.append(hidden)
                logprobs = model.logits(torch.cat(states, 1))[0].double().log_softmax(-1)
            start = len(question.prefix) - 1
            wanted = sum(float(logprobs[start + i, id_]) for i, id_ in enumerate(candidate))
            assert value == pytest.approx(wanted, **ROUNDED)


def test_a_prompt_is_read_once_whatever_the_number_of_its_candidates(models, monkeypatch):
    model, read = models["gpt"], []
    advance = type(model).advance
    monkeypatch.setattr(
        type(model), "advance", lambda self, ids, state: read.append(tuple(ids.shape)) or advance(self, ids, state)
    )
    log_likelihoods(model, [Completions(range(4, 24), [[5], [6, 7], [8, 9, 10]])], pad_id=PAD)
    assert read == [(1, 19), (3, 3)]


def test_all_probabilities_of_a_next_token_add_up_to_one(models):
    every = Completions([BOS, 7], [[id_] for id_ in range(VOCABULARY)])
    [values] = log_likelihoods(models["llama"], [every], pad_id=PAD)
    assert float(torch.tensor(values).exp().sum()) == pytest.approx(1, abs=1e-5)


# --- the border between prompt and candidate ---------------------------------------------------------------------

LINES = ["the film was good", "the film was bad", "a good film, a bad film", "good and bad films were there"] * 20


@pytest.fixture(scope="module", params=["byte-bpe", "unigram", "bpe", "wordpiece", "chars"])
def any_tokenizer(request):
    size = {"byte-bpe": 285, "unigram": 32, "bpe": 40, "wordpiece": 40, "chars": None}[request.param]
    return train_tokenizer(request.param, LINES, vocab_size=size, byte_fallback=False, seed=1)


@given(
    prompt=st.sampled_from(["the film was", "the film was ", "a goo", "", "film, a"]),
    candidates=st.lists(st.sampled_from([" good", "good", "d", " bad film", "bad", "s were"]), min_size=1, max_size=4),
)
def test_what_is_in_common_and_the_rest_are_the_encoding_of_prompt_and_candidate(any_tokenizer, prompt, candidates):
    prefix, rests = split_completions(any_tokenizer, prompt, candidates, EOS)
    common = [] if prefix == [EOS] else prefix
    assert all(rests)
    assert [[*common, *rest] for rest in rests] == any_tokenizer.encode([prompt + text for text in candidates])
    assert common == any_tokenizer.encode([prompt])[0][: len(common)]


def test_a_merge_over_the_border_belongs_to_every_candidate():
    tokenizer = train_tokenizer("byte-bpe", LINES, vocab_size=285, byte_fallback=False, seed=1)
    prefix, rests = split_completions(tokenizer, "the film was ", ["good", "xyz"], EOS)
    assert tokenizer.decode([prefix]) == ["the film was"]
    assert tokenizer.decode(rests) == [" good", " xyz"]


def test_a_blank_candidate_is_refused():
    tokenizer = train_tokenizer("unigram", LINES, vocab_size=32, byte_fallback=False, seed=1)
    with pytest.raises(NlpcliError, match="adds no token"):
        split_completions(tokenizer, "the film was", [" good", ""], EOS)
