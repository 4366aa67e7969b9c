from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.decoding.autoregressive import ContextShift
from nlpcli.decoding.constraints import Constraints
from nlpcli.decoding.sampling import SamplingSettings, cut_tail, invert, sample
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.errors import NlpcliError

BOS, EOS = 0, 1


def draw(model, sources, prefixes, limit, *, streams=None, context_shift=None, **settings):
    settings = SamplingSettings(**settings)
    state = model.init_state(sources)
    conditions = StopConditions(EOS, limit)
    found = sample(model, state, prefixes, conditions, settings=settings, streams=streams, context_shift=context_shift)
    return [hypotheses[0] for hypotheses in found]


def test_frequencies_follow_the_distribution(toy):
    model, n = toy(6, seed=2, sharpness=1.0), 6_000
    found = draw(model, [7] * n, [[BOS]] * n, 1, temperature=0.8, seed=11)
    counts = np.bincount([EOS if h.ended else h.ids[0] for h in found], minlength=6)
    logits = model.log_probabilities(7, [BOS], [])[0] / 0.8
    expected = n * logits.softmax(-1).numpy()
    assert ((counts - expected) ** 2 / expected).sum() < 20.52  # chi-square, 5 degrees of freedom, p = 0.001


def test_second_tokens_follow_the_first_as_the_model_says(toy):
    model, n = toy(4, seed=4, sharpness=1.0), 6_000
    found = draw(model, [7] * n, [[BOS]] * n, 2, seed=3)
    pairs = {}
    for h in found:
        key = (*h.ids, EOS) if h.ended else h.ids
        pairs[key] = pairs.get(key, 0) + 1
    chi, cells = 0.0, 0
    for key in [(EOS,)] + [(a, b) for a in (0, 2, 3) for b in range(4)]:
        ids, eos = (key[:-1], EOS) if key[-1] == EOS else (key, None)
        expected = n * math.exp(model.logprob(7, [BOS], ids, eos))
        chi += (pairs.get(key, 0) - expected) ** 2 / expected
        cells += 1
    assert cells == 13
    assert chi < 32.91  # 12 degrees of freedom, p = 0.001


rows = st.lists(
    st.tuples(st.integers(0, 99), st.lists(st.integers(2, 8), max_size=4), st.integers(1, 9)), min_size=2, max_size=6
)


@given(seed=st.integers(0, 999), rows=rows, top_p=st.sampled_from([1.0, 0.8]))
def test_a_row_is_drawn_by_seed_and_stream_alone(toy, seed, rows, top_p):
    model = toy(9, seed=seed, sharpness=1.0)
    sources, forced, limits = map(list, zip(*rows, strict=True))
    prefixes = [[BOS, *prefix] for prefix in forced]
    streams = [(10 + i, 0) for i in range(len(rows))]
    together = draw(model, sources, prefixes, limits, streams=streams, top_p=top_p, seed=seed)
    for i in reversed(range(len(rows))):
        arguments = {"streams": [streams[i]], "top_p": top_p, "seed": seed}
        alone = draw(model, [sources[i]], [prefixes[i]], [limits[i]], **arguments)[0]
        assert together[i].ids == alone.ids
        assert together[i].logprob == pytest.approx(alone.logprob, abs=1e-4)
        expected = model.logprob(sources[i], prefixes[i], alone.ids, EOS if alone.ended else None)
        assert alone.logprob == pytest.approx(expected, abs=1e-4)


def test_other_seeds_and_streams_give_other_texts(toy):
    model = toy(50, sharpness=0.1)
    settings = {"constraints": Constraints((EOS,))}
    one = draw(model, [1] * 4, [[BOS]] * 4, 10, seed=1, **settings)
    assert len({h.ids for h in one}) == 4
    assert one == draw(model, [1] * 4, [[BOS]] * 4, 10, seed=1, **settings)
    assert not {h.ids for h in one} & {h.ids for h in draw(model, [1] * 4, [[BOS]] * 4, 10, seed=2, **settings)}


def plain_filter(probabilities, top_k, top_p, min_p):
    """The sets as the papers word them, token by token."""
    order = sorted(range(len(probabilities)), key=lambda v: -probabilities[v])
    if top_k:
        order = order[:top_k]
    total = sum(probabilities[v] for v in order)
    kept, mass = [], 0.0
    for v in order:
        if mass >= top_p and top_p < 1:
            break
        kept.append(v)
        mass += probabilities[v] / total
    return {v for v in kept if probabilities[v] >= min_p * probabilities[kept[0]]}


@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.integers(1, 80),
    top_k=st.integers(0, 20),
    top_p=st.sampled_from([1.0, 0.95, 0.7, 0.3, 1e-6]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_the_cuts_are_those_of_a_plain_reference(seed, vocabulary, top_k, top_p, min_p):
    logits = 2 * torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(seed))
    kept = cut_tail(logits, SamplingSettings(top_k=top_k, top_p=top_p, min_p=min_p))
    for row, cut in zip(logits.double().softmax(-1).tolist(), kept, strict=True):
        assert set((cut > -torch.inf).nonzero()[:, 0].tolist()) == plain_filter(row, top_k, top_p, min_p)
    assert torch.equal(kept[kept > -torch.inf], logits[kept > -torch.inf])


def test_inversion_never_gives_what_has_no_probability():
    probabilities = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]] * 4)
    uniform = torch.tensor([0.0, 0.499999, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert invert(probabilities, uniform).tolist() == [1, 1, 3, 3]


def test_a_full_window_goes_on_from_its_last_half(toy):
    window, limit = 6, 20
    model = toy(12, seed=1, sharpness=1.0, max_length=window)
    renewed = []

    def renew(rows):
        renewed.append(rows)
        return model.init_state([5] * rows)

    settings = {"constraints": Constraints((EOS,)), "seed": 1}
    two = draw(model, [5, 5], [[BOS], [BOS, 3, 4]], [limit, 3], context_shift=ContextShift(renew, window), **settings)
    assert [len(h.ids) for h in two] == [limit, 3]
    alone = draw(model, [5], [[BOS]], [limit], context_shift=ContextShift(renew, window), **settings)[0]
    assert alone.ids == two[0].ids
    text = [BOS, *alone.ids]
    logprob, start = 0.0, 0
    for position in range(1, len(text)):
        if position - start > window:
            start = position - window // 2
        table = model.log_probabilities(5, text[start:position], [])[0]
        logprob += float(table[text[position]])
    assert alone.logprob == pytest.approx(logprob, abs=1e-3)
    assert renewed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be a positive number, not 0.0"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": -1}, "top-k"),
        ({"top_p": 0.0}, "top-p"),
        ({"top_p": 1.5}, "top-p"),
        ({"min_p": 2.0}, "min-p"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(NlpcliError, match=message):
        SamplingSettings(**settings)
