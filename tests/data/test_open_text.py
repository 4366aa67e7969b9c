from __future__ import annotations

import os
import threading

import pytest

from nlpcli.data.open_text import check_opens, open_bytes
from nlpcli.errors import NlpcliError


def test_a_file_that_cannot_be_read_is_reported_before_it_is_needed(tmp_path):
    (tmp_path / "text").write_text("a\n")
    (tmp_path / "text.gz").write_text("not compressed")
    check_opens(tmp_path / "text")
    check_opens("-")
    for name, words in (("tex", "no such file"), ("text.gz", "is not a gzip file"), (".", "is a folder")):
        with pytest.raises(NlpcliError, match=words):
            check_opens(tmp_path / name)


def test_nothing_of_a_pipe_is_read_before_it_is_needed(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_opens(pipe)
    text = b"a line\n" * 3000
    writer = threading.Thread(target=pipe.write_bytes, args=(text,))
    writer.start()
    with open_bytes(pipe) as stream:
        assert stream.read() == text
    writer.join()
