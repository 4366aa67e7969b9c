from __future__ import annotations

import gzip
import io
import json
import lzma
import random
import sys
from types import SimpleNamespace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data import readers
from nlpcli.data.readers import (
    LONGEST_LINE,
    TextSource,
    count_lines,
    find_files,
    read_documents,
    read_lines,
    read_parallel,
    read_parts,
)
from nlpcli.errors import NlpcliError

COMPRESS = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "": bytes,
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def feed(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


# Lines


@given(st.lists(TEXT.map(lambda text: text.replace("\n", "").rstrip("\r")), max_size=8), st.booleans())
def test_lines_come_back_as_they_were_written(tmp_path_factory, lines, last_end):
    text = "\n".join(lines) + ("\n" if last_end and lines else "")
    if text.startswith("\ufeff"):
        return
    path = write(tmp_path_factory.mktemp("lines") / "text", text)
    expected = lines if last_end or not lines or lines[-1] else lines[:-1]
    assert list(read_lines(path)) == expected
    assert count_lines(path) == len(expected)


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("named", [True, False])
def test_compressed_lines_are_read_whatever_the_name(tmp_path, suffix, named):
    path = write(tmp_path / f"text{suffix if named else ''}", COMPRESS[suffix]("eins\nzwei ü\n".encode() * 9000))
    assert list(read_lines(path)) == ["eins", "zwei ü"] * 9000
    assert count_lines(path) == 18000


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_several_compressed_streams_in_one_file_are_one_text(tmp_path, suffix):
    path = write(tmp_path / f"text{suffix}", COMPRESS[suffix](b"a\nb") + COMPRESS[suffix](b"c\n"))
    assert list(read_lines(path)) == ["a", "bc"]


def test_only_line_feeds_end_lines(tmp_path):
    path = write(tmp_path / "text", "a\u2028b\x0bc\x85d\re\r\nf\r")
    assert list(read_lines(path)) == ["a\u2028b\x0bc\x85d\re", "f"]


def test_a_byte_order_mark_is_dropped(tmp_path):
    assert list(read_lines(write(tmp_path / "text", "\ufeffa\n\ufeffb\n"))) == ["a", "\ufeffb"]


def test_standard_input_is_read_compressed_or_not(monkeypatch):
    for content in (b"a\nb\n", gzip.compress(b"a\nb\n")):
        feed(monkeypatch, content)
        assert list(read_lines("-")) == ["a", "b"]


def test_an_empty_file_has_no_lines(tmp_path):
    assert list(read_lines(write(tmp_path / "text", b""))) == []
    assert count_lines(tmp_path / "text") == 0


def test_a_line_is_given_as_soon_as_it_is_complete(tmp_path):
    path = write(tmp_path / "text", b"fine\n\xff\n")
    lines = read_lines(path)
    assert next(lines) == "fine"


# Bad bytes


def test_invalid_utf8_is_named_with_line_byte_and_column(tmp_path):
    path = write(tmp_path / "train.de", "gut\nGröß".encode() + b"\xff\nrest\n")
    with pytest.raises(
        NlpcliError, match=r"train\.de:2: the line is not valid UTF-8 \(byte 0xff at column 5\)"
    ) as caught:
        list(read_lines(path))
    assert "iconv" in caught.value.hint


def test_utf16_is_recognised(tmp_path):
    path = write(tmp_path / "text", "hello\nthere\n".encode("utf-16"))
    with pytest.raises(NlpcliError, match="text: the text is in UTF-16, but only UTF-8 is supported") as caught:
        list(read_lines(path))
    assert "UTF-16" in caught.value.hint


@given(st.binary(max_size=40), st.integers(1, 50))
def test_a_whole_file_fails_at_the_same_place_as_its_lines(tmp_path_factory, tail, repeats):
    path = write(tmp_path_factory.mktemp("bad") / "text", "süß und fein\n".encode() * repeats + tail)
    outcomes = []
    for read in (lambda: list(read_lines(path)), lambda: list(read_parts(path, TextSource("file")))):
        try:
            read()
            outcomes.append(None)
        except NlpcliError as error:
            outcomes.append(error.message)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_compressed_data_that_is_cut_off_is_refused(tmp_path, suffix, keep):
    draw = random.Random(0)
    data = COMPRESS[suffix](bytes(draw.choice(b"abcdefgh \n") for _ in range(30_000)))
    path = write(tmp_path / f"text{suffix}", data[: int(len(data) * keep)])
    with pytest.raises(NlpcliError, match=rf"text{suffix}: the .* data is incomplete"):
        list(read_lines(path))
    with pytest.raises(NlpcliError, match="data is incomplete"):
        count_lines(path)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_damaged_compressed_data_is_refused(tmp_path, suffix):
    data = bytearray(COMPRESS[suffix](bytes(range(256)) * 40))
    data[20:60] = bytes(40)
    with pytest.raises(NlpcliError, match=rf"text{suffix}: the .* data is (damaged|incomplete)"):
        count_lines(write(tmp_path / f"text{suffix}", bytes(data)))


def test_a_name_that_promises_compression_must_keep_it(tmp_path):
    with pytest.raises(NlpcliError, match=r"text\.gz is not a gzip file, although its name ends in .gz"):
        list(read_lines(write(tmp_path / "text.gz", b"plain\n")))
    with pytest.raises(NlpcliError, match=r"empty\.xz is empty"):
        list(read_lines(write(tmp_path / "empty.xz", b"")))


# Missing


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path):
    write(tmp_path / "train.de", "x\n")
    with pytest.raises(NlpcliError, match=r"tarin\.de: no such file") as caught:
        list(read_lines(tmp_path / "tarin.de"))
    assert "train.de" in caught.value.hint


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(NlpcliError, match="no such file") as caught:
        list(read_lines(tmp_path / "nowhere" / "train.de"))
    assert "nowhere" in caught.value.hint


def test_a_folder_is_not_a_file_of_lines(tmp_path):
    with pytest.raises(NlpcliError, match="is a folder, not a file"):
        list(read_lines(tmp_path))


def test_a_closed_standard_input_is_met_with_a_sentence(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(NlpcliError, match="no standard input"):
        list(read_lines("-"))


# Parallel lines


def test_parallel_lines_come_in_pairs(tmp_path):
    source, target = write(tmp_path / "a.en", "one\n\nthree\n"), write(tmp_path / "a.de", "eins\nzwei\n\n")
    assert list(read_parallel(source, target)) == [("one", "eins"), ("", "zwei"), ("three", "")]


@pytest.mark.parametrize("counts", [(3, 5), (5, 3), (0, 2)])
def test_unequal_numbers_of_lines_are_named(tmp_path, counts):
    source, target = (write(tmp_path / name, "x\n" * n) for name, n in zip(("a.en", "a.de"), counts, strict=True))
    with pytest.raises(NlpcliError, match=rf"a\.en has {counts[0]} lines, but .*a\.de has {counts[1]}"):
        list(read_parallel(source, target))


def test_empty_parallel_files_are_refused(tmp_path):
    with pytest.raises(NlpcliError, match="are empty"):
        list(read_parallel(write(tmp_path / "a", b""), write(tmp_path / "b", b"")))


# Files


def test_a_folder_stands_for_all_its_text_files_in_order(tmp_path):
    for name in ("b.txt", "a/z.de", "a/b.txt.gz", ".hidden.txt", ".git/config", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, gzip.compress(b"x\n") if name.endswith("gz") else b"x\n")
    write(tmp_path / "picture.png", b"\x89PNG\x00\x00")
    found = [str(path.relative_to(tmp_path)) for path in find_files([tmp_path])]
    assert found == ["a/b.txt.gz", "a/z.de", "b.txt"]


def test_globs_reach_below_folders(tmp_path):
    (tmp_path / "deep").mkdir()
    one, two = write(tmp_path / "a.txt", "x"), write(tmp_path / "deep" / "b.txt", "x")
    assert find_files([str(tmp_path / "*.txt")]) == [one]
    assert find_files(str(tmp_path / "**" / "*.txt")) == [one, two]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    path = write(tmp_path / "text[1].txt", "x")
    assert find_files([path]) == [path]


def test_a_glob_without_a_match_is_refused(tmp_path):
    with pytest.raises(NlpcliError, match=r"\*\.txt: no file matches"):
        find_files([tmp_path / "*.txt"])


def test_a_folder_without_text_is_refused(tmp_path):
    write(tmp_path / "weights.bin", bytes(100))
    with pytest.raises(NlpcliError, match="contains no text files"):
        find_files([tmp_path])


def test_no_names_at_all_are_refused():
    with pytest.raises(NlpcliError, match="no text files were given"):
        find_files([])


# Documents


def documents(path, text, **options):
    return list(read_documents([write(path, text)], **options))


PLAY = "First Citizen:\nBefore we proceed.\n\nAll:\nSpeak, speak.\n \n\n"


def test_running_text_with_blank_lines_is_split_there(tmp_path):
    expected = ["First Citizen:\nBefore we proceed.", "All:\nSpeak, speak."]
    assert documents(tmp_path / "play.txt", PLAY) == expected
    assert documents(tmp_path / "play.txt", PLAY, format="paragraphs") == expected


def test_a_list_of_sentences_is_one_document_a_line(tmp_path):
    assert documents(tmp_path / "train.en", "One.\nTwo.\n\n\n") == ["One.", "Two."]
    assert documents(tmp_path / "train.en", "One.\n\nTwo.\n", format="lines") == ["One.", "Two."]


def test_a_whole_file_keeps_every_character(tmp_path):
    assert documents(tmp_path / "play.txt", PLAY + "\r\n x", format="file") == [PLAY + "\r\n x"]


@given(st.lists(st.sampled_from(["a", "word ", "\n", "\n\n", "  \n", "ü", "\r\n", "\u2028", "長い"]), max_size=60))
def test_pieces_of_long_documents_join_to_the_same_documents(tmp_path_factory, parts):
    path = write(tmp_path_factory.mktemp("pieces") / "text", "".join(parts))
    for format in ("paragraphs", "file"):
        whole = list(read_parts(path, TextSource(format)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(readers, "PART_CHARACTERS", 4)
            pieces = list(read_parts(path, TextSource(format)))
        joined, held = [], ""
        for text, ends in pieces:
            held += text
            if ends:
                joined.append((held, True))
                held = ""
        assert joined == whole
        if format == "file":
            assert "".join(text for text, _ in pieces) == "".join(parts)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.tsv"])
@pytest.mark.parametrize("document", ["word " * 20, "w" * 99, "ab c", " " * 30, "x" * 8, ""])
def test_a_long_document_in_one_line_comes_in_pieces(tmp_path, monkeypatch, name, document):
    lines = [json.dumps({"text": text}) if name == "a.jsonl" else text for text in (document, "b")]
    path = write(tmp_path / name, "\n".join(lines))
    monkeypatch.setattr(readers, "PART_CHARACTERS", 8)
    *pieces, last = read_parts(path, TextSource("lines" if name == "a.txt" else "auto"), keep_empty=name == "a.txt")
    assert last == ("b", True)
    assert all(len(text) <= 8 for text, _ in pieces)
    if pieces:
        assert "".join(text for text, _ in pieces) == document
        assert [ends for _, ends in pieces] == [False] * (len(pieces) - 1) + [True]


@given(
    st.lists(
        st.sampled_from([b"a", b"word ", b"\n", b"\r\n", b"\r", "ü".encode(), b"\xff", b"\x00", b"x" * 9]), max_size=40
    ),
    st.sampled_from([1, 4, 16]),
    st.sampled_from([0, 8, 100]),
)
def test_lines_read_many_at_a_time_are_those_read_one_by_one(tmp_path_factory, parts, block, longest):
    path = write(tmp_path_factory.mktemp("blocks") / "text", b"one\n" * 2 + b"".join(parts))

    def outcome(lines):
        found = []
        try:
            found.extend(lines)
        except NlpcliError as error:
            found.append((error.message, "too long" in error.message or error.hint))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_BLOCK", block)
        patch.setattr(readers, "_LONGEST_DOCUMENT", longest or 1 << 20)
        pieces = read_parts(path, TextSource("lines"), keep_empty=True)
        assert outcome(text for text, _ in pieces) == outcome(read_lines(path, longest=longest or None))


def test_lines_before_a_bad_one_are_given_first(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_BLOCK", 12)
    pieces = read_parts(write(tmp_path / "a.txt", b"first line\nb\nc\n\xff\n"), TextSource("lines"))
    assert [next(pieces)[0] for _ in range(3)] == ["first line", "b", "c"]
    with pytest.raises(NlpcliError, match=r"a\.txt:4: the line is not valid UTF-8"):
        next(pieces)


def test_a_line_of_training_text_has_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_LONGEST_DOCUMENT", 8)
    path = write(tmp_path / "a.txt", "12345678\n")
    with pytest.raises(NlpcliError, match=r"a.txt:1: the line is too long") as error:
        list(read_parts(path, TextSource("lines")))
    assert "--documents file" in error.value.hint
    assert [text for text, _ in read_parts(path, TextSource("file"))] == ["12345678\n"]


def test_json_lines_give_their_field(tmp_path):
    text = '{"text": "one\\ntwo", "id": 1}\n\n{"id": 2, "text": "three"}\n'
    assert documents(tmp_path / "a.jsonl", text) == ["one\ntwo", "three"]
    assert documents(tmp_path / "a.txt", text.replace('"text"', '"body"'), format="jsonl", field="body") == [
        "one\ntwo",
        "three",
    ]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("{broken", r"a\.jsonl:2: this is not valid JSON \(Expecting property name", "one JSON object"),
        ("[1, 2]", r"a\.jsonl:2: this is not a JSON object", "look like"),
        ('{"txt": "x", "id": 1}', r"a\.jsonl:2: there is no field 'text'", "did you mean 'txt'"),
        ('{"id": 1}', r"a\.jsonl:2: there is no field 'text'", "the fields are: id"),
        ('{"text": 7}', r"a\.jsonl:2: the field 'text' must be text, not 7", None),
        ('{"text": "\\ud83d"}', r"a\.jsonl:2: .*surrogate", None),
        ("[" * 100_000, r"a\.jsonl:2: this is not valid JSON", None),
    ],
)
def test_a_bad_json_line_is_named_with_its_number(tmp_path, line, message, hint):
    with pytest.raises(NlpcliError, match=message) as caught:
        documents(tmp_path / "a.jsonl", json.dumps({"text": "fine"}) + "\n" + line + "\n")
    assert hint is None or hint in caught.value.hint


def test_tab_separated_columns_are_counted_from_one(tmp_path):
    assert documents(tmp_path / "a.tsv", "Hi.\tHallo!\nRun!\tLauf!\n", column=2) == ["Hallo!", "Lauf!"]


def test_a_missing_column_is_named_with_its_line(tmp_path):
    with pytest.raises(NlpcliError, match=r"a\.tsv:2: there is no column 2; the line has 1 column"):
        documents(tmp_path / "a.tsv", "a\tb\nc\n", column=2)


def test_columns_start_at_one():
    with pytest.raises(NlpcliError, match="there is no column 0: columns are numbered from 1"):
        TextSource("tsv", column=0)


def test_an_unknown_format_is_refused_with_the_nearest():
    with pytest.raises(NlpcliError, match="unknown document format 'paragraph'") as caught:
        TextSource("paragraph")
    assert "paragraphs" in caught.value.hint


@pytest.mark.parametrize("format", ["auto", "lines", "paragraphs", "file", "jsonl", "tsv"])
@pytest.mark.parametrize("text", ["", "\n \n\n"])
def test_a_file_without_text_is_refused(tmp_path, format, text):
    with pytest.raises(NlpcliError, match=r"empty\.txt contains no text"):
        documents(tmp_path / "empty.txt", text, format=format)


def test_an_empty_file_among_others_does_no_harm(tmp_path):
    write(tmp_path / "a.txt", b"")
    write(tmp_path / "b.txt", "text\n")
    assert list(read_documents([tmp_path])) == ["text"]


def test_documents_come_from_standard_input_too(monkeypatch):
    feed(monkeypatch, PLAY.encode())
    assert len(list(read_documents("-"))) == 2


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_line_beyond_the_bound_is_named_and_not_held_in_memory(tmp_path, compress):
    path = tmp_path / "text"
    path.write_bytes(compress(b"short\n" + b"x" * 100 + b"\n"))
    assert list(read_lines(path, longest=101)) == ["short", "x" * 100]
    with pytest.raises(NlpcliError, match=r"text:2: the line is too long: it has more than 100 bytes"):
        list(read_lines(path, longest=100))


def test_no_line_is_read_without_a_bound_unless_that_is_requested(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"x" * (LONGEST_LINE + 1) + b"\n")
    for read in (read_lines, lambda path: read_parallel(path, path)):
        with pytest.raises(NlpcliError, match=r"text:1: the line is too long: it has more than 4,194,304 bytes"):
            list(read(path))
    assert list(map(len, read_lines(path, longest=None))) == [LONGEST_LINE + 1]
