"""Scheduled sampling: which tokens a decoder reads, and how that changes in the course of a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nlpcli.models.build import build_model
from nlpcli.objectives.scheduled_sampling import SamplingSchedule, ScheduledSampling
from nlpcli.objectives.source_target_batches import pair_batch
from nlpcli.objectives.source_target_loss import pair_loss, pair_states
from nlpcli.text import SpecialTokens

SPECIAL = SpecialTokens(pad=0, bos=1, eos=2, unk=3)
PAIRS = [([4, 5], [6, 7, 8, 4]), ([5], [7])]


class Pairs:
    """An objective with three batches."""

    def plan(self, epoch):
        return [np.array([0, 1]), np.array([0]), np.array([1])]

    def collate(self, item, rng):
        rng.random()
        return pair_batch([PAIRS[i] for i in item], SPECIAL, [1, 5])

    def loss(self, model, batch, carry):
        return pair_loss(model, batch), None


def model():
    torch.manual_seed(1)
    sizes = {"d_model": 8, "heads": 2, "d_ff": 8, "encoder_layers": 1, "decoder_layers": 2, "dropout": 0.0}
    return build_model(sizes, 9)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("linear", lambda i: 1 - i / 100),
        ("exponential", lambda i: math.exp(-1 / 100) ** i),
        ("inverse-sigmoid", lambda i: 100 / (100 + math.exp(i / 100))),
    ],
)
def test_the_share_of_references_falls_as_in_the_paper(decay, expected):
    schedule = SamplingSchedule(decay, 100)
    for i in (0, 1, 30, 100, 700):
        assert schedule(i) == pytest.approx(max(0.0, expected(i)), abs=1e-12)
    falling = [SamplingSchedule(decay, 100, 0.25)(i) for i in range(0, 3000, 50)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == 0.25
    assert schedule(10**9) == 0.0


def test_which_tokens_are_its_own_is_a_function_of_the_seed_and_the_place_of_the_batch():
    objective = ScheduledSampling(Pairs(), SamplingSchedule("linear", 10))
    assert [number for _, number in objective.plan(0)] == [0, 1, 2]
    assert [number for _, number in objective.plan(2)] == [6, 7, 8]
    item = objective.plan(2)[0]
    first, second = (objective.collate(item, np.random.default_rng([1, 2, 0])) for _ in range(2))
    assert torch.equal(first.own, second.own)
    assert first.own.shape == first.target.shape
    assert not bool(objective.collate(objective.plan(0)[0], np.random.default_rng(0)).own.any())


def test_with_no_references_left_every_token_but_the_given_ones_is_its_own():
    objective = ScheduledSampling(Pairs(), SamplingSchedule("linear", 10))
    batch = objective.collate(objective.plan(9)[0], np.random.default_rng(0))
    assert batch.own.tolist() == [[False, False, True, True, True, True]] * 2
    half = ScheduledSampling(Pairs(), SamplingSchedule("linear", 10, 0.5))
    owns = torch.stack([half.collate((np.array([0]), 99), np.random.default_rng(i)).own for i in range(500)])
    assert 0.4 < float(owns[..., 2:].float().mean()) < 0.6


def test_where_all_tokens_are_references_states_and_gradients_are_those_of_teacher_forcing():
    made = model()
    plain = pair_batch(PAIRS, SPECIAL)
    forced = pair_batch(PAIRS, SPECIAL)
    forced.own = torch.zeros_like(forced.target, dtype=torch.bool)
    right = torch.autograd.grad(pair_loss(made, plain).total, list(made.parameters()))
    found = torch.autograd.grad(pair_loss(made, forced).total, list(made.parameters()))
    for mine, theirs in zip(found, right, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_where_all_tokens_are_its_own_the_decoder_reads_what_it_would_write():
    made = model().eval()
    batch = pair_batch(PAIRS, SPECIAL)
    batch.own = torch.ones_like(batch.target, dtype=torch.bool)
    found = pair_states(made, batch)
    tokens = batch.target[:, :1]
    for _ in range(batch.target.size(1) - 1):
        best = made(batch.source, batch.source_mask, tokens)[:, -1:].argmax(-1)
        tokens = torch.cat((tokens, best), 1)
    right = made.hidden(batch.source, batch.source_mask, tokens).flatten(0, 1)[batch.places]
    assert torch.allclose(found, right, atol=1e-5)
    assert not torch.equal(tokens, batch.target)
