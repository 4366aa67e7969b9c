"""Where the texts of an objective begin and end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.document_sentences import SentenceDocuments
from nlpcli.data.packing import TokenStream
from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError
from nlpcli.objectives.text_windows import SentenceChunks, Windows
from nlpcli.text import train_tokenizer

DOCUMENTS = [
    ["A bad cab.", "Dab it."],
    ["Cede a deed!"],
    ["A.", "Be.", "Fed a cafe, a bede and a bead.", "Ad.", "Ebb."],
]
TEXT = "\n\n".join("\n".join(sentences) for sentences in DOCUMENTS) + "\n"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("chars", [TEXT])


@pytest.fixture(scope="module")
def shards(tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return build_shards([path], tokenizer, out=path.parent / "whole", documents="paragraphs", workers=1)


@pytest.fixture(scope="module")
def documents(tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    options = {"documents": "paragraphs", "sentences": "lines", "workers": 1}
    return SentenceDocuments(build_shards([path], tokenizer, out=path.parent / "sentences", **options))


@pytest.mark.parametrize("length", [1, 7, 20, 1000])
@pytest.mark.parametrize("with_eos", [False, True])
def test_windows_tile_the_stream_from_an_offset(shards, tokenizer, length, with_eos):
    eos = tokenizer.special.eos if with_eos else None
    stream = TokenStream(shards, eos=eos)
    whole = stream.read(0, len(stream))
    windows = Windows(shards, length, rows=3, eos=eos)
    width = min(length, len(stream))
    for epoch in range(3):
        batches = windows.plan(seed=1, epoch=epoch)
        starts = np.sort(np.concatenate(batches))
        assert all(len(batch) <= 3 for batch in batches) and (np.diff(starts) == width).all()
        assert starts[0] < width and len(stream) - starts[-1] < 2 * width
        for start in starts:
            text = windows.read(start)
            assert text.ids.tolist() == whole[start : start + width].tolist() and text.sentences is None
    in_order = [windows.read(start).ids for batch in windows.in_order() for start in batch]
    assert np.concatenate(in_order).tolist() == whole.tolist()


def test_a_plan_is_a_function_of_seed_and_epoch(shards, documents):
    for texts in (Windows(shards, 5, rows=2, eos=None), SentenceChunks(documents, 20, batch_tokens=40)):
        plans = [str([b.tolist() for b in texts.plan(seed, epoch)]) for seed in (1, 1, 2) for epoch in (0, 1, 2)]
        assert plans[:3] == plans[3:6] and len(set(plans)) > 2


def documents_of(documents, token):
    """How many documents begin at a token or before it."""
    return sum(documents.borders(d)[0] <= token for d in range(documents.count))


@pytest.mark.parametrize("length", [3, 12, 20, 40, 1000])
def test_stretches_are_whole_sentences_of_one_document_as_many_as_fit(documents, length):
    stretches = SentenceChunks(documents, length, batch_tokens=50)
    order = np.arange(len(stretches.table))
    texts = [stretches.read(index) for index in order]
    assert np.concatenate([text.ids for text in texts]).tolist() == [
        id_ for d in range(documents.count) for ids in documents.sentences(d) for id_ in ids
    ]
    borders = {int(n) for d in range(documents.count) for n in documents.borders(d)}
    for index, text in zip(order, texts, strict=True):
        assert text.sentences.sum() == len(text.ids) == stretches.lengths[index] <= length
        assert text.ids.dtype == text.sentences.dtype == np.int64 and (text.sentences > 0).all()
        begin, end = stretches.table[index][:2]
        assert not any(begin < documents.borders(d)[0] < end for d in range(documents.count))
        following = index + 1 < len(order) and documents_of(documents, begin) == documents_of(documents, end)
        if following:  # the next sentence had no room
            assert len(text.ids) + texts[index + 1].sentences[0] > length
        assert length < 40 or end in borders  # only sentences of more than 30 tokens are cut
    for batches in (stretches.plan(1, 0), stretches.in_order()):
        assert sorted(np.concatenate(batches)) == order.tolist()
        assert all(len(batch) == 1 or len(batch) * (stretches.lengths[batch].max() + 1) <= 50 for batch in batches)


def test_sentences_of_a_stretch_are_the_sentences_of_the_text(documents, tokenizer):
    stretches = SentenceChunks(documents, 1000, batch_tokens=50)
    found = [np.split(text.ids, np.cumsum(text.sentences)[:-1]) for text in map(stretches.read, range(3))]
    texts = [[text.strip() for text in tokenizer.decode([ids.tolist() for ids in parts])] for parts in found]
    assert texts == DOCUMENTS


def test_stretches_of_too_few_sentences_are_left_out(documents):
    stretches = SentenceChunks(documents, 1000, batch_tokens=50, least=2)
    assert stretches.table[:, 0].tolist() == [documents.borders(d)[0] for d in (0, 2)]
    with pytest.raises(NlpcliError, match="no document has 9 or more sentences"):
        SentenceChunks(documents, 1000, batch_tokens=50, least=9)


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_some_texts_are_texts(shards, documents, seed, length):
    rng = np.random.default_rng(seed)
    for texts in (Windows(shards, length, rows=2, eos=None), SentenceChunks(documents, length, batch_tokens=40)):
        for index in texts.some(3, rng):
            assert 1 <= len(texts.read(index).ids) <= length
