from __future__ import annotations

import pytest

from nlpcli.data.columns import CellRoles, Columns, by_names, by_numbers, find
from nlpcli.errors import NlpcliError


def named(header, columns=None, texts=None, labelled=True):
    return by_names(columns or Columns(), header.split(), texts=texts, labelled=labelled, place="f:1")


def numbered(table, columns=None, texts=None, labelled=True):
    return by_numbers(columns or Columns(), table, texts=texts, labelled=labelled, place="f:1")


# Settings


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(NlpcliError, match="unknown format 'jsnol'") as error:
        Columns(format="jsnol")
    assert error.value.hint == "did you mean 'jsonl'?"
    with pytest.raises(NlpcliError, match="unknown header setting 'maybe'"):
        Columns(header="maybe")
    with pytest.raises(NlpcliError, match="columns are numbered from 1"):
        Columns(choices=("1", "0"))


@pytest.mark.parametrize(
    ("cells", "columns", "header"),
    [
        (("sentence", "label"), Columns(), True),
        (("Text_A", "LABELS", "source"), Columns(), True),
        (("premise", "x", "hypothesis", "y"), Columns(), True),
        (("sentence",), Columns(), True),
        (("What is this ?", "question"), Columns(), False),
        (("gj04", "1", "", "A sentence."), Columns(), False),
        (("foo", "bar"), Columns(), False),
        (("foo", "label"), Columns(), True),
        (("sentence_1", "foo"), Columns(), True),
        (("utterance", "intent"), Columns(), True),
        (("foo", "bar"), Columns(text="foo"), True),
        (("foo", "bar"), Columns(text="1", label="2"), False),
        (("sentence", "label"), Columns(text="1", label="2"), True),
        (("sentence", "label"), Columns(header="no"), False),
        (("a", "b"), Columns(header="yes"), True),
    ],
)
def test_a_header_is_distinguished_from_data(cells, columns, header):
    assert columns.is_header(cells) is header


# By name


@pytest.mark.parametrize(
    ("header", "places"),
    [
        ("sentence label", CellRoles((0,), (1,))),
        ("label text_a", CellRoles((1,), (0,))),
        ("text labels source", CellRoles((0,), (1,))),
        ("index sentence1 sentence2 label", CellRoles((1, 2), (3,), 0)),
        ("Quality #1_ID #2_ID #1_String #2_String", CellRoles((3, 4), (0,))),
        ("premise hypothesis label", CellRoles((0, 1), (2,))),
        ("index question sentence label", CellRoles((1, 2), (3,), 0)),
        ("id qid1 qid2 question1 question2 is_duplicate", CellRoles((3, 4), (5,), 0)),
        ("pair_ID sentence_A sentence_B relatedness_score", CellRoles((1, 2), (3,), 0)),
        ("id sentence acceptable error_type detailed_source", CellRoles((1,), (2,), 0)),
        ("sentence entity entity_tag label", CellRoles((0,), (3,))),
        ("sentence1 sentence2 label1 label2 gold_label", CellRoles((0, 1), (4,))),
        ("fname dialogue summary topic", CellRoles((1,), (2,), 0)),
        ("fname dialogue summary1 topic1 summary2 topic2", CellRoles((1,), (2, 4), 0)),
        ("text score label", CellRoles((0,), (2,))),
    ],
)
def test_columns_are_found_by_their_usual_names(header, places):
    assert named(header) == places


def test_named_columns_come_before_usual_ones():
    header = "id sentence entity label score"
    assert named(header, Columns(text="sentence", text2="entity", label="score")) == CellRoles((1, 2), (4,), 0)
    assert named(header, Columns(text2="entity")) == CellRoles((1, 2), (3,), 0)
    assert named(header, Columns(text="2", label="5", id="entity")) == CellRoles((1,), (4,), 2)
    assert named("sentence1 sentence2 label", Columns(text="sentence1")) == CellRoles((0,), (2,))
    assert named("sentence1 sentence2 label", Columns(text="sentence1"), texts=2) == CellRoles((0, 1), (2,))
    assert named("a b c", Columns(text="a", label="b,c")) == CellRoles((0,), (1, 2))


def test_a_label_that_is_not_needed_may_be_missing():
    assert named("sentence", labelled=False) == CellRoles((0,))
    assert named("sentence", Columns(label="label"), labelled=False) == CellRoles((0,))
    assert named("sentence score stars", labelled=False) == CellRoles((0,))


@pytest.mark.parametrize(
    ("header", "columns", "texts", "message"),
    [
        ("a b", Columns(), None, r"f:1: it is not clear which column contains the text; the columns are: a, b"),
        (
            "sentence b",
            Columns(),
            None,
            r"f:1: it is not clear which column contains the label; the columns are: sentence, b",
        ),
        ("sentence label", Columns(), 2, r"f:1: it is not clear which column contains the texts"),
        ("sentence label", Columns(text="sentence"), 2, r"f:1: it is not clear which column contains the second text"),
        (
            "sentence1 sentence2 score sentiment",
            Columns(),
            None,
            r"several columns could be the label: score, sentim",
        ),
        (
            "sentence label",
            Columns(label="lable"),
            None,
            r"f:1: there is no column 'lable'; the columns are: sentence, label",
        ),
        ("text text label", Columns(text="text"), None, r"f:1: columns 1 and 2 are both named 'text'"),
        ("text label", Columns(label="3"), None, r"f:1: there is no column 3; the row has 2 columns"),
    ],
)
def test_a_column_that_cannot_be_found_is_named_beside_those_that_are_there(header, columns, texts, message):
    with pytest.raises(NlpcliError, match=message):
        named(header, columns, texts)


def test_the_nearest_name_is_proposed():
    with pytest.raises(NlpcliError) as error:
        named("sentence label", Columns(label="lable"))
    assert error.value.hint == "did you mean 'label'?"


def test_names_are_found_whatever_their_case_unless_the_case_decides():
    assert find("TEXT", ["Text", "label"], 2, "") == 0
    assert find("text", ["Text", "text"], 2, "") == 1


# By number

LABELS_LAST = [["good movie", "pos"], ["bad movie", "neg"], ["fine movie", "pos"]]
LABELS_FIRST = [["pos", "good movie"], ["neg", "bad movie"], ["pos", "fine movie"], ["neg", "no"]]
IDIOMS = [["Go.", "Geh."], ["Go.", "Los, geh!"], ["Hi there.", "Hallo."], ["Run!", "Lauf!"]]


@pytest.mark.parametrize(
    ("table", "texts", "places"),
    [
        (LABELS_LAST, None, CellRoles((0,), (1,))),
        (LABELS_FIRST, None, CellRoles((1,), (0,))),
        (LABELS_FIRST, 1, CellRoles((1,), (0,))),
        ([["1", "good movie"]], None, CellRoles((1,), (0,))),
        ([["good movie", "1"]], None, CellRoles((0,), (1,))),
        ([["1", "2"]], None, CellRoles((0,), (1,))),
        (IDIOMS, None, CellRoles((0,), (1,))),
        ([["a man", "a woman", "3.5"]], None, CellRoles((0, 1), (2,))),
        ([["3", "Oil prices", "They rose."]], None, CellRoles((1, 2), (0,))),
    ],
)
def test_without_a_header_labels_come_last_unless_the_first_column_clearly_holds_them(table, texts, places):
    assert numbered(table, texts=texts) == places


def test_without_a_header_what_is_not_named_is_found_among_the_rest():
    row = [["captions", "MSRvid", "5.0", "A man.", "A woman."]]
    assert numbered(row, Columns(text="4", text2="5", label="3")) == CellRoles((3, 4), (2,))
    assert numbered([["A man.", "x", "pos"]], Columns(text2="1", label="3")) == CellRoles((1, 0), (2,))
    assert numbered([["A man.", "pos"]], Columns(label="1")) == CellRoles((1,), (0,))
    assert numbered([["A man.", "B", "pos"]], Columns(id="3")) == CellRoles((0,), (1,), 2)
    assert numbered(row, Columns(text="4"), labelled=False) == CellRoles((3,))
    assert numbered([["A man."]], labelled=False) == CellRoles((0,))
    assert numbered([["A man.", "A woman."]], texts=2, labelled=False) == CellRoles((0, 1))


@pytest.mark.parametrize(
    ("table", "columns", "texts", "message"),
    [
        ([["a", "b", "c", "d"]], Columns(), None, r"f:1: the table has 4 columns and no header, so it is not clear"),
        ([["a", "b", "c"]], Columns(), 1, r"f:1: the table has 3 columns and no header"),
        ([["a", "b", "c", "d"]], Columns(text="1"), None, r"f:1: the table has 4 columns and no header"),
        ([["a"]], Columns(), None, r"f:1: the label is missing; the row has only 1 column"),
        ([["a", "b"]], Columns(), 2, r"f:1: the label is missing; the row has only 2 columns"),
        ([["a", "b"]], Columns(text="3"), None, r"f:1: there is no column 3; the row has 2 columns"),
        (
            [["a", "b"]],
            Columns(text="body", header="no"),
            None,
            r"f:1: there is no column 'body', because the table has no header",
        ),
    ],
)
def test_a_table_without_a_header_that_can_be_read_in_two_ways_is_refused(table, columns, texts, message):
    with pytest.raises(NlpcliError, match=message):
        numbered(table, columns, texts)


@pytest.mark.parametrize(
    "names", [["label", "label"], ["x", "label", "label"], ["label", "a", "Label", "label", "LABEL"]]
)
def test_the_hint_for_a_name_that_several_columns_have_gives_numbers_that_each_name_one(names):
    wanted = "lAbel" if "Label" in names else "label"
    with pytest.raises(NlpcliError) as error:
        find(wanted, names, len(names), "f:1")
    text, _, numbers = error.value.hint.partition(": ")
    assert text == "give the number of a column instead of its name"
    same = [place for place, name in enumerate(names) if name.lower() == "label"]
    assert [find(number, names, len(names), "f:1") for number in numbers.split(" or ")] == same
