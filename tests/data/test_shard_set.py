from __future__ import annotations

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.shard_set import INDEX, ShardSet, index_bytes
from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError


@pytest.fixture
def built(tmp_path, characters) -> ShardSet:
    (tmp_path / "a.txt").write_text("".join("the cat sat"[: 1 + n % 9] + "\n" for n in range(300)))
    return build_shards(tmp_path / "a.txt", characters, out=tmp_path / "set", shard_tokens=400)


def lines_set(folder, lines):
    """A set whose documents are these lines, byte for byte, blank ones included."""
    tokenizer = SimpleNamespace(
        vocab_size=256, fingerprint="bytes", encode=lambda texts: [list(text.encode()) for text in texts]
    )
    (folder / "a.txt").write_text("".join(line + "\n" for line in lines))
    return build_shards(folder / "a.txt", tokenizer, documents="lines", keep_empty=True, shard_tokens=7)


LINES = st.lists(st.sampled_from(["", "a", "bc", "def gh", "ijkl mno pqr"]), min_size=1, max_size=12).filter(any)


@given(LINES, st.data())
def test_any_stretch_of_tokens_is_a_set_of_its_own(tmp_path_factory, lines, data):
    whole = lines_set(tmp_path_factory.mktemp("set"), lines)
    text = "".join(lines)
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    part = whole.slice_tokens(start, stop)
    assert bytes(part.read(0, part.tokens).tolist()).decode() == text[start:stop]
    assert part.text_bytes == stop - start
    assert part.offsets[0] == 0 and part.offsets[-1] == part.tokens == part.lengths.sum()
    assert b"".join(bytes(part.document(i).tolist()) for i in range(part.documents)).decode() == text[start:stop]


@given(LINES, st.data())
def test_any_run_of_documents_is_a_set_of_its_own(tmp_path_factory, lines, data):
    whole = lines_set(tmp_path_factory.mktemp("set"), lines)
    start = data.draw(st.integers(0, len(lines)))
    stop = data.draw(st.integers(start, len(lines)))
    part = whole.slice_documents(start, stop)
    assert [bytes(part.document(i).tolist()).decode() for i in range(part.documents)] == lines[start:stop]
    assert part.lengths.tolist() == [len(line) for line in lines[start:stop]]
    assert part.text_bytes == sum(map(len, lines[start:stop]))
    assert part.text_words == sum(len(line.split()) for line in lines[start:stop])
    assert part.tokens == part.text_bytes and not part.cuts_a_document
    inner = data.draw(st.integers(0, stop - start))
    assert part.slice_documents(inner, stop - start).text_bytes == sum(map(len, lines[start + inner : stop]))


@given(LINES, st.floats(0.05, 0.95))
def test_a_split_keeps_every_token_once_and_in_order(tmp_path_factory, lines, fraction):
    whole = lines_set(tmp_path_factory.mktemp("set"), lines)
    try:
        train, held_out = whole.split(fraction)
    except NlpcliError as error:
        assert "too few" in error.message
        return
    joined = [*train.read(0, train.tokens), *held_out.read(0, held_out.tokens)]
    assert joined == whole.read(0, whole.tokens).tolist()
    assert train.tokens and held_out.tokens
    assert train.text_bytes + held_out.text_bytes == whole.text_bytes
    wanted = whole.tokens - int(whole.tokens * (1 - fraction))
    assert 0.5 * wanted <= held_out.tokens <= 2 * wanted


def test_a_split_of_many_documents_cuts_none_of_them(built):
    train, held_out = built.split(0.1)
    assert not train.cuts_a_document and not held_out.cuts_a_document
    assert train.documents + held_out.documents == built.documents
    assert held_out.tokens == pytest.approx(0.1 * built.tokens, abs=10)
    assert len({built.fingerprint, train.fingerprint, held_out.fingerprint}) == 3


def test_a_split_of_one_document_is_exact(tmp_path):
    whole = lines_set(tmp_path, ["word " * 200])
    train, held_out = whole.split(0.1)
    assert (train.tokens, held_out.tokens) == (900, 100)
    assert train.cuts_a_document and held_out.cuts_a_document
    assert (held_out.documents, held_out.text_bytes, held_out.text_words) == (1, 100, 20)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1, 1.5])
def test_a_split_must_leave_something_on_both_sides(built, fraction):
    with pytest.raises(
        NlpcliError, match="the share of the text for the dev set must be greater than 0 and less than 1"
    ):
        built.split(fraction)


def test_nothing_lies_beyond_the_ends(built):
    for bad in ((-1, 2), (5, 4), (0, built.tokens + 1)):
        with pytest.raises(IndexError):
            built.read(*bad)
    for bad in (-1, built.documents):
        with pytest.raises(IndexError):
            built.document(bad)


def test_a_set_survives_pickling_without_its_content(built):
    part = built.slice_tokens(11, 555)
    data = pickle.dumps(part)
    assert len(data) < 600
    again = pickle.loads(data)
    assert np.array_equal(again.read(0, again.tokens), part.read(0, part.tokens))
    assert again.offsets.tolist() == part.offsets.tolist()


def test_ids_are_mapped_not_read(built):
    assert isinstance(built._files._shards[0], np.memmap)
    assert built.read(0, 10).base is not None


# Damage


@pytest.mark.parametrize("name", ["tokens-00000.bin", "tokens-00003.bin", "offsets.bin", "sizes.bin"])
def test_a_truncated_missing_or_changed_file_is_refused(built, name):
    path = built.path / name
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(
        NlpcliError,
        match=rf"{name}: the shard set is damaged \(the file has {len(data) - 1:,} bytes instead of {len(data):,}",
    ):
        ShardSet.open(built.path)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(
        NlpcliError, match=f"{name}: the shard set is damaged .the SHA-256 checksum of the file is wrong"
    ):
        ShardSet.open(built.path)
    path.unlink()
    with pytest.raises(NlpcliError, match=f"{name}: the shard set is damaged .the file is missing"):
        ShardSet.open(built.path)


def test_a_changed_index_is_refused(built):
    path = built.path / INDEX
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "documents": index["documents"] - 1}))
    with pytest.raises(NlpcliError, match="the shard set is damaged"):
        ShardSet.open(built.path)
    for content in ("{", "[]", "\xff"):
        path.write_text(content, encoding="latin-1")
        with pytest.raises(NlpcliError, match="the shard set is damaged"):
            ShardSet.open(built.path)


@pytest.mark.parametrize("name", ["../tokens-00000.bin", "tokens-/../../x", "/etc/passwd", "..", ""])
def test_an_index_that_names_a_file_elsewhere_is_refused(built, name):
    path = built.path / INDEX
    index = json.loads(path.read_text())
    index.pop("digest")
    index["files"][name] = {"bytes": 1, "sha256": ""}
    path.write_bytes(index_bytes(index))
    with pytest.raises(NlpcliError, match=rf"{INDEX}: .* can't be the name of a file or folder"):
        ShardSet.open(built.path)


def test_a_folder_without_an_index_is_not_a_finished_set(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NlpcliError, match="is not a complete shard set"):
            ShardSet.open(path)


def test_a_split_of_little_text_between_empty_documents_leaves_no_side_empty(tmp_path):
    kept, held_out = lines_set(tmp_path, ["", "bc"]).split(0.5)
    assert kept.tokens > 0 and held_out.tokens > 0
