from __future__ import annotations

import itertools
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.packing import PackedWindows, StreamedWindows, TokenStream, VariableWindows, evaluation_windows
from nlpcli.errors import NlpcliError

EOS = 3


def shards_of(documents):
    """A stand-in for a shard set that holds these documents in memory."""
    joined = np.array(list(itertools.chain(*documents)), dtype=np.uint16)
    offsets = np.cumsum([0, *map(len, documents)]).astype(np.int64)
    shards = Mock(tokens=len(joined), documents=len(documents), offsets=offsets)
    shards.read = lambda start, stop: joined[start:stop]
    return shards


DOCUMENTS = st.lists(st.lists(st.integers(10, 99), max_size=9), min_size=1, max_size=12)


@given(DOCUMENTS, st.data())
def test_any_stretch_of_a_stream_equals_the_joined_documents(documents, data):
    stream = TokenStream(shards_of(documents), eos=EOS)
    joined = [token for document in documents for token in [*document, EOS]]
    assert len(stream) == len(joined)
    start = data.draw(st.integers(0, len(joined)))
    stop = data.draw(st.integers(start, len(joined)))
    assert stream.read(start, stop).tolist() == joined[start:stop]


@given(DOCUMENTS)
def test_every_place_of_a_stream_knows_its_document(documents):
    stream = TokenStream(shards_of(documents), eos=EOS)
    owners = [number for number, document in enumerate(documents) for _ in [*document, EOS]]
    assert [stream.document_at(place) for place in range(len(stream))] == owners


@given(DOCUMENTS, st.integers(1, 7), st.integers(1, 4), st.integers(0, 5), st.sampled_from([None, EOS]))
def test_windows_of_an_epoch_predict_no_token_twice_and_miss_few(documents, context, rows, epoch, eos):
    shards = shards_of(documents)
    length = len(TokenStream(shards, eos=eos))
    if length <= context:
        return
    windows = PackedWindows(shards, context, eos=eos, batch_size=rows, seed=5)
    plan = windows.plan(epoch)
    assert plan.shape[1] == rows and np.array_equal(plan, windows.plan(epoch))
    starts = plan.ravel().tolist()
    assert min(starts) >= 0 and max(starts) + context < length
    predicted = [place for start in set(starts) for place in range(start + 1, start + context + 1)]
    assert len(predicted) == len(set(predicted))
    if len(set(starts)) == len(starts):
        assert length - len(predicted) < 2 * context + 1 + context * (rows - 1)
        assert len(plan) >= windows.batches_per_epoch


def test_a_batch_holds_the_tokens_at_the_planned_places():
    shards = shards_of([list(range(10, 40)), list(range(40, 99))])
    windows = PackedWindows(shards, 5, eos=EOS, batch_size=3, seed=1)
    joined = [*range(10, 40), EOS, *range(40, 99), EOS]
    starts = windows.plan(0)[0]
    batch = windows.batch(starts)
    assert batch.shape == (3, 6) and batch.dtype == np.int64
    assert batch.tolist() == [joined[start : start + 6] for start in starts]


def test_epochs_differ_in_order_and_offset():
    windows = PackedWindows(shards_of([[7] * 1000]), 10, eos=None, batch_size=4, seed=0)
    first, second = windows.plan(0), windows.plan(1)
    assert first[0, 0] % 10 != second[0, 0] % 10
    assert sorted(first.ravel()) != first.ravel().tolist()


@pytest.mark.parametrize("kind", [PackedWindows, StreamedWindows])
def test_a_text_shorter_than_a_window_is_refused_with_both_lengths(kind):
    with pytest.raises(NlpcliError, match="only 8 tokens, but a context of 8 tokens needs at least 9"):
        kind(shards_of([[5] * 8]), 8, eos=None, batch_size=1)


@given(DOCUMENTS, st.integers(1, 7), st.integers(1, 4), st.integers(0, 5), st.sampled_from([None, EOS]))
def test_streams_read_on_from_batch_to_batch_and_predict_no_token_twice(documents, context, rows, epoch, eos):
    shards = shards_of(documents)
    length = len(TokenStream(shards, eos=eos))
    if length <= context:
        return
    windows = StreamedWindows(shards, context, eos=eos, batch_size=rows, seed=5)
    plan = windows.plan(epoch)
    assert len(plan) > 0 and plan.shape[1] == windows.batch_size <= rows
    assert np.array_equal(plan, windows.plan(epoch))
    assert bool((np.diff(plan, axis=0) == context).all())
    starts = plan.ravel().tolist()
    assert min(starts) >= 0 and max(starts) + context < length
    predicted = [place for start in starts for place in range(start + 1, start + context + 1)]
    assert len(predicted) == len(set(predicted))
    assert length - 1 - len(predicted) < context + context * windows.batch_size
    batch = windows.batch(plan[0])
    whole = TokenStream(shards, eos=eos).read(0, length)
    assert batch.tolist() == [whole[start : start + context + 1].tolist() for start in plan[0]]


def test_streams_of_different_epochs_begin_at_different_places():
    windows = StreamedWindows(shards_of([[7] * 1000]), 50, eos=None, batch_size=4, seed=0)
    assert len({int(windows.plan(epoch)[0, 0]) for epoch in range(6)}) > 3


def test_a_text_of_few_windows_still_fills_one_batch():
    windows = PackedWindows(shards_of([[5] * 30]), 8, eos=None, batch_size=16)
    assert windows.plan(0).shape == (1, 16)


@given(st.integers(2, 60), st.integers(1, 12), st.data())
def test_evaluation_scores_every_token_but_the_first_exactly_once(tokens, context, data):
    stride = data.draw(st.integers(1, context))
    scored = []
    for window in evaluation_windows(tokens, context, stride):
        assert 0 <= window.start < window.first_scored < window.stop <= tokens
        assert window.stop - window.start <= context + 1
        if window.start:
            assert window.first_scored - window.start >= context - stride + 1
        scored += range(window.first_scored, window.stop)
    assert scored == list(range(1, tokens))


def test_without_a_stride_windows_don_t_overlap():
    assert [tuple(window) for window in evaluation_windows(10, 4)] == [(0, 5, 1), (4, 9, 5), (8, 10, 9)]


@pytest.mark.parametrize("stride", [0, 5])
def test_a_stride_that_would_skip_tokens_is_refused(stride):
    with pytest.raises(NlpcliError, match="between 1 and the context"):
        list(evaluation_windows(100, 4, stride))


def test_a_text_of_one_token_has_nothing_to_score():
    with pytest.raises(NlpcliError, match="1 token, but a prediction needs at least 2"):
        list(evaluation_windows(1, 4))


@given(st.integers(8, 3000), st.integers(1, 90), st.integers(1, 4), st.integers(0, 3))
def test_windows_of_variable_length_read_on_and_predict_every_token_of_their_rows_once(tokens, context, rows, epoch):
    if tokens <= context:
        return
    windows = VariableWindows(shards_of([list(range(tokens))]), context, eos=None, batch_size=rows, seed=5)
    plan = windows.plan(epoch)
    assert np.array_equal(plan, windows.plan(epoch))
    starts, lengths = plan[:, :-1], plan[:, -1]
    assert np.array_equal(starts[1:], starts[:-1] + lengths[:-1, None])
    ends = starts[-1] + lengths[-1]
    assert ends[-1] < tokens and np.array_equal(ends[:-1], starts[0, 1:])
    assert tokens - (ends[-1] - starts[0, 0]) <= context + windows.batch_size + 1
    assert (lengths[:-1] >= 5).all() and lengths[-1] >= 1
    for item in plan:
        batch = windows.batch(item)
        assert batch.shape == (windows.batch_size, item[-1] + 1) and batch[:, 0].tolist() == item[:-1].tolist()


def test_lengths_vary_around_the_context_and_now_and_then_around_half_of_it():
    windows = VariableWindows(shards_of([[1] * 200_000]), 70, eos=None, batch_size=1, seed=5)
    lengths = np.concatenate([windows.plan(epoch)[:-1, -1] for epoch in range(3)])
    short = lengths < 52
    assert short.mean() == pytest.approx(0.05, abs=0.012)
    assert lengths[~short].mean() == pytest.approx(69.5, abs=0.3) and lengths[~short].std() == pytest.approx(5, abs=0.3)
    assert lengths[short].mean() == pytest.approx(34.5, abs=1)
    assert not np.array_equal(windows.plan(0), windows.plan(1)[: len(windows.plan(0))])


def test_windows_to_look_at_are_as_long_as_the_context():
    for kind in (PackedWindows, StreamedWindows, VariableWindows):
        windows = kind(shards_of([list(range(400))]), 16, eos=None, batch_size=3, seed=5)
        found = windows.some(4, np.random.default_rng(0))
        assert found.shape == (4, 17) and (np.diff(found) == 1).all()
