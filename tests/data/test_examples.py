from __future__ import annotations

import csv
import io
import json
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.examples import (
    Columns,
    Example,
    parse_choices,
    parse_record,
    read_choices,
    read_texts,
)
from nlpcli.data.label_text import split_labels
from nlpcli.errors import NlpcliError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
LABEL = st.text("abc123 .-", min_size=1, max_size=5).map(str.strip).filter(bool)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, columns=None, **settings):
    return list(read_texts(path, columns or Columns(), **settings))


def short(examples):
    return [(*example.texts, example.label) for example in examples]


# What was written comes back


@given(st.lists(st.tuples(TEXT, TEXT, LABEL), min_size=1, max_size=5), st.sampled_from(["csv", "jsonl"]))
def test_pairs_with_labels_come_back_as_they_were_written(tmp_path_factory, table, format):
    path = tmp_path_factory.mktemp("t") / f"a.{format}"
    names = ("premise", "hypothesis", "label")
    if format == "jsonl":
        write(path, "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in table))
    else:
        out = io.StringIO()
        csv.writer(out).writerows([names, *table])
        write(path, out.getvalue())
    assert short(read(path)) == table


@given(st.lists(st.tuples(TEXT.map(lambda text: text.translate({9: "", 10: "", 13: ""})), LABEL), min_size=1))
def test_texts_between_tabs_come_back_whatever_the_order_of_columns(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("t") / "a.tsv"
    write(path, "".join(f"{label}\t{text}\tmore\n" for text, label in table))
    assert short(read(path, Columns(text="2", label="1", header="no"))) == table


# Real layouts in miniature

LAYOUTS = {
    "MRPC": (
        "a.txt",
        b"\xef\xbb\xbfQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t1\t2\tHe said \"no\tHe \"said no\r\n",
        Columns(),
        [('He said "no', 'He "said no', "1")],
    ),
    "CoLA": ("a.tsv", "gj04\t1\t\tThey rode.\ngj04\t0\t*\tThey honked down.\n", Columns(text="4", label="2"),
             [("They rode.", "1"), ("They honked down.", "0")]),
    "STS benchmark": (
        "sts-dev.csv",
        'main\tMSRvid\t2012\t0\t5.000\t"A man, a hat"\tA "man.\nmain\tMSRvid\t2012\t1\t0.50\tA\tB\tlicence\tlink\n',
        Columns(text="6", text2="7", label="5"),
        [('"A man, a hat"', 'A "man.', "5.000"), ("A", "B", "0.50")],
    ),
    "AG News": ("a.csv", '"3","Fears, again","He said ""no""."\n"4","Ky.","AP - A"\n', Columns(),
                [("Fears, again", 'He said "no".', "3"), ("Ky.", "AP - A", "4")]),
    "CEDR": ("a.csv", 'text,labels,source\nТак .,[],lj\n"Да,\nнет","[1, 3]",tw\n', Columns(),
             [("Так .", "[]"), ("Да,\nнет", "[1, 3]")]),
    "RuCoLA": ("a.csv", 'id,sentence,acceptable,error_type\n0,"Иван, да",1,0\n', Columns(), [("Иван, да", "1")]),
    "RuSentNE": ("a.csv", 'sentence\tentity\tlabel\n"Он ""там""."\tОн\t-1\n',
                 Columns(format="csv", text="sentence", text2="entity"), [('Он "там".', "Он", "-1")]),
    "ChnSentiCorp": ("a.tsv", "label\ttext_a\n1\t距离\"川沙\n", Columns(), [('距离"川沙', "1")]),
    "THUCNews": ("dev.txt", "体验2D巅峰\t8\n60年铁树\t5\n", Columns(), [("体验2D巅峰", "8"), ("60年铁树", "5")]),
    "SICK": ("a.txt", "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\t\r\n"
             "4\tA\tB\t3.6\tNEUTRAL\t\r\n",
             Columns(label="relatedness_score"), [("A", "B", "3.6")]),
    "sent-conv": ("stsa.dev", "1 a stirring , funny tale\n", Columns(format="labeled-lines"),
                  [("a stirring , funny tale", "1")]),
    "TREC": ("TREC.train", "NUM:dist How far ?\nLOC:city Where ?\n", Columns(format="labeled-lines", label="coarse"),
             [("How far ?", "NUM"), ("Where ?", "LOC")]),
    "fastText": ("a.txt", "__label__a __label__b both\n__label__a one\n", Columns(),
                 [("both", ("a", "b")), ("one", "a")]),
    "DialogSum": ("a.jsonl", '{"fname": "t0", "dialogue": "A\\nB", "summary1": "x", "topic1": "t", "summary2": "y"}\n',
                  Columns(), [("A\nB", ("x", "y"))]),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_data_sets_are_read_as_they_are_distributed(tmp_path, name):
    file, content, columns, expected = LAYOUTS[name]
    assert short(read(write(tmp_path / file, content), columns)) == expected


def test_an_example_knows_its_place_and_its_name(tmp_path):
    path = write(tmp_path / "a.tsv.xz", lzma.compress(b"index\tsentence\tlabel\n\n7\tgood\tpos\n"))
    assert read(path) == [Example(("good",), "pos", f"{path}:3", "7")]


def test_labels_of_objects_are_strings_or_several(tmp_path):
    values = ["x", 5, 5.0, True, [1, "b"], []]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps({"text": "t", "label": value}) + "\n" for value in values))
    assert [example.label for example in read(path)] == ["x", "5", "5.0", "true", ("1", "b"), ()]


def test_an_empty_cell_is_an_empty_label_for_tasks_with_several(tmp_path):
    path = write(tmp_path / "a.tsv", "text\tlabels\na\t\nb\tx,y\n")
    assert [split_labels(example.label) for example in read(path)] == [(), ("x", "y")]


def test_keys_may_change_from_object_to_object(tmp_path):
    content = '{"text": "a", "label": "x"}\n{"label": "y", "id": 3, "text": "b"}\n{"text": "c"}\n'
    path = write(tmp_path / "a.jsonl", content)
    assert short(read(path, labelled=False)) == [("a", "x"), ("b", "y"), ("c", None)]
    with pytest.raises(NlpcliError, match=r"a.jsonl:3: it is not clear which column contains the label"):
        read(path)


def test_without_labels_a_list_of_lines_is_enough(tmp_path):
    path = write(tmp_path / "a.txt", "one text\nanother\n")
    assert short(read(path, labelled=False)) == [("one text", None), ("another", None)]
    with pytest.raises(NlpcliError, match=r"a.txt:1: the label is missing; the row has only 1 column") as error:
        read(path)
    assert "labeled-lines" in error.value.hint


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        ("a.tsv", "sentence\tlabel\na\tb\nc\n", Columns(), r"a.tsv:3: the row has 1 column, but the header has 2"),
        ("a.tsv", "sentence\tlabel\na\tb\tc\n", Columns(), r"a.tsv:2: the row has 3 columns, but the header has 2"),
        ("a.tsv", "a b\tx\nc d\n", Columns(), r"a.tsv:2: the row has 1 column, but the first row has 2"),
        (
            "a.tsv",
            "a b\tx\nc d\n",
            Columns(text="1", label="2"),
            r"a.tsv:2: the row has 1 column, but the first row has 2",
        ),
        ("a.jsonl", '{"text": "a", "label": null}\n', Columns(), r"a.jsonl:1: the label is null"),
        ("a.jsonl", '{"text": ["a"], "label": "x"}\n', Columns(), r"""a.jsonl:1: 'text' must be text, not \["a"\]"""),
        ("a.jsonl", '{"text": "a", "label": {"b": 1}}\n', Columns(), r"a.jsonl:1: 'label' must be text, not \{"),
        (
            "a.jsonl",
            '{"text": "a", "label": "x"}\n',
            Columns(text="body"),
            r"a.jsonl:1: there is no column 'body'; the columns are: ",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named_with_their_line(tmp_path, name, content, columns, message):
    with pytest.raises(NlpcliError, match=message):
        read(write(tmp_path / name, content), columns)


def test_rows_may_be_longer_where_the_columns_are_named(tmp_path):
    path = write(tmp_path / "a.tsv", "a b\tx\nc d\ty\tmore\tmore\n")
    assert short(read(path, Columns(text="1", label="2"))) == [("a b", "x"), ("c d", "y")]
    path = write(tmp_path / "a.tsv", "a\tb\tc\nx\ty\tz\tmore\n")
    assert short(read(path, Columns(text="a", label="c"))) == [("x", "z")]


def test_examples_are_given_as_soon_as_they_are_read(tmp_path):
    path = write(tmp_path / "a.tsv", b"sentence\tlabel\ngood\tpos\n\xff\n")
    examples = read_texts(path, Columns())
    assert next(examples).texts == ("good",)
    with pytest.raises(NlpcliError, match=r"a.tsv:3: the line is not valid UTF-8"):
        next(examples)


def test_one_object_is_an_example():
    record = {"premise": "A", "hypothesis": "B", "score": 3.5, "id": 4}
    assert parse_record(record, Columns(), place="<stdin>:2") == Example(("A", "B"), "3.5", "<stdin>:2", "4")
    assert parse_record({"text": "A"}, Columns(label="score"), place="p") == Example(("A",), None, "p")
    with pytest.raises(NlpcliError, match=r"p: it is not clear which column contains the text; the columns are: body"):
        parse_record({"body": "A"}, Columns(), place="p")


# Several labels


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("[1, 3]", ("1", "3")),
        ("[]", ()),
        ("", ()),
        (None, ()),
        ("['joy', \"fear\"]", ("joy", "fear")),
        ('["joy"]', ("joy",)),
        ("[joy, fear]", ("joy", "fear")),
        ("[1.0, true]", ("1.0", "true")),
        ("joy, fear,", ("joy", "fear")),
        ("joy", ("joy",)),
        (("a,b", "c"), ("a,b", "c")),
    ],
)
def test_cells_of_several_labels_are_split(cell, labels):
    assert split_labels(cell) == labels


def test_labels_are_split_at_the_separator_that_is_requested():
    assert split_labels("joy|fear, a bit", "|") == ("joy", "fear, a bit")


@given(st.lists(st.text(max_size=8).filter(lambda text: text.strip() == text and text)))
def test_lists_of_labels_come_back_as_they_were_written(labels):
    assert split_labels(json.dumps(labels)) == split_labels(str(labels)) == split_labels(labels) == tuple(labels)


# Multiple choice


def choices(path, columns=None, **settings):
    return [(*example.texts, example.label) for example in read_choices(path, columns or Columns(), **settings)]


CHOICES = {
    "COPA": ("a.jsonl", '{"premise": "P", "choice1": "a", "choice2": "b", "question": "cause", "label": 1, "idx": 0}',
             Columns(), ("P", "a", "b", "1")),
    "SWAG": ("a.csv", ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n"
             '0,v,1,"She opens, and",She opens,and,gold,a,b,c,d,2\n', Columns(), ("She opens, and", *"abcd", "2")),
    "HellaSwag": ("a.jsonl", '{"ind": 4, "ctx_a": "x", "ctx": "A man", "endings": ["a", "b", "c"], "label": "2"}',
                  Columns(), ("A man", *"abc", "2")),
    "RACE": ("a.jsonl", '{"article": "Long.", "question": "Why?", "options": ["a", "b"], "answer": "B"}',
             Columns(), ("Long. Why?", "a", "b", "B")),
    "named": ("a.tsv", "q\ta\tb\tc\tright\nWhy?\tx\ty\t\ty\n",
              Columns(text="q", choices=("a", "b", "c"), label="right"), ("Why?", "x", "y", "y")),
    "numbered": ("a.tsv", "Why?\tx\ty\t2\n", Columns(text="1", choices=("2", "3"), label="4"), ("Why?", "x", "y", "2")),
    "two texts": ("a.jsonl", '{"premise": "P", "choice1": "a", "choice2": "b", "question": "cause", "label": 1}',
                  Columns(text="premise", text2="question"), ("P cause", "a", "b", "1")),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_multiple_choices_are_read_with_their_candidates(tmp_path, name):
    file, content, columns, expected = CHOICES[name]
    assert choices(write(tmp_path / file, content), columns) == [expected]


def test_candidates_come_in_the_order_of_their_numbers(tmp_path):
    record = {"text": "T", "label": 0} | {f"choice{i}": str(i) for i in (10, 2, 1)}
    assert choices(write(tmp_path / "a.jsonl", json.dumps(record))) == [("T", "1", "2", "10", "0")]


def test_one_object_is_a_multiple_choice():
    record = {"question": "Why?", "choices": ["a", "b"], "id": "q1"}
    assert parse_choices(record, Columns(), place="p") == Example(("Why?", "a", "b"), None, "p", "q1")


@pytest.mark.parametrize(
    ("record", "columns", "message"),
    [
        (
            {"text": "T", "label": 0},
            Columns(),
            r"a.jsonl:1: it is not clear which columns contain the candidates; the columns are: text, label",
        ),
        (
            {"text": "T", "choices": ["a"], "label": 0},
            Columns(),
            r"a.jsonl:1: the example has 1 candidate, but multiple choice needs at least 2",
        ),
        (
            {"text": "T", "choices": ["a", None], "label": 0},
            Columns(),
            r"a.jsonl:1: a candidate must be text, not null",
        ),
        ({"text": "T", "choices": ["a", "b"], "label": None}, Columns(), r"a.jsonl:1: the label is null"),
        (
            {"text": "T", "choices": ["a", "b"]},
            Columns(),
            r"a.jsonl:1: it is not clear which column contains the label, which is the correct candidate",
        ),
        (
            {"body": "T", "choices": ["a", "b"], "label": 1},
            Columns(),
            r"a.jsonl:1: it is not clear which column contains the te",
        ),
        (
            {"text": "T", "a": "1", "label": 1},
            Columns(choices=("a", "b")),
            r"a.jsonl:1: there is no column 'b'; the columns are: text",
        ),
    ],
)
def test_choices_that_are_none_are_named_with_their_line(tmp_path, record, columns, message):
    with pytest.raises(NlpcliError, match=message):
        choices(write(tmp_path / "a.jsonl", json.dumps(record)), columns)


def test_a_list_that_numpy_printed_has_no_commas():
    assert split_labels("[0 2]") == ("0", "2")
    assert split_labels("['joy' 'fear']") == ("joy", "fear")
    assert split_labels("[joy, great fear]") == ("joy", "great fear")


def test_what_only_looks_like_a_list_is_cut_as_text():
    assert split_labels("[{[]: 1}]") == ("{[]:", "1}")
