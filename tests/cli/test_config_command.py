"""`nlpcli config`: what it prints can be given back."""

from __future__ import annotations

import json

import pytest
import yaml

from nlpcli import presets


def test_list_names_every_preset_with_its_source(run):
    done = run("config", "list")
    assert done.returncode == 0 and done.stderr == ""
    headings, *rows = done.stdout.splitlines()
    assert headings.split()[:3] == ["name", "family", "kind"]
    assert [row.split()[0] for row in rows] == presets.names()
    assert any("Vaswani et al. 2017" in row for row in rows)


def test_list_as_json_is_one_object_a_line(run):
    rows = [json.loads(line) for line in run("config", "list", "--json").stdout.splitlines()]
    assert [row["name"] for row in rows] == presets.names()
    base = next(row for row in rows if row["name"] == "transformer-base")
    assert (base["layers"], base["d_model"], base["heads"], base["d_ff"]) == ("6+6", 512, 8, 2048)


def test_what_show_prints_can_be_edited_and_shown_again(run, tmp_path):
    first = run("config", "show", "transformer-tiny").stdout
    mine = tmp_path / "mine.yaml"
    mine.write_text(first.replace("d_model: 128", "d_model: 256"), encoding="utf-8")
    again = run("config", "show", mine)
    assert again.returncode == 0, again.stderr
    assert yaml.safe_load(again.stdout)["model"]["d_model"] == 256
    assert yaml.safe_load(first)["model"] == {**yaml.safe_load(again.stdout)["model"], "d_model": 128}


def test_the_configuration_of_a_run_is_shown_by_its_folder(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("model: {d_model: 64}\n", encoding="utf-8")
    assert yaml.safe_load(run("config", "show", "run").stdout)["model"]["d_model"] == 64


def test_set_changes_what_is_shown(run):
    done = run("config", "show", "gpt-mini", "--set", "training.lr=1e-4", "--set", "model.norm=rmsnorm", "--json")
    config = json.loads(done.stdout)
    assert (config["training"]["lr"], config["model"]["norm"]) == (1e-4, "rmsnorm")


@pytest.mark.parametrize(
    ("arguments", "content", "messages"),
    [
        (["gpt-mni"], None, ["unknown preset 'gpt-mni'", "did you mean 'gpt-mini'?"]),
        (["missing.yaml"], None, ["missing.yaml: no such file"]),
        (["own.yaml"], "model:\n  d_modle: 3\n", ["own.yaml: unknown key 'model.d_modle'", "did you mean 'd_model'?"]),
        (["own.yaml"], "model: [", ["own.yaml:1: the file is not valid YAML"]),
        (["own.yaml"], "model: {d_model: many}", ["own.yaml: model.d_model must be a whole number", "(got 'many')"]),
        (["own.yaml"], "- a list", ["own.yaml:1: the file must contain lines of the form 'key: value'"]),
        (["gpt-mini", "--set", "training.lr"], None, ["--set needs KEY=VALUE, not 'training.lr'"]),
        (["gpt-mini", "--set", "trainign.lr=1"], None, ["unknown key 'trainign'", "did you mean 'training'?"]),
        ([], None, ["the argument NAME|FILE is missing"]),
    ],
)
def test_a_wrong_configuration_is_named_with_the_right_spelling(run, tmp_path, arguments, content, messages):
    if content is not None:
        (tmp_path / "own.yaml").write_text(content, encoding="utf-8")
    done = run("config", "show", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) <= 2
    for text in messages:
        assert text in done.stderr


def test_tab_completes_the_names_of_presets(run):
    done = run(_NLPCLI_COMPLETE="complete_bash", COMP_WORDS="nlpcli config show transformer-t", COMP_CWORD="3")
    assert done.stdout.split() == ["transformer-tiny"]
