from __future__ import annotations

import gzip
import io
import json
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.conll import parse_tagged, read_tagged
from nlpcli.data.examples import Columns, Example
from nlpcli.errors import NlpcliError

WORD = st.text(st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), min_size=1, max_size=6)
SENTENCES = st.lists(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=4), min_size=1, max_size=4)

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O

-DOCSTART- -X- O O

# NN I-NP O
"""

CONLLU = """# newdoc id = w
# sent_id = w-1
# text = They'd go
1-2\tThey'd\t_\t_\t_\t_\t_\t_\t_\t_
1\tThey\tthey\tPRON\tPRP\tCase=Nom\t3\tnsubj\t3:nsubj\t_
2\t'd\twould\tAUX\tMD\t_\t3\taux\t3:aux\t_
2.1\tgone\tgo\tVERB\t_\t_\t_\t_\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t0:root\tSpaceAfter=No

# sent_id = w-2
1\tNew York\tNY\tPROPN\tNNP\t_\t0\troot\t0:root\t_
"""


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, columns=None, **settings):
    return list(read_tagged(path, columns or Columns(), **settings))


def short(examples):
    return [(example.texts, example.label) for example in examples]


@given(SENTENCES.filter(lambda sentences: not sentences[0][0][0].startswith(("{", "\ufeff"))), st.sampled_from("\t "))
def test_words_and_tags_come_back_as_they_were_written(tmp_path_factory, sentences, separator):
    rows = [[f"{word}{separator}-{separator}{tag}" for word, tag in sentence] for sentence in sentences]
    path = write(tmp_path_factory.mktemp("t") / "a.txt", "\n\n".join("\n".join(row) for row in rows))
    assert short(read(path)) == [tuple(zip(*sentence, strict=True)) for sentence in sentences]


@given(SENTENCES)
def test_lists_of_words_and_tags_come_back_as_they_were_written(tmp_path_factory, sentences):
    records = [{"tokens": [word for word, _ in row], "ner_tags": [tag for _, tag in row]} for row in sentences]
    path = write(tmp_path_factory.mktemp("t") / "a.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    assert short(read(path)) == [tuple(zip(*sentence, strict=True)) for sentence in sentences]


# Columns


def test_sentences_of_conll_are_parted_by_blank_lines_and_documents(tmp_path):
    path = write(tmp_path / "eng.testa.gz", gzip.compress(CONLL.encode()))
    assert read(path) == [
        Example(("EU", "rejects"), ("I-ORG", "O"), f"{path}:3"),
        Example(("#",), ("O",), f"{path}:8"),
    ]
    assert [example.label for example in read(path, Columns(label="2"))] == [("NNP", "VBZ"), ("NN",)]
    assert read(path, Columns(text="2", label="1"))[0].texts == ("NNP", "VBZ")


def test_columns_may_be_parted_by_tabs_and_then_words_may_have_spaces(tmp_path):
    path = write(tmp_path / "a.tsv", "New York\tB-LOC\r\nis \tO\r\n\r\n \t \r\nbig\tO")
    assert short(read(path)) == [(("New York", "is"), ("B-LOC", "O")), (("big",), ("O",))]
    path = write(tmp_path / "a.txt", " Grand\u00a0prix  NN   O \nof IN O\n")
    assert short(read(path)) == [(("Grand\u00a0prix", "of"), ("O", "O"))]


def test_conllu_has_words_and_their_universal_tags(tmp_path):
    path = write(tmp_path / "a.conllu", CONLLU)
    assert read(path) == [
        Example(("They", "'d", "go"), ("PRON", "AUX", "VERB"), f"{path}:5", "w-1"),
        Example(("New York",), ("PROPN",), f"{path}:11", "w-2"),
    ]
    assert read(path, Columns(label="deprel"))[0].label == ("nsubj", "aux", "root")
    assert read(path, Columns(label="5"))[0].label == ("PRP", "MD", "VB")
    assert read(path, Columns(text="lemma", label="FEATS"))[0].texts == ("they", "would", "go")
    with pytest.raises(NlpcliError, match="there is no column 'udep'; the columns are: id, form, lemma"):
        read(path, Columns(label="udep"))


def test_conllu_is_known_by_its_comments_on_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(CONLLU.encode())))
    assert [example.place for example in read("-")] == ["<stdin>:5", "<stdin>:11"]


def test_words_without_tags_can_be_read(tmp_path):
    path = write(tmp_path / "a.txt", "EU\nrejects\n\ncall\n")
    assert short(read(path, labelled=False)) == [(("EU", "rejects"), None), (("call",), None)]
    assert short(read(path, Columns(label="4"), labelled=False))[0] == (("EU", "rejects"), None)
    with pytest.raises(NlpcliError, match=r"a.txt:1: the tag is missing; the row has only 1 column"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "EU NNP O\nrejects O\n", r"a.txt:2: the row has 2 columns, but the first row has 3"),
        ("a.txt", "EU O\n\nrejects VBZ O\n", r"a.txt:3: the row has 3 columns, but the first row has 2"),
        ("a.conllu", "# text = x\n1\tx\n", r"a.conllu:2: the row has 2 columns, but CoNLL-U needs 10"),
        ("a.txt", "EU\tNNP\tO\n\tNNP\tO\n", r"a.txt:2: the word is empty"),
        ("a.txt", "EU\tNNP\tO\nrejects\tV\t\n", r"a.txt:2: the tag is empty"),
        ("a.txt", "-DOCSTART- O\n\n", r"a.txt contains no words"),
        ("a.txt", "\n", r"a.txt is empty"),
        ("a.txt", b"EU \xff\n", r"a.txt:1: the line is not valid UTF-8"),
        ("a.jsonl", '{"words": ["a", "b"], "tags": ["O"]}', r"a.jsonl:1: the example has 2 words but 1 tag"),
        ("a.jsonl", '{"words": [], "tags": []}', r"a.jsonl:1: the example has no words"),
        ("a.jsonl", '{"words": ["a", ""], "tags": ["O", "O"]}', r"a.jsonl:1: a word is empty"),
        ("a.jsonl", '{"words": ["a"]}', r"a.jsonl:1: it is not clear which column contains the tags"),
        ("a.csv", "words,tags\na b,O O\na b\n", r"a.csv:3: the row has 1 column, but the header has 2"),
        ("a.csv", "a b,O O\na b\n", r"a.csv:2: it is not clear which column contains the tags"),
        ("a.jsonl", '{"body": ["a"]}', r"a.jsonl:1: it is not clear which column contains the words"),
    ],
)
def test_what_is_no_sentence_with_tags_is_named_with_its_line(tmp_path, name, content, message):
    with pytest.raises(NlpcliError, match=message):
        read(write(tmp_path / name, content))


def test_a_format_of_another_kind_is_refused(tmp_path):
    with pytest.raises(NlpcliError, match="the format 'squad' does not support words with tags"):
        read(write(tmp_path / "a.txt", "a O\n"), Columns(format="squad"))


# Lists


def test_cells_of_a_table_may_hold_whole_sentences(tmp_path):
    path = write(tmp_path / "a.csv", 'id,sentence,tags\n1,"EU , again","B-ORG O O"\n')
    assert short(read(path)) == [(("EU", ",", "again"), ("B-ORG", "O", "O"))]
    path = write(tmp_path / "a.tsv", "EU rejects\tB-ORG O\n")
    assert short(read(path, Columns(format="tsv"))) == [(("EU", "rejects"), ("B-ORG", "O"))]


def test_one_object_is_a_sentence():
    record = {"tokens": ["EU", "rejects"], "pos": [22, 42], "key": 5}
    assert parse_tagged(record, Columns(label="tags"), place="p") == Example(("EU", "rejects"), None, "p")
    parsed = parse_tagged(record, Columns(label="pos", id="key"), place="p", labelled=True)
    assert parsed == Example(("EU", "rejects"), ("22", "42"), "p", "5")
    assert parse_tagged({"text": "EU  rejects"}, Columns(), place="p").texts == ("EU", "rejects")
