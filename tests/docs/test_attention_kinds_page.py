"""The page on kinds of attention: its example is one file and one line, and a kind like all others."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path

import pytest

import nlpcli
from nlpcli.attention import kinds
from nlpcli.cli.main import main

ROOT = Path(nlpcli.__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "attention-kinds.md"
ENTRIES = ["average", "average & window:3"]
LAWS = [
    "test_every_cut_of_a_text_into_steps_gives_what_the_whole_gives",
    "test_selecting_rows_and_stepping_may_change_places_and_no_step_changes_a_state",
    "test_greedy_text_is_the_same_with_and_without_a_state",
    "test_beams_are_as_probable_as_the_whole_pass_says",
    "test_a_causal_position_knows_nothing_of_what_comes_later",
    "test_padding_changes_nothing",
    "test_the_weights_of_a_step_are_those_of_the_whole",
    "test_its_operations_can_be_counted_without_numbers",
    "test_nothing_is_kept_on_modules",
]


NOT_POSSIBLE = {
    "patterns": "patterns",
    "bias": "relative positions",
    "documents": "documents",
    "dropout": "dropout",
    "scores": "scores",
    "groups": "shared keys",
}


def rows_of_the_table() -> dict[str, list[str]]:
    """The cells of each entry of the table of kinds: those beside it."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| entry |"))
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return found
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        found |= dict.fromkeys(re.findall(r"`([^`]+)`", first), cells)
    return found


def test_the_table_has_all_kinds_and_no_others():
    forms = {kinds.KINDS[name].form for name in kinds.KINDS}
    assert set(rows_of_the_table()) == {form.replace("[:G]", "") for form in forms} | {"longformer:W:G"}


@pytest.mark.parametrize("entry", rows_of_the_table())
def test_what_the_table_says_of_a_kind_is_what_its_flags_say(entry):
    *_, sides, lacking = rows_of_the_table()[entry]
    kind = kinds.KINDS[entry.partition(":")[0]]
    assert sides == ("both" if kind.causal and kind.bidirectional else "decoder" if kind.causal else "encoder")
    expected = [words for flag, words in NOT_POSSIBLE.items() if not getattr(kind, flag)]
    expected += ["longer texts"] * kind.fixed_length
    assert lacking.split(", ") == (expected or [""])


@pytest.fixture
def added(monkeypatch):
    """The file and the line of the page."""
    file, line = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module = types.ModuleType("nlpcli.attention.average")
    exec(compile(file, "average.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(kinds, "KINDS", table := dict(kinds.KINDS))
    kinds.parse_attention.cache_clear()
    exec(line, {"KINDS": table, "AttentionKind": kinds.AttentionKind})
    yield file
    kinds.parse_attention.cache_clear()


@pytest.fixture
def laws(added):
    """The laws of all kinds, for a table with the one that was added."""
    place = ROOT / "tests" / "contract" / "test_attention_kinds.py"
    found = importlib.util.spec_from_file_location("laws_of_attention", place)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_it_is_ten_lines(added):
    lines = [line for line in added.splitlines() if line.strip() and not line.startswith('"""')]
    assert len(lines) <= 10


@pytest.mark.parametrize("text", ENTRIES)
@pytest.mark.parametrize("law", LAWS)
def test_it_keeps_the_laws(laws, law, text):
    getattr(laws, law)(text)


@pytest.mark.parametrize("ability", ["causal", "bidirectional", "bias", "distance", "groups", "dropout"])
def test_its_flags_are_true(laws, ability):
    laws.test_an_ability_that_is_claimed_works_and_another_is_refused_when_settings_are_read("average", ability)


def test_it_trains_and_writes(added, tmp_path, capsys):
    text, run = tmp_path / "text.txt", str(tmp_path / "run")
    text.write_text("the cat sat on the mat and the dog sat on the cat\n" * 60)
    settings = ["model.d_model=16", "model.heads=2", "model.d_ff=16", "tokenizer.type=chars", "data.context=16"]
    changes = [part for setting in settings for part in ("--set", setting)]
    limits = ["--max-steps", "2", "--device", "cpu", "--documents", "lines", "--out", run]
    assert main(["pretrain", "--data", str(text), "--attention", "average & window:5", *changes, *limits]) == 0
    assert main(["generate", "--model", run, "--max-new-tokens", "20", "--seed", "1", "--prompt", "the"]) == 0
    assert main(["visualize-attention", "--model", run, "the cat", "--json"]) == 0
    weights = re.search(r'"weights": ?\[\[\[\[?([^\]]*)', capsys.readouterr().out)
    assert weights is not None and weights[1].startswith("1.0")  # the first token attends to itself alone
