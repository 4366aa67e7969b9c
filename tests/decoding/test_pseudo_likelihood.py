"""Pseudo-log-likelihoods in batches: the numbers of one masked copy after the other."""

from __future__ import annotations

import pytest
import torch
from model_settings import of_family

from nlpcli.decoding.pseudo_likelihood import WordTails, pseudo_log_likelihoods
from nlpcli.models.build import build_model
from nlpcli.text import train_tokenizer
from nlpcli.text.word_starts import WordStarts

LINES = [
    "the unbelievable cat sat.",
    "unbelievably",
    "don't believe (the cat)!",
    "the sat cat. the",
    "cat 猫が座る cat",
]


@pytest.fixture(scope="module", params=["wordpiece", "unigram", "byte-bpe", "bpe"])
def tokenizer(request):
    size = {"byte-bpe": 300, "unigram": 38}.get(request.param, 60)
    return train_tokenizer(request.param, LINES * 3, vocab_size=size, byte_fallback=False, seed=1)


def encoder(tokenizer):
    torch.manual_seed(2)
    sizes = {"kind": "encoder", "d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 2, "mlm_head": True}
    model = build_model(of_family({**sizes, "positions": "learned"}), tokenizer.vocab_size)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model.eval()


def one_by_one(model, special, ids, ends):
    total = 0.0
    for place, id_ in enumerate(ids):
        masked = [special.mask if place <= i < ends[place] else other for i, other in enumerate(ids)]
        with torch.no_grad():
            states = model(torch.tensor([[special.cls, *masked, special.sep]]))
            logprobs = model.logits(model.mlm_hidden(states))[0, place + 1].double().log_softmax(-1)
        total += float(logprobs[id_])
    return total


@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_a_batch_gives_the_sums_of_single_masked_copies(tokenizer, batch_tokens):
    model, special, texts = encoder(tokenizer), tokenizer.special, [*tokenizer.encode(LINES), []]
    found = pseudo_log_likelihoods(model, texts, special, batch_tokens=batch_tokens)
    wanted = [one_by_one(model, special, ids, [i + 1 for i in range(len(ids))]) for ids in texts]
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-4)
    tails = WordTails(tokenizer)
    found = pseudo_log_likelihoods(model, texts, special, word_ends=tails, batch_tokens=batch_tokens)
    wanted = [one_by_one(model, special, ids, tails(ids)) for ids in texts]
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-4)


def test_a_mask_reaches_to_the_end_of_the_word_and_never_over_punctuation(tokenizer):
    tails = WordTails(tokenizer)
    assert tails([]) == []
    for line in LINES[:4]:
        [ids] = tokenizer.encode([line])
        ends = tails(ids)
        assert all(end > place for place, end in enumerate(ends)) and ends[-1] == len(ids)
        texts = [text.strip().removeprefix("##") for text in tokenizer.decode([[id_] for id_ in ids])]
        marks = {place for place, text in enumerate(texts) if text and all(c in ".'()!" for c in text)}
        for place, end in enumerate(ends):
            assert ends[place:end] == [end] * (end - place)  # one word
            assert marks.isdisjoint(range(place, end)) or end == place + 1
        assert len(set(ends)) >= len(line.split())
        starts = [place for place, begins in enumerate(WordStarts(tokenizer)(ids)) if begins]
        assert {0, *ends[:-1]} >= set(starts)
