"""Sentences reach a model that wants them: found in the text, marked in the row, numbered."""

from __future__ import annotations

import pytest

from nlpcli.config.model_settings import ModelConfig
from nlpcli.models.padded_batch import stack
from nlpcli.tasks.input_layout import Layout, cut
from nlpcli.text import train_tokenizer

TEXT = "The room was old . We left !\nWhy not ?"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("words", [TEXT])


def layout(tokenizer, **settings):
    model = ModelConfig.model_validate({"family": "hierarchical", "d_model": 8, **settings})
    return Layout.of(model, tokenizer.special, {})


def spelled(tokenizer, ids):
    return " ".join(tokenizer.id_to_piece(id_) for id_ in ids)


def test_a_separator_stands_behind_each_sentence(tokenizer):
    reads = layout(tokenizer)
    [ids] = reads.encode(tokenizer, [TEXT])
    row = reads.row(ids)
    assert spelled(tokenizer, row.ids) == "<cls> The room was old . <sep> We left ! <sep> Why not ? <sep>"
    assert list(row.sentences) == [-1, 0, 0, 0, 0, 0, -1, 1, 1, 1, -1, 2, 2, 2, -1]


def test_lines_are_sentences_where_the_model_says_so(tokenizer):
    reads = layout(tokenizer, sentences="lines")
    [ids] = reads.encode(tokenizer, [TEXT + "\n\n"])
    assert spelled(tokenizer, ids) == "The room was old . We left ! <sep> Why not ?"


def test_a_second_text_goes_on_with_new_sentences(tokenizer):
    reads = layout(tokenizer)
    first, second = reads.encode(tokenizer, [TEXT, "We left !"])
    row = reads.row(first, second)
    assert list(row.sentences)[-5:] == [-1, 3, 3, 3, -1]
    assert spelled(tokenizer, row.ids).endswith("Why not ? <sep> We left ! <sep>")


@pytest.mark.parametrize("room", range(1, 12))
def test_a_text_that_is_cut_anywhere_ends_with_its_last_sentence(tokenizer, room):
    reads = layout(tokenizer)
    [ids] = reads.encode(tokenizer, [TEXT])
    row = reads.row(*cut([ids], room))
    assert len(row.ids) == room + 2 and row.ids[-1] == tokenizer.special.sep
    numbers = [number for number in row.sentences if number >= 0]
    assert numbers == sorted(numbers) and len(numbers) == sum(id_ not in (4, 5) for id_ in row.ids)


@pytest.mark.parametrize("text", ["", " \n ", "\x00"])
def test_a_text_without_words_is_a_row_without_sentences(tokenizer, text):
    reads = layout(tokenizer)
    [ids] = reads.encode(tokenizer, [text])
    assert set(reads.row(ids).sentences) <= {-1, 0}


def test_spans_are_those_of_the_whole_text_and_separators_have_none(tokenizer):
    reads = layout(tokenizer)
    [ids], [spans] = reads.encode_with_offsets(tokenizer, [TEXT])
    assert [ids] == reads.encode(tokenizer, [TEXT])
    words = [TEXT[start:stop] for start, stop in spans]
    assert " ".join(filter(None, words)).split() == TEXT.split()
    assert [id_ for id_, word in zip(ids, words, strict=True) if not word] == [tokenizer.special.sep] * 2


def test_other_models_read_texts_whole(tokenizer):
    reads = Layout.of(ModelConfig.model_validate({"kind": "encoder"}), tokenizer.special, {})
    assert reads.encode(tokenizer, [TEXT]) == tokenizer.encode([TEXT])
    assert reads.encode_with_offsets(tokenizer, [TEXT]) == tokenizer.encode_with_offsets([TEXT])
    assert reads.row([7]).sentences is None


def test_stacked_rows_are_filled_up_with_no_sentence(tokenizer):
    reads = layout(tokenizer)
    rows = [reads.row(ids) for ids in reads.encode(tokenizer, [TEXT, "We left !"])]
    batch = stack(rows, tokenizer.special.pad)
    assert batch.sentences[1].tolist() == [-1, 0, 0, 0, *[-1] * 11]
