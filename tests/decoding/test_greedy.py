from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.decoding.constraints import Constraints, seen
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import Stop, StopConditions

BOS, EOS = 0, 1


@given(seed=st.integers(0, 9999), forced=st.lists(st.integers(2, 9), max_size=3), limit=st.integers(1, 9))
def test_each_token_is_the_most_probable_one(toy, seed, forced, limit):
    model = toy(10, seed=seed)
    prefixes = [[BOS, *forced], [BOS]]
    found = greedy_search(model, model.init_state([1, 2]), prefixes, StopConditions(EOS, limit))
    for source, prefix, [hypothesis] in zip([1, 2], prefixes, found, strict=True):
        tables = model.log_probabilities(source, prefix, hypothesis.ids)
        written = [*hypothesis.ids, EOS] if hypothesis.ended else hypothesis.ids
        assert [int(table.argmax()) for table in tables[: len(written)]] == list(written)
        assert len(written) == limit or hypothesis.ended


def test_a_stop_condition_ends_its_row_only(toy):
    model = toy(10, seed=1)
    state = model.init_state([1, 2, 3])
    plain = greedy_search(model, state, [[BOS]] * 3, StopConditions(None, 8))
    last = plain[1][0].ids[2]
    state = model.init_state([1, 2, 3])
    stopped = greedy_search(
        model, state, [[BOS]] * 3, StopConditions(None, 8, stop=Stop(lambda ids: ids[-1] == last, 1))
    )
    for [whole], [short] in zip(plain, stopped, strict=True):
        end = whole.ids.index(last) + 1 if last in whole.ids else len(whole.ids)
        assert short.ids == whole.ids[:end]


def test_what_is_watched_is_what_comes_back(toy):
    model, seen = toy(10, seed=3), [[], []]
    found = greedy_search(
        model,
        model.init_state([1, 2]),
        [[BOS], [BOS, 4, 5]],
        StopConditions(EOS, 6),
        constraints=Constraints(min_length=2),
        watch=lambda row, token: seen[row].append(token),
    )
    assert [tuple(tokens) for tokens in seen] == [hypotheses[0].ids for hypotheses in found]


def test_repetition_costs_as_much_as_it_is_said_to():
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    penalized = Constraints(repetition_penalty=2.0).penalize(logits, seen(torch.tensor([[0, 1, 1]]), logits.shape[1]))
    assert penalized.tolist() == [[1.0, -4.0, 1.0]]
