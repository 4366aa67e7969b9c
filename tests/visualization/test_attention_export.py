from __future__ import annotations

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nlpcli.errors import NlpcliError
from nlpcli.visualization import attention_export
from nlpcli.visualization.attention_data import Attention, Side, Site

TOKENS = st.text(st.characters(), max_size=4)  # lone surrogates, too


@st.composite
def sides(draw) -> Side:
    tokens = tuple(draw(st.lists(TOKENS, min_size=1, max_size=4)))
    n = len(tokens)
    words = tuple(draw(st.lists(st.integers(-1, 9), min_size=n, max_size=n)))
    special = tuple(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    groups = tuple(draw(st.one_of(st.just([]), st.lists(TOKENS, min_size=n, max_size=n))))
    positions = tuple(draw(st.lists(st.integers(0, 99) | st.just(2.5), min_size=n, max_size=n)))
    return Side(tokens, words, special, groups, positions)


@st.composite
def attentions(draw) -> Attention:
    sites = []
    for name in draw(st.lists(st.sampled_from(["encoder", "decoder", "cross"]), unique=True, max_size=3)):
        queries, keys = draw(sides()), draw(sides())
        layers, heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        shape = (layers, heads, len(queries), len(keys))
        values = draw(arrays.arrays(np.float32, shape, elements=st.floats(width=32, allow_infinity=False)))
        names = tuple(draw(st.one_of(st.just("mean"), st.integers(1, 99))) for _ in range(heads))
        sites.append(Site(name, draw(TOKENS), queries, keys, tuple(values), heads=names, signed=draw(st.booleans())))
    texts = draw(st.dictionaries(TOKENS, TOKENS, max_size=2))
    return Attention(tuple(sites), model=draw(TOKENS), texts=texts, notes=draw(st.dictionaries(TOKENS, TOKENS)))


def assert_same(a: Attention, b: Attention) -> None:
    assert (a.model, a.texts, a.notes) == (b.model, b.texts, b.notes)
    assert len(a.sites) == len(b.sites)
    for one, other in zip(a.sites, b.sites, strict=True):
        for name in ("name", "title", "queries", "keys", "layers", "heads", "signed"):
            assert getattr(one, name) == getattr(other, name)
        for before, after in zip(one.weights, other.weights, strict=True):
            assert after.dtype == np.float32
            np.testing.assert_array_equal(before, after)
            known = ~np.isnan(before)
            np.testing.assert_array_equal(np.signbit(before[known]), np.signbit(after[known]))


@settings(max_examples=15)
@given(attentions())
def test_json_brings_every_token_and_every_float_back(attention):
    text = json.dumps(attention_export.as_json(attention), allow_nan=False)
    assert_same(attention_export.from_json(json.loads(text)), attention)


@settings(max_examples=8)
@given(st.lists(attentions(), max_size=3))
def test_json_lines_are_one_line_of_utf8_each_and_come_back(several):
    lines = list(attention_export.json_lines(several))
    assert all("\n" not in line for line in lines)
    for a, b in zip(attention_export.from_json_lines(line + "\n" for line in lines), several, strict=True):
        assert_same(a, b)
    "".join(lines).encode("utf-8")


@settings(max_examples=15)
@given(attentions())
def test_npz_brings_everything_back_and_is_the_same_twice(attention):
    data = attention_export.as_npz(attention)
    assert_same(attention_export.from_npz(data), attention)
    assert attention_export.as_npz(attention) == data


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40))
def test_every_float32_is_written_as_its_shortest_decimal(bits):
    weights = np.array(bits, np.uint32).view(np.float32)[None]
    for value, written in zip(weights[0], attention_export._shortest(weights)[0], strict=True):
        if not np.isfinite(value):
            assert written is None
            continue
        assert np.float32(written) == value
        assert repr(written) == repr(float(str(value)))


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40))
def test_weights_are_written_as_numpy_writes_them(values):
    weights = np.array([values], np.float32)
    assert [repr(number) for number in attention_export._shortest(weights)[0]] == [
        repr(float(str(v))) for v in weights[0]
    ]


def test_a_tenth_is_written_as_a_tenth():
    tokens = Side(("a", "b"))
    attention = Attention((Site("cross", "", tokens, tokens, (np.array([[[0.1, 0.9], [0, 1]]], np.float32),)),))
    assert json.dumps(attention_export.as_json(attention)["sites"][0]["weights"]) == "[[[[0.1, 0.9], [0.0, 1.0]]]]"


def test_the_archive_has_the_names_that_are_documented():
    queries, keys = Side(("ein", "中")), Side(("a", "b", "😀"))
    weights = tuple(np.full((4, 2, 3), 1 / 3, np.float32) for _ in range(6))
    data = attention_export.as_npz(Attention((Site("cross", "Cross", queries, keys, weights),), model="runs/x"))
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert sorted(archive.files) == ["about", "cross.keys", "cross.queries", "cross.weights"]
        assert archive["cross.weights"].shape == (6, 4, 2, 3) and archive["cross.weights"].dtype == np.float32
        assert tuple(archive["cross.keys"]) == keys.tokens
        assert json.loads(str(archive["about"]))["model"] == "runs/x"


def value() -> dict:
    tokens = Side(("a", "b"))
    return attention_export.as_json(
        Attention((Site("encoder", "", tokens, tokens, (np.eye(2, dtype=np.float32)[None],)),))
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format="x"), "x, line 3: the data are not attention weights in the format of nlpcli"),
        (lambda v: v.update(version=2), "version 2 of the format is not supported"),
        (lambda v: v.pop("sites"), "'sites' is missing"),
        (lambda v: v["sites"][0].pop("keys"), "'keys' is missing"),
        (lambda v: v["sites"][0]["keys"]["tokens"].append("c"), "'words' has 2 entries, but 'tokens' has 3"),
        (lambda v: v["sites"][0]["weights"].append([[[1]]]), "not an array of numbers"),
        (
            lambda v: v["sites"][0].update(weights=[[[[1, 0]]]]),
            r"shape \(1, 1, 1, 2\), but the layers, heads and tokens in the file require the shape \(1, 1, 2, 2\)",
        ),
        (lambda v: v["sites"][0].update(weights="many"), "not an array of numbers"),
    ],
)
def test_what_is_no_attention_is_refused_with_its_place(change, message):
    wrong = value()
    change(wrong)
    with pytest.raises(NlpcliError, match=message):
        list(attention_export.from_json_lines(["", "\n", json.dumps(wrong)], "x"))


def test_a_line_that_is_no_json_is_named():
    with pytest.raises(NlpcliError, match=r"^x, line 2: the line is not valid JSON"):
        list(attention_export.from_json_lines([json.dumps(value()), "{"], "x"))


def test_an_archive_with_pickled_objects_or_none_at_all_is_refused():
    evil = io.BytesIO()
    np.savez(evil, about=np.array([{"a": 1}], dtype=object))
    for data in (evil.getvalue(), b"", b"PK\x03\x04", b"text", attention_export.as_npz(Attention(()))[:40]):
        with pytest.raises(NlpcliError, match="x: the file is not a NumPy archive of attention weights"):
            attention_export.from_npz(data, "x")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_that_unpacks_to_more_than_it_holds_is_refused_before_it_takes_memory(method):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", method) as archive:
        archive.writestr("about.npy", bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(NlpcliError, match="its header gives 67,108,864 bytes"):
        attention_export.from_npz(bomb.getvalue(), "x")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_many_texts_need_no_more_memory_than_one():
    def texts(count):
        for _ in range(count):
            tokens = Side(tuple(map(str, range(16))))
            yield Attention((Site("encoder", "", tokens, tokens, (np.random.rand(4, 16, 16).astype(np.float32),) * 2),))

    def peak(count: int) -> int:
        tracemalloc.start()
        for attention in attention_export.from_json_lines(attention_export.json_lines(texts(count))):
            assert attention.sites
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(8) < 1.5 * peak(2)
