from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.tasks.similarity_losses import contrastive_losses, ranking_losses


def cosine(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True)) / math.sqrt(sum(a * a for a in u) * sum(b * b for b in v))


@given(st.lists(st.tuples(st.booleans(), st.lists(st.floats(-2, 2), min_size=6, max_size=6)), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_contrastive_pulls_the_alike_together_and_strangers_a_margin_apart(rows):
    vectors = torch.tensor([[x + 0.1 for x in values] for _, values in rows], dtype=torch.float64)
    alike = torch.tensor([int(y) for y, _ in rows])
    found = contrastive_losses(vectors[:, :3], vectors[:, 3:], alike, 0.5)
    for row, y, loss in zip(vectors.tolist(), alike.tolist(), found.tolist(), strict=True):
        distance = 1 - cosine(row[:3], row[3:])
        assert loss == pytest.approx(0.5 * (distance**2 if y else max(0.0, 0.5 - distance) ** 2), abs=1e-9)


def plain_ranking(vectors, counts, scale):
    """The definition: of each example, the cross-entropy of its second text among all that are not first."""
    starts = [sum(counts[:i]) for i in range(len(counts))]
    seconds = [i for i in range(sum(counts)) if i not in starts]
    losses = []
    for start in starts:
        powers = {j: math.exp(scale * cosine(vectors[start], vectors[j])) for j in seconds}
        losses.append(-math.log(powers[start + 1] / sum(powers.values())))
    return losses


@given(st.lists(st.integers(2, 4), min_size=1, max_size=5), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_multiple_negatives_is_a_softmax_over_the_other_texts_of_the_batch(counts, seed):
    vectors = torch.randn(sum(counts), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = ranking_losses(vectors, counts, torch.arange(sum(counts)), 5.0)
    assert found.tolist() == pytest.approx(plain_ranking(vectors.tolist(), counts, 5.0))


def test_a_text_that_belongs_to_a_first_text_is_no_negative_of_it():
    generator = torch.Generator().manual_seed(1)
    a, b, c, d, e, f = torch.randn(6, 4, dtype=torch.float64, generator=generator)

    def losses(*texts, counts=None):
        names = [text for text, _ in texts]
        vectors = torch.stack([vector for _, vector in texts])
        keys = torch.tensor([names.index(name) for name in names])
        return ranking_losses(vectors, counts or [2] * (len(texts) // 2), keys, 3.0).tolist()

    alone = losses(("a", a), ("b", b), ("c", c), ("d", d))
    same_second = losses(("a", a), ("b", b), ("c", c), ("d", d), ("e", e), ("b", b))
    assert same_second[0] == pytest.approx(alone[0])
    same_first = losses(("a", a), ("b", b), ("c", c), ("d", d), ("a", a), ("f", f))
    assert same_first[0] == pytest.approx(alone[0])
    its_own = losses(("a", a), ("b", b), ("c", c), ("d", d), ("e", e), ("a", a))
    assert its_own[0] == pytest.approx(alone[0])
    its_negative = losses(("a", a), ("b", b), ("c", c), ("e", e), ("d", d), ("a", a), ("f", f), counts=[3, 2, 2])
    expected = losses(("a", a), ("f", f), ("c", c), ("e", e), ("d", d), counts=[3, 2])
    assert its_negative[2] == pytest.approx(expected[0])
