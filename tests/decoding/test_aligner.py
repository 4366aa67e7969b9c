from __future__ import annotations

import pytest

from nlpcli.decoding.aligner import Aligner, AlignerSettings, Look, Pair
from nlpcli.errors import NlpcliError

LOOKS = [Look(1), Look(2), Look(2, "read"), Look(gradient=True), Look(1, gradient=True)]


@pytest.fixture(scope="module")
def pairs(sentences):
    return [Pair(source, target) for source, target in zip(sentences[:60], sentences[60:120], strict=True)]


def test_every_word_with_a_piece_has_at_most_one_link_a_way(transformer, tokenizer, pairs):
    found = Aligner(transformer(decoder_layers=2), tokenizer).links(pairs, LOOKS)
    assert len(found) == len(LOOKS) and all(len(of_look) == len(pairs) for of_look in found)
    for of_look in found[:3]:
        for pair, ways in zip(pairs, of_look, strict=True):
            sources, targets = len(pair.source.split()), len(pair.target.split())
            assert [j for _, j in sorted(ways.of_targets, key=lambda link: link[1])] == list(
                range(targets if sources else 0)
            )
            assert [i for i, _ in sorted(ways.of_sources)] == list(range(sources if targets else 0))
            assert all(i < sources and j < targets for i, j in ways.of_targets | ways.of_sources)


def test_looks_are_the_same_alone_and_together_and_in_any_batch(transformer, tokenizer, pairs):
    model = transformer(decoder_layers=2)
    together = Aligner(model, tokenizer).links(pairs, LOOKS)
    for look, found in zip(LOOKS, together, strict=True):
        assert Aligner(model, tokenizer, AlignerSettings(batch_tokens=40)).links(pairs, [look]) == [found]


def test_what_stands_before_a_text_is_no_word(transformer, tokenizer, pairs):
    model = transformer(decoder_layers=2)
    some, other = tokenizer.encode(["mann"])[0][:1], tokenizer.special.bos
    settings = AlignerSettings(source_start=tuple(some), target_start=(other, other))
    for ways, pair in zip(Aligner(model, tokenizer, settings).links(pairs, [Look(1)])[0], pairs, strict=True):
        sources, targets = len(pair.source.split()), len(pair.target.split())
        assert {j for _, j in ways.of_targets} == set(range(targets if sources else 0))
        assert all(0 <= i < sources for i, _ in ways.of_targets)


def test_a_model_is_left_as_it_was(transformer, tokenizer, pairs):
    model = transformer()
    Aligner(model, tokenizer).links(pairs[:5], [Look(gradient=True)])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(getattr(module, "recorder", None) is None for module in model.modules())


def test_a_layer_that_is_not_there_and_an_empty_batch_are_refused(transformer, tokenizer, pairs):
    for look in (Look(3), Look(3, gradient=True)):
        with pytest.raises(NlpcliError, match="no decoder layer 3"):
            Aligner(transformer(), tokenizer).links(pairs[:3], [look])
    with pytest.raises(NlpcliError, match="at least 1"):
        AlignerSettings(batch_tokens=0)
    assert Aligner(transformer(), tokenizer).links([], [Look()]) == [[]]
