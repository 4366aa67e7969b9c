from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.commands.visualize_attention.collect_maps import _newest
from nlpcli.commands.visualize_attention.request import AttentionRequest
from nlpcli.errors import NlpcliError
from nlpcli.models.model_folder import FORMAT
from nlpcli.runs import embedder
from nlpcli.runs.find_model import LANGUAGE_MODEL, TRANSLATION, Newest, locate, locate_task, newest_run


def write_run(path, task, *, age=0, **changes):
    """As much of a model folder as is looked at."""
    path.mkdir(parents=True)
    description = {"task": task, "model": "{}", "vocab_size": 1, "tokenizer": "x", "sha256": "x", "format": FORMAT}
    description |= changes
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
    assert newest_run(TRANSLATION, root) == Newest(newest)
    assert newest_run(LANGUAGE_MODEL, root) == Newest(root / "c")


CARD = "- trained: 9 steps\n- stopped: 9 steps done\n- best checkpoint: step 9\n"


def write_training(path, *, finished, task=TRANSLATION, age=0, step=1):
    """A model folder that is a run's: finished once its card is written."""
    write_run(path, task, age=age, step=step)
    (path / "config.yaml").write_text("task: translation\n", encoding="utf-8")
    if finished:
        (path / "README.md").write_text(CARD, encoding="utf-8")
    return path


@given(st.lists(st.tuples(st.sampled_from(["finished", "interrupted", "converted", "other task"])), max_size=6))
def test_a_finished_model_goes_before_any_interrupted_one(tmp_path_factory, kinds):
    root = tmp_path_factory.mktemp("root") / "runs"
    whole, parts = [], []
    for number, (kind,) in enumerate(kinds):
        path, age = root / f"run-{number}", 100 - number
        if kind == "converted":
            whole.append(write_run(path, TRANSLATION, age=age))
        else:
            task = LANGUAGE_MODEL if kind == "other task" else TRANSLATION
            write_training(path, finished=kind != "interrupted", task=task, age=age, step=number + 1)
            (whole if kind == "finished" else parts if kind == "interrupted" else []).append(path)
    messages = []
    if not whole and not parts:
        with pytest.raises(NlpcliError, match="runs/ contains no translation model"):
            newest_run(TRANSLATION, root)
        return
    found = newest_run(TRANSLATION, root)
    assert found.report("the newest run", messages.append) == (whole or parts)[-1]
    assert str(found.path) in messages[0]
    if not whole:
        assert messages[1].startswith(f"warning: the run {parts[-1]} is not finished")
    elif parts and parts[-1].name > whole[-1].name:
        assert f"{parts[-1]} is newer, but not finished; --model {parts[-1]} uses" in messages[1]
    else:
        assert len(messages) == 1


def test_every_command_without_a_model_passes_over_an_interrupted_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs/good", "classify", problem="{}", model="{family: transformer}", age=9)
    write_training(tmp_path / "runs/part", finished=False, task="classify")
    with open(tmp_path / "runs/part/model.yaml", "a") as file:
        file.write("problem: {}\n")
    messages = []
    assert locate_task(None, notify=messages.append) == Path("runs/good") and len(messages) == 2
    assert _newest(AttentionRequest(), messages.append) == Path("runs/good") and len(messages) == 4
    write_run(tmp_path / "runs/vectors", "similarity", age=9)
    write_training(tmp_path / "runs/later", finished=False, task="similarity")
    assert embedder._newest(messages.append) == Path("runs/vectors") and "runs/later is newer" in messages[-1]


@pytest.mark.parametrize(("task", "command"), [(TRANSLATION, "finetune"), (LANGUAGE_MODEL, "pretrain")])
def test_where_there_is_none_the_error_states_how_to_make_one(tmp_path, task, command):
    with pytest.raises(NlpcliError, match=rf"runs/ contains no {task.replace('-', ' ')}") as caught:
        newest_run(task, tmp_path / "runs")
    assert f"nlpcli {command}" in caught.value.hint


def test_a_named_model_is_taken_without_a_word_and_the_newest_with_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, messages = write_run(tmp_path / "runs" / "a", TRANSLATION), []
    assert locate(TRANSLATION, path, notify=messages.append) == path
    assert messages == []
    assert locate(TRANSLATION, None, notify=messages.append).resolve() == path
    assert "runs/a" in messages[0]


def test_a_model_for_another_task_is_refused_with_its_own_command(tmp_path):
    path = write_run(tmp_path / "lm", LANGUAGE_MODEL)
    with pytest.raises(NlpcliError, match="is a language model, not a translation model") as caught:
        locate(TRANSLATION, path, notify=print)
    assert caught.value.hint == f"use it with: nlpcli generate --model {path}"
    with pytest.raises(NlpcliError, match="is a model for tagging, not"):
        locate(TRANSLATION, write_run(tmp_path / "tagger", "tagging"), notify=print)
