from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.document_sentences import SentenceDocuments
from nlpcli.data.encoder_batches import FORMATS, Inputs, make_format
from nlpcli.errors import NlpcliError
from nlpcli.text.special_tokens import SpecialTokens

SPECIAL = SpecialTokens.first()
CLS, SEP = SPECIAL.cls, SPECIAL.sep


class Shards:
    """A stand-in for a shard set that holds these units in memory."""

    def __init__(self, units, sentences):
        self._ids = np.array(list(itertools.chain(*units)), dtype=np.uint16)
        self.offsets = np.cumsum([0, *map(len, units)]).astype(np.int64)
        self.tokens, self.documents, self.sentences = len(self._ids), len(units), sentences

    def read(self, start, stop):
        return self._ids[start:stop]


def shards_of(documents, *, sentences="lines"):
    """A set whose documents are these lists of sentences of ids."""
    if sentences is None:
        return Shards([list(itertools.chain(*document)) for document in documents], None)
    return Shards([unit for document in documents for unit in [*document, []]], sentences)


def numbered(shape):
    """Documents of sentences of the lengths in `shape`, every token another id."""
    ids = itertools.count(100)
    return [[[next(ids) for _ in range(length)] for length in document] for document in shape]


SHAPES = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=8), min_size=1, max_size=6)


def inputs_of(shards, name, *, context=16, batch_tokens=64, seed=3, copies=0, **options):
    format = make_format(name, shards, SPECIAL, context=context, **options)
    return Inputs(format, batch_tokens=batch_tokens, seed=seed, copies=copies)


def epoch_of(inputs, epoch, rng=None):
    rng = rng or np.random.default_rng(0)
    return [e for item in inputs.plan(epoch) for e in inputs.examples(item, inputs.chance(item, rng))]


def in_order(examples):
    return sorted(examples, key=lambda example: example.ids[1])


# Running text


@given(
    SHAPES, st.sampled_from(["full-sentences", "doc-sentences"]), st.booleans(), st.integers(3, 20), st.integers(0, 3)
)
def test_running_text_holds_every_token_once_and_in_order(shape, name, whole, context, epoch):
    documents = numbered(shape)
    shards = shards_of(documents, sentences=None if whole else "lines")
    examples = in_order(epoch_of(inputs_of(shards, name, context=context), epoch))
    texts = [example.ids[1:-1].tolist() for example in examples]
    assert [id_ for text in texts for id_ in text if id_ != SEP] == list(itertools.chain(*itertools.chain(*documents)))
    for example, text in zip(examples, texts, strict=True):
        assert example.ids[0] == CLS and example.ids[-1] == SEP and len(example.ids) <= context
        assert text[0] != SEP != text[-1] and example.label == -1 and not example.segments.any()


@given(SHAPES, st.booleans(), st.integers(3, 20))
def test_full_sentences_have_a_sep_just_where_a_document_ends(shape, whole, context):
    documents = numbered(shape)
    lasts = {document[-1][-1] for document in documents}
    shards = shards_of(documents, sentences=None if whole else "lines")
    for example in epoch_of(inputs_of(shards, "full-sentences", context=context), 1):
        text = example.ids[1:-1].tolist()
        for one, other in itertools.pairwise(text):
            assert (other == SEP) == (one in lasts)


@given(SHAPES, st.sampled_from(["full-sentences", "doc-sentences"]), st.integers(3, 20))
def test_a_sentence_is_cut_only_when_it_is_longer_than_the_room(shape, name, context):
    documents = numbered(shape)
    sentence_of = {id_: s for s in itertools.chain(*documents) for id_ in s}
    shards = shards_of(documents)
    examples = in_order(epoch_of(inputs_of(shards, name, context=context), 0))
    for number, example in enumerate(examples):
        first, last = sentence_of[example.ids[1]], sentence_of[example.ids[-2]]
        if example.ids[-2] != last[-1] and number > 0:  # the first stretch of an epoch has less room
            assert len(last) > context - 2
        if example.ids[1] != first[0] and number > 1:
            assert len(first) > context - 2


@given(SHAPES, st.booleans(), st.integers(3, 20))
def test_doc_sentences_do_not_cross_documents_and_are_filled(shape, whole, context):
    documents = numbered(shape)
    owner = {id_: d for d, document in enumerate(documents) for s in document for id_ in s}
    shards = shards_of(documents, sentences=None if whole else "lines")
    examples = in_order(epoch_of(inputs_of(shards, "doc-sentences", context=context), 0))
    owners = [{owner[id_] for id_ in example.ids[1:-1]} for example in examples]
    assert all(len(owned) == 1 for owned in owners)
    if whole:
        short = [
            a == b and len(e.ids) < context for (a, b), e in zip(itertools.pairwise(owners), examples, strict=False)
        ]
        assert not any(short)


def test_borders_of_full_sentences_move_from_epoch_to_epoch():
    shards = shards_of(numbered([[5] * 9] * 9))
    inputs = inputs_of(shards, "full-sentences", context=23)
    firsts = {tuple(sorted(int(e.ids[1]) for e in epoch_of(inputs, epoch))) for epoch in range(6)}
    assert len(firsts) > 1


def test_empty_documents_of_a_plain_set_leave_no_seps_behind():
    shards = Shards([[100, 101], [], [], [102], []], None)
    texts = [e.ids.tolist() for e in in_order(epoch_of(inputs_of(shards, "full-sentences", context=4), 0))]
    assert [id_ for text in texts for id_ in text[1:-1]] == [100, 101, 102]


# Pairs


@pytest.fixture(scope="module")
def many():
    draw = np.random.default_rng(1)
    shape = [draw.integers(1, 9, size=int(draw.integers(2, 12))).tolist() for _ in range(300)]
    documents = numbered(shape)
    return documents, shards_of(documents)


def halves(example):
    ids, cut = example.ids.tolist(), example.ids.tolist().index(SEP)
    assert ids[0] == CLS and ids[-1] == SEP and ids.count(SEP) == 2 and ids.count(CLS) == 1
    assert example.segments.tolist() == [0] * (cut + 1) + [1] * (len(ids) - cut - 1)
    return ids[1:cut], ids[cut + 1 : -1]


@pytest.mark.parametrize("name", ["segment-pair", "sentence-pair"])
@pytest.mark.parametrize("context", [16, 40])
def test_half_of_the_pairs_are_successors_and_strangers_come_from_other_documents(many, name, context):
    documents, shards = many
    owner = {id_: d for d, document in enumerate(documents) for s in document for id_ in s}
    opening = {id_ for document in documents for id_ in document[0]}
    examples = epoch_of(inputs_of(shards, name, context=context), 0)
    for example in examples:
        first, second = halves(example)
        assert first and second and len(example.ids) <= context
        assert [id_ - first[0] for id_ in first] == list(range(len(first)))  # consecutive tokens
        assert [id_ - second[0] for id_ in second] == list(range(len(second)))
        (a,), (b,) = ({owner[id_] for id_ in side} for side in (first, second))
        assert (a == b) == (example.label == 0)
        assert not opening.intersection(second)  # nothing gives a stranger away
        if example.label == 0:
            assert second[0] > first[-1]
            if len(example.ids) < context:  # nothing was taken off
                assert second[0] == first[-1] + 1
    assert np.mean([example.label for example in examples]) == pytest.approx(0.5, abs=0.06)
    assert len(examples) > 450


@pytest.mark.parametrize("name", ["segment-pair", "sentence-pair"])
def test_half_of_the_neighbours_are_in_order_for_sop(many, name):
    documents, shards = many
    owner = {id_: d for d, document in enumerate(documents) for s in document for id_ in s}
    examples = epoch_of(inputs_of(shards, name, context=40, order=True), 0)
    for example in examples:
        first, second = halves(example)
        assert owner[first[0]] == owner[second[0]]
        earlier, later = (second, first) if example.label else (first, second)
        assert earlier[-1] < later[0]
        if len(example.ids) < 40:
            assert earlier[-1] + 1 == later[0]
    assert np.mean([example.label for example in examples]) == pytest.approx(0.5, abs=0.06)


def test_sentence_pairs_are_single_sentences(many):
    documents, shards = many
    sentences = {tuple(s) for document in documents for s in document}
    for example in epoch_of(inputs_of(shards, "sentence-pair", context=40), 0):
        assert sentences.issuperset(map(tuple, halves(example)))


def test_segments_fill_the_context_but_for_one_in_ten():
    shards = shards_of(numbered([[4] * 400, [4] * 400]))
    inputs = inputs_of(shards, "segment-pair", context=43)
    lengths = [len(e.ids) for epoch in range(8) for e in epoch_of(inputs, epoch)]
    full = np.mean(np.array(lengths) >= 40)
    assert 0.85 < full < 0.95 and min(lengths) < 25


@pytest.mark.parametrize(("context", "sentences"), [(40, 12), (128, 12), (256, 40)])
def test_no_threshold_on_the_length_distinguishes_strangers_from_successors(context, sentences):
    draw = np.random.default_rng(1)
    shape = [draw.integers(1, 20, size=int(draw.integers(2, sentences))).tolist() for _ in range(2000)]
    format = make_format("segment-pair", shards_of([[[0] * n for n in d] for d in shape]), SPECIAL, context=context)
    rng = np.random.default_rng(2)
    lengths, labels = [], []
    while len(labels) < 50_000:
        places, length = format.sample(rng)
        lengths, labels = np.append(lengths, length), np.append(labels, places[:, 6])
    order = np.argsort(lengths, kind="stable")
    last = np.append(np.flatnonzero(np.diff(lengths[order])), len(labels) - 1)  # of each length
    below = np.cumsum(2 * labels[order] - 1)[last]  # strangers more than successors among those not longer
    right = (np.append(0, below) + (labels == 0).sum()) / len(labels)
    assert max(right.max(), 1 - right.min()) < 0.515


def test_a_stranger_is_whole_sentences(many):
    documents, shards = many
    ends = {s[-1] for document in documents for s in document}
    for example in epoch_of(inputs_of(shards, "segment-pair", context=40), 0):
        if len(example.ids) < 40:
            assert halves(example)[1][-1] in ends


def test_what_a_stranger_displaced_is_used_by_the_next_pair():
    documents = numbered([[3] * 20, [3] * 20, [3] * 20])
    shards = shards_of(documents)
    format = make_format("segment-pair", shards, SPECIAL, context=20)
    for epoch in range(5):
        places, _ = format.sample(np.random.default_rng(epoch))
        for document in range(3):
            reached = 0
            for place in places[places[:, 0] == document].tolist():
                assert place[1] == reached
                reached = place[2] if place[6] else place[5]
            assert 19 <= reached <= 20  # at most the last sentence is left alone


@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 50), st.integers(0, 9))
def test_the_longer_side_of_a_pair_is_shortened_first(a, b, room, seed):
    from nlpcli.data.next_sentence_pairs import truncated_pair

    first, second = truncated_pair(np.arange(a), np.arange(100, 100 + b), room, np.random.default_rng(seed))
    x, y = a, b
    while x + y > room:  # token by token, as in BERT
        x, y = (x - 1, y) if x > y else (x, y - 1)
    assert (len(first), len(second)) == (x, y)
    for side in (first, second):
        assert np.array_equal(side, np.arange(side[0], side[0] + len(side)))


def test_both_ends_of_a_long_side_lose_tokens():
    from nlpcli.data.next_sentence_pairs import truncated_pair

    rng = np.random.default_rng(0)
    starts = [int(truncated_pair(np.arange(100), np.arange(10), 60, rng)[0][0]) for _ in range(300)]
    assert np.mean(starts) == pytest.approx(25, abs=1.0) and min(starts) > 5


# Batches


@pytest.mark.parametrize("name", FORMATS)
def test_a_plan_is_a_function_of_seed_and_epoch_and_keeps_to_the_budget(many, name):
    def content(seed, epoch):
        inputs = inputs_of(many[1], name, seed=seed)
        return [[e.ids.tolist() for e in inputs.examples(item, inputs.chance(item, np.random.default_rng(1)))]
                for item in inputs.plan(epoch)]  # fmt: skip

    plans = {(seed, epoch): content(seed, epoch) for seed in (3, 4) for epoch in (0, 1)}
    assert plans[3, 0] == content(3, 0) and plans[3, 1] == content(3, 1)
    assert plans[3, 0] != plans[3, 1] and plans[3, 0] != plans[4, 0]
    for batches in plans.values():
        assert all(len(rows) * max(map(len, rows)) <= 64 for rows in batches)


@pytest.mark.parametrize("name", FORMATS)
def test_static_copies_come_back_after_as_many_epochs_with_the_same_chance(many, name):
    inputs = inputs_of(many[1], name, copies=2)

    def content(epoch, seed):
        found = {}
        for item in inputs.plan(epoch):
            chance = inputs.chance(item, np.random.default_rng(seed))
            for number, example, rng in zip(item.numbers, inputs.examples(item, chance), chance, strict=True):
                found[int(number)] = (example.ids.tolist(), example.label, rng.random())
        return found

    assert content(0, 1) == content(2, 2) != content(1, 1) == content(3, 4)


def test_wrong_uses_are_refused():
    documents = shards_of(numbered([[2, 2], [3]]))
    with pytest.raises(NlpcliError, match="at least 2 documents with two or more sentences, but the text has 1"):
        make_format("segment-pair", documents, SPECIAL, context=20)
    make_format("segment-pair", documents, SPECIAL, context=20, order=True)
    with pytest.raises(NlpcliError, match="'full-sentence'"):
        make_format("full-sentence", documents, SPECIAL, context=20)
    for name in FORMATS:
        with pytest.raises(NlpcliError, match="of 2 tokens is too short for"):
            make_format(name, documents, SPECIAL, context=2, order=True)
    with pytest.raises(NlpcliError, match="can't be negative: -1"):
        inputs_of(documents, "full-sentences", copies=-1)
    alone = shards_of(numbered([[2], [3]]))
    with pytest.raises(NlpcliError, match="at least 1 document with two or more sentences"):
        make_format("sentence-pair", alone, SPECIAL, context=20, order=True)
    with pytest.raises(NlpcliError, match="built without sentences"):
        make_format("sentence-pair", shards_of(numbered([[2, 2]] * 2), sentences=None), SPECIAL, context=20)
    assert SentenceDocuments(alone).count == 2
