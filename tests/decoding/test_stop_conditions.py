"""A beam that ends at texts."""

from __future__ import annotations

import pytest
import torch

from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.decoding.length_penalty import Ranking
from nlpcli.decoding.stop_conditions import EndingAtTexts
from nlpcli.text import train_tokenizer


@pytest.fixture(scope="module")
def letters():
    return train_tokenizer("chars", ["abcd\n"], vocab_size=None, byte_fallback=False, seed=1)


@pytest.mark.parametrize("stops", [["\n"], ["b", "d"], ["\n", "a"]])
@pytest.mark.parametrize("knows_its_end", [True, False])
def test_the_best_of_a_wide_beam_is_the_best_of_all_texts_that_end_somehow(toy, letters, stops, knows_its_end):
    eos = letters.special.eos if knows_its_end else None
    model = toy(letters.vocab_size, seed=3)
    ending = EndingAtTexts(model, letters, stops, eos)
    ends = [letters.encode([stop])[0][-1] for stop in stops] + ([eos] if knows_its_end else [])
    wide = BeamSettings(beam_size=letters.vocab_size**2, ranking=Ranking(0.0))
    prefix, limit = [letters.encode(["c"])[0][-1]], 3
    [[best]] = beam_search(ending, model.init_state([0]), [prefix], eos=ending.end, max_length=limit, settings=wide)
    probability = {}
    others = [id_ for id_ in range(letters.vocab_size) if id_ not in ends]
    for text in [(), *((a,) for a in others), *((a, b) for a in others for b in others)]:
        tables = model.log_probabilities(0, prefix, text)
        last = torch.stack([tables[-1][end] for end in ends]).logsumexp(0)
        probability[text] = sum(float(table[id_]) for table, id_ in zip(tables, text, strict=False)) + float(last)
    assert best.ended
    assert best.ids == max(probability, key=probability.get)
    assert best.logprob == pytest.approx(max(probability.values()), abs=1e-4)


def test_without_an_end_and_a_piece_for_the_text_nothing_ends(toy, letters):
    assert EndingAtTexts(toy(letters.vocab_size), letters, ["ab"], None).end is None
