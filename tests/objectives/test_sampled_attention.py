"""REINFORCE for hard attention: its mean is the gradient of what is expected, whatever the baseline."""

from __future__ import annotations

import itertools

import pytest
import torch

from nlpcli.attention.score_functions import LocationScore
from nlpcli.models import recurrent_attention
from nlpcli.models.build import build_model
from nlpcli.models.decoder_state import Memory
from nlpcli.models.recurrent_attention import SampledPositions, SourceAttention
from nlpcli.objectives.sampled_attention import choice_loss, sampled_attention_loss
from nlpcli.objectives.source_target_batches import pair_batch
from nlpcli.objectives.source_target_loss import pair_loss
from nlpcli.text import SpecialTokens

# --- three positions, two outcomes, one choice: 100,000 samples

COUNT = 100_000
THETA = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
VALUES = torch.tensor([1.5, -0.7, 0.2], dtype=torch.float64)
LIKELY = 0.3  # p(y = 1)


def log_probability(y, value):
    """log p(y | value) of the two outcomes."""
    return torch.nn.functional.logsigmoid(torch.where(y, value, -value))


def exact():
    """The gradient of E[log p(y | value_s)] by the scores of the positions, all six cases counted."""
    theta = THETA.clone().requires_grad_()
    p = theta.softmax(-1)
    total = sum(
        share * p[s] * log_probability(torch.tensor(y), VALUES[s])
        for (y, share), s in itertools.product([(True, LIKELY), (False, 1 - LIKELY)], range(3))
    )
    [slope] = torch.autograd.grad(total, [theta])
    return slope, total.item()


def sampled(hard, baseline=0.0):
    """A gradient by the scores for each of COUNT samples: (COUNT, 3)."""
    torch.manual_seed(5)
    score = LocationScore(3, 1, positions=3)
    layer = SourceAttention(score, 3, hard=hard).double().train()
    with torch.no_grad():
        score.weight.copy_(torch.eye(3)[None])  # a query is the scores themselves
        if layer.baseline is not None:
            layer.baseline.weight.zero_()
            layer.baseline.bias.fill_(baseline)
    query = THETA.expand(1, COUNT, 3).clone().requires_grad_()
    outcome = torch.rand(1, COUNT) < LIKELY
    found = layer(query, layer.prepare(Memory(VALUES[None, :, None], None)), 0)
    rewards = log_probability(outcome, found.context[..., 0])
    if hard == "gumbel":
        return torch.autograd.grad(rewards.sum(), [query])[0][0]
    loss = choice_loss(found.choices, rewards.detach(), torch.ones_like(outcome), entropy=0.0)
    return -torch.autograd.grad(loss, [query])[0][0]


@pytest.mark.parametrize("baseline", [False, True])
def test_the_mean_of_many_samples_is_within_three_standard_errors_of_the_gradient(baseline):
    slope, expected = exact()
    found = sampled("sample", expected if baseline else 0.0)
    error = found.std(dim=0) / COUNT**0.5
    assert bool(((found.mean(dim=0) - slope).abs() < 3 * error).all())
    assert bool((error < 0.1 * slope.abs().max()).all())  # so narrow that a wrong sign or factor is seen


def test_a_baseline_lowers_the_variance():
    _, expected = exact()
    without, with_one = sampled("sample").var(dim=0), sampled("sample", expected).var(dim=0)
    assert bool((with_one < 0.75 * without).all())


def test_the_straight_through_gradient_is_biased():
    slope, _ = exact()
    found = sampled("gumbel")
    error = found.std(dim=0) / COUNT**0.5
    assert float(((found.mean(dim=0) - slope).abs() / error).max()) > 10


# --- whole models: every sequence of positions, without sampling

SPECIAL = SpecialTokens(pad=0, bos=1, eos=2, unk=3)


def model(decoder, feeding=True):
    torch.manual_seed(8)
    settings = {
        "family": "recurrent",
        "d_model": 4,
        "dropout": 0.0,
        "decoder": decoder,
        "input_feeding": feeding,
        "hard_attention": "sample",
    }
    return build_model(settings, 9).double().train()


BATCH = pair_batch([([4, 5], [6, 7])], SPECIAL)  # three source positions, three choices


def forced(monkeypatch, positions):
    """Has the next choices be these positions, one after the other or all at once."""
    left = list(positions)

    def choose(weights, count):
        return torch.tensor([[left.pop(0)] for _ in range(len(weights))])

    monkeypatch.setattr(recurrent_attention.torch, "multinomial", choose)


@pytest.mark.parametrize(("decoder", "feeding"), [("bahdanau", True), ("luong", True), ("luong", False)])
def test_the_expected_estimate_is_the_gradient_of_the_expected_loss_for_all_weights(decoder, feeding, monkeypatch):
    made = model(decoder, feeding)
    names = [name for name, _ in made.named_parameters() if "baseline" not in name]
    weights = [weight for name, weight in made.named_parameters() if name in names]
    expected, estimate = 0.0, [torch.zeros_like(weight) for weight in weights]
    for positions in itertools.product(range(3), repeat=3):
        forced(monkeypatch, positions)
        hidden, choices = made.hidden_and_choices(BATCH.source, BATCH.source_mask, BATCH.target)
        logits = made.logits(hidden.flatten(0, 1)[BATCH.places])
        rewards = -torch.nn.functional.cross_entropy(logits, BATCH.labels, reduction="none")
        probability = choices.log_probability.sum().exp()
        expected = expected - probability * rewards.sum()
        extra = choice_loss(choices, rewards.detach()[None], torch.ones(1, 3, dtype=torch.bool), entropy=0.0)
        slopes = torch.autograd.grad(extra - rewards.sum(), weights, retain_graph=True, allow_unused=True)
        for total, slope in zip(estimate, slopes, strict=True):
            total += probability.detach() * (0.0 if slope is None else slope)
    exact_slopes = torch.autograd.grad(expected, weights, allow_unused=True)
    for name, mine, right in zip(names, estimate, exact_slopes, strict=True):
        assert right is None or torch.allclose(mine, right, atol=1e-12), name
    scores = dict(zip(names, estimate, strict=True))["decoder.cross_attention.score.query_weight"]
    assert float(scores.abs().max()) > 1e-4


def test_the_loss_of_a_batch_is_that_of_its_parts():
    made = model("bahdanau")
    torch.manual_seed(1)
    loss = pair_loss(made, BATCH)
    torch.manual_seed(1)
    hidden, choices = made.hidden_and_choices(BATCH.source, BATCH.source_mask, BATCH.target)
    each = torch.nn.functional.cross_entropy(made.logits(hidden[0]), BATCH.labels, reduction="none")
    extra = choice_loss(choices, -each[None].detach(), torch.ones(1, 3, dtype=torch.bool))
    assert torch.allclose(loss.total, each.sum() + extra, atol=1e-12)
    assert torch.allclose(loss.nll, each.sum(), atol=1e-12)
    assert not loss.nll.requires_grad
    assert loss.count == 3


def test_outside_of_training_the_loss_is_that_of_the_most_probable_positions():
    made = model("luong").eval()
    loss = pair_loss(made, BATCH)
    each = torch.nn.functional.cross_entropy(made(BATCH.source, None, BATCH.target)[0], BATCH.labels, reduction="none")
    assert torch.allclose(loss.total, each.sum(), atol=1e-12)
    assert torch.equal(loss.total, pair_loss(made, BATCH).total)


def test_what_comes_before_a_choice_and_what_is_not_predicted_is_none_of_its_business():
    choices = SampledPositions(*(torch.zeros(2, 4, requires_grad=True) for _ in range(3)), lasting=True)
    rewards = torch.tensor([[0.0, -1.0, -2.0, -4.0], [-3.0, 0.0, 0.0, 0.0]])
    predicted = torch.tensor([[False, True, True, True], [True, False, False, False]])
    choice_loss(choices, rewards, predicted).backward()
    later = [[7.0, 7.0, 6.0, 4.0], [3.0, 0.0, 0.0, 0.0]]  # -R_t: of the first token, too, which is given
    assert choices.log_probability.grad.tolist() == later
    assert choices.baseline.grad.tolist() == later
    alone = SampledPositions(*(torch.zeros(2, 4, requires_grad=True) for _ in range(3)))
    choice_loss(alone, rewards, predicted).backward()
    assert alone.log_probability.grad.tolist() == [[0.0, 1.0, 2.0, 4.0], [3.0, 0.0, 0.0, 0.0]]
    assert alone.entropy.grad[1].tolist() == pytest.approx([-0.01, 0.0, 0.0, 0.0])


def test_only_the_baseline_learns_from_how_well_it_foresaw(monkeypatch):
    made = model("bahdanau")
    loss = sampled_attention_loss(made, BATCH)
    loss.total.backward()
    assert all(float(weight.grad.abs().max()) > 0 for weight in made.decoder.cross_attention.baseline.parameters())
