from __future__ import annotations

import itertools
import json
import pickle
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data import document_sentences, readers
from nlpcli.data.document_sentences import SentenceDocuments, sentence_units
from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError
from nlpcli.text import TOKENIZERS, train_tokenizer
from nlpcli.text.sentence_splitting import split_sentences

TEXT = "the cat sat. It rained! then on\n some more words\n\nand ? The mat. On a cat\n\n\nwords came"
LINES = [["the cat sat. It rained! then on", "some more words"], ["and ? The mat. On a cat"], ["words came"]]
SPLIT = [["the cat sat.", "It rained! then on", "some more words"], ["and ?", "The mat.", "On a cat"], ["words came"]]
SIZES = {"unigram": 320, "bpe": 320, "wordpiece": 80, "byte-bpe": 300, "words": 100}


def decoded(documents: SentenceDocuments, tokenizer) -> list[list[str]]:
    texts = [tokenizer.decode([s.tolist() for s in documents.sentences(d)]) for d in range(documents.count)]
    assert all(text[0].isspace() == bool(n) for document in texts for n, text in enumerate(document))
    return [[text.strip() for text in document] for document in texts]


def build(tmp_path, tokenizer, how, text=TEXT, **options):
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    return build_shards(path, tokenizer, sentences=how, **options)


@pytest.mark.parametrize(("how", "expected"), [("lines", LINES), ("split", SPLIT)])
def test_documents_come_back_sentence_by_sentence(tmp_path, characters, how, expected):
    shards = build(tmp_path, characters, how)
    found = SentenceDocuments(shards)
    assert decoded(found, characters) == expected
    assert len(found) == found.count == 3 and found.sentence_counts.tolist() == [len(d) for d in expected]
    for d, document in enumerate(expected):
        assert found.sentence_lengths(d).tolist() == [len(sentence) + bool(n) for n, sentence in enumerate(document)]
        assert all(sentence.dtype == np.int64 for sentence in found.sentences(d))
    assert shards.documents == sum(map(len, expected)) + len(expected)  # an empty unit ends each
    assert shards.text_words == len(TEXT.split())


def test_a_set_of_sentences_is_another_set_and_the_old_ones_keep_their_fingerprint(tmp_path, characters):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    options = ({}, {"sentences": None}, {"sentences": "lines"}, {"sentences": "split"})
    built = [build_shards(path, characters, **option) for option in options]
    assert [shards.sentences for shards in built] == [None, None, "lines", "split"]
    assert built[0].fingerprint == built[1].fingerprint and len({shards.fingerprint for shards in built}) == 3
    assert "sentences" not in json.loads((built[0].path / "index.json").read_text())


@given(
    st.lists(
        st.lists(st.sampled_from(["a cat. It sat", "日本", " ", "", "on", "a. b! C"]), max_size=5),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["paragraphs", "lines", "file", "jsonl"]),
    st.sampled_from(["lines", "split"]),
)
def test_sentences_of_every_document_format_are_those_of_its_documents(
    tmp_path_factory, characters, parts, format, how
):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    records = "".join(json.dumps({"text": "\n".join(lines)}) + "\n" for lines in parts)
    path.write_text(records if format == "jsonl" else "\n\n".join("\n".join(lines) for lines in parts))
    try:
        wanted = list(readers.read_documents([path], format=format))
    except NlpcliError:
        with pytest.raises(NlpcliError, match="no text"):
            build_shards(path, characters, documents=format, sentences=how)
        return
    cut = split_sentences if how == "split" else lambda text: [s.strip() for s in text.split("\n") if s.strip()]
    found = SentenceDocuments(build_shards(path, characters, documents=format, sentences=how))
    assert decoded(found, characters) == [cut(document) for document in wanted]


@pytest.mark.parametrize("how", ["lines", "split"])
@pytest.mark.parametrize("format", ["paragraphs", "file"])
def test_pieces_of_long_documents_do_not_cut_lines(tmp_path, characters, monkeypatch, how, format):
    monkeypatch.setattr(readers, "PART_CHARACTERS", 40)
    text = "the cat sat. It rained in Größe\n" * 30
    found = SentenceDocuments(build(tmp_path, characters, how, text, documents=format))
    assert found.count == 1
    assert decoded(found, characters)[0] == (split_sentences(text) if how == "split" else text.splitlines())


def test_a_line_without_end_is_not_held_in_memory(monkeypatch):
    monkeypatch.setattr(document_sentences, "PART_CHARACTERS", 50)
    pieces = [("word " * 8, False)] * 100 + [("end", True)]
    units = list(sentence_units(pieces, "lines"))
    assert units[-1] == ("", True) and max(len(text) for text, _ in units) < 120
    assert "".join(text.replace(" ", "") for text, _ in units) == "word" * 800 + "end"


def test_sentences_without_any_token_do_not_end_a_document(tmp_path, characters):
    class Deaf:
        vocab_size, fingerprint = 9, "deaf"

        def encode(self, texts):
            return [[] if text == "mute" else [1] * len(text.strip()) for text in texts]

    found = SentenceDocuments(build(tmp_path, Deaf(), "lines", "aa\nmute\nbb\n\nmute\n\nc\n"))
    assert [found.sentence_lengths(d).tolist() for d in range(found.count)] == [[2, 2], [1]]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_sentences_laid_end_to_end_are_the_document_encoded_whole(tmp_path, kind):
    words = ["The", "cat", "sat.", "It", "rained!", "And", "the", "mat?", "Came", "on"]
    draw = random.Random(1)
    others = ["".join(draw.choices("aeiounrstlmdc", k=draw.randint(2, 7))) for _ in range(200)]
    lines = [" ".join(draw.sample(words + others, 12)) for n in range(300)]
    tokenizer = train_tokenizer(kind, lines, vocab_size=SIZES.get(kind))
    text = " ".join(words)
    found = SentenceDocuments(build(tmp_path, tokenizer, "split", text))
    assert found.sentence_counts.tolist() == [4]
    assert np.concatenate(found.sentences(0)).tolist() == tokenizer.encode([text])[0]


def test_no_space_comes_where_none_was(tmp_path, characters):
    found = SentenceDocuments(build(tmp_path, characters, "split", "日本。日本！ 日\n本", documents="file"))
    assert characters.decode([s.tolist() for s in found.sentences(0)]) == ["日本。", "日本！", " 日", " 本"]


def test_loader_processes_read_the_same_documents(tmp_path, characters):
    found = SentenceDocuments(build(tmp_path, characters, "split"))
    again = pickle.loads(pickle.dumps(found))
    assert decoded(again, characters) == decoded(found, characters)
    assert len(pickle.dumps(found)) < 1000


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.4, 0.5, 0.8])
@pytest.mark.parametrize("documents", [1, 3, 15])
def test_a_split_is_between_documents_or_else_between_sentences(tmp_path, characters, fraction, documents):
    texts = ["the cat sat. It rained! And"] * documents
    shards = build(tmp_path, characters, "split", "\n\n".join(texts))
    sides = [SentenceDocuments(side) for side in shards.split(fraction)]
    ids = [sentence.tolist() for side in sides for d in range(side.count) for sentence in side.sentences(d)]
    assert list(itertools.chain(*ids)) == list(itertools.chain(*characters.encode(texts)))
    assert all(side.count for side in sides)
    if documents == 15:
        assert all(side.sentence_counts.tolist() == [3] * side.count for side in sides)
    elif fraction == 0.5:
        assert len(ids) == 3 * documents


def test_wrong_uses_are_refused(tmp_path, characters):
    with pytest.raises(NlpcliError, match="the shards were built without sentences"):
        SentenceDocuments(build(tmp_path, characters, None))
    with pytest.raises(NlpcliError, match="'splitt'"):
        build(tmp_path, characters, "splitt")
    with pytest.raises(NlpcliError, match="keep_empty"):
        build(tmp_path, characters, "lines", keep_empty=True)
    with pytest.raises(IndexError):
        SentenceDocuments(build(tmp_path, characters, "lines")).sentences(3)
