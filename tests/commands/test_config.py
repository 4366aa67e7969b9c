"""Every preset, written out in full, reads back as itself."""

from __future__ import annotations

import pytest
import yaml

from nlpcli import presets
from nlpcli.commands import config as recipe
from nlpcli.config.loading import parse
from nlpcli.config.schema import RunConfig


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_shown_in_full_reads_back_as_the_same_configuration(name):
    config = recipe.resolve(name)
    text = recipe.show(config)
    assert parse(RunConfig, yaml.safe_load(text), name) == config


def test_what_is_shown_names_every_setting_there_is():
    shown = yaml.safe_load(recipe.show(RunConfig()))
    assert shown == RunConfig().model_dump(mode="json")


def test_awkward_values_survive_being_shown():
    config = parse(
        RunConfig,
        {
            "description": "a: b # no comment",
            "source": "'quoted'\nand\tbroken",
            "data": {"train": ["a b, c", "#x", ""]},
        },
        "test",
    )
    assert parse(RunConfig, yaml.safe_load(recipe.show(config)), "test") == config


def test_choices_stand_beside_the_settings_that_have_them():
    text = recipe.show(recipe.resolve("transformer-base"))
    line = next(line for line in text.splitlines() if line.strip().startswith("norm:"))
    assert line.endswith("# layernorm | rmsnorm")


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_says_where_its_numbers_come_from(name):
    assert recipe.resolve(name).source
