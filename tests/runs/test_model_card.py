from __future__ import annotations

from types import SimpleNamespace

import pytest

from nlpcli.config.schema import RunConfig
from nlpcli.runs.model_card import CARD, CardFacts, card_of, read_card


def card(run, **changes):
    progress = SimpleNamespace(step=1200, tokens=3_456_789, seconds=90.0)
    outcome = SimpleNamespace(progress=progress, metrics={"bleu": 12.5}, kept="step 900", reason="1200 steps done")
    machine = SimpleNamespace(describe=lambda: "cpu, float32")
    config = RunConfig(task="translation", **changes)
    facts = CardFacts("nlpcli finetune --lr 1", 1_234_567, machine, "abc", {"bleu": "BLEU|beam:1"}, "seed:1")
    return card_of(config, run, outcome, facts)


def test_what_is_written_on_a_card_is_read_from_it_again(tmp_path):
    (tmp_path / CARD).write_text(card(tmp_path), encoding="utf-8")
    text = (tmp_path / CARD).read_text(encoding="utf-8")
    assert "A model trained with nlpcli. Task: translation. The model has 1,234,567 parameters.\n" in text
    found = read_card(tmp_path)
    assert found.pop("stopped").startswith("1200 steps done, 20")
    assert found.pop("versions").startswith("python 3.")
    assert found == {
        "command": "`nlpcli finetune --lr 1`", "data": "``, fingerprint `abc`", "machine": "cpu, float32",
        "trained": "1,200 steps, 3,456,789 tokens, 1.5 minutes", "best checkpoint": "step 900", "parameters": "1234567",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "dev"),
    [
        ({"dev": ["a.en", "a.de"]}, "`a.en`, `a.de`"),
        ({"dev_fraction": 0.005}, "the last 0.5 % of the training text"),
    ],
)
def test_a_card_names_the_dev_set(tmp_path, data, dev):
    assert f"Metrics of the best checkpoint on the dev set ({dev}):\n" in card(tmp_path, data=data)


@pytest.mark.parametrize("text", [None, "", "# A readme\n\n- data: mine\n", b"\xff\xfe"])
def test_a_folder_without_a_card_of_a_run_has_none(tmp_path, text):
    if text is not None:
        (tmp_path / CARD).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert read_card(tmp_path) == {}
