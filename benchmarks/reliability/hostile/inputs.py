"""Hostile files: bytes, texts, tables, JSON, YAML and archives, each a function of a random number generator."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

WORDS = ["the", "cat", "sat", "on", "a", "mat", "Straße", "été", "кот", "猫", "你好", "नमस्ते", "👩‍👩‍👧", "e\u0301", ""]
CONTROLS = [
    "\x1b]0;title\x07", "\x1b[31m", "\x9b2J", "\x1bP0;1|17/ab\x9c", "\r", "\x08", "\x7f", "\u202e", "\u2028", "\x85",
    "\x0b", "\x0c", "\x00", "\ufeff", "\u2066", "\x1b[2J\x1b[H",
]  # fmt: skip
_PLANES = [
    (0x20, 0x7F), (0x80, 0x600), (0x600, 0xD800), (0xE000, 0xFFFF), (0x10000, 0x1FFFF), (0x20000, 0x2FFFF),
    (0x30000, 0x3FFFF), (0x40000, 0xDFFFF), (0xE0000, 0xEFFFF), (0xF0000, 0x10FFFF), (0x300, 0x370), (0, 0x20),
]  # fmt: skip
NUMBERS = [
    "0", "-1", "1", "2", "3", "1e3", "1e308", "1e999", "nan", "inf", "-inf", "1_0", "١", "", " ", "0x10", "1.5",
    "1e-300", "9" * 30, "9" * 5000, "2147483648", "4294967296", "18446744073709551616", "-0", "+1", "1,5", "true",
    "None",
]  # fmt: skip
VALUES = [
    None, [], {}, "", "x", -1, 0, 1, 2, 10**9, 2**31, 2**63, 10**30, 10**400, 1.5, 1e308, -1e308, 1e-320, float("nan"),
    float("inf"), True, False, [1], ["a", 2], {"a": 1}, [[]], [[[[]]]], "../../etc/passwd", "/etc/passwd",
    "\x1b]0;title\x07\n", "x" * 5000, "\x00", "é", "null", ["x"] * 300, "\U0010ffff", "a.b.c", "*", "-",
]  # fmt: skip
BINARY = [
    b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n", b"PK\x03\x04" + b"\0" * 40,
    b"\x93NUMPY\x01\x00v\x00{", b"\x7fELF\x02\x01", b"%PDF-1.7\n", b"PAR1\x00\x00", b"SQLite format 3\x00",
    b"\x89PNG\r\n\x1a\n", b"BZh91AY&SY", b"\x1f\x8b\x08\x00", b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd", b"GGUF\x03\x00\x00\x00", b"\xff\xfe", b"\xfe\xff",
    b"\xff\xfe\x00\x00", b"\xef\xbb\xbf", b"Obj\x01", b"ARROW1\x00\x00", b"Rar!\x1a\x07\x00",
]  # fmt: skip


def any_bytes(rng: Random) -> bytes:
    """A file of whatever kind."""
    return _chosen(rng, _ANY)


def text(rng: Random) -> bytes:
    """Lines, mostly of characters, with whatever a text can hold."""
    return _chosen(rng, _TEXTS)


def jsonl(rng: Random) -> bytes:
    """JSON, mostly one object a line."""
    return _chosen(rng, _JSON)


def table(rng: Random) -> bytes:
    """Tab- or comma-separated columns."""
    return _chosen(rng, _TABLES)


def yaml(rng: Random) -> bytes:
    """YAML, mostly broken or too large."""
    return _chosen(rng, _YAML)


def words(rng: Random, most: int = 8) -> str:
    """A short line."""
    line = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(most + 1)))
    return line + rng.choice(CONTROLS) if rng.random() < 0.2 else line


def _chosen(rng: Random, kinds: list[tuple[float, Callable[[Random], bytes]]]) -> bytes:
    return rng.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])[0](rng)


def _random_bytes(rng: Random) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 2, 7, 64, 1000, 5000]))


def _lines(rng: Random) -> bytes:
    end = rng.choice(["\n"] * 6 + ["\r\n", "\r", "\n\n", "\x85", "\u2028"])
    body = end.join(words(rng) for _ in range(rng.randrange(12)))
    return (body + rng.choice([end, end, ""])).encode("utf-8", "surrogatepass")


def _good_lines(rng: Random) -> bytes:
    return "".join(f"{rng.choice(WORDS[:7])} {rng.choice(WORDS[:7])}\n" for _ in range(rng.randrange(1, 9))).encode()


def _invalid(rng: Random) -> bytes:
    data = bytearray(_lines(rng) or b"a\n")
    for _ in range(rng.randrange(1, 4)):
        bad = rng.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\x00"])
        place = rng.randrange(len(data) + 1)
        data[place:place] = bad
    return bytes(data)


def _every_plane(rng: Random) -> bytes:
    lines = []
    for _ in range(rng.randrange(1, 20)):
        low, high = rng.choice(_PLANES)
        lines.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randrange(30))))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _long_line(rng: Random) -> bytes:
    unit = rng.choice(
        [b"a", b"a ", "猫".encode(), "\u0301".encode(), b"\xf0\x9f\x91\xa9", b"\t", b"{", b" ", b"ab cd "]
    )
    size = rng.choice([3000, 30_000, 100_000])
    return unit * (size // len(unit)) + rng.choice([b"", b"\n", b"\nx\n"])


def _empty_lines(rng: Random) -> bytes:
    return rng.choice([b"\n", b"\r\n", b" \n", b"\t\n"]) * rng.choice([1, 10, 3000])


def _huge(rng: Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice([b"a", b"a ", "é".encode(), b"\xff", b"\x00", b"[", b'{"text":'])[:10] * 5_000_000
    if kind == 1:
        return b"\n" * 1_000_000
    if kind == 2:
        return gzip.compress(b"a" * 64_000_000, 1)
    return b"a b " * 1_000_000 + b"\n" + b"c\n"


def _archive(rng: Random) -> bytes:
    content = rng.choice([_lines, _good_lines, _invalid, _long_line, _json_lines, _random_bytes])(rng)
    pack = rng.choice([gzip.compress, gzip.compress, bz2.compress, lzma.compress, _zstandard])
    data = bytearray(pack(content))
    how = rng.randrange(6)
    if how == 0:
        del data[rng.randrange(len(data)) :]
    elif how == 1:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == 2:
        data += rng.choice([b"\0" * 9, b"trailing", bytes(data), data[: len(data) // 2]])
    elif how == 3:
        return bytes(pack(bytes(data)))
    return bytes(data)


def _zstandard(content: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(content)


def _marked(rng: Random) -> bytes:
    return rng.choice(BINARY) + rng.choice([b"", _lines(rng), _random_bytes(rng)])


def _wide(rng: Random) -> bytes:
    return _lines(rng).decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-16-le", "utf-32", "utf-16-be"]))


def value(rng: Random, depth: int = 3) -> object:
    """A value that JSON or YAML can hold."""
    if depth and rng.random() < 0.3:
        if rng.random() < 0.5:
            return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
        return {rng.choice(["text", "a", "", "label", "id", words(rng, 2)]): value(rng, depth - 1) for _ in range(3)}
    return rng.choice([*VALUES, words(rng)])


def _object(rng: Random) -> str:
    record = {"text": words(rng), "label": words(rng, 1), "text2": words(rng)}
    for _ in range(rng.randrange(3)):
        record[rng.choice(["text", "label", "labels", "tokens", "tags", "id", "vector", words(rng, 1)])] = value(rng)
    return json.dumps(record, ensure_ascii=rng.random() < 0.5)


def _json_lines(rng: Random) -> bytes:
    parts = [_object(rng) for _ in range(rng.randrange(6))]
    for _ in range(rng.randrange(2)):
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(_STRANGE_JSON))
    return ("\n".join(parts) + rng.choice(["\n", ""])).encode("utf-8", "surrogatepass")


_STRANGE_JSON = [
    '{"text": "\\ud800"}', '{"text": "a", "text": "b"}', '{"text": 1e999}', '{"text": NaN}', '{"text": -Infinity}',
    '{"text": ' + "9" * 5000 + "}", '{"text": "' + "\\u001b[31m" * 3 + '"}', "null", "[]", '"text"', "{", "}",
    '{"text"', '{"text": "a"} {"text": "b"}', "[" * 2000, '{"a":' * 2000,
    '{"text": {"text": {"text": "x"}}}',
    '{"": ""}', '{"text": "a\\u0000b"}', '{"text": ["a", "b"], "label": [1, 2]}', '{"text": "a", "label": 1e400}',
    "\ufeff{}",
]  # fmt: skip


def _json_nested(rng: Random) -> bytes:
    depth = rng.choice([50, 1000, 100_000])
    return rng.choice([b"[" * depth + b"]" * depth, b'{"text":' * depth + b"1" + b"}" * depth, b"[" * depth])


def _json_list(rng: Random) -> bytes:
    return ("[" + ",".join(_object(rng) for _ in range(rng.randrange(5))) + rng.choice(["]", "", ",]", "]]"])).encode()


def _rows(rng: Random) -> bytes:
    mark = rng.choice(["\t", "\t", "\t", ",", ";"])
    columns = rng.choice([1, 2, 2, 2, 3, 3, 4, 40])
    rows = []
    if rng.random() < 0.3:
        names = ["text", "label", "text2", "score", "sentence", "text", "", words(rng, 1)]
        rows.append(mark.join(rng.choice(names) for _ in range(columns)))
    for _ in range(rng.randrange(12)):
        cells = [rng.choice([words(rng, 4), rng.choice(["pos", "neg"]), rng.choice(NUMBERS)]) for _ in range(columns)]
        if rng.random() < 0.1:
            cells[rng.randrange(columns)] = rng.choice(['"', '"a', '"a""', "'", '"a\nb"', "\\", "x" * 3000])
        if rng.random() < 0.1:
            cells = cells[: rng.randrange(columns + 1)]
        rows.append(mark.join(cells))
    return ("\n".join(rows) + rng.choice(["\n", "", "\n\n"])).encode("utf-8", "surrogatepass")


def _labeled(rng: Random) -> bytes:
    rows = [f"{words(rng, 4)}\t{rng.choice(['pos', 'neg', 'neg', words(rng, 1)])}" for _ in range(rng.randrange(2, 12))]
    return ("\n".join(rows) + "\n").encode("utf-8", "surrogatepass")


def _conll(rng: Random) -> bytes:
    rows = []
    for _ in range(rng.randrange(12)):
        tag = rng.choice(["O", "B-PER", "I-PER", "I-", "B-", "S-X", "E-X", "X", "", words(rng, 1)])
        rows.append(rng.choice([f"{rng.choice(WORDS)}\t{tag}", f"{rng.choice(WORDS)} {tag}", "", "# c", tag]))
    return ("\n".join(rows) + "\n").encode("utf-8", "surrogatepass")


def _yaml_value(rng: Random) -> bytes:
    import yaml as library

    groups = ["model", "training", "tokenizer", "data", "base", "cells", "vary", "task", words(rng, 1)]
    data = {
        rng.choice(groups): {
            rng.choice(["lr", "d_model", "heads", "max_steps", "type", "vocab_size", "family", "norm", "x"]): value(rng)
            for _ in range(3)
        }
        for _ in range(rng.randrange(1, 4))
    }
    return library.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass")


def _yaml_strange(rng: Random) -> bytes:
    return rng.choice(_STRANGE_YAML)


_LAUGHS = b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 10)
)
_STRANGE_YAML = [
    _LAUGHS, b"a: &a {b: *a}\n", b"a: !!python/object/apply:os.system [touch PWNED]\n", b"[" * 5000, b"{a: " * 5000,
    b"a: 1\na: 2\n", b"- a\n- b\n", b"model: [1, 2]\n", b"model: {d_model: 1e400}\n", b"9" * 6000, b"? [a, b]\n: c\n",
    b"model: {layers: 1000000000}\n", b"training: {lr: .nan}\n", b"model: {d_model: 99999999999}\n", b"a: 2001-99-99\n",
    b"%YAML 9.9\n---\na: 1\n", b"a: |\n" + b"  x\n" * 1000, b"<<: {a: 1}\n", b"<<: [1]\n", b"a: *b\n", b"\ta: 1\n",
    b"a: \"\\x1b]0;title\\a\"\n", b"model: {\"\\e[31m\": 1}\n", b"--- a\n--- b\n", b"a: !!binary AAAA\n", b"a: !x 1\n",
    b"model: {decoder_layers: 100000}\n", b"model: {d_model: 2147483647}\n", b"a: 1:30\n", b"~: 1\n", b"1.5: {2: 3}\n",
]  # fmt: skip

_TEXTS: list[tuple[float, Callable[[Random], bytes]]] = [
    (6, _lines), (6, _good_lines), (1.5, _invalid), (4, _every_plane), (1, _long_line), (1, _empty_lines),
    (0.06, _huge), (1, _archive), (0.5, _marked), (0.5, _random_bytes), (0.3, _wide),
]  # fmt: skip
_JSON: list[tuple[float, Callable[[Random], bytes]]] = [
    (8, _json_lines), (1, _json_nested), (2, _json_list), (1, _random_bytes), (1, _lines), (0.03, _huge), (1, _archive),
]  # fmt: skip
_TABLES: list[tuple[float, Callable[[Random], bytes]]] = [
    (3, _rows), (6, _labeled), (2, _conll), (1, _json_lines), (1, _invalid), (0.5, _random_bytes), (0.03, _huge),
    (0.5, _long_line), (1, _archive),
]  # fmt: skip
_YAML: list[tuple[float, Callable[[Random], bytes]]] = [
    (4, _yaml_value), (4, _yaml_strange), (1, _random_bytes), (1, _lines), (0.5, _json_nested), (0.02, _huge),
]  # fmt: skip
_ANY: list[tuple[float, Callable[[Random], bytes]]] = [
    (3, text), (2, jsonl), (2, table), (1, yaml), (1, _marked), (1, _random_bytes),
]  # fmt: skip


def mutated(node: object, rng: Random) -> object:
    """`node` with one wrong value, one value less or one more, somewhere. Changes it in place."""
    spots: list[tuple[dict | list, object]] = []
    waiting = [node]
    while waiting and len(spots) < 3000:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            spots.append((one, key))
            waiting.append(one[key])
    if not spots:
        return rng.choice(VALUES)
    place, key = rng.choice(spots)
    how = rng.random()
    if how < 0.1:
        del place[key]
    elif how < 0.2 and isinstance(place, dict):
        place[rng.choice(["new", "../x", "\x1b[31m", ""])] = rng.choice(VALUES)
    elif how < 0.4 and isinstance(place[key], (int, float)):
        place[key] = place[key] * rng.choice([-1, 0, 2, 3, 10**6, 10**12])
    else:
        place[key] = rng.choice(VALUES)
    return node


def damaged(data: bytes, rng: Random) -> bytes:
    """Bytes changed, removed or added somewhere."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 3, 20])):
        place = rng.randrange(len(changed) + 1)
        how = rng.randrange(5)
        if how == 0:
            del changed[place:]
        elif how == 1 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif how == 2:
            changed[place : place + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
        elif how == 3:
            changed[place:place] = rng.choice([b"\xff" * 9, b"\0" * 4, struct.pack("<Q", 2**62), b"\x1b[31m"])
        elif place < len(changed):
            changed[place] = rng.randrange(256)
    return bytes(changed)


def damaged_tensors(data: bytes, rng: Random) -> bytes:
    """A safetensors file whose header lies, or whose numbers are none."""
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    how = rng.randrange(8)
    if how == 0:
        return struct.pack("<Q", rng.choice([0, 1, length + 1, 2**31, 2**40, 2**63, 2**64 - 1])) + data[8:]
    if how == 1:
        return data[: rng.randrange(len(data))]
    if how == 2:
        filler = rng.choice([b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f", b"\x01\x00\x00\x00"])
        return data[: 8 + length] + filler * (len(body) // 4) + body[: len(body) % 4]
    name = rng.choice([name for name in header if name != "__metadata__"])
    about = header[name]
    if how == 3:
        about["dtype"] = rng.choice(["F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "X", 1, None])
    elif how == 4:
        about["shape"] = rng.choice([[], [0], [2**62, 2], [10**12], [-1], [1] * 70, about["shape"][::-1], "x", [1.5]])
    elif how == 5:
        begin, end = about["data_offsets"]
        about["data_offsets"] = rng.choice([[end, begin], [0, 2**62], [-1, end], [begin], [begin, end + 4], [0, 0], 1])
    elif how == 6:
        header[rng.choice(["../x", "\x1b[31m", "", "x" * 3000])] = header.pop(name)
    else:
        mutated(header, rng)
    new = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(new)) + new + body


def write_special(path: Path, rng: Random, *, pipe: bool = True) -> None:
    """Puts something in the place of a file that is none: a folder, a pipe, a link to somewhere else, nothing.

    pipe: not for files that the user names, for which a command waits as all programs do.
    """
    path.unlink()
    how = rng.choice([0, 1, 2, 3, 4, 5, 6, 7] if pipe else [0, 2, 3, 4, 5, 6, 7])
    if how == 0:
        path.mkdir()
    elif how == 1:
        os.mkfifo(path)
    elif how == 2:
        path.symlink_to(path.name)
    elif how == 3:
        path.symlink_to("/dev/zero")
    elif how == 4:
        path.symlink_to("../../../../../../../etc/passwd")
    elif how == 5:
        path.write_bytes(b"")
    elif how == 6:
        path.symlink_to("no-such-file")
