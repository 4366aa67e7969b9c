"""Several models that choose each token together."""

from __future__ import annotations

import pytest
import torch

from nlpcli.decoding.beam import BeamSettings
from nlpcli.decoding.constraints import Constraints, never_written
from nlpcli.decoding.ensemble import Ensemble
from nlpcli.decoding.line_translator import TranslatorSettings
from nlpcli.decoding.translator import Translator
from nlpcli.text import SpecialTokens

CONSTRAINTS = Constraints(never_written(SpecialTokens()))


def translations(model, tokenizer, lines, beam_size):
    settings = TranslatorSettings(search=BeamSettings(beam_size, constraints=CONSTRAINTS), max_length=6, scores=True)
    return list(Translator(model, tokenizer, settings).translate(lines))


@torch.inference_mode()
def test_probabilities_are_the_mean_of_those_of_its_models(transformer, tokenizer):
    models = [transformer(seed=seed) for seed in (1, 2, 3)]
    source = torch.tensor([[4, 5, 6], [7, 8, 9]])
    target = torch.tensor([[1, 4, 7, 5], [1, 6, 6, 4]])
    ensemble = Ensemble(models)
    state = ensemble.init_state(ensemble.encode(source, torch.ones_like(source, dtype=torch.bool)))
    for n in range(target.shape[1]):
        found, state = ensemble.step(target[:, n : n + 1], state)
        rows = [
            (model.hidden(source, None, target[:, : n + 1])[:, -1] @ model.output_weight.t()).softmax(-1)
            for model in models
        ]
        torch.testing.assert_close(found.exp(), torch.stack(rows).mean(0), atol=1e-5, rtol=1e-4)
        if n == 1:  # the rows change places
            state, source, target = ensemble.reorder(state, torch.tensor([1, 0])), source.flip(0), target.flip(0)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_model_with_itself_translates_as_alone_and_with_another_otherwise(
    transformer, tokenizer, sentences, beam_size
):
    one, other, lines = transformer(seed=1), transformer(seed=2), sentences[:30]
    alone = translations(one, tokenizer, lines, beam_size)
    twice = translations(Ensemble([one, one]), tokenizer, lines, beam_size)
    assert [item.text for item in alone] == [item.text for item in twice]
    scores = [item.candidates[0].score for item in alone]
    assert [item.candidates[0].score for item in twice] == pytest.approx(scores, abs=1e-3)
    both = translations(Ensemble([one, other]), tokenizer, lines, beam_size)
    assert [item.text for item in both] != [item.text for item in alone]
