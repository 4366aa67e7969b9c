"""Step by step with a cache, or all at once: the same numbers."""

from __future__ import annotations

import pytest
import torch

from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.length_penalty import Ranking
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.models.build import build_model

BOS, EOS, VOCABULARY = 2, 3, 90
YARN = {"method": "yarn", "factor": 3.0, "original_max_length": 8}
SHAPES = [
    {},
    {"norm_position": "pre", "norm": "rmsnorm", "activation": "swiglu", "positions": "rotary", "qk_norm": True},
    {"positions": "learned", "max_length": 40, "tie": "none", "output_bias": True},
    {"positions": "rotary", "kv_heads": 1, "rope_theta": 50.0, "rope_share": 0.5, "rope_scaling": YARN},
    {"positions": "learned", "max_length": 40, "relative_bias": True},
]


def build(kind, shape):
    torch.manual_seed(3)
    common = {"kind": kind, "d_model": 24, "heads": 3, "d_ff": 40, "encoder_layers": 2, "decoder_layers": 2}
    model = build_model(common | shape, VOCABULARY).eval()
    with torch.no_grad():
        model.output_weight.mul_(4)
    return model


def sources():
    source = torch.randint(4, VOCABULARY, (5, 9), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([9, 7, 7, 3, 1])
    mask = torch.arange(9) < lengths[:, None]
    return source.masked_fill(~mask, 0), mask


def assert_greedy(logits, prefix, hypothesis):
    """Each written token is within rounding of the most probable one, given logits (n, vocabulary) of one pass."""
    written = [*hypothesis.ids, EOS] if hypothesis.ended else list(hypothesis.ids)
    steps = logits[len(prefix) - 1 : len(prefix) - 1 + len(written)]
    chosen = steps.gather(1, torch.tensor(written)[:, None])[:, 0]
    assert torch.allclose(chosen, steps.amax(1), atol=1e-4)
    assert hypothesis.logprob == pytest.approx(float((chosen - steps.logsumexp(1)).sum()), abs=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_greedy_translation_is_the_argmax_of_the_teacher_forced_pass(shape):
    model, (source, mask) = build("encoder-decoder", shape), sources()
    prefixes = [[BOS], [BOS, 7, 8], [BOS], [BOS, 5], [BOS]]
    state = model.init_state(model.encode(source, mask))
    found = greedy_search(model, state, prefixes, StopConditions(EOS, 12))
    for row, (prefix, [hypothesis]) in enumerate(zip(prefixes, found, strict=True)):
        target = torch.tensor([[*prefix, *hypothesis.ids]])
        alone = source[row : row + 1, : int(mask[row].sum())]
        assert_greedy(model(alone, None, target)[0], prefix, hypothesis)


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_greedy_text_is_the_argmax_of_the_teacher_forced_pass(shape):
    model = build("decoder", shape)
    prefixes = [[BOS], [BOS, 7, 8, 9], [11, 12]]
    found = greedy_search(model, model.init_state(3), prefixes, StopConditions(EOS, 12))
    for prefix, [hypothesis] in zip(prefixes, found, strict=True):
        assert_greedy(model(torch.tensor([[*prefix, *hypothesis.ids]]))[0], prefix, hypothesis)


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_the_scores_of_a_beam_are_those_of_the_teacher_forced_pass(shape):
    model, (source, mask) = build("encoder-decoder", shape), sources()
    prefixes = [[BOS], [BOS, 7, 8], [BOS], [BOS, 5], [BOS]]
    settings = BeamSettings(beam_size=4, n_best=4, ranking=Ranking(0.6))
    state = model.init_state(model.encode(source, mask))
    found = beam_search(model, state, prefixes, eos=EOS, max_length=[12, 5, 9, 12, 3], settings=settings)
    for row, (prefix, hypotheses) in enumerate(zip(prefixes, found, strict=True)):
        assert len(hypotheses) == 4
        for hypothesis in hypotheses:
            written = [*hypothesis.ids, EOS] if hypothesis.ended else list(hypothesis.ids)
            target = torch.tensor([[*prefix, *written[:-1]]])
            alone = source[row : row + 1, : int(mask[row].sum())]
            table = model(alone, None, target)[0, len(prefix) - 1 :].log_softmax(-1)
            expected = float(table.gather(1, torch.tensor(written)[:, None]).sum())
            assert hypothesis.logprob == pytest.approx(expected, abs=1e-3)
            assert hypothesis.score == pytest.approx(expected / ((5 + len(written)) / 6) ** 0.6, abs=1e-3)
