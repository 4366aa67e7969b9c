"""What the rest of the program needs to know of an objective stands on its entry in the table, and nowhere else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import nlpcli
from nlpcli import presets
from nlpcli.config.loading import merge, parse
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.runs.pretraining import OBJECTIVES, default_preset, spec_of, synonyms
from nlpcli.runs.pretraining import parse as parse_objective
from nlpcli.runs.request_from_options import pretraining_request

ROOT = Path(nlpcli.__file__).parent


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_says_what_it_is_trained_with_and_measured_by(name):
    spec = OBJECTIVES.load(name)
    assert spec_of(name) is spec and default_preset(name) == spec.preset in presets.names()
    config = parse(RunConfig, merge(presets.load(spec.preset), {"objective": name}), "x")
    measures = spec.measures(config, parse_objective(name))
    assert measures[0] == "loss" and len(set(measures)) == len(measures)
    spec.check(config, {name: 1.0})
    sections = {key.split(".")[0] for key in (*spec.reads(config, {name: 1.0}), *spec.options)}
    assert sections <= {"noise", "data", "training"}


def test_every_synonym_leads_to_an_objective_and_belongs_to_one_only():
    names = [synonym for name in OBJECTIVES for synonym in OBJECTIVES.load(name).synonyms]
    assert len(names) == len(set(names)) == len(synonyms())
    for meant, _ in synonyms().values():
        spec_of(meant)
    with pytest.raises(NlpcliError, match="'bert' can't be used in a sum or with a weight"):
        parse_objective("bert")


@pytest.mark.parametrize(
    ("given", "objective", "noise"),
    [({}, "clm", None), ({"noise": "spans"}, "denoise", "spans"), ({"objective": "T5"}, "denoise", "spans")],
)
def test_options_lead_to_the_objective_that_they_belong_to(given, objective, noise):
    settings = pretraining_request(given, command="x", notify=lambda text: None).settings
    assert settings["objective"] == objective and settings.get("noise", {}).get("kinds") == noise


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_code_outside_the_objectives_compares_the_name_of_an_objective(name):
    packages = ("api", "cli", "commands", "config", "evaluation", "models", "training")
    own = OBJECTIVES.place(name).split(":")[0].rpartition(".")[2]
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    files += [path for path in (ROOT / "runs").rglob("*.py") if path.stem != own]
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(
            rf"""(objective|weights|kind|name|chosen)[\w.\]"]* (==|!=|(not )?in) [("'{{\[]*["']{name}["']""", line
        )
        or re.search(rf"""["']{name}["'] (not )?in weights""", line)
    ]
    assert not found


def test_pretraining_imports_nothing_of_fine_tuning():
    for path in (ROOT / "runs" / "pretraining").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(module.startswith("nlpcli.runs.finetuning") for module in modules), path
