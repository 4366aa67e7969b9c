"""One process at a time writes to a folder, and a process that was killed keeps nobody out."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import pytest

from nlpcli.config.folder_lock import LOCK, FolderInUse, FolderWatch, check_unlocked, locked_folder
from nlpcli.config.temporary_files import is_free, sweep
from nlpcli.errors import RunFailed

OWNER = """
import pathlib, sys, time
from nlpcli.config.folder_lock import locked_folder
with locked_folder(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(100)
"""


def test_the_second_owner_is_refused_with_the_folder_and_the_process_of_the_first(tmp_path):
    run = tmp_path / "run"
    with locked_folder(run):
        for refused in (locked_folder(run, "grid").__enter__, lambda: check_unlocked(run, "grid")):
            with pytest.raises(FolderInUse) as caught:
                refused()
            owner = f"process {os.getpid()} on {socket.gethostname()}"
            assert caught.value.message == f"{run} is in use: {owner} is writing this grid"
    with locked_folder(run):
        pass


def test_nothing_is_left_of_a_lock_and_of_a_folder_that_was_made_for_it(tmp_path):
    with locked_folder(tmp_path / "made" / "run"):
        assert (tmp_path / "made" / "run" / LOCK).exists()
    assert list((tmp_path / "made").iterdir()) == []
    (tmp_path / "old").mkdir()
    with locked_folder(tmp_path / "old"):
        pass
    assert list((tmp_path / "old").iterdir()) == []


def test_to_look_whether_a_folder_is_locked_makes_nothing(tmp_path):
    check_unlocked(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.processes
def test_a_killed_owner_keeps_neither_the_lock_nor_the_folder(tmp_path, environment):
    run = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", OWNER, str(run)], env=environment, stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"locked\n"
        with pytest.raises(FolderInUse, match=f"process {owner.pid} on "), locked_folder(run):
            pass
        sweep(run)  # leaves what is locked
        assert (run / LOCK).exists()
        owner.kill()
    assert (run / LOCK).exists() and is_free(run)
    check_unlocked(run)
    with locked_folder(run):
        pass
    assert list(run.iterdir()) == []


def test_a_lock_goes_with_a_folder_that_is_moved(tmp_path):
    with locked_folder(tmp_path / "run"):
        (tmp_path / "run").rename(tmp_path / "moved")
    assert list(tmp_path.rglob("*")) == [tmp_path / "moved"]


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="symbolic link"), locked_folder(tmp_path / "run"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_stays_passes_the_watch(tmp_path):
    with FolderWatch(tmp_path) as watch:
        (tmp_path / "new").write_text("x")
        watch.check()


def test_a_deleted_a_moved_and_a_replaced_folder_are_noticed(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with FolderWatch(run) as watch:
        run.rename(tmp_path / "moved")
        with pytest.raises(RunFailed, match=f"{run} was moved to {tmp_path}/moved") as caught:
            watch.check()
        assert f"--out {tmp_path}/moved" in caught.value.hint
        run.mkdir()  # another one in its place
        with pytest.raises(RunFailed, match="was moved"):
            watch.check()
        shutil.rmtree(tmp_path / "moved")
        shutil.rmtree(run)
        with pytest.raises(RunFailed, match=f"{run} was deleted"):
            watch.check()
