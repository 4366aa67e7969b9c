"""Opening text files: plain, gzip, xz or Zstandard, or standard input, as one stream of bytes."""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nlpcli.errors import NlpcliError, missing_path_hint

if TYPE_CHECKING:
    import zstandard
    from typing_extensions import Buffer

STDIN = "-"

_MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "Zstandard"}
_SUFFIXES = {".gz": "gzip", ".xz": "xz", ".zst": "Zstandard"}
_READ = 1 << 20
_HEAD = 4096  # bytes of a file that decide what it is
_WIDE_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}

_RECORDS = "convert it to JSON lines first, for example with pandas: read_{0}(…).to_json('a.jsonl', "
_RECORDS += "orient='records', lines=True)"
_BINARY = (
    (re.compile(rb"PAR1[\x00-\x08\x0e-\x1f]"), "a Parquet file", _RECORDS.format("parquet")),
    (re.compile(rb"ARROW1\x00"), "an Arrow file", _RECORDS.format("feather")),
    (re.compile(rb"\xff\xff\xff\xff[\x00-\xff]{3}\x00"), "an Arrow stream", _RECORDS.format("feather")),
    (re.compile(rb"Obj\x01"), "an Avro file", "convert it to JSON lines first"),
    (re.compile(rb"PK(\x03\x04|\x05\x06)"), "a zip archive (.xlsx, .docx, .npz and .pt files are zip archives too)",
     "unpack it first, or save a spreadsheet as CSV and a document as plain text"),
    (re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "an old Microsoft Office file (.xls, .doc)",
     "save it as CSV or as plain text"),
    (re.compile(rb"\x80[\x02-\x05][\x00-\xff]"), "a Python pickle file",
     "convert it to JSON lines first; pickle files are never loaded, because they can run code"),
    (re.compile(rb"SQLite format 3\x00"), "an SQLite database", "export its table as CSV: sqlite3 -csv -header"),
    (re.compile(rb"%PDF-\d"), "a PDF", "extract its text first: pdftotext a.pdf a.txt"),
    (re.compile(rb"\x89HDF\r\n"), "an HDF5 file", _RECORDS.format("hdf")),
    (re.compile(rb"\x93NUMPY"), "a NumPy array (.npy)", "write its texts to a text file first, one on each line"),
    (re.compile(rb"BZh[1-9]1AY&SY"), "a bzip2 archive", "unpack it first: bunzip2"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "a 7z archive", "unpack it first: 7z x"),
    (re.compile(rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF[\x00-\xff]{4}WEBP"), "an image", None),
    (re.compile(rb"PARE[\x00-\x08\x0e-\x1f\x80-\xff]"), "an encrypted Parquet file", _RECORDS.format("parquet")),
    (re.compile(rb"FEA1\x00"), "a Feather file", _RECORDS.format("feather")),
    (re.compile(rb"ORC[\x00-\x08\x0e-\x1f]"), "an ORC file", _RECORDS.format("orc")),
    (re.compile(rb"Rar!\x1a\x07"), "a RAR archive", "unpack it first: unrar x"),
    (re.compile(rb"\x04\x22\x4d\x18"), "a file compressed by lz4", "unpack it first: lz4 -d"),
    (re.compile(rb"\x1f\x9d"), "a file compressed by compress", "unpack it first: uncompress"),
    (re.compile(rb"\x1f\x8b[\x08]|\xfd7zXZ\x00|\x28\xb5\x2f\xfd"), "compressed twice", "unpack it once first"),
    (re.compile(rb"\x7fELF"), "a program", None),
    (re.compile(rb"GGUF[\x01-\x08]\x00"), "a model in GGUF", None),
    (re.compile(rb"[\x00-\xff]{5}\x00\x00\x00\{\""), "a file of tensors (.safetensors)", None),
    (re.compile(rb"ID3[\x02-\x04]\x00|OggS\x00|fLaC\x00|RIFF[\x00-\xff]{4}WAVE"), "a sound file", None),
    (re.compile(rb"version https://git-lfs\.github\.com/"), "a pointer of Git LFS, without the content",
     "fetch the content: git lfs pull"),
)  # fmt: skip
"""First bytes of binary files, their kind, and a hint."""


def display_name(path: Path | str) -> str:
    """The name of a path in a message; that of standard input is <stdin>."""
    return "<stdin>" if str(path) == STDIN else str(path)


def inner_suffix(path: Path | str) -> str:
    """The suffix of the format, below one of the compression: `.jsonl` of `a.jsonl.gz`."""
    path = Path(path)
    return Path(path.stem).suffix.lower() if path.suffix.lower() in _SUFFIXES else path.suffix.lower()


@contextmanager
def open_bytes(path: Path | str) -> Iterator[io.BufferedIOBase]:
    """The decompressed bytes of a file, or of standard input for "-"; compression is recognized by the first bytes.

    Raises: NlpcliError for a missing or unreadable file, a folder, and compressed data that is damaged or cut off
        (also while the stream is read inside the `with`).
    """
    raw = _standard_input() if str(path) == STDIN else _open(Path(path))
    try:
        compression = _compression(path, raw)
        try:
            yield _decompressed(compression, raw)
        except EOFError as error:
            raise NlpcliError(
                f"{display_name(path)}: the {compression} data is incomplete", hint="copy or download the file again"
            ) from error
        except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, _damaged_zstd()) as error:
            raise NlpcliError(f"{display_name(path)}: the {compression} data is damaged ({error})") from error
        except IsADirectoryError as error:
            raise NlpcliError(f"{display_name(path)} is a folder, not a file") from error
    finally:
        if str(path) != STDIN:
            raw.close()


def check_opens(path: Path | str) -> None:
    """Raises what `open_bytes` would: a missing file is better reported before hours of work than after.

    Standard input and pipes are left alone, since they can be read only once.
    """
    if str(path) != STDIN and (Path(path).is_file() or not Path(path).exists() or Path(path).is_dir()):
        with open_bytes(path):
            pass


def check_text(path: Path | str, head: bytes) -> None:
    """Raises: NlpcliError, naming what it is, for a file whose decompressed bytes begin as those of a binary format."""
    for mark, what, hint in _BINARY:
        if mark.match(head):
            raise NlpcliError(f"{display_name(path)} is {what}, not a text file", hint=hint)
    if head[257:262] == b"ustar":
        raise NlpcliError(f"{display_name(path)} is a tar archive, not a text file", hint="unpack it first: tar -xf")
    encoding = _wide_encoding(head)
    if encoding is not None:
        raise NlpcliError(
            f"{display_name(path)}: the text is in {encoding[:6]}, but only UTF-8 is supported",
            hint=f"convert it first: iconv -f {encoding} -t UTF-8",
        )


def text_lines(lines: Iterable[bytes], path: Path | str) -> Iterator[bytes]:
    """The lines of a file as they are, if its beginning is that of a text. Raises: NlpcliError if it is not."""
    head, held = b"", []
    for raw in lines:
        if len(head) < _HEAD:
            if not head:
                check_text(path, raw)
            head += raw[: _HEAD - len(head)]
            if b"\x00" in head:
                held.append(raw)  # what it is can be seen from more of it
                continue
        if held:
            check_text(path, head)
            yield from held
            held = []
        yield raw
    if held:
        check_text(path, head)
        yield from held


def zero_byte(path: Path | str, number: int) -> NlpcliError:
    """The error for a line with a zero byte, which no text has."""
    return NlpcliError(f"{display_name(path)}:{number}: the line contains a zero byte, so this is not a text file")


def _wide_encoding(head: bytes) -> str | None:
    """The encoding of bytes that are text in UTF-16 or UTF-32, with a byte order mark or without one."""
    for mark, encoding in _WIDE_MARKS.items():
        if head.startswith(mark):
            return encoding
    if b"\x00" in head:
        for encoding in ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE"):
            text = codecs.getincrementaldecoder(encoding)("replace").decode(head[:_HEAD])
            usual = sum(c < "\u2000" for c in text)  # chance makes mostly Chinese characters
            letters = sum(c.isalnum() for c in text)
            clean = all((c.isprintable() or c in "\n\r\t") and c != "\ufffd" for c in text)
            if clean and letters > 1 and len(text) > 3 and 2 * usual > len(text):
                return encoding
    return None


def looks_like_text(path: Path) -> bool:
    """Whether the beginning of a file, decompressed, has no zero byte: pictures, archives and weights all have some."""
    with open_bytes(path) as stream:
        return b"\x00" not in stream.read(_HEAD)


def _open(path: Path) -> io.BufferedReader:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise NlpcliError(f"{path}: no such file", hint=missing_path_hint(path)) from error
    except IsADirectoryError as error:
        raise NlpcliError(f"{path} is a folder, not a file") from error
    except (PermissionError, NotADirectoryError) as error:
        raise NlpcliError(f"{path} can't be read ({error.strerror})") from error


def _standard_input() -> io.BufferedReader:
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise NlpcliError("there is no standard input to read from")
    return stream if hasattr(stream, "peek") else io.BufferedReader(stream)


def _compression(path: Path | str, raw: io.BufferedReader) -> str | None:
    head = raw.peek(8)[:8]
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    promised = None if str(path) == STDIN else _SUFFIXES.get(Path(path).suffix.lower())
    if promised is not None:
        what = "is empty" if not head else f"is not a {promised} file, although its name ends in {Path(path).suffix}"
        raise NlpcliError(f"{display_name(path)} {what}")
    return None


def _decompressed(compression: str | None, raw: io.BufferedReader) -> io.BufferedIOBase:
    if compression == "gzip":
        return gzip.GzipFile(fileobj=raw)
    if compression == "xz":
        return lzma.LZMAFile(raw)
    if compression == "Zstandard":
        return io.BufferedReader(_ZstandardStream(raw), _READ)
    return raw


def _damaged_zstd() -> type[Exception]:
    zstandard = sys.modules.get("zstandard")  # imported only when such a file is met
    return zstandard.ZstdError if zstandard else gzip.BadGzipFile


class _ZstandardStream(io.RawIOBase):
    """Decompresses all frames of a stream and, unlike the library's own reader, notices when the last one is cut."""

    def __init__(self, raw: io.BufferedReader) -> None:
        import zstandard

        self._raw = raw
        self._new_frame = zstandard.ZstdDecompressor().decompressobj
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        room = memoryview(buffer)
        while not self._ready:
            data = self._frame.unused_data if self._frame is not None and self._frame.eof else b""
            if not data:
                data = self._raw.read(_READ >> 4)
            if not data:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError
                return 0
            if self._frame is None or self._frame.eof:
                self._frame = self._new_frame()
            self._ready = memoryview(self._frame.decompress(data))
        count = min(len(room), len(self._ready))
        room[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count
