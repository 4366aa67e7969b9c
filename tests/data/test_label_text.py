from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.config.loading import dump_yaml, load_yaml
from nlpcli.data.columns import Columns
from nlpcli.data.conll import read_tagged
from nlpcli.data.examples import read_choices, read_texts
from nlpcli.data.label_text import clean_label, clean_tag, join_labels, look_alike, one_field, split_labels, stripped
from nlpcli.errors import NlpcliError

SPACES = st.text("  \t\n\r\f\u00a0\u2003\u3000\ufeff", max_size=3)
ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
LABEL = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=8).map(stripped).filter(bool)
SEPARATOR = st.sampled_from([",", ";", "|", " ", ", ", "[", '"', "a", "\t", "||"])


@given(SPACES, LABEL, SPACES)
def test_space_of_every_kind_around_a_label_is_no_part_of_it(before, label, after):
    assert clean_label(before + label + after, "f:1") == label


@given(ANY)
def test_a_label_is_refused_or_fits_into_one_field_of_one_line(text):
    try:
        label = clean_label(text, "f:1")
    except NlpcliError as error:
        assert error.message.startswith("f:1: the label ") and "\n" not in error.message and "\t" not in error.message
        assert any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in stripped(text))
    else:
        assert label.splitlines() == ([label] if label else []) and "\t" not in label
    assert len(one_field(text).splitlines()) <= 1 and "\t" not in one_field(text)


@given(st.lists(LABEL, max_size=4), SEPARATOR)
def test_labels_written_into_one_cell_are_read_as_the_same_labels(labels, separator):
    cell = join_labels(labels, separator)
    assert split_labels(cell, separator) == tuple(labels)
    assert separator == "\t" or len(cell.split("\t")) == 1
    assert len(cell.splitlines()) <= 1


@given(st.lists(LABEL, min_size=1, max_size=4))
def test_labels_come_back_from_the_description_of_a_model(tmp_path_factory, labels):
    path = write(tmp_path_factory.mktemp("m") / "model.yaml", dump_yaml({"labels": labels}))
    assert load_yaml(path) == {"labels": labels}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6))
def test_a_tag_is_refused_or_stands_between_spaces(text):
    try:
        tag = clean_tag(text, 1, "f:1")
    except NlpcliError as error:
        assert error.message.startswith("f:1: ")
    else:
        assert f"{tag} {tag}".split() == [tag, tag]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "x\tneg \ny\u0020\t\u00a0pos\u3000\n"),
        ("a.csv", 'text,label\nx,"neg\n"\ny," pos"\n'),
        ("a.jsonl", '{"text": "x", "label": "neg\\t"}\n{"text": "y", "label": "\\ufeffpos"}\n'),
        ("a.json", '[\n{"text": "x", "label": "neg "},\n{"text": "y", "label": "pos"}]\n'),
    ],
)
def test_labels_are_the_same_however_much_space_is_around_them_in_every_format(tmp_path, name, text):
    assert [e.label for e in read_texts(write(tmp_path / name, text), Columns())] == ["neg", "pos"]


def test_the_parts_of_a_list_of_labels_and_labels_of_candidates_lose_the_space_around_them_too(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "x", "labels": ["a ", "b"]}\n')
    assert [e.label for e in read_texts(path, Columns())] == [("a", "b")]
    path = write(tmp_path / "b.jsonl", '{"text": "x", "choice1": "a", "choice2": "b", "label": " 1\\u00a0"}\n')
    assert [e.label for e in read_choices(path, Columns())] == ["1"]


def test_targets_that_are_texts_stay_as_they_are(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "x", "summary": " two\\nlines "}\n')
    assert [e.label for e in read_texts(path, Columns(), names=False)] == [" two\nlines "]


@pytest.mark.parametrize("inside", ["\\n", "\\t", "\\r", "\\u2028", "\\u0007", "\\u0085"])
def test_a_label_that_does_not_fit_into_a_line_is_refused_with_its_place(tmp_path, inside):
    path = write(
        tmp_path / "a.jsonl", f'{{"text": "x", "label": "good"}}\n{{"text": "x", "label": "very{inside}good"}}\n'
    )
    with pytest.raises(
        NlpcliError, match=r"a.jsonl:2: the label 'very.*good' contains .*, but a label must fit on one line"
    ):
        list(read_texts(path, Columns()))


@pytest.mark.parametrize("tag", ["B PER", "B\\u00a0PER", "a\\tb", "", " "])
def test_a_tag_with_white_space_inside_is_refused_with_its_place(tmp_path, tag):
    path = write(tmp_path / "a.jsonl", f'{{"words": ["x", "y"], "tags": ["O", "{tag}"]}}\n')
    with pytest.raises(NlpcliError, match=r"a.jsonl:1: .*tag.* of word 2"):
        list(read_tagged(path, Columns()))


def test_tags_in_columns_lose_the_space_around_them(tmp_path):
    path = write(tmp_path / "a.conll", "x\tO\u00a0\ny\tB-PER \n")
    assert [e.label for e in read_tagged(path, Columns())] == [("O", "B-PER")]


# Names that pick a column


@pytest.mark.parametrize(
    ("name", "text", "numbers"),
    [
        ("a.tsv", "sentence\tlabel\tlabel\nx\ta\tq\n", "2 and 3"),
        ("a.csv", "Label,sentence,label\na,x,q\n", "1 and 3"),
        ("a.tsv", "text\ttext\tlabel\nx\ty\ta\n", "1 and 2"),
        ("a.csv", "premise;hypothesis;hypothesis;label\nx;y;z;a\n", "2 and 3"),
        ("a.tsv", "text\tscore\tscore\tscore\nx\ty\tz\ta\n", "2, 3 and 4"),
        ("a.jsonl", '{"text": "x", "label": "a", "Label": "b"}\n', "2 and 3"),
    ],
)
def test_two_columns_of_one_name_are_refused_by_their_numbers(tmp_path, name, text, numbers):
    with pytest.raises(NlpcliError, match=f"columns {numbers} ") as caught:
        list(read_texts(write(tmp_path / name, text), Columns()))
    assert "by its number" in caught.value.hint


def test_two_columns_of_one_name_are_no_matter_where_others_are_named(tmp_path):
    path = write(tmp_path / "a.tsv", "sentence\tlabel\tlabel\tid\tid\nx\ta\tq\t1\t2\n")
    [example] = read_texts(path, Columns(label="3"))
    assert (example.label, example.id) == ("q", "")
    assert [e.label for e in read_texts(path, Columns(), labelled=False)] == [None]


def test_columns_of_candidates_and_of_words_with_one_name_are_refused_too(tmp_path):
    path = write(tmp_path / "a.csv", "text,choice1,choice2,choice2,label\nx,a,b,c,1\n")
    with pytest.raises(NlpcliError, match="columns 3 and 4 are both named 'choice2'"):
        list(read_choices(path, Columns()))
    path = write(tmp_path / "b.csv", "words,tags,tags\nx y,O O,O B\n")
    with pytest.raises(NlpcliError, match="columns 2 and 3 are both named 'tags'"):
        list(read_tagged(path, Columns()))


def test_a_key_that_stands_twice_in_an_object_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "x", "label": "a", "label": "b"}\n')
    with pytest.raises(
        NlpcliError, match=r"a.jsonl:1: the key 'label' occurs twice in an object, as key number 2 and 3"
    ):
        list(read_texts(path, Columns()))


# Names that Python reads as numbers


@pytest.mark.parametrize(
    "names", [("Inf", "Fin", "Part"), ("nan", "deu", "eng"), ("Infinity", "1_0", "None"), ("½", "²", "٣")]
)
def test_names_that_python_reads_as_numbers_are_names(names):
    from nlpcli.data.examples import Example
    from nlpcli.tasks.text_batches import labels_of

    assert set(labels_of([Example(("x",), name) for name in names], "classify")) == set(names)


@pytest.mark.parametrize("label", ["nan", "inf", "1_0", "٣", "--5", "1e999"])
def test_what_is_no_plain_number_is_no_score(label):
    from nlpcli.data.examples import Example
    from nlpcli.tasks.regression import score_in

    with pytest.raises(NlpcliError, match=r"f:1: .* is not a number"):
        score_in(Example(("x",), label, "f:1"))


@pytest.mark.parametrize(
    ("one", "other"),
    [("pos", "pos\u200b"), ("pos", "\u202epos"), ("\u00e9", "e\u0301"), ("a b", "a\u00a0b"), ("a b", "a  b")],
)
def test_two_labels_that_a_reader_cannot_tell_apart_are_found(one, other):
    assert look_alike(["x", one, "y", other]) == (one, other)


def test_labels_that_can_be_distinguished_are_not_called_alike():
    assert look_alike(["pos", "Pos", "1", "1.0", "01", "e", "\u00e9", "a b", "ab", ""]) is None
