from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.data import vector_index
from nlpcli.data.vector_files import unit, write_vectors
from nlpcli.data.vector_index import make_index
from nlpcli.errors import NlpcliError


def clustered(count, width=24, groups=40, seed=1):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, width))
    return (centres[rng.integers(0, groups, count)] + 0.5 * rng.normal(size=(count, width))).astype(np.float32)


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=2), min_size=1, max_size=20),
    st.integers(1, 20),
    st.integers(2, 12),
)
@settings(max_examples=80, deadline=None)
def test_the_exact_index_gives_the_greatest_of_all_cosines(rows, k, block):
    vectors = np.array(rows, dtype=np.float32)
    k = min(k, len(vectors))
    queries = unit(np.array([[1, 0], [1, 1]], dtype=np.float32))
    whole, vector_index._BLOCK = vector_index._BLOCK, block
    try:
        places, cosines = make_index("exact", vectors).nearest(queries, k)
    finally:
        vector_index._BLOCK = whole
    for query, found, scores in zip(queries, places, cosines, strict=True):
        expected = unit(vectors) @ query
        assert len(set(found.tolist())) == k
        np.testing.assert_allclose(scores, expected[found], atol=1e-6)
        np.testing.assert_allclose(scores, np.sort(expected)[::-1][:k], atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 5, 7])
def test_equal_vectors_come_in_their_order(k):
    vectors = np.array([[0, 1], [1, 0], [0, 2], [1, 0], [3, 0], [0, 1], [1, 0]], dtype=np.float32)
    places, _ = make_index("exact", vectors).nearest(np.array([[1.0, 0.0]], dtype=np.float32), k)
    assert places[0].tolist() == [1, 3, 4, 6, 0, 2, 5][:k]


def test_vectors_are_searched_where_they_stand_on_the_disk(tmp_path):
    vectors = clustered(500)
    write_vectors(tmp_path / "v.npy", [vectors], vectors.shape[1])
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    for found, expected in zip(
        make_index("exact", mapped).nearest(unit(vectors[:9]), 5),
        make_index("exact", vectors).nearest(unit(vectors[:9]), 5),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("kind", "least"), [("hnsw", 0.97), ("faiss", 0.8)])
def test_approximate_indexes_find_nearly_all_of_the_nearest(kind, least, tmp_path):
    vectors, queries = clustered(3000), unit(clustered(50, seed=2))
    exact, _ = make_index("exact", vectors).nearest(queries, 10)
    index = make_index(kind, vectors)
    places, cosines = index.nearest(queries, 10)
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(exact, places, strict=True)]) >= least
    assert (np.diff(cosines) <= 1e-6).all()
    np.testing.assert_allclose(cosines[0], unit(vectors)[places[0]] @ queries[0], atol=1e-5)
    again = make_index(kind, vectors).nearest(queries, 10)[0]
    np.testing.assert_array_equal(places, again)
    index.save(tmp_path / "index")
    np.testing.assert_array_equal(make_index(kind, vectors, tmp_path / "index").nearest(queries, 10)[0], places)


def test_a_damaged_index_is_named(tmp_path):
    (tmp_path / "index.hnsw").write_bytes(b"nothing like an index")
    with pytest.raises(NlpcliError, match=r"the index .*index\.hnsw can't be read"):
        make_index("hnsw", clustered(10), tmp_path / "index.hnsw")


def test_a_library_that_is_not_there_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(NlpcliError, match="needs faiss, which is not installed") as caught:
        make_index("hnsw", clustered(10))
    assert caught.value.hint == "pip install 'nlpcli[search]'"
