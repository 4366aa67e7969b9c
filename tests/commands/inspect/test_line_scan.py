"""What one pass over a text leaves behind is what a plain look at the lines gives."""

from __future__ import annotations

import codecs
import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.commands.inspect import line_scan as scanning
from nlpcli.commands.inspect.line_scan import fetch, found_in, lengths, lenient_lines, repeated, scan
from nlpcli.data.train_dev_overlap import normal
from nlpcli.errors import NlpcliError

VALUES = st.lists(st.integers(0, 6), max_size=12)


@given(VALUES, st.data())
def test_repeated_values_are_those_that_stood_before(values, data):
    among = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))), dtype=bool)
    places, first = repeated(np.array(values, dtype=np.int64), among)
    expected, seen = [], {}
    for place, (value, counts) in enumerate(zip(values, among, strict=True)):
        if counts and value in seen:
            expected.append((place, seen[value]))
        elif counts:
            seen[value] = place
    assert list(zip(places.tolist(), first.tolist(), strict=True)) == expected


@given(VALUES, VALUES)
def test_values_are_found_at_the_first_place_that_holds_them(values, others):
    found = found_in(np.array(values, dtype=np.int64), np.array(others, dtype=np.int64))
    assert found.tolist() == [others.index(value) if value in others else -1 for value in values]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=10), max_size=9))
def test_a_scan_counts_every_line(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("scan") / "text"
    path.write_bytes("".join(f"{text}\n" for text in texts).encode())
    found = scan(path)
    assert len(found) == len(texts)
    assert found.characters.tolist() == [
        len(text.removeprefix("\ufeff") if i == 0 else text) for i, text in enumerate(texts)
    ]
    assert found.words.tolist() == [
        len((text.removeprefix("\ufeff") if i == 0 else text).split()) for i, text in enumerate(texts)
    ]
    assert found.blank.tolist() == [
        not text.removeprefix("\ufeff" if i == 0 else "").split() for i, text in enumerate(texts)
    ]


@given(st.lists(st.sampled_from([b"one\r\n", b"two\n", b"\xff\r\n", b"\xffx\n", b"\r\n"]), min_size=1), st.booleans())
def test_each_line_is_counted_for_everything_odd_in_it(tmp_path_factory, lines, marked):
    path = tmp_path_factory.mktemp("odd") / "text"
    path.write_bytes(codecs.BOM_UTF8 * marked + b"".join(lines))
    found = scan(path)
    for name, is_odd in (("crlf", lambda line: line.endswith(b"\r\n")), ("encoding", lambda line: b"\xff" in line)):
        assert list(found.odd.get(name, [])) == [i for i, line in enumerate(lines, 1) if is_odd(line)]
    assert list(found.odd.get("bom", [])) == [1] * marked


def test_the_portions_make_no_difference(tmp_path, monkeypatch):
    path = tmp_path / "text"
    path.write_text("".join(f"line {i % 7}\n" for i in range(50)), "utf-8")
    whole = scan(path)
    monkeypatch.setattr(scanning, "BLOCK", 3)
    parts = scan(path)
    for name in ("exact", "near", "numbers", "characters", "words", "script"):
        assert (getattr(whole, name) == getattr(parts, name)).all()
    assert whole.alphabet == parts.alphabet


def test_bytes_that_are_no_text_are_reported_and_not_refused(tmp_path):
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfone\r\ntwo \xff\nthree"))
    assert list(lenient_lines(path)) == [
        ("one", ("bom", "crlf")), ("two \ufffd", ("encoding",)), ("three", ()),
    ]  # fmt: skip
    found = scan(path)
    assert list(found.odd["encoding"]) == [2]
    assert fetch(path, [3, 1]) == {1: "one", 3: "three"}
    assert len(scan(path, limit=2)) == 2


@pytest.mark.parametrize(
    ("content", "odd"),
    [
        (b"a\r", {"separator": [1]}),
        (b"a\rb\r", {"separator": [1]}),
        (b"a\r\nb\r", {"crlf": [1], "separator": [2]}),
        (b"\xef\xbb\xbfa\r\r\nb", {"bom": [1], "crlf": [1], "separator": [1]}),
        (b"\xef\xbb\xbf\r\n\r\n", {"bom": [1], "crlf": [1, 2]}),
        (b"a\nb\r\n", {"crlf": [2]}),
    ],
)
def test_a_line_ends_with_cr_lf_only_where_both_are_there(tmp_path, content, odd):
    (tmp_path / "text").write_bytes(content)
    assert {name: list(lines) for name, lines in scan(tmp_path / "text").odd.items()} == odd


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NlpcliError, match="no such file"):
        scan(tmp_path / "absent")


def test_normal_lines_differ_in_more_than_case_space_and_width():
    assert normal("  Ein\u00a0 HAUS  ") == normal("ein haus")
    assert normal("ﬁn") == normal("FIN")
    assert normal("a b") != normal("ab")


def test_lengths_are_percentiles():
    assert lengths(np.arange(1, 101)) == {"mean": 50.5, "median": 50, "p95": 95, "p99": 99, "longest": 100}
    assert lengths(np.array([], dtype=int))["longest"] == 0
