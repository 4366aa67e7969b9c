from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.vector_files import open_vectors, unit, unit_float32, write_vectors
from nlpcli.errors import NlpcliError


@given(sizes=st.lists(st.integers(0, 7), max_size=5), width=st.integers(1, 9))
def test_blocks_come_back_as_one_array_whatever_their_sizes(tmp_path_factory, sizes, width):
    path = tmp_path_factory.mktemp("vectors") / "v.npy"
    rng = np.random.default_rng(1)
    blocks = [rng.normal(size=(size, width)).astype(np.float32) for size in sizes]
    assert write_vectors(path, iter(blocks), width) == sum(sizes)
    expected = np.concatenate([np.empty((0, width), np.float32), *blocks])
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), expected)
    np.testing.assert_array_equal(open_vectors(path), expected)


def test_the_file_is_what_numpy_itself_reads_as_a_map(tmp_path):
    write_vectors(tmp_path / "v.npy", [np.ones((3, 2), np.float64)], 2)
    assert open_vectors(tmp_path / "v.npy").dtype == np.float32
    assert isinstance(open_vectors(tmp_path / "v.npy"), np.memmap)


def test_what_stood_there_stays_when_the_blocks_break_off(tmp_path):
    path = tmp_path / "v.npy"
    write_vectors(path, [np.ones((3, 2))], 2)

    def broken():
        yield np.zeros((1, 2))
        raise NlpcliError("line 2 is bad")

    with pytest.raises(NlpcliError, match="line 2"):
        write_vectors(path, broken(), 2)
    assert open_vectors(path).sum() == 6
    assert [entry.name for entry in tmp_path.iterdir()] == ["v.npy"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "is not a valid .npy file"),
        (b"1 2 3\n", "is not a valid .npy file"),
        (np.ones(3), r"contains an array of shape \(3,\)"),
        (np.ones((2, 2), dtype=int), "type int64, but it must contain one vector of floating-point numbers"),
        (np.array([{}], dtype=object), "is not a valid .npy file"),
    ],
)
def test_what_is_no_file_of_vectors_is_named(tmp_path, content, message):
    path = tmp_path / "v.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(NlpcliError, match=message):
        open_vectors(path)


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "v.npy"
    write_vectors(path, [np.ones((30, 20))], 20)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(NlpcliError, match=r"is not a valid \.npy file"):
        open_vectors(path)
    with pytest.raises(NlpcliError, match="is a folder"):
        open_vectors(tmp_path)


@pytest.mark.parametrize(("kind", "large"), [(np.float32, 1e38), (np.float64, 1e308)])
def test_vectors_of_very_large_numbers_get_the_length_1_without_a_warning(kind, large, recwarn):
    vectors = np.array([[large, large], [3.0, 4.0], [0.0, 0.0]], kind)
    for found in (unit(vectors), unit_float32(vectors)):
        np.testing.assert_allclose(found, [[0.5**0.5, 0.5**0.5], [0.6, 0.8], [0, 0]], rtol=1e-6)
    assert unit_float32(vectors).dtype == np.float32
    assert not recwarn.list
