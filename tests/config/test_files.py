"""What is written is there whole or not at all, whatever happens in between."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import shutil
import signal

import pytest

from nlpcli.config.files import (
    AlreadyThere,
    new_directory,
    plain_name,
    read_regular,
    real_path,
    sha256_file,
    write_again,
    write_atomic,
    write_new,
    write_together,
)
from nlpcli.errors import ExitStatus, NlpcliError, RunFailed


def no_room(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*_):
    raise KeyboardInterrupt


def entries(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_text_is_written_as_utf8_and_bytes_as_they_are(tmp_path):
    write_atomic(tmp_path / "a" / "b.txt", "grün\r\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"gr\xc3\xbcn\r\n"
    write_atomic(tmp_path / "a" / "b.txt", b"\xff")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"\xff"
    assert entries(tmp_path) == ["a", "a/b.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(("cause", "error"), [(no_room, RunFailed), (interrupted, KeyboardInterrupt)])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, step, cause, error):
    write_atomic(tmp_path / "a", "old")
    monkeypatch.setattr(os, step, cause)
    with pytest.raises(error) as caught:
        write_atomic(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert entries(tmp_path) == ["a"]
    if error is RunFailed:
        assert caught.value.status == ExitStatus.FAILED
        assert str(caught.value) == f"{tmp_path / 'a'} can't be written, because no space is left on the disk"


def test_a_limit_of_the_system_on_the_files_size_is_a_full_disk(tmp_path):
    write_atomic(tmp_path / "a", "old")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python itself does at its start
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(RunFailed, match="no space is left"):
            write_atomic(tmp_path / "a", b"x" * 100_000)
        with pytest.raises(RunFailed, match="no space is left"), new_directory(tmp_path / "b") as folder:
            (folder / "c").write_bytes(b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "a").read_text() == "old"
    assert entries(tmp_path) == ["a"]


@pytest.mark.parametrize("fails", [1, 2])
def test_files_written_together_change_together(tmp_path, monkeypatch, fails):
    write_together({tmp_path / "a": "old a", tmp_path / "b": "old b"})
    calls = []
    plain = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (calls.append(1), no_room() if len(calls) == fails else plain(handle))
    )
    with pytest.raises(RunFailed):
        write_together({tmp_path / "a": "new a", tmp_path / "b": "new b"})
    assert (tmp_path / "a").read_text() + (tmp_path / "b").read_text() == "old aold b"
    assert entries(tmp_path) == ["a", "b"]
    monkeypatch.undo()
    write_together({tmp_path / "a": "new a", tmp_path / "b": "new b"})
    assert (tmp_path / "a").read_text() + (tmp_path / "b").read_text() == "new anew b"


def test_a_place_that_cant_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a", tmp_path / "folder"):
        with pytest.raises(NlpcliError, match="can't be written") as caught:
            write_atomic(path, "x")
        assert caught.value.status == ExitStatus.BAD_INPUT
    with pytest.raises(NlpcliError, match="can't be written"), new_directory(tmp_path / "file" / "a"):
        pass

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(NlpcliError, match="because you have no permission to write there"):
        write_atomic(tmp_path / "a", "x")
    assert entries(tmp_path) == ["file", "folder"]


def test_an_error_names_the_users_file_and_not_the_one_beside_it(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="other"):
        write_atomic(tmp_path / "a", (name.read_text() for name in [tmp_path / "other"]))

    def refuse(source, *_):  # as /proc does
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(source))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(NlpcliError) as caught:
        write_atomic(tmp_path / "a", "x")
    assert caught.value.message == f"{tmp_path / 'a'} can't be written (No such file or directory)"
    assert caught.value.status == ExitStatus.BAD_INPUT


def test_a_new_directory_appears_when_it_is_complete(tmp_path):
    with new_directory(tmp_path / "deep" / "new") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_text("x")
        assert not (tmp_path / "deep" / "new").exists()
    assert entries(tmp_path) == ["deep", "deep/new", "deep/new/inner", "deep/new/inner/a"]


def test_a_directory_that_is_there_stays_unless_it_is_to_be_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("x")
    with pytest.raises(NlpcliError, match="already exists"), new_directory(tmp_path / "a"):
        raise AssertionError("the block must not be entered")
    with new_directory(tmp_path / "a", replace=True) as folder:
        (folder / "new").write_text("y")
    assert entries(tmp_path) == ["a", "a/new"]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(
    ("cause", "error"), [(no_room, RunFailed), (interrupted, KeyboardInterrupt), (lambda: 1 / 0, ZeroDivisionError)]
)
def test_a_directory_whose_filling_fails_leaves_nothing_behind(tmp_path, replace, cause, error):
    if replace:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "old").write_text("x")
    before = entries(tmp_path)
    with pytest.raises(error), new_directory(tmp_path / "a", replace=replace) as folder:
        (folder / "new").write_text("y")
        cause()
    assert entries(tmp_path) == before


@pytest.mark.parametrize("step", [2, 3])  # the first finds that something is there
@pytest.mark.parametrize(("cause", "error"), [(no_room, RunFailed), (interrupted, KeyboardInterrupt)])
def test_a_replacement_that_fails_puts_the_old_directory_back(tmp_path, monkeypatch, step, cause, error):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("x")
    calls = []

    def replace(source, goal, plain=os.replace):
        calls.append(source)
        return cause() if len(calls) == step else plain(source, goal)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(error), new_directory(tmp_path / "a", replace=True) as folder:
        (folder / "new").write_text("y")
    assert entries(tmp_path) == ["a", "a/old"]


def test_a_file_in_a_directorys_place_stays(tmp_path):
    (tmp_path / "a").write_text("precious")
    for replace in (False, True):
        with (
            pytest.raises(NlpcliError, match=r"a is a file, not a folder|a already exists"),
            new_directory(tmp_path / "a", replace=replace),
        ):
            raise AssertionError("the block must not be entered")
    assert (tmp_path / "a").read_text() == "precious"


def test_the_digest_is_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 500_000)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc" * 500_000).hexdigest()


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without links"])
def test_a_file_written_again_has_the_same_content_and_outlives_the_first(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_room)
    write_atomic(tmp_path / "a", b"first")
    (tmp_path / "b").write_bytes(b"old")
    for _ in range(2):
        write_again(tmp_path / "a", tmp_path / "b")
    write_atomic(tmp_path / "a", b"second")
    assert (tmp_path / "b").read_bytes() == b"first"
    assert entries(tmp_path) == ["a", "b"]


def test_a_file_that_can_not_be_written_again_stays_as_it_was(tmp_path, monkeypatch):
    write_atomic(tmp_path / "a", b"new")
    write_atomic(tmp_path / "b", b"old")
    monkeypatch.setattr(os, "replace", no_room)
    with pytest.raises(RunFailed, match="no space is left"):
        write_again(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"old" and entries(tmp_path) == ["a", "b"]


# Another process is faster


def another_process_puts(folder, monkeypatch, *, before):
    """Fills `folder` as another process would, in the moment before the given call to `os.replace`."""
    calls = []

    def replace(source, goal, plain=os.replace):
        calls.append(goal)
        if len(calls) == before:
            folder.mkdir(exist_ok=True)
            (folder / "theirs").write_text("theirs")
        return plain(source, goal)

    monkeypatch.setattr(os, "replace", replace)


def test_who_comes_second_is_refused_because_the_folder_is_there(tmp_path, monkeypatch):
    another_process_puts(tmp_path / "a", monkeypatch, before=1)
    with pytest.raises(AlreadyThere, match="a already exists"), new_directory(tmp_path / "a") as folder:
        (folder / "ours").write_text("ours")
    assert entries(tmp_path) == ["a", "a/theirs"]


@pytest.mark.parametrize("stays", [True, False])
def test_whether_the_other_folder_stays_is_decided_when_it_is_found(tmp_path, monkeypatch, stays):
    another_process_puts(tmp_path / "a", monkeypatch, before=1)

    def may_replace():
        assert (tmp_path / "a" / "theirs").exists()
        return not stays

    with contextlib.suppress(AlreadyThere), new_directory(tmp_path / "a", replace=may_replace) as folder:
        (folder / "ours").write_text("ours")
    assert entries(tmp_path) == ["a", "a/theirs" if stays else "a/ours"]


@pytest.mark.parametrize("before", [1, 3])
def test_a_folder_that_appears_between_two_renames_is_replaced_as_asked(tmp_path, monkeypatch, before):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("old")
    another_process_puts(tmp_path / "a", monkeypatch, before=before)
    with new_directory(tmp_path / "a", replace=True) as folder:
        (folder / "ours").write_text("ours")
    assert entries(tmp_path) == ["a", "a/ours"]


def test_a_folder_that_vanishes_between_two_renames_is_made(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("old")
    calls = []

    def replace(source, goal, plain=os.replace):
        calls.append(goal)
        if len(calls) == 2:
            shutil.rmtree(tmp_path / "a")
        return plain(source, goal)

    monkeypatch.setattr(os, "replace", replace)
    with new_directory(tmp_path / "a", replace=True) as folder:
        (folder / "ours").write_text("ours")
    assert entries(tmp_path) == ["a", "a/ours"]


def test_a_folder_of_leftovers_gives_way(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".config.yaml.tmp-999").write_text("x")
    with new_directory(tmp_path / "a") as folder:
        (folder / "ours").write_text("ours")
    assert entries(tmp_path) == ["a", "a/ours"]


def test_a_link_to_a_folder_leads_to_what_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / "far")
    with new_directory(tmp_path / "a", replace=True) as folder:
        (folder / "ours").write_text("ours")
    assert (tmp_path / "a").is_symlink() and (tmp_path / "far" / "ours").exists()


def test_of_two_that_write_a_new_file_one_succeeds(tmp_path, monkeypatch):
    plain = os.link

    def late(source, goal):
        (tmp_path / "a").write_text("theirs")
        return plain(source, goal)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(AlreadyThere, match="a already exists"):
        write_new(tmp_path / "a", "ours")
    assert (tmp_path / "a").read_text() == "theirs" and entries(tmp_path) == ["a"]


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without links"])
def test_a_new_file_is_written_where_nothing_is(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_room)
    write_new(tmp_path / "b" / "a", "ours")
    assert (tmp_path / "b" / "a").read_text() == "ours" and entries(tmp_path) == ["b", "b/a"]
    for taken in (tmp_path / "b" / "a", tmp_path / "b"):
        with pytest.raises(AlreadyThere):
            write_new(taken, "again")


# Names that a file gives


@pytest.mark.parametrize("name", ["a", "model.safetensors", "ü b", "a..b", "...", "-", "n" * 255, "tokens-00000.bin"])
def test_a_plain_name_is_taken(name):
    assert plain_name(name, "file") == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "/etc/passwd", "a/b", "a/", "a\\b", "a\nb", "a\0b", "a\x7f", "n" * 256, "ü" * 128, 7, None,
     ["a"], ".a.tmp-0123456789ab"],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused_with_its_place(name):
    with pytest.raises(NlpcliError, match=r"^grid\.yaml: name: .* can't be the name of a file or folder$") as caught:
        plain_name(name, "grid.yaml: name")
    assert len(caught.value.message) < 200 and "\n" not in caught.value.message


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_would_be_read_forever_is_refused_before_it_is_opened(tmp_path, put):
    put(tmp_path / "a")
    with pytest.raises(NlpcliError, match="a regular file is needed here"):
        read_regular(tmp_path / "a")


def test_a_file_that_is_far_too_large_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "a", "wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(NlpcliError, match="1,073,741,825 bytes"):
        read_regular(tmp_path / "a")


def test_a_path_whose_links_go_in_a_circle_is_a_path(tmp_path):
    (tmp_path / "a").symlink_to("a")
    assert real_path(tmp_path / "a").name == "a"
    (tmp_path / "b").symlink_to(tmp_path / "c")
    assert real_path(tmp_path / "b") == real_path(tmp_path) / "c"
