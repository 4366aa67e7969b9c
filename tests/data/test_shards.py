from __future__ import annotations

import gc
import io
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.config.files import new_directory
from nlpcli.data import encoding, readers, shards
from nlpcli.data.readers import read_documents
from nlpcli.data.shards import ShardSet, build_shards, cache_folder
from nlpcli.errors import NlpcliError, RunFailed
from nlpcli.text import load_tokenizer

SENTENCES = ["the cat sat on a mat", "it rained", "and then some more words came", "日本 and Größe ?", "a"]


def corpus(path: Path, count: int, *, seed: int = 0, between: str = "\n") -> Path:
    draw = np.random.default_rng(seed).integers(len(SENTENCES), size=count)
    path.write_text("".join(SENTENCES[index] + between for index in draw), encoding="utf-8")
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*")] if folder.exists() else []


@given(
    st.lists(st.lists(st.sampled_from([*SENTENCES, "", " ", "ß" * 30]), max_size=6), min_size=1, max_size=4),
    st.sampled_from(["auto", "lines", "paragraphs", "file"]),
    st.sampled_from([3, 50, 1 << 20]),
    st.sampled_from([1, 3, 1 << 13]),
)
def test_shards_hold_the_encoded_documents(tmp_path_factory, pieces, files, format, shard_tokens, chunk):
    folder = tmp_path_factory.mktemp("text")
    for number, lines in enumerate(files):
        (folder / f"{number}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        expected = list(read_documents([folder], format=format))
    except NlpcliError:
        with pytest.raises(NlpcliError, match=r"contains? no text"):
            build_shards(folder, pieces, documents=format)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_CHUNK_PARTS", chunk)
        found = build_shards(folder, pieces, documents=format, shard_tokens=shard_tokens)
    ids = pieces.encode(expected)
    assert found.documents == len(expected)
    assert [found.document(index).tolist() for index in range(found.documents)] == ids
    assert found.lengths.tolist() == [len(row) for row in ids]
    assert found.read(0, found.tokens).tolist() == list(itertools.chain(*ids))
    assert found.text_bytes == sum(len(text.encode()) for text in expected)
    assert found.text_words == sum(len(text.split()) for text in expected)
    assert not found.cuts_a_document


@given(
    st.lists(
        st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" a\n\x1c\x85\u3000"))), min_size=1
    )
)
def test_bytes_and_words_are_those_of_python(texts):
    assert encoding._sizes(texts).tolist() == [[len(text.encode()), len(text.split())] for text in texts]


def test_white_space_is_what_python_takes_for_it():
    spaces = [chr(code) for code in range(128, sys.maxunicode + 1) if chr(code).isspace()]
    assert spaces == encoding._WIDE_SPACES
    assert [bool(flag) for flag in encoding._SPACE_FLAGS[:128]] == [chr(code).isspace() for code in range(128)]


def test_the_garbage_collector_runs_again_after_encoding(characters):
    assert gc.isenabled()
    encoding.encode_parts((["the cat"], [True]), characters)
    assert gc.isenabled()
    with pytest.raises(NlpcliError, match="surrogate"):
        encoding.encode_parts((["\ud800"], [True]), characters)
    assert gc.isenabled()


def test_blank_lines_are_kept_as_empty_documents_on_request(tmp_path, pieces):
    path = tmp_path / "train.en"
    path.write_text("\nthe cat\n\nsat\n\n")
    found = build_shards(path, pieces, documents="lines", keep_empty=True)
    assert [len(found.document(index)) > 0 for index in range(found.documents)] == [False, True, False, True, False]
    assert found.lengths.shape == (5,)


def test_a_file_of_characters_keeps_every_one_of_them(tmp_path, characters):
    text = "the cat\n\nsat \r\n on\n\n\n"
    (tmp_path / "play.txt").write_bytes(text.encode())
    found = build_shards(tmp_path / "play.txt", characters, documents="file")
    assert found.documents == 1
    assert characters.decode([found.document(0).tolist()]) == [text]


def test_long_documents_are_encoded_in_pieces_and_stay_one_document(tmp_path, characters, monkeypatch):
    monkeypatch.setattr(readers, "PART_CHARACTERS", 50)
    text = "".join(f"{sentence}\n" for sentence in SENTENCES * 20)
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    for format, expected in (("file", text), ("paragraphs", text[:-1])):
        found = build_shards(tmp_path / "book.txt", characters, documents=format)
        assert found.documents == 1
        assert characters.decode([found.document(0).tolist()]) == [expected]
        assert found.text_bytes == len(expected.encode())
        assert found.text_words == len(expected.split())


@pytest.mark.parametrize(("vocab_size", "width"), [(1 << 16, 2), ((1 << 16) + 1, 4)])
def test_ids_take_two_bytes_as_long_as_they_fit(tmp_path, vocab_size, width):
    last = vocab_size - 1
    tokenizer = SimpleNamespace(
        vocab_size=vocab_size, fingerprint=str(vocab_size), encode=lambda texts: [[0, last] for _ in texts]
    )
    found = build_shards(corpus(tmp_path / "a.txt", 3), tokenizer)
    assert found.read(0, 4).dtype.itemsize == width
    assert found.document(2).tolist() == [0, last]


# The number of workers


def test_the_number_of_workers_does_not_change_a_byte(tmp_path, pieces, monkeypatch):
    path = corpus(tmp_path / "train.txt", 3000)
    monkeypatch.setattr(encoding, "_CHUNK_PARTS", 100)
    for workers in (1, 2, 3):
        build_shards(path, pieces, out=tmp_path / str(workers), workers=workers, shard_tokens=5000)
    assert content(tmp_path / "1") == content(tmp_path / "2") == content(tmp_path / "3")
    assert "tokens-00002.bin" in content(tmp_path / "1")


def test_bad_input_is_named_when_several_processes_encode(tmp_path, pieces):
    path = tmp_path / "train.txt"
    path.write_bytes(b"fine\n" * 9000 + b"\xff\n")
    with pytest.raises(NlpcliError, match=r"train\.txt:9001: the line is not valid UTF-8"):
        build_shards(path, pieces, workers=2)
    assert visible(cache_folder()) in ([], ["shards"])


def _die(*_, **__):
    os._exit(9)


def test_a_worker_that_dies_fails_the_run_and_leaves_nothing(tmp_path, pieces, monkeypatch):
    monkeypatch.setattr(encoding, "_encode_in_worker", _die)
    with pytest.raises(RunFailed, match="a process that encodes text ended unexpectedly"):
        build_shards(corpus(tmp_path / "a.txt", 10), pieces, workers=2, out=tmp_path / "out")
    assert visible(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(("size", "suffix", "workers"), [(1000, ".txt", 1), (9_000_000, ".txt", 2), (9e6, ".gz", 4)])
def test_small_texts_are_encoded_without_further_processes(tmp_path, monkeypatch, size, suffix, workers):
    monkeypatch.setattr(shards, "_processors", lambda: 4)
    path = tmp_path / f"text{suffix}"
    with open(path, "wb") as file:
        file.truncate(int(size))
    assert shards._workers([path], None) == workers
    assert shards._workers([path], 3) == 3


def test_no_workers_at_all_are_refused(tmp_path, pieces):
    with pytest.raises(NlpcliError, match="the number of encoding processes must be at least 1, not 0"):
        build_shards(corpus(tmp_path / "a.txt", 3), pieces, workers=0)


# Reuse


class Counting:
    """A tokenizer that counts how often it is asked."""

    def __init__(self, tokenizer):
        self.vocab_size, self.fingerprint = tokenizer.vocab_size, tokenizer.fingerprint
        self._tokenizer, self.calls = tokenizer, 0

    def encode(self, texts):
        self.calls += 1
        return self._tokenizer.encode(texts)


def test_a_finished_set_is_reused_wherever_the_text_lies(tmp_path, characters):
    tokenizer = Counting(characters)
    first = build_shards(corpus(tmp_path / "a.txt", 9), tokenizer)
    second = build_shards(corpus(tmp_path / "b.txt", 9), tokenizer)
    assert tokenizer.calls == 1
    assert first.path == second.path and first.fingerprint == second.fingerprint


def test_another_text_tokenizer_or_option_makes_another_set(tmp_path, characters, pieces):
    path = corpus(tmp_path / "a.txt", 9)
    sets = [
        build_shards(path, characters),
        build_shards(path, pieces),
        build_shards(corpus(tmp_path / "b.txt", 9, seed=1), characters),
        build_shards([path, path], characters),
        build_shards(path, characters, documents="file"),
        build_shards(path, characters, documents="lines", keep_empty=True),
        build_shards(path, characters, documents="tsv"),
    ]
    assert len({found.fingerprint for found in sets}) == len({found.path for found in sets}) == len(sets)


def test_a_changed_file_is_encoded_anew(tmp_path, characters):
    path = tmp_path / "a.txt"
    path.write_text("the cat\n")
    first, stamp = build_shards(path, characters), path.stat()
    path.write_text("the mat\n")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    second = build_shards(path, characters)
    assert characters.decode([second.document(0).tolist()]) == ["the mat"]
    assert first.fingerprint != second.fingerprint


def test_the_cache_lies_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("NLPCLI_CACHE", "/own")
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("NLPCLI_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/common")
    assert cache_folder() == Path("/common/nlpcli")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "nlpcli"


def test_a_damaged_set_in_the_cache_is_built_anew(tmp_path, characters):
    path = corpus(tmp_path / "a.txt", 9)
    first = build_shards(path, characters)
    expected = first.read(0, first.tokens).tolist()
    (first.path / "tokens-00000.bin").write_bytes(b"")
    second = build_shards(path, characters)
    assert second.read(0, second.tokens).tolist() == expected


def test_a_tokenizer_is_taken_from_its_folder(tmp_path, pieces):
    pieces.save(tmp_path / "tok")
    path = corpus(tmp_path / "a.txt", 9)
    assert build_shards(path, tmp_path / "tok").path == build_shards(path, load_tokenizer(tmp_path / "tok")).path
    with pytest.raises(NlpcliError, match="contains no tokenizer"):
        build_shards(path, tmp_path / "nowhere")


# Where it is put


def test_a_chosen_folder_is_filled_and_reused(tmp_path, characters):
    tokenizer = Counting(characters)
    path, out = corpus(tmp_path / "a.txt", 9), tmp_path / "deep" / "out"
    for _ in range(2):
        assert build_shards(path, tokenizer, out=out).path == out
    assert tokenizer.calls == 1


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path, characters):
    path = corpus(tmp_path / "a.txt", 9)
    other = build_shards(corpus(tmp_path / "b.txt", 7), characters, out=tmp_path / "other").path
    before = content(other)
    with pytest.raises(NlpcliError, match="contains the shards of another text"):
        build_shards(path, characters, out=other)
    assert content(other) == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    with pytest.raises(NlpcliError, match="contains something other than a shard set"):
        build_shards(path, characters, out=tmp_path / "thesis")
    assert visible(tmp_path / "thesis") == ["chapter1.tex"]
    with pytest.raises(NlpcliError, match="contains something other than a shard set"):
        build_shards(path, characters, out=path)


def test_an_empty_folder_may_be_chosen(tmp_path, characters):
    (tmp_path / "out").mkdir()
    assert build_shards(corpus(tmp_path / "a.txt", 9), characters, out=tmp_path / "out").documents == 9


def test_a_full_disk_fails_the_run_and_leaves_nothing(tmp_path, characters, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoding._HashedFile, "write", full)
    with pytest.raises(RunFailed, match="no space is left"):
        build_shards(corpus(tmp_path / "a.txt", 9), characters, out=tmp_path / "out")
    assert visible(tmp_path) == ["a.txt"]


def test_a_text_that_changes_while_it_is_read_is_refused(tmp_path, characters):
    path = corpus(tmp_path / "a.txt", 9)

    def encode(texts):
        path.write_text("something else\n")
        return characters.encode(texts)

    tokenizer = SimpleNamespace(vocab_size=characters.vocab_size, fingerprint="x", encode=encode)
    with pytest.raises(NlpcliError, match="changed while it was read"):
        build_shards(path, tokenizer, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Standard input and pipes


def test_standard_input_is_encoded_like_a_file(tmp_path, characters, monkeypatch):
    path = corpus(tmp_path / "a.txt", 9)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
    assert build_shards("-", characters).fingerprint == build_shards(path, characters).fingerprint


def test_bad_bytes_of_standard_input_are_named_so(characters, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"fine\n\xff\n")))
    with pytest.raises(NlpcliError, match=r"^<stdin>:2: the line is not valid UTF-8"):
        build_shards("-", characters)


@pytest.mark.processes
def test_a_named_pipe_is_read_once(tmp_path, characters):
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["sh", "-c", f"printf 'the cat\\nsat\\n' > {tmp_path / 'pipe'}"])
    assert build_shards(tmp_path / "pipe", characters).documents == 2
    assert writer.wait() == 0


# Several processes, interruptions

SCRIPT = """
import sys, time
from pathlib import Path
from nlpcli.data import encoding
from nlpcli.data.shards import build_shards
from nlpcli.text import load_tokenizer

if __name__ == "__main__":
    text, tokenizer, out, pause, workers = sys.argv[1:]
    add = encoding.ShardWriter.add
    def slow(self, encoded):
        print("writing", flush=True)
        time.sleep(float(pause))
        add(self, encoded)
    encoding.ShardWriter.add = slow
    encoding._CHUNK_PARTS = 500
    print(build_shards(text, Path(tokenizer), out=out, workers=int(workers)).tokens)
"""


def start(tmp_path, path, *, pause, workers=1):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(path), str(tmp_path / "tok"), str(tmp_path / "out"), str(pause)]
    environment = {**os.environ, "PYTHONPATH": str(Path(shards.__file__).parents[2])}
    return subprocess.Popen(
        [*command, str(workers)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.processes
def test_two_processes_that_build_the_same_set_both_get_it(tmp_path, characters):
    characters.save(tmp_path / "tok")
    path = corpus(tmp_path / "a.txt", 2000)
    results = [process.communicate() for process in [start(tmp_path, path, pause=0.1) for _ in range(2)]]
    expected = build_shards(path, characters)
    assert [out.splitlines()[-1] for out, _ in results] == [str(expected.tokens)] * 2, results
    assert content(tmp_path / "out") == content(expected.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "out", "script.py", "tok"]


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "a damaged set"])
@pytest.mark.parametrize("moment", [1, 2])
def test_who_finishes_second_takes_the_finished_set(tmp_path, monkeypatch, characters, before, moment):
    """The other process puts its set there between the last look and the rename."""
    path = corpus(tmp_path / "a.txt", 50)
    theirs, place = tmp_path / "theirs", shards.cache_folder() / "shards" / build_shards(path, characters).path.name
    shutil.copytree(place, theirs)
    shutil.rmtree(place)
    if before != "nothing":
        place.mkdir()
    if before == "a damaged set":
        (place / "index.json").write_text("{}")
    calls = []

    def replace(source, goal, plain=os.replace):
        calls.append(source)
        if len(calls) == moment:
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(theirs, place)
        return plain(source, goal)

    monkeypatch.setattr(os, "replace", replace)
    found = build_shards(path, characters)
    assert content(found.path) == content(theirs) and found.documents == 50
    assert [entry.name for entry in place.parent.iterdir() if entry.name.startswith(".")] == []
    if moment == 1:
        assert len(calls) == 1  # theirs was not moved


def test_who_finishes_second_beside_another_set_is_refused(tmp_path, monkeypatch, characters):
    path, other = corpus(tmp_path / "a.txt", 50), corpus(tmp_path / "b.txt", 60)
    build_shards(other, characters, out=tmp_path / "theirs")

    def replace(source, goal, plain=os.replace):
        if not (tmp_path / "out").exists():
            shutil.copytree(tmp_path / "theirs", tmp_path / "out")
        return plain(source, goal)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(NlpcliError, match="contains the shards of another text"):
        build_shards(path, characters, out=tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "theirs")


@pytest.mark.processes
@pytest.mark.parametrize(("kill", "workers"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGKILL, 1)])
def test_an_interrupted_build_leaves_nothing_that_looks_finished(tmp_path, characters, kill, workers):
    characters.save(tmp_path / "tok")
    path = corpus(tmp_path / "a.txt", 3000)
    process = start(tmp_path, path, pause=0.5, workers=workers)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(kill)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0 and "Process" not in errors
    assert not (tmp_path / "out").exists()
    if kill is signal.SIGINT:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "script.py", "tok"]
    assert build_shards(path, characters, out=tmp_path / "out").documents == 3000


@pytest.mark.processes
def test_workers_end_when_their_parent_is_killed(tmp_path, characters):
    characters.save(tmp_path / "tok")
    process = start(tmp_path, corpus(tmp_path / "a.txt", 3000), pause=0.5, workers=2)
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.wait()
    process.communicate(timeout=30)  # the workers hold the other end of the pipe: it ends with the last of them


def test_what_killed_builds_left_in_the_cache_is_removed_and_what_is_being_built_stays(tmp_path, characters):
    path = corpus(tmp_path / "a.txt", 9)
    folder = build_shards(path, characters).path.parent
    (folder / ".left.tmp-0123456789ab").mkdir()
    (folder / ".left.tmp-0123456789ab" / "tokens-00000.bin").write_bytes(bytes(10))
    with new_directory(folder / "live") as live:
        build_shards(path, characters, documents="file")
        assert live.is_dir() and not (folder / ".left.tmp-0123456789ab").exists()


def test_nothing_in_a_set_is_pickled(tmp_path, characters):
    found = build_shards(corpus(tmp_path / "a.txt", 9), characters)
    index = json.loads((found.path / "index.json").read_text())
    assert {*index["files"], "index.json"} == {path.name for path in found.path.iterdir()}
    assert all(b"\x80\x04" not in (found.path / name).read_bytes()[:2] for name in index["files"])


@pytest.mark.processes
def test_a_set_reaches_another_process_by_its_path(tmp_path, characters):
    found = build_shards(corpus(tmp_path / "a.txt", 100), characters)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(ShardSet.document.__get__(found), [0, 99]) is not None
