"""Vectors of words, as word2vec, GloVe and fastText write them."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.word_vectors import read_word_vectors
from nlpcli.errors import NlpcliError


@pytest.fixture
def written(tmp_path):
    """written(content, name) -> the path of a file with it."""

    def write(content, name="vectors.txt"):
        path = tmp_path / name
        data = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


LINES = "the 0.5 -1 2e-3\ndog 1 2 3\n"


@pytest.mark.parametrize("content", [
    LINES, f"2 3\n{LINES}", LINES.replace("\n", " \n"), LINES.replace("\n", "\r\n"), LINES.replace(" ", "\t"),
    f"2 3 \n{LINES}", LINES.removesuffix("\n"), f"{LINES}\n\n",
], ids=["GloVe", "word2vec", "fastText", "Windows", "tabs", "header, space", "no end", "empty lines"])  # fmt: skip
@pytest.mark.parametrize("name", ["vectors.txt", "vectors.vec.gz"])
def test_every_way_of_writing_gives_the_same_vectors(written, content, name):
    vectors = read_word_vectors(written(content, name))
    assert list(vectors.places) == ["the", "dog"] and vectors.width == 3 and len(vectors) == 2
    assert vectors.matrix.dtype == np.float32
    np.testing.assert_allclose(vectors.matrix, [[0.5, -1, 0.002], [1, 2, 3]])
    assert "dog" in vectors and "cat" not in vectors
    np.testing.assert_array_equal(vectors["dog"], [1, 2, 3])


@given(
    words=st.lists(st.text(st.characters(exclude_characters=" \t\n\r\x00", exclude_categories=["Cs"]), min_size=1),
                   min_size=1, max_size=6, unique=True),
    width=st.integers(2, 5), seed=st.integers(0, 99), header=st.booleans(),
)  # fmt: skip
def test_what_was_written_is_read(tmp_path_factory, words, width, seed, header):
    matrix = np.random.default_rng(seed).normal(size=(len(words), width)).astype(np.float32)
    lines = [" ".join([word, *(f"{x:.9g}" for x in row)]) for word, row in zip(words, matrix, strict=True)]
    path = tmp_path_factory.mktemp("vectors") / "v.txt"
    path.write_bytes("\n".join([*[f"{len(words)} {width}"] * header, *lines]).encode())
    vectors = read_word_vectors(path)
    assert list(vectors.places) == words
    np.testing.assert_array_equal(vectors.matrix, matrix)


def test_words_may_hold_spaces_and_numbers(written):
    content = "the 0.5 1.5\n. . . 0.1 0.2\nat name@domain.com 0.3 0.4\n1 / 2 0.5 0.6\n0.5 7 8\n1999 9 10\n\u00a0 1 2\n"
    vectors = read_word_vectors(written(content))
    assert list(vectors.places) == ["the", ". . .", "at name@domain.com", "1 / 2", "0.5", "1999", "\u00a0"]


def test_the_first_of_several_vectors_of_a_word_counts(written):
    vectors = read_word_vectors(written("a 1 2\nb 3 4\na 5 6\n"))
    assert list(vectors.places) == ["a", "b"]
    np.testing.assert_array_equal(vectors["a"], [1, 2])


def test_only_what_is_wanted_is_kept(written):
    vectors = read_word_vectors(written(LINES), lambda word: word == "dog")
    assert list(vectors.places) == ["dog"] and vectors.matrix.shape == (1, 3)
    none = read_word_vectors(written(LINES), lambda word: False)
    assert len(none) == 0 and none.width == 3


def test_broken_characters_in_a_word_are_read_as_such(written):
    assert list(read_word_vectors(written(b"caf\xc3 1 2\n")).places) == ["caf\ufffd"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1 2 3\nb 1 2\n", r"v\.txt:2: the vector has 2 numbers, but 3 are expected from the first line"),
        ("a 1 2 3\nb 0.5 1 2 3\n", r"v\.txt:2: the vector has 4 numbers, but 3 are expected from the first line"),
        ("2 3\na 1 2\n", r"v\.txt:2: the vector has 2 numbers, but 3 are expected from the first line"),
        ("a 1 2\nb 1 two\n", r"v\.txt:2: 'two' is not a finite number"),
        ("a 1 2\nb 1 nan\n", r"v\.txt:2: 'nan' is not a finite number"),
        ("a 1 2\nb inf 1\n", r"v\.txt:2: 'inf' is not a finite number"),
        ("a 1 2\nb 1_0 1\n", r"v\.txt:2: '1_0' is not a finite number"),
        ("a 1 2\nb 1e60 1\n", r"v\.txt:2: '1e60' is not a finite number"),
        ("a 1 2\nb ٣ 1\n", r"v\.txt:2: '٣' is not a finite number"),
        ("1 " + "9" * 5000 + "\na 1 2\n", r"v\.txt:1"),
        ("only words here\n", r"v\.txt:1: there are no numbers after the word"),
        ("", "contains no vectors"),
        ("3 2\n", "contains no vectors"),
        ("\n\n", "contains no vectors"),
        (b"2 3\ndog \x00\x01\x02\x03\n", "is a binary file"),
        (b"\xba\x16\x4f\x2f\x0c\x00\x00\x00", "is a binary file"),
        (b"PK\x03\x04 archive", "is a zip archive"),
    ],
)
def test_what_is_wrong_is_refused_with_file_and_line(written, content, message):
    with pytest.raises(NlpcliError, match=message):
        read_word_vectors(written(content, "v.txt"))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(NlpcliError, match="no such file"):
        read_word_vectors(tmp_path / "none.txt")
