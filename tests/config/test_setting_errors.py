"""A wrong setting is reported in this program's own words, with what was meant where that can be guessed."""

from __future__ import annotations

import datetime
import math
import re
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from nlpcli.commands.generate.prompt_template import Template
from nlpcli.config.grid import GridConfig
from nlpcli.config.loading import Strict, apply_overrides, parse
from nlpcli.config.multi_task import MixtureConfig
from nlpcli.config.schema import RunConfig
from nlpcli.config.setting_errors import _USUAL, paths, suggestion
from nlpcli.errors import NlpcliError
from nlpcli.escaping import quoted

NINES, FEWER = "9" * 5000, "must be a whole number of fewer digits"
SHARES = {"mask_share": 0.9, "random_share": 0.9}
GRID = {"equal": {"steps": 3}, "axes": {"training.seed": [1, 2]}}
PYDANTIC = re.compile(
    r"[Ii]nput should|valid (integer|number|string|list|dict|bool)|unable to parse|[Vv]alue error|extra_forbidden|"
    r"permitted|[Ff]ield required|pydantic|constrained|after validation|literal_error|instance of|got an? |"
    r"(str|int|bool|list|dict)\[|is not possible here|keyword"
)


def refused(kind, data, source="run.yaml"):
    with pytest.raises(NlpcliError) as caught:
        parse(kind, data, source)
    assert not PYDANTIC.search(caught.value.message), caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix(f"{source}: "), caught.value.hint


class Kinds(Strict):
    """One setting for each kind of check."""

    finite: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    flag: bool = False
    few: Annotated[list[int], Field(max_length=2)] = [1]  # noqa: RUF012
    short: Annotated[str, Field(max_length=1, min_length=1)] = "a"
    form: Annotated[str, Field(pattern="^[a-z]+$")] = "a"
    most: Annotated[int, Field(le=3)] = 0
    either: int | list[int] | Literal["all"] = 0
    named: dict[str, int] = {}  # noqa: RUF012
    nothing: None = None


@pytest.mark.parametrize("data, message, hint", [
    ({"training": {"max_steps": "3x"}}, "training.max_steps must be a whole number (got '3x')", None),
    ({"training": {"max_steps": NINES}}, f"training.max_steps {FEWER} (got {quoted(NINES)})", None),
    ({"training": {"lr": "fast"}}, "training.lr must be a number (got 'fast')", None),
    ({"training": {"lr": "1_0"}}, "training.lr must be a number (got '1_0')", None),
    ({"training": {"max_steps": "1_0"}}, "training.max_steps must be a whole number (got '1_0')", None),
    ({"training": {"lr": math.inf}}, "training.lr must be a finite number (got inf)", None),
    ({"training": {"lr": [1]}}, "training.lr must be a number (got [1])", None),
    ({"training": {"lr": None}}, "training.lr must be a number (got null)", None),
    ({"training": {"compile": "maybe"}}, "training.compile must be true or false (got 'maybe')", None),
    ({"training": {"metric": 3}}, "training.metric must be text (got 3)", None),
    ({"data": {"train": "a.txt"}}, "data.train must be a list, such as [a, b] (got 'a.txt')", None),
    ({"data": {"train": ["a", 3]}}, "data.train.1 must be text (got 3)", None),
    ({"data": {"train": [datetime.date(2020, 1, 2)]}}, "data.train.0 must be text (got 2020-01-02)", None),
    ({"data": 3}, "data must be a group of settings, 'name: value' (got 3)", None),
    ({"model": {"attention": []}}, "model.attention must have at least 1 value (got [])", None),
    ({"model": {"kind": "encodr"}}, "model.kind must be 'encoder', 'decoder' or 'encoder-decoder' (got 'encodr')",
     "did you mean 'encoder'?"),
    ({"noise": {"mask_share": 2}}, "noise.mask_share must be at most 1 (got 2)", None),
    ({"training": {"seed": True, "max_epochs": 0}}, "training.max_epochs must be greater than 0 (got 0)", None),
    ({"noise": SHARES}, "noise: the sum of mask_share and random_share must be at most 1", None),
])  # fmt: skip
def test_each_mistake_in_a_run_has_a_sentence_of_its_own(data, message, hint):
    assert refused(RunConfig, data) == (message, hint)


@pytest.mark.parametrize("data, message", [
    ({"finite": math.inf}, "finite must be a finite number (got inf)"),
    ({"flag": 7}, "flag must be true or false (got 7)"),
    ({"few": [1, 2, 3]}, "few must have at most 2 values (got [1, 2, 3])"),
    ({"short": "ab"}, "short must have at most 1 character (got 'ab')"),
    ({"short": ""}, "short must have at least 1 character (got '')"),
    ({"form": "A"}, "form must have the form ^[a-z]+$ (got 'A')"),
    ({"most": 4}, "most must be at most 3 (got 4)"),
    ({"either": "x"}, "either must be a whole number or a list, such as [a, b] or 'all' (got 'x')"),
    ({"either": [1, "x"]}, "either.1 must be a whole number (got 'x')"),
    ({"named": {"a": "x"}}, "named.a must be a whole number (got 'x')"),
    ({"named": 3}, "named must be a group of settings, 'name: value' (got 3)"),
    ({"nothing": 3}, "nothing must be null (got 3)"),
    ({1: 2}, "1 is not the name of a setting; names are text (got 1)"),
])  # fmt: skip
def test_each_kind_of_check_has_a_sentence_of_its_own(data, message):
    assert refused(Kinds, data)[0].startswith(message)


@pytest.mark.parametrize("kind, data, message", [
    (GridConfig, {**GRID, "seeds": 0}, "seeds must be at least 1"),
    (GridConfig, {**GRID, "seeds": [1, "x"]}, "seeds.1 must be a whole number (got 'x')"),
    (GridConfig, {**GRID, "base": 3}, "base must be a group of settings, 'name: value' or text (got 3)"),
    (GridConfig, {**GRID, "rows": [{"set": {}}]}, "'rows.0.name' is missing"),
    (GridConfig, {**GRID, "equal": {"steps": 3, "tokens": 4}}, "equal: set exactly one of"),
    (MixtureConfig, {"tasks": {"a": {"train": [], "dev": "x"}}}, "tasks.a.train must have at least 1 value (got [])"),
    (MixtureConfig, {"tasks": {}}, "tasks must have at least 1 value"),
    (MixtureConfig, {"tasks": {"a": {"train": "x"}}}, "'tasks.a.dev' is missing"),
    (Template, {"metric": 3}, ""),
])  # fmt: skip
def test_other_files_are_refused_in_the_same_words(kind, data, message):
    assert refused(kind, data)[0].startswith(message)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(path=st.sampled_from(list(paths(RunConfig))), value=ANYTHING)
def test_no_words_of_pydantic_reach_a_user(path, value):
    data = value
    for part in reversed(path.split(".")):
        data = {part: data}
    try:
        parse(RunConfig, data, "run.yaml")
    except NlpcliError as error:
        message = error.message.split(" (got ")[0]
        assert not PYDANTIC.search(message) and len(error.message) < 400
        assert path.split(".")[0] in message


def test_a_setting_named_without_its_section_is_found():
    assert suggestion(RunConfig, ["lr"]) == "did you mean 'training.lr'?"
    assert suggestion(RunConfig, ["model", "lr"]) == "did you mean 'training.lr'?"
    assert suggestion(RunConfig, ["warmup_step"]) == "did you mean 'training.warmup_steps'?"
    assert suggestion(RunConfig, ["dropout"]) == "did you mean one of model.dropout, head.dropout?"
    assert suggestion(RunConfig, ["modle"]) == "did you mean 'model'?"
    for name, meant in {
        "Lr": "training.lr", "d-model": "model.d_model", "dmodel": "model.d_model", "learning_rate": "training.lr",
        "Learning-Rate": "training.lr", "epochs": "training.max_epochs", "num_heads": "model.heads",
    }.items():  # fmt: skip
        for place in ([name], ["training", name], ["model", name]):
            assert suggestion(RunConfig, place) == f"did you mean '{meant}'?", place
    layers = "did you mean one of model.encoder_layers, model.decoder_layers?"
    assert suggestion(RunConfig, ["model", "layers"]) == suggestion(RunConfig, ["num_layers"]) == layers
    assert suggestion(RunConfig, ["layers"]) == layers.replace("?", ", head.layers?")
    assert suggestion(RunConfig, ["Head", "Dropout"]) == "did you mean 'head.dropout'?"
    assert suggestion(RunConfig, ["qqqqqq"]).startswith("known here: description, source, init")


@pytest.mark.parametrize("path", list(paths(RunConfig)))
def test_every_setting_is_found_by_its_last_name(path):
    section, _, name = path.rpartition(".")
    if section and name not in RunConfig.model_fields:
        message, hint = refused(RunConfig, apply_overrides({}, [f"{name}=1"]), "--set")
        assert message == f"unknown key '{name}'" and path in hint and hint.startswith("did you mean")


def test_settings_called_as_elsewhere_lead_to_settings_that_exist():
    assert {path for found in _USUAL.values() for path in found} <= set(paths(RunConfig))


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "inf", "nan", "Infinity", "1e400"])
@pytest.mark.parametrize("name", ["training.lr", "training.max_minutes", "model.dropout", "decoding.length_penalty"])
def test_a_setting_that_is_no_finite_number_is_refused(name, value):
    message, _ = refused(RunConfig, apply_overrides({}, [f"{name}={value}"]), "--set")
    assert message.startswith(f"{name} must be a finite number (got ")


def test_an_axis_named_without_its_section_is_answered():
    message, _ = refused(GridConfig, {"equal": {"steps": 3}, "axes": {"lr": [1, 2]}})
    assert "axis 'lr' lists values but is not a setting; did you mean training.lr?" in message
