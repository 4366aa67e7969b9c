from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.decoding.constraints import Constraints
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.length_penalty import Ranking, log_coverage
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.errors import NlpcliError

BOS, EOS = 0, 1
SEEDS = st.integers(0, 10_000)


def search(model, sources, prefixes, limit, **settings):
    constraints = settings.pop("constraints", Constraints())
    names = ("length_penalty", "normalization", "coverage_penalty")
    ranking = Ranking(**{name: settings.pop(name) for name in names if name in settings})
    return beam_search(
        model,
        model.init_state(sources),
        prefixes,
        eos=EOS,
        max_length=limit,
        settings=BeamSettings(ranking=ranking, constraints=constraints, **settings),
    )


@given(seed=SEEDS, eos=st.integers(0, 3), alpha=st.sampled_from([0.0, 0.6, 1.0, 2.0]))
def test_a_beam_as_wide_as_everything_is_exhaustive_search(toy, seed, eos, alpha):
    model, limit = toy(4, seed=seed), 4
    ranking = Ranking(length_penalty=alpha)
    found = beam_search(
        model,
        model.init_state([seed]),
        [[BOS]],
        eos=eos,
        max_length=limit,
        settings=BeamSettings(beam_size=4**limit, n_best=10, patience=math.inf, ranking=ranking),
    )[0]
    all_texts = [
        (ranking.score(model.logprob(seed, [BOS], ids, eos), len(ids) + 1), ids) for ids in model.every_text(eos, limit)
    ]
    best = sorted(all_texts, reverse=True)[:10]
    assert [h.ids for h in found] == [ids for _, ids in best]
    assert [h.score for h in found] == pytest.approx([score for score, _ in best], abs=1e-4)
    assert all(h.ended for h in found)


@given(seed=SEEDS, beam=st.integers(1, 4), patience=st.sampled_from([0.5, 1.0, 2.0, math.inf]))
def test_the_search_is_the_one_its_description_says(toy, seed, beam, patience):
    model, limit, alpha = toy(7, seed=seed), 8, 1.0
    found = search(model, [seed], [[BOS]], limit, beam_size=beam, n_best=beam, patience=patience, length_penalty=alpha)
    expected = plain_beam_search(model, seed, [BOS], limit, beam, patience, Ranking(length_penalty=alpha))
    assert [h.ids for h in found[0]] == [ids for ids, _, _ in expected]
    assert [h.score for h in found[0]] == pytest.approx([score for _, score, _ in expected], abs=1e-4)
    assert [h.ended for h in found[0]] == [ended for _, _, ended in expected]


def plain_beam_search(model, source, prefix, limit, beam, patience, ranking):
    """The rule of the module's description, one sentence and one hypothesis at a time, without the early proof."""
    live, finished = [((), 0.0)], []
    for length in range(1, limit + 1):
        candidates = []
        for ids, logprob in live:
            table = model.log_probabilities(source, prefix, ids)[-1]
            candidates += [((*ids, token), logprob + float(table[token])) for token in range(model.vocabulary)]
        candidates = sorted(candidates, key=lambda pair: -pair[1])[: 2 * beam]
        finished += [
            (ids[:-1], ranking.score(logprob, length), True) for ids, logprob in candidates[:beam] if ids[-1] == EOS
        ]
        live = [(ids, logprob) for ids, logprob in candidates if ids[-1] != EOS][:beam]
        if len(finished) >= max(beam, math.ceil(patience * beam) if patience < math.inf else math.inf):
            break
    else:
        if len(finished) < beam:
            cut = [(ids, ranking.score(logprob, limit), False) for ids, logprob in live]
            return (sorted(finished, key=lambda h: -h[1]) + sorted(cut, key=lambda h: -h[1]))[:beam]
    return sorted(finished, key=lambda h: -h[1])[:beam]


@given(seed=SEEDS, vocabulary=st.integers(2, 150), minimum=st.integers(0, 3))
def test_a_beam_of_one_is_greedy_search(toy, seed, vocabulary, minimum):
    model, sources = toy(vocabulary, seed=seed), [1, 2, 3]
    constraints = Constraints(min_length=minimum)
    beam = search(model, sources, [[BOS]] * 3, [5, 6, 7], beam_size=1, constraints=constraints)
    state = model.init_state(sources)
    greedy = greedy_search(model, state, [[BOS]] * 3, StopConditions(EOS, [5, 6, 7]), constraints=constraints)
    assert [h[0].ids for h in beam] == [h[0].ids for h in greedy]
    assert [h[0].logprob for h in beam] == pytest.approx([h[0].logprob for h in greedy], abs=1e-4)
    assert [h[0].ended for h in beam] == [h[0].ended for h in greedy]


rows = st.lists(
    st.tuples(st.integers(0, 99), st.lists(st.integers(2, 8), max_size=4), st.integers(1, 9)), min_size=2, max_size=6
)


@given(
    seed=SEEDS,
    rows=rows,
    beam=st.integers(1, 4),
    ngram=st.sampled_from([0, 2]),
    penalty=st.sampled_from([1.0, 1.3]),
    minimum=st.sampled_from([0, 2]),
    window=st.sampled_from([None, 9]),
)
def test_neighbours_in_the_batch_change_nothing(toy, seed, rows, beam, ngram, penalty, minimum, window):
    model = toy(9, seed=seed, max_length=window)
    constraints = Constraints((BOS,), minimum, ngram, penalty)
    sources, forced, limits = map(list, zip(*rows, strict=True))
    prefixes = [[BOS, *prefix] for prefix in forced]
    together = search(model, sources, prefixes, limits, beam_size=beam, n_best=beam, constraints=constraints)
    for source, prefix, limit, found in zip(sources, prefixes, limits, together, strict=True):
        alone = search(model, [source], [prefix], [limit], beam_size=beam, n_best=beam, constraints=constraints)[0]
        assert [h.ids for h in found] == [h.ids for h in alone]
        assert [h.score for h in found] == pytest.approx([h.score for h in alone], abs=1e-4)


@given(seed=SEEDS, forced=st.lists(st.integers(2, 5), min_size=1, max_size=3))
def test_a_forced_prefix_is_conditioned_on_and_costs_nothing(toy, seed, forced):
    model = toy(6, seed=seed)
    other = [BOS]  # makes the forced tokens go in one by one
    found = search(model, [3, 4], [[BOS, *forced], other], 6, beam_size=3, n_best=3)[0]
    for hypothesis in found:
        expected = model.logprob(3, [BOS, *forced], hypothesis.ids, EOS if hypothesis.ended else None)
        assert hypothesis.logprob == pytest.approx(expected, abs=1e-4)


def test_the_beam_is_opened_after_the_first_step_and_finished_sentences_leave(toy):
    model = toy(30, seed=5, sharpness=4.0)
    limits = [1, 3, 9]
    search(model, [1, 2, 3], [[BOS]] * 3, limits, beam_size=4, patience=math.inf, constraints=Constraints((EOS,)))
    assert model.rows_seen == [3] + [8] * 2 + [4] * 6


def test_a_model_with_few_positions_is_never_asked_for_more(toy):
    model = toy(9, max_length=5)
    found = search(model, [1], [[BOS, 2, 3]], 100, beam_size=2, constraints=Constraints((EOS,)))[0][0]
    assert len(found.ids) == 3  # positions 3 and 4 are read, what they predict is written
    with pytest.raises(NlpcliError, match="the prefix has 6 tokens, but the model has only 5 positions"):
        search(model, [1], [[BOS, 2, 3, 4, 5, 6]], 100)


def test_hypotheses_that_ended_come_before_those_that_were_cut(toy):
    for seed in range(30):
        found = search(toy(5, seed=seed), [seed], [[BOS]], 3, beam_size=5, n_best=5)[0]
        ended = [h.ended for h in found]
        assert ended == sorted(ended, reverse=True)
        for group in (True, False):
            scores = [h.score for h in found if h.ended == group]
            assert scores == sorted(scores, reverse=True)
        assert len({h.ids for h in found}) == len(found)


def test_a_length_penalty_makes_longer_hypotheses_win(toy):
    def mean(alpha):
        found = search(toy(6, seed=1), range(40), [[BOS]] * 40, 10, patience=math.inf, length_penalty=alpha)
        return sum(len(h[0].ids) for h in found) / 40

    assert mean(0.0) < mean(1.0) < mean(2.0)


def test_repeated_bigrams_are_not_written(toy):
    for seed in range(20):
        found = search(toy(5, seed=seed), [seed], [[BOS]], 12, constraints=Constraints((EOS,), 0, 2), beam_size=3)
        ids = [BOS, *found[0][0].ids]
        bigrams = list(itertools.pairwise(ids))
        assert len(set(bigrams)) == len(bigrams)


def test_when_everything_is_banned_what_there_is_comes_back(toy):
    everything = tuple(range(5))
    assert search(toy(5), [1], [[BOS]], 4, constraints=Constraints(everything)) == [[]]


def test_coverage_is_refused_by_a_model_that_shows_no_attention(toy):
    with pytest.raises(NlpcliError, match="needs cross-attention, but this model has none"):
        search(toy(5), [1], [[BOS]], 4, coverage_penalty=0.2)


def test_the_coverage_penalty_is_that_of_the_attention_received(toy):
    class Attending(toy):
        """Its attention is the first token's id modulo three positions, mixed with a uniform one."""

        def step_with_attention(self, tokens, state):
            weights = torch.full((len(tokens), 3), 0.1)
            for column in tokens.T:
                weights = weights + 0.7 * torch.nn.functional.one_hot(column % 3, 3)
            logits, state = self.step(tokens, state)
            return logits, state, weights

    model, alpha, beta = Attending(5, seed=3), 1.0, 0.4
    found = search(model, [1, 2], [[BOS]] * 2, 5, beam_size=5, n_best=5, length_penalty=alpha, coverage_penalty=beta)
    for hypotheses in found:
        for h in hypotheses:
            received = torch.zeros(3)
            read = [BOS, *h.ids] if h.ended else [BOS, *h.ids[:-1]]
            for token in read:
                received += 0.1 + 0.7 * torch.nn.functional.one_hot(torch.tensor(token % 3), 3)
            length = len(h.ids) + h.ended
            expected = h.logprob / ((5 + length) / 6) ** alpha + beta * float(received.clamp(max=1).log().sum())
            assert h.score == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam_size": 0}, "beam size must be at least 1, not 0"),
        ({"beam_size": 2, "n_best": 3}, "n-best must lie between 1 and the beam size 2, not 3"),
        ({"patience": 0.0}, "patience must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(NlpcliError, match=message):
        BeamSettings(**settings)


@pytest.mark.parametrize("alpha", [1e9, -1e9, float("nan")])
def test_a_length_penalty_that_no_number_can_hold_is_refused(alpha):
    with pytest.raises(NlpcliError, match="the length penalty must be between -10 and 10"):
        Ranking(alpha)


def test_padding_counts_as_covered_and_what_received_nothing_counts_as_nearly_nothing():
    received = torch.tensor([[0.5, 2.0, 1.0], [0.5, 0.0, 1.0]])
    first, second = log_coverage(received).tolist()
    assert first == pytest.approx(math.log(0.5))
    assert second == pytest.approx(math.log(0.5) + math.log(torch.finfo(torch.float32).tiny))
