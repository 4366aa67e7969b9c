from __future__ import annotations

import numpy as np
import pytest

from nlpcli.decoding.aligner import Aligner, AlignerSettings, Pair, WeightSelector
from nlpcli.errors import NlpcliError

SELECTORS = [
    WeightSelector(1),
    WeightSelector(2),
    WeightSelector(2, "read"),
    WeightSelector(gradient=True),
    WeightSelector(1, gradient=True),
]


@pytest.fixture(scope="module")
def pairs(sentences):
    return [Pair(source, target) for source, target in zip(sentences[:60], sentences[60:120], strict=True)]


def test_every_word_with_a_piece_has_shares_that_sum_to_one(transformer, tokenizer, pairs):
    found = Aligner(transformer(decoder_layers=2), tokenizer).shares(pairs, SELECTORS)
    assert len(found) == len(SELECTORS) and all(len(of_selector) == len(pairs) for of_selector in found)
    for of_selector, selector in zip(found, SELECTORS, strict=True):
        for pair, array in zip(pairs, of_selector, strict=True):
            sources, targets = len(pair.source.split()), len(pair.target.split())
            assert array.shape == (targets, sources) and (array >= 0).all()
            if sources and not selector.gradient:
                assert array.sum(axis=1) == pytest.approx(np.ones(targets), abs=1e-5)


def test_looks_are_the_same_alone_and_together_and_in_any_batch(transformer, tokenizer, pairs):
    model = transformer(decoder_layers=2).double()
    together = Aligner(model, tokenizer).shares(pairs, SELECTORS)
    for selector, found in zip(SELECTORS, together, strict=True):
        [alone] = Aligner(model, tokenizer, AlignerSettings(batch_tokens=40)).shares(pairs, [selector])
        for some, others in zip(found, alone, strict=True):
            assert some == pytest.approx(others, abs=1e-4)


def test_what_stands_before_a_text_is_no_word(transformer, tokenizer, pairs):
    some, other = tokenizer.encode(["mann"])[0][:1], tokenizer.special.bos
    settings = AlignerSettings(source_start=tuple(some), target_start=(other, other))
    [found] = Aligner(transformer(decoder_layers=2), tokenizer, settings).shares(pairs, [WeightSelector(1)])
    for array, pair in zip(found, pairs, strict=True):
        sources, targets = len(pair.source.split()), len(pair.target.split())
        assert array.shape == (targets, sources)
        assert not sources or array.sum(axis=1) == pytest.approx(np.ones(targets), abs=1e-5)


def test_a_model_is_left_as_it_was(transformer, tokenizer, pairs):
    model = transformer()
    Aligner(model, tokenizer).shares(pairs[:5], [WeightSelector(gradient=True)])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(getattr(module, "recorder", None) is None for module in model.modules())


def test_a_layer_that_is_not_there_and_an_empty_batch_are_refused(transformer, tokenizer, pairs):
    for selector in (WeightSelector(3), WeightSelector(3, gradient=True)):
        with pytest.raises(NlpcliError, match="no decoder layer 3"):
            Aligner(transformer(), tokenizer).shares(pairs[:3], [selector])
    with pytest.raises(NlpcliError, match="at least 1"):
        AlignerSettings(batch_tokens=0)
    assert Aligner(transformer(), tokenizer).shares([], [WeightSelector()]) == [[]]
