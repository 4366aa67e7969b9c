"""The penalty on heads equals a plain loop, makes heads differ at the same loss, and wraps any objective."""

from __future__ import annotations

import json
import math

import pytest
import torch

import nlpcli
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.objectives.head_penalty import COSINE, HeadPenalty, penalty_and_cosine
from nlpcli.objectives.objective import Loss

SHAPE = {"kind": "encoder", "d_model": 16, "heads": 4, "d_ff": 16, "encoder_layers": 2, "dropout": 0.0}


def by_a_loop(weights):
    """Means over the queries of weights (rows, heads, n, m), a number at a time."""
    penalties, cosines = [], []
    rows, heads, n, m = weights.shape
    for row in range(rows):
        for query in range(n):
            a = weights[row, :, query]
            total, pairs = 0.0, []
            for g in range(heads):
                for h in range(heads):
                    product = sum(float(a[g, j]) * float(a[h, j]) for j in range(m))
                    total += (product - (g == h)) ** 2
                    lengths = math.sqrt(sum(float(x) ** 2 for x in a[g])) * math.sqrt(sum(float(x) ** 2 for x in a[h]))
                    if g != h:
                        pairs.append(product / lengths)
            penalties.append(total)
            cosines.append(sum(pairs) / len(pairs))
    return sum(penalties) / len(penalties), sum(cosines) / len(cosines)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 3, 3), (2, 5, 1, 4)])
def test_penalty_and_cosine_are_those_of_a_loop(shape):
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1)).softmax(-1)
    found = [float(value) for value in penalty_and_cosine(weights)]
    assert found == pytest.approx(by_a_loop(weights), rel=1e-5)


def test_equal_heads_have_a_cosine_of_one_and_heads_apart_no_penalty():
    same = torch.full((1, 2, 3, 3), 1 / 3)
    assert float(penalty_and_cosine(same)[1]) == pytest.approx(1)
    apart = torch.zeros(1, 2, 1, 4)
    apart[0, 0, 0, 1] = apart[0, 1, 0, 3] = 1.0
    penalty, cosine = penalty_and_cosine(apart)
    assert float(penalty) == float(cosine) == 0.0


def test_padding_changes_neither():
    weights = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)).softmax(-1)
    padded = torch.zeros(1, 3, 6, 6)
    padded[:, :, :4, :4] = weights
    padded[:, :, 4:, :4] = 0.25  # queries of padding attend to tokens
    for own, other in zip(penalty_and_cosine(weights), penalty_and_cosine(padded), strict=True):
        assert float(own) == pytest.approx(float(other), rel=1e-6)


class Toy:
    """Predicts the token before each token, of a text in which most tokens are those before them moved on by one."""

    def plan(self, epoch):
        return [0]

    def loss(self, model, ids, carry):
        logits = model(ids) @ model.encoder_embedding.tokens.weight.T
        losses = torch.nn.functional.cross_entropy(logits[:, 1:].flatten(0, 1), ids[:, :-1].flatten(), reduction="sum")
        return Loss(losses, losses.detach(), ids[:, 1:].numel()), carry


def texts(generator, rows=8, length=10):
    """Each token is the one before it plus 1, or any other one in three of ten cases."""
    ids = torch.randint(12, (rows, length), generator=generator)
    for place in range(1, length):
        keeps = torch.rand(rows, generator=generator) < 0.7
        ids[:, place] = torch.where(keeps, (ids[:, place - 1] + 1) % 12, ids[:, place])
    return ids


def trained(weight, steps=180):
    torch.manual_seed(0)
    model = build_model(SHAPE, 12).train()
    objective = HeadPenalty(Toy(), weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(1)
    losses, cosines = [], []
    for _ in range(steps):
        ids = texts(generator)
        loss, _ = objective.loss(model, ids, None)
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
        losses.append(float(loss.nll) / loss.count)
        cosines.append(float(loss.logged[COSINE][0]) / loss.count)
    return sum(losses[-20:]) / 20, sum(cosines[-20:]) / 20


def test_heads_differ_by_a_third_more_at_the_same_loss():
    (plain_loss, plain), (loss, cosine) = trained(0.0), trained(0.05)
    assert cosine <= 0.7 * plain
    assert loss <= plain_loss * 1.02


def test_a_weight_of_zero_measures_and_changes_nothing():
    ids = torch.randint(12, (3, 8), generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    model = build_model(SHAPE, 12).train()
    alone, _ = Toy().loss(model, ids, None)
    measured, _ = HeadPenalty(Toy(), 0.0).loss(model, ids, None)
    assert torch.equal(measured.total, alone.total) and 0 < float(measured.logged[COSINE][0]) <= measured.count
    penalized, _ = HeadPenalty(Toy(), 0.5).loss(model, ids, None)
    assert float(penalized.total.detach()) > float(alone.total.detach())
    assert float(penalized.nll) == pytest.approx(float(alone.nll), rel=1e-5)


def test_a_model_without_two_heads_is_refused_by_name():
    model = build_model({**SHAPE, "heads": 1}, 12)
    with pytest.raises(NlpcliError, match="head_penalty needs attention with 2 heads"):
        HeadPenalty(Toy(), 0.1).loss(model, torch.zeros(1, 4, dtype=torch.long), None)


def test_a_run_logs_the_cosine_and_resumes_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [("red cat", "a"), ("red dog", "b"), ("blue cat", "a"), ("blue dog", "b")] * 8
    (tmp_path / "x.tsv").write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    settings = {
        "model.d_model": 16, "model.heads": 2, "model.d_ff": 16, "model.encoder_layers": 1, "tokenizer.type": "words",
        "training.head_penalty": 0.1, "training.log_every": 1, "training.evaluate_every": 2,
        "training.schedule": "constant", "training.precision": "float32",
    }  # fmt: skip
    common = {"preset": "bert-nano", "train": "x.tsv", "dev": "x.tsv", "device": "cpu", "settings": settings}
    nlpcli.finetune("classify", out="whole", max_steps=6, **common)
    nlpcli.finetune("classify", out="parts", max_steps=2, **common)
    nlpcli.finetune(out="parts", resume=True, max_steps=6)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < line[COSINE] <= 1 for line in lines if line["kind"] == "train")
