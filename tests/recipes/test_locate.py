from __future__ import annotations

import os

import pytest

from nlpcli.errors import NlpcliError
from nlpcli.recipes.locate import LANGUAGE_MODEL, TRANSLATION, locate, newest_run


def write_run(path, task, *, age=0, **changes):
    """As much of a model folder as is looked at."""
    path.mkdir(parents=True)
    description = {"task": task, "model": "{}", "vocab_size": 1, "tokenizer": "x", "sha256": "x"} | changes
    text = "".join(f"{key}: {value}\n" for key, value in description.items() if value is not None)
    (path / "model.yaml").write_text(text, encoding="utf-8")
    os.utime(path / "model.yaml", (1e9 - age, 1e9 - age))
    return path


def test_the_newest_finished_run_of_the_task_is_found(tmp_path):
    root = tmp_path / "runs"
    write_run(root / "a", TRANSLATION, age=300)
    newest = write_run(root / "b", TRANSLATION, age=200)
    write_run(root / "c", LANGUAGE_MODEL, age=100)
    write_run(root / "damaged", TRANSLATION, sha256=None)
    (root / "unfinished").mkdir()
    (root / "file").touch()
    assert newest_run(TRANSLATION, root) == newest
    assert newest_run(LANGUAGE_MODEL, root) == root / "c"


@pytest.mark.parametrize(("task", "command"), [(TRANSLATION, "finetune"), (LANGUAGE_MODEL, "pretrain")])
def test_where_there_is_none_it_is_said_how_to_make_one(tmp_path, task, command):
    with pytest.raises(NlpcliError, match="no run of a") as caught:
        newest_run(task, tmp_path / "runs")
    assert f"nlpcli {command}" in caught.value.hint


def test_a_named_model_is_taken_without_a_word_and_the_newest_with_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, said = write_run(tmp_path / "runs" / "a", TRANSLATION), []
    assert locate(TRANSLATION, path, say=said.append) == path
    assert said == []
    assert locate(TRANSLATION, None, say=said.append).resolve() == path
    assert "runs/a" in said[0]


def test_a_model_for_another_task_is_refused_with_its_own_command(tmp_path):
    path = write_run(tmp_path / "lm", LANGUAGE_MODEL)
    with pytest.raises(NlpcliError, match="is a language model, not a translation model") as caught:
        locate(TRANSLATION, path, say=print)
    assert caught.value.hint == f"use it with: nlpcli generate --model {path}"
    with pytest.raises(NlpcliError, match="is a model for tagging, not"):
        locate(TRANSLATION, write_run(tmp_path / "tagger", "tagging"), say=print)
