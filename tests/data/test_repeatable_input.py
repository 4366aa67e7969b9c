from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from nlpcli.data.readers import read_documents, read_lines
from nlpcli.data.repeatable_input import repeatable
from nlpcli.errors import NlpcliError, RunFailed


def test_standard_input_can_be_read_twice(tmp_path, monkeypatch):
    for content in (b"one\ntwo\n", gzip.compress(b"one\ntwo\n")):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        with repeatable("-") as files:
            assert list(read_documents(files)) == list(read_documents(files)) == ["one", "two"]
        assert not any(path.exists() for path in files)


@pytest.mark.processes
def test_a_pipe_can_be_read_twice_in_the_format_of_its_name(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with (
        subprocess.Popen(["sh", "-c", f"""echo '{{"text": "one"}}' > {tmp_path}/pipe.jsonl"""]),
        repeatable([tmp_path / "pipe.jsonl"]) as files,
    ):
        assert list(read_documents(files)) == list(read_documents(files)) == ["one"]


def test_regular_files_stay_where_they_are(tmp_path):
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text("x")
    with repeatable([tmp_path]) as files:
        assert files == [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert all(path.exists() for path in files)


def test_bad_bytes_of_standard_input_are_named_as_such(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"fine\n\xff\n")))
    with pytest.raises(NlpcliError, match=r"^<stdin>:2: the line is not valid UTF-8"), repeatable("-") as files:
        list(read_lines(files[0]))


def test_other_errors_pass_as_they_are(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    failed = RunFailed("something else")
    with pytest.raises(RunFailed) as caught, repeatable(tmp_path):
        raise failed
    assert caught.value is failed
