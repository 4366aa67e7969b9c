"""What a killed process leaves under temporary names never stands in the way, and what others put there stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from nlpcli.config import temporary_files
from nlpcli.config.files import atomic_file, new_directory, write_again, write_atomic, write_together
from nlpcli.config.temporary_files import (
    entries,
    find_finished,
    is_free,
    is_temporary,
    scratch_folder,
    sweep,
    temporary_folder,
)

LEFT = ".config.yaml.tmp-999"


def leave(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if name.endswith("/"):
            (folder / name / "inside").mkdir(parents=True)
            (folder / name / "inside" / "file").write_text("x")
        else:
            (folder / name).write_text("x")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "name", [LEFT, ".a.b.tmp-0123456789ab", ".tokenizer.tmp-0123456789ab/", ".a.old-0123456789ab/"]
)
def test_a_folder_that_holds_only_leftovers_is_free(tmp_path, name):
    leave(tmp_path / "run", name)
    assert is_free(tmp_path / "run") and entries(tmp_path / "run") == []


@pytest.mark.parametrize(
    "name", [".bashrc", "config.yaml.tmp-1", ".thesis.tmp-final", ".a.tmp-", ".tmp-1", "a.tmp-1/", ".config.yaml.swp"]
)
def test_a_folder_with_a_strangers_file_is_not_free_and_keeps_it(tmp_path, name):
    leave(tmp_path / "run", LEFT, name)
    assert not is_free(tmp_path / "run")
    sweep(tmp_path / "run")
    assert names(tmp_path / "run") == [name.rstrip("/")]


def test_a_link_and_a_pipe_under_a_temporary_name_are_not_ours(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LEFT).symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "run" / ".a.tmp-1")
    assert not is_free(tmp_path / "run")
    sweep(tmp_path / "run")
    assert names(tmp_path / "run") == [".a.tmp-1", LEFT] and (tmp_path / "precious" / "file").exists()


def test_sweeping_follows_no_link_inside_a_leftover(tmp_path):
    leave(tmp_path / "precious", "file")
    leave(tmp_path / "run", ".a.tmp-1/")
    (tmp_path / "run" / ".a.tmp-1" / "link").symlink_to(tmp_path / "precious")
    sweep(tmp_path / "run")
    assert names(tmp_path / "run") == [] and names(tmp_path / "precious") == ["file"]


def test_a_path_is_free_where_nothing_is_and_not_where_a_file_or_a_dangling_link_is(tmp_path):
    leave(tmp_path, "file")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert is_free(tmp_path / "none") and not is_free(tmp_path / "file") and not is_free(tmp_path / "link")


def test_sweeping_one_name_leaves_those_of_others(tmp_path):
    leave(tmp_path, ".a.tmp-1", ".b.tmp-1", ".a.b.tmp-1")
    sweep(tmp_path, "a")
    assert names(tmp_path) == [".a.b.tmp-1", ".b.tmp-1"]


def test_what_is_being_written_is_not_swept(tmp_path):
    with atomic_file(tmp_path / "a") as file, new_directory(tmp_path / "b") as folder:
        file.write(b"x")
        (folder / "c").write_text("x")
        assert len(names(tmp_path)) == 2
        sweep(tmp_path)
        assert len(names(tmp_path)) == 2
    assert names(tmp_path) == ["a", "b"]


KILLED = """
import sys, time
from pathlib import Path
from nlpcli.config.files import new_directory, write_together
root = Path(sys.argv[1])
def slow():
    yield "half"
    print("writing", flush=True)
    time.sleep(60)
with new_directory(root / "folder") as folder:
    (folder / "file").write_text("x")
    write_together({root / "config.yaml": slow()})
"""


@pytest.mark.processes
def test_the_lock_of_a_process_that_lives_protects_and_that_of_a_killed_one_does_not(tmp_path, environment):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout.readline() == "writing\n"
        before = names(tmp_path)
        assert len(before) == 2 and all(is_temporary(tmp_path / name) for name in before)
        sweep(tmp_path)
        assert names(tmp_path) == before
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert names(tmp_path) == before and is_free(tmp_path)
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_that_is_written_again_sweeps_what_was_left_of_it(tmp_path):
    leave(tmp_path, ".a.tmp-0123456789ab/", ".other.tmp-0123456789ab/")
    with new_directory(tmp_path / "a") as folder:
        (folder / "file").write_text("x")
    assert names(tmp_path) == [".other.tmp-0123456789ab", "a"]


def test_a_folder_set_aside_gets_its_name_back_where_no_other_has_it(tmp_path):
    leave(tmp_path, ".a.old-0123456789ab/", ".b.old-0123456789ab/", "b/")
    sweep(tmp_path)
    assert names(tmp_path) == ["a", "b"] and (tmp_path / "a" / "inside" / "file").exists()


def test_where_the_disk_knows_no_locks_only_what_is_a_day_old_is_swept(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(temporary_files.fcntl, "flock", refuse)
    leave(tmp_path, ".old.tmp-1", ".new.tmp-1", ".live.tmp-1/")
    for path in (tmp_path / ".old.tmp-1", tmp_path / ".live.tmp-1"):
        os.utime(path, (time.time() - 90_000,) * 2)
    write_atomic(tmp_path / "a", "x")
    sweep(tmp_path)
    assert names(tmp_path) == [".live.tmp-1", ".new.tmp-1", "a"]


def test_what_was_swept_before_it_was_locked_is_made_under_another_name(tmp_path, monkeypatch):
    plain, swept = temporary_files.fcntl.flock, []

    def late(handle, operation):
        if not swept:
            swept.extend(tmp_path.iterdir())
            (swept[0].rmdir if swept[0].is_dir() else swept[0].unlink)()
        return plain(handle, operation)

    monkeypatch.setattr(temporary_files.fcntl, "flock", late)
    write_atomic(tmp_path / "a", "x")
    assert names(tmp_path) == ["a"] and len(swept) == 1
    (tmp_path / "a").unlink()
    swept.clear()
    with temporary_folder(tmp_path / "b") as folder:
        assert folder.is_dir() and folder != swept[0]


@pytest.mark.parametrize("write", ["file", "together", "again", "folder"])
def test_a_link_planted_under_a_temporary_name_is_not_followed(tmp_path, monkeypatch, write):
    leave(tmp_path, "precious", "source")
    (tmp_path / "precious").write_text("precious")
    tokens = iter(["0" * 12, "0" * 12, "1" * 12, "2" * 12])
    monkeypatch.setattr(temporary_files.secrets, "token_hex", lambda _: next(tokens))
    planted = tmp_path / f".a.tmp-{'0' * 12}"
    planted.symlink_to(tmp_path / "precious")
    match write:
        case "file":
            with atomic_file(tmp_path / "a") as file:
                file.write(b"x")
        case "together":
            write_together({tmp_path / "a": "x"})
        case "again":
            write_again(tmp_path / "source", tmp_path / "a")
        case "folder":
            with new_directory(tmp_path / "a") as folder:
                (folder / "x").write_text("x")
    assert (tmp_path / "precious").read_text() == "precious" and planted.is_symlink()
    assert (tmp_path / "a").exists() and not (tmp_path / "a").is_symlink()


def test_temporary_names_can_not_be_guessed(tmp_path):
    found = set()
    for _ in range(5):
        with temporary_folder(tmp_path / "a") as folder:
            found.add(folder.name)
    assert len(found) == 5 and not any(str(os.getpid()) == name.rpartition("-")[2] for name in found)


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, "日" * 85])
def test_the_longest_name_the_disk_takes_can_be_written(tmp_path, name):
    write_atomic(tmp_path / name, "x")
    assert names(tmp_path) == [name]


def test_folders_that_are_being_made_are_not_found(tmp_path):
    leave(tmp_path / "runs" / "a", "model.yaml")
    leave(tmp_path / "runs" / ".b.tmp-0123456789ab", "model.yaml")
    for pattern in ("*/model.yaml", "**/model.yaml"):
        assert find_finished(tmp_path / "runs", pattern) == [tmp_path / "runs" / "a" / "model.yaml"]


def test_a_scratch_folder_is_for_this_user_alone_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(temporary_files.tempfile, "tempdir", str(tmp_path))
    leave(tmp_path, ".copies.tmp-0123456789ab/", ".others.tmp-0123456789ab/")
    with scratch_folder("copies") as one, scratch_folder("copies") as two:  # the second leaves the first
        assert one.stat().st_mode & 0o777 == two.stat().st_mode & 0o777 == 0o700
        assert len(list(tmp_path.iterdir())) == 3
    assert names(tmp_path) == [".others.tmp-0123456789ab"]
