from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter

import pytest

import nlpcli
from nlpcli.data.readers import read_documents, read_lines, read_parallel
from nlpcli.data.sample_data import sample_file, sample_files, sample_folder
from nlpcli.errors import NlpcliError

SPLITS = ("train", "dev", "test")
TABLES = ("language", "sentence-type", "translation-pairs", "paraphrases")


def split_file(folder, split, suffix):
    return sample_file(f"{folder}/{split}.{suffix}{'.gz' if split == 'train' else ''}")


def pairs(split):
    return list(read_parallel(split_file("tatoeba-en-de", split, "en"), split_file("tatoeba-en-de", split, "de")))


def rows(task, split):
    lines = list(read_lines(split_file(f"labelled/{task}", split, "tsv")))
    return [line.split("\t") for line in lines]


def plain(sentence):
    return " ".join(re.findall(r"\w+", sentence.lower()))


def tagged_sentences(split):
    for block in read_documents(split_file("labelled/names", split, "conll"), format="paragraphs"):
        yield [line.split("\t") for line in block.split("\n")]


def test_everything_fits_into_two_megabytes():
    assert sum(sample_file(name).stat().st_size for name in sample_files()) < 2_000_000


def test_the_splits_have_the_sizes_the_notes_say():
    assert [len(pairs(split)) for split in SPLITS] == [18_000, 1_000, 1_000]


@pytest.mark.parametrize("side", [0, 1])
def test_no_sentence_stands_in_two_splits(side):
    sentences = [{plain(pair[side]) for pair in pairs(split)} for split in SPLITS]
    for one, other in itertools.combinations(sentences, 2):
        assert not one & other


def test_pairs_are_clean_and_distinct():
    every = [pair for split in SPLITS for pair in pairs(split)]
    assert len(set(every)) == len({source for source, _ in every}) == 20_000
    for sentence in itertools.chain(*every):
        assert 3 <= len(sentence.split()) <= 12 and sentence == sentence.strip() and sentence[-1] in ".?!"


def test_the_play_is_the_text_the_field_knows():
    (text,) = read_documents(sample_file("tinyshakespeare.txt.gz"), format="file")
    assert (len(text), len(set(text)), text.count("\n")) == (1_115_394, 65, 40_000)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@pytest.mark.parametrize("task", TABLES)
def test_tables_have_a_header_distinct_rows_and_all_labels(task):
    labels = []
    for split in SPLITS:
        header, *body = rows(task, split)
        assert header[-1] in ("label", "score") and len(body) == (
            2000 if split == "train" else 100 if task == "paraphrases" else 300
        )
        assert {len(row) for row in body} == {len(header)}
        assert len({tuple(row[:-1]) for row in body}) == len(body)
        labels.append({row[-1] for row in body})
    assert labels[0] == labels[1] == labels[2] and len(labels[0]) in (2, 3)


@pytest.mark.parametrize("split", SPLITS)
def test_labels_follow_from_the_pairs(split):
    english, german = zip(*pairs(split), strict=True)
    translations = dict(pairs(split))
    assert all(text in (english if label == "en" else german) for text, label in rows("language", split)[1:])
    marks = {"statement": ".", "question": "?", "exclamation": "!"}
    assert {text + marks[label] for text, label in rows("sentence-type", split)[1:]} <= set(german)
    for source, target, label in rows("translation-pairs", split)[1:]:
        assert (translations[source] == target) == (label == "yes")
    for one, other, score in rows("paraphrases", split)[1:]:
        assert (translations[one] == translations[other]) == (score == "1")


@pytest.mark.parametrize("split", SPLITS)
def test_tags_are_well_formed_and_belong_to_sentences_of_the_split(split):
    texts = {sentence.replace(" ", "") for sentence, _ in pairs(split)}
    count = 0
    for sentence in tagged_sentences(split):
        tokens, tags = zip(*sentence, strict=True)
        assert "".join(tokens) in texts
        for before, tag in zip(("O", *tags), tags, strict=False):
            assert tag == "O" or tag[:2] == "B-" or (tag[:2] == "I-" and before[2:] == tag[2:])
        count += 1
    assert count == (2000 if split == "train" else 300)


def test_every_kind_of_name_is_in_every_split():
    kinds = [Counter(tag[2:] for row in tagged_sentences(split) for _, tag in row) for split in SPLITS]
    assert set(kinds[0]) == set(kinds[1]) == set(kinds[2]) == {"", "PER", "LOC", "MISC", "DATE"}


@pytest.mark.parametrize("split", SPLITS)
def test_answers_stand_where_they_are_marked(split):
    (text,) = read_documents(split_file("labelled/find-translation", split, "json"), format="file")
    translations = dict(pairs(split))
    paragraphs = json.loads(text)["data"][0]["paragraphs"]
    assert len(paragraphs) == (2000 if split == "train" else 300)
    for paragraph in paragraphs:
        (question,) = paragraph["qas"]
        (answer,) = question["answers"]
        start, length = answer["answer_start"], len(answer["text"])
        assert paragraph["context"][start : start + length] == answer["text"]
        assert translations[answer["text"]] == question["question"]


def test_source_and_licence_lie_beside_the_data():
    notes = sample_file("README.md").read_text(encoding="utf-8")
    for word in ("manythings.org/anki", "tatoeba.org", "creativecommons.org/licenses/by/2.0", "public domain"):
        assert word in notes


def test_an_unknown_sample_is_met_with_the_nearest_name():
    with pytest.raises(NlpcliError, match=r"unknown sample file 'tatoeba-en-de/train\.en'") as caught:
        sample_file("tatoeba-en-de/train.en")
    assert "train.en.gz" in caught.value.hint


def test_data_inside_the_package_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(nlpcli, "__file__", str(tmp_path / "nlpcli" / "__init__.py"))
    (tmp_path / "sample_data").mkdir()
    assert sample_folder() == tmp_path / "sample_data"
    (tmp_path / "nlpcli" / "sample_data").mkdir(parents=True)
    assert sample_folder() == tmp_path / "nlpcli" / "sample_data"


def test_an_installation_without_the_data_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(nlpcli, "__file__", str(tmp_path / "nlpcli" / "__init__.py"))
    with pytest.raises(NlpcliError, match="sample data is not installed"):
        sample_folder()
