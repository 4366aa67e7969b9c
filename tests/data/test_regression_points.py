"""Points for a regression out of every kind of table, and what is no table of numbers."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.regression_points import LARGEST, MOST_COLUMNS, MOST_POINTS, read_points
from nlpcli.errors import NlpcliError

FORMS = {"a.tsv": "\t", "a.csv": ",", "b.csv": ";", "c.txt": " ", "d.txt": "  ", "e.txt": "|"}
numbers = st.floats(-LARGEST, LARGEST, allow_nan=False)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@given(st.data(), st.integers(2, 4))
def test_all_forms_of_a_table_give_the_same_points(tmp_path_factory, data, columns):
    folder = tmp_path_factory.mktemp("points")
    rows = data.draw(st.lists(st.tuples(*[numbers] * columns), min_size=2, max_size=6))
    rows = [(place + 0.5, *row[1:]) for place, row in enumerate(rows)] if columns == 2 else rows
    if any(max(column) - min(column) < 1e-40 for column in list(zip(*rows, strict=True))[:-1]):
        return
    names = [f"c{number}" for number in range(columns)]
    header = data.draw(st.booleans())
    found = []
    for name, separator in FORMS.items():
        lines = [separator.join(map(repr, row)) for row in rows]
        path = write(folder / name, "\n".join([separator.join(names), *lines] if header else lines) + "\n")
        found.append(read_points(path))
    objects = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    named = read_points(write(folder / "a.jsonl", objects))
    assert named.names == tuple(names)
    for points in (*found, named):
        assert [(*x, y) for x, y in zip(points.x, points.y, strict=True)] == rows
        assert points.names == (tuple(names) if header or points is named else found[0].names)


def test_compressed_files_comments_of_numpy_and_blank_lines_are_read(tmp_path):
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"x\ty\n\n1\t2\n\n3\t4\n"))
    assert read_points(path).x == ((1.0,), (3.0,))
    points = read_points(write(tmp_path / "a.txt", "# x y\n1.0e+00 2.0e+00\n 3 4\n"))
    assert (points.names, points.y) == (("x", "y"), (2.0, 4.0))


def test_without_a_header_columns_are_named_x_and_y(tmp_path):
    assert read_points(write(tmp_path / "a.tsv", "1\t2\n3\t4\n")).names == ("x", "y")
    assert read_points(write(tmp_path / "b.tsv", "1\t2\t3\n3\t4\t5\n")).names == ("x1", "x2", "y")


def test_keys_of_objects_may_stand_in_any_order(tmp_path):
    points = read_points(write(tmp_path / "a.jsonl", '{"x": 1, "y": 2}\n{"y": 4, "x": 3}\n'))
    assert (points.x, points.y) == (((1.0,), (3.0,)), (2.0, 4.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\tabc\n3\t4\n", "a.tsv:1: 'abc' in column 'y' is not a number"),
        ("x\ty\n1\t2\n3\t\n", "a.tsv:3: '' in column 'y' is not a number"),
        ("1\t2\n3\tnan\n", "a.tsv:2: 'nan' in column 'y' is not finite"),
        ("1\t2\n-inf\t3\n", "a.tsv:2: '-inf' in column 'x' is not finite"),
        ("1\t2\n3\t1e999\n", "a.tsv:2: '1e999' in column 'y' is not finite"),
        ("1\t2\n1e101\t3\n", "a.tsv:2: '1e101' in column 'x' is larger than 1e+100"),
        ("1\t2\n1_0\t3\n", "a.tsv:2: '1_0' in column 'x' is not a number"),
        ("1\t2\n\n3\n", "a.tsv:3: the row has 1 column, but the first row has 2"),
        ("x\ty\tz\n1\t2\n", "a.tsv:2: the row has 2 columns, but the first row has 3"),
        ("1\n2\n", "a.tsv:1: the row has 1 column, but a point needs at least two: x and y"),
        ("1\t" * MOST_COLUMNS + "2\n", f"a.tsv:1: the row has {MOST_COLUMNS + 1} columns, but at most"),
        ("x\ty\n1\t2\n", "a.tsv contains only one point"),
        ("x\ty\n", "a.tsv contains no point"),
        ("", "a.tsv is empty"),
        ("".join(f"{n}\t1\n" for n in range(MOST_POINTS + 1)), "a.tsv contains more than 1,000 points"),
        ("1\t5\t2\n1\t6\t3\n", "a.tsv: all numbers in column 'x1' are equal"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused_with_its_place(tmp_path, text, message):
    path = write(tmp_path / "a.tsv", text)
    with pytest.raises(NlpcliError) as refused:
        read_points(path)
    assert refused.value.message.removeprefix(f"{tmp_path}/").startswith(message)


def test_a_key_that_is_missing_is_named(tmp_path):
    with pytest.raises(NlpcliError, match=r"a\.jsonl:2: the key 'y' of the first object is missing"):
        read_points(write(tmp_path / "a.jsonl", '{"x": 1, "y": 2}\n{"x": 3}\n'))


def test_no_more_lines_are_read_than_are_needed_to_refuse_a_file(tmp_path):
    path = write(tmp_path / "a.tsv", "".join(f"{n}\t1\n" for n in range(MOST_POINTS + 1)) + "no number\n" * 9)
    with pytest.raises(NlpcliError, match="more than 1,000 points"):
        read_points(path)
