"""Files that are no text in UTF-8, whatever they are called: every reader of text names what they are."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nlpcli.commands.inspect.line_scan import lenient_lines
from nlpcli.data.columns import Columns
from nlpcli.data.examples import read_texts
from nlpcli.data.readers import read_documents, read_lines
from nlpcli.errors import NlpcliError

TEXT = "text\tlabel\nHello there\tA\nGood morning\tB\n"
READERS = {
    "lines": read_lines,
    "documents": lambda path: read_documents([path]),
    "paragraphs": lambda path: read_documents([path], format="paragraphs"),
    "whole file": lambda path: read_documents([path], format="file"),
    "table": lambda path: read_texts(path, Columns()),
    "inspect": lenient_lines,
}
NAMES = ("a", "a.txt", "a.tsv", "a.csv", "a.json", "a.jsonl", "a.txt.gz")


def _refused(path, read) -> NlpcliError:
    with pytest.raises(NlpcliError) as caught:
        list(read(path))
    return caught.value


def _write(folder, name, data):
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"PAR1\x15\x04", "a Parquet file"), (b"PARE\x15\x04", "an encrypted Parquet file"),
        (b"FEA1\x00\x00", "a Feather file"), (b"ORC\x08\x03", "an ORC file"), (b"Rar!\x1a\x07\x01", "a RAR archive"),
        (b"\x04\x22\x4d\x18\x60", "compressed by lz4"), (b"\x1f\x9d\x90", "compressed by compress"),
        (b"\x7fELF\x02", "a program"), (b"GGUF\x03\x00", "a model in GGUF"), (b"ID3\x03\x00", "a sound file"),
        (b'\x40\x00\x00\x00\x00\x00\x00\x00{"a"', "a file of tensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a pointer of Git LFS"),
    ],
)  # fmt: skip
def test_a_binary_file_is_named_by_every_reader_under_every_name(tmp_path, reader, name, head, what):
    path = _write(tmp_path, name, head + bytes(20))
    assert what in _refused(path, READERS[reader]).message


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_compressed_twice_is_no_text(tmp_path, reader):
    path = _write(tmp_path, "a.txt.gz", gzip.compress(b"hello\n"))
    assert "compressed twice" in _refused(path, READERS[reader]).message


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no mark", "mark"])
@pytest.mark.parametrize("encoding", ["UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"])
def test_text_in_two_or_four_bytes_a_character_is_named_with_its_encoding(tmp_path, reader, name, mark, encoding):
    for text in (TEXT, "\n\n" + TEXT, "\r\nfüß\r\n", '{"text": "hello", "label": "A"}\n', '[\n  {"text": 1}]\n'):
        error = _refused(_write(tmp_path, name, (mark + text).encode(encoding)), READERS[reader])
        assert f"the text is in {encoding[:6]}" in error.message
        assert f"iconv -f {encoding[:6] if mark else encoding} -t UTF-8" in error.hint


@pytest.mark.parametrize("reader", [name for name in READERS if name != "table"])
def test_a_zero_byte_among_characters_of_a_byte_is_a_character(tmp_path, reader):
    path = _write(tmp_path, "a.txt", b"text\nhello\x00world\n")
    assert any(r"hello\x00world" in repr(found) for found in READERS[reader](path))


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1))
@example("PAR1 ü\n")
@example("ORC and GGUF, ID3 or FEA1\n")
@example("version https is a line\n")
def test_a_text_in_utf_8_is_a_text(tmp_path_factory, text):
    path = _write(tmp_path_factory.mktemp("text"), "a.txt", b"x" + text.encode())
    assert "".join(read_lines(path, ends=True)) == "x" + text
