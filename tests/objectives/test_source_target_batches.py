"""Sources and targets: their layout in a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nlpcli.objectives.source_target_batches import PairBatch, pad, pair_batch
from nlpcli.text import SpecialTokens
from nlpcli.text.special_tokens import source_ids

SPECIAL = SpecialTokens(pad=0, bos=2, eos=3)
sides = st.lists(st.integers(7, 99), max_size=9)


@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=5))
def test_each_row_is_read_to_its_eos_and_predicted_from_its_bos(rows):
    batch = pair_batch([(np.array(x, dtype=np.int64), y) for x, y in rows], SPECIAL)
    assert torch.equal(batch.source, pad([source_ids(x, SPECIAL) for x, _ in rows], SPECIAL.pad))
    assert torch.equal(batch.target, pad([[SPECIAL.bos, *y] for _, y in rows], SPECIAL.pad))
    assert batch.labels.tolist() == [id_ for _, y in rows for id_ in [*y, SPECIAL.eos]]
    width = batch.target.size(1)
    assert batch.places.tolist() == [row * width + i for row, (_, y) in enumerate(rows) for i in range(len(y) + 1)]
    lengths = [len(x) + 1 for x, _ in rows]
    if len(set(lengths)) == 1:
        assert batch.source_mask is None
    else:
        assert batch.source_mask.sum(dim=1).tolist() == lengths
        assert (batch.source[~batch.source_mask] == SPECIAL.pad).all()
    assert batch.count == len(batch.labels) and batch.tokens == sum(len(x) + len(y) + 2 for x, y in rows)


@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4), st.lists(st.integers(7, 9), min_size=1, max_size=3))
def test_a_target_is_predicted_from_the_last_token_of_its_start_on(rows, start):
    batch = pair_batch(rows, SPECIAL, start)
    assert torch.equal(batch.target, pad([[*start, *y] for _, y in rows], SPECIAL.pad))
    assert batch.labels.tolist() == [id_ for _, y in rows for id_ in [*y, SPECIAL.eos]]
    read = batch.target.flatten()[batch.places]
    assert read.tolist() == [id_ for _, y in rows for id_ in [start[-1], *y]]


@dataclass
class Extended(PairBatch):
    more: Tensor | None = None


def test_moving_keeps_the_kind_of_a_batch_and_everything_in_it():
    batch = Extended(**vars(pair_batch([([7], [8, 9]), ([7, 8], [9])], SPECIAL)), more=torch.tensor([1]))
    moved = batch.to(torch.device("meta"))
    assert type(moved) is Extended and moved.tokens == batch.tokens
    assert all(value.is_meta for value in vars(moved).values() if isinstance(value, Tensor))
    assert pair_batch([([7], [8])], SPECIAL).to(torch.device("meta")).source_mask is None
