from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.config.grid import flat, load_grid, nested, slug, variants
from nlpcli.errors import NlpcliError

NAMES = st.text("abc_", min_size=1, max_size=3)
SETTINGS = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.none(), st.text(max_size=3)),
    lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=8,
)


def grid(tmp_path: Path, text: str):
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return load_grid(path)


def test_the_product_of_the_axes_comes_in_their_order_and_before_the_rows(tmp_path):
    found = variants(
        grid(
            tmp_path,
            """
equal: {steps: 5}
axes:
  objective: {mlm: {objective: mlm}, clm: {objective: clm}}
  model.d_model: [64, 128]
rows:
  - {name: "(A) one head", group: A, set: {model.heads: 1}}
""",
        )
    )
    assert [variant.name for variant in found] == [
        "mlm-d_model=64", "mlm-d_model=128", "clm-d_model=64", "clm-d_model=128", "A-one-head",
    ]  # fmt: skip
    assert found[1].change == {"objective": "mlm", "model": {"d_model": 128}}
    assert found[1].labels == {"objective": "mlm", "d_model": "128"}
    assert (found[4].title, found[4].group, found[4].labels) == ("(A) one head", "A", {})


def test_a_grid_without_a_name_is_called_as_its_file(tmp_path):
    assert grid(tmp_path, "equal: {steps: 5}\nrows: [{name: base}]").name == "small"


def test_the_budget_replaces_every_other_limit_and_early_stopping(tmp_path):
    limits = grid(tmp_path, "equal: {tokens: 2500000}\nrows: [{name: base}]").equal.limits()
    assert limits.pop("max_tokens") == 2_500_000
    assert set(limits) == {"max_steps", "max_epochs", "max_minutes", "max_flops", "patience"}
    assert set(limits.values()) == {None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: [{name: base}]", "'equal' is missing"),
        ("equal: {}\nrows: [{name: base}]", "exactly one of tokens, flops, minutes, steps, epochs"),
        ("equal: {steps: 5, minutes: 1}\nrows: [{name: base}]", "not minutes and steps together"),
        ("equal: {steps: 5}", "nothing to compare"),
        ("equal: {steps: 5}\naxes: {size: {}}", "axis 'size' has no values"),
        ("equal: {steps: 5}\naxes: {size: [1, 2]}", "axis 'size' lists values but is not a setting"),
        ("equal: {steps: 5}\nrow: [{name: base}]", "unknown key 'row'"),
        ("equal: {steps: 5}\nreference: c\nrows: [{name: a}]", "reference: unknown cell 'c'"),
        ("equal: {steps: 5}\nrows: [{name: a}, {name: a, set: {model.heads: 1}}]", "two cells are called 'a'"),
        ("equal: {steps: 5}\nrows: [{name: a}, {name: b}]", "the cells 'a' and 'b' have the same settings"),
        ("equal: {steps: 5}\nrows: [{name: '…'}]", "'…' can't be the name of a cell"),
        ("equal: {steps: 5}\nrows: [{name: a, set: {model: 1, model.heads: 2}}]", "'model' is a single value"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused_in_words(tmp_path, text, message):
    with pytest.raises(NlpcliError) as error:
        variants(grid(tmp_path, text))
    assert message in error.value.message


def test_columns_are_headed_by_the_last_part_of_a_setting_where_that_is_clear(tmp_path):
    text = "equal: {steps: 5}\nrows: [{name: base}]\ncolumns: [model.heads, model.dropout, head.dropout]"
    assert grid(tmp_path, text).column_settings() == {
        "heads": "model.heads", "model.dropout": "model.dropout", "head.dropout": "head.dropout",
    }  # fmt: skip


@given(st.dictionaries(NAMES, SETTINGS, max_size=3))
def test_settings_are_the_same_nested_and_flat(settings):
    assert nested(flat(settings)) == settings
    assert flat(nested(flat(settings))) == flat(settings)


@given(st.text(max_size=8))
def test_a_slug_is_a_plain_name_of_a_folder_and_its_own_slug(name):
    found = slug(name)
    assert slug(found) == found
    assert "/" not in found and not found.startswith((".", "-"))


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "..", ".", "a\\\\b", "a\\nb", "n" * 256])
def test_a_grid_whose_name_leads_elsewhere_is_refused_with_its_file(tmp_path, name):
    path = tmp_path / "grid.yaml"
    path.write_text(f'name: "{name}"\nequal: {{steps: 1}}\nrows: [{{name: a}}]\n')
    with pytest.raises(NlpcliError, match="can't be the name of a file or folder") as caught:
        load_grid(path)
    assert caught.value.message.startswith(f"{path}: name: ")


def test_a_grid_whose_file_gives_it_no_plain_name_is_refused(tmp_path):
    path = tmp_path / "...yaml"
    path.write_text("equal: {steps: 1}\nrows: [{name: a}]\n")
    with pytest.raises(NlpcliError, match="can't be the name of a file or folder"):
        load_grid(path)


def test_more_trainings_than_anyone_runs_are_counted_before_any_is_worked_out(tmp_path):
    axes = "".join(f"  axis{n}: {{{', '.join(f'v{i}: {{}}' for i in range(200))}}}\n" for n in range(4))
    found = grid(tmp_path, f"equal: {{steps: 1}}\naxes:\n{axes}")
    with pytest.raises(NlpcliError, match=r"the grid has 1,600,000,000 training runs, more than 2,000"):
        variants(found)
    found = grid(tmp_path, "equal: {steps: 1}\nseeds: 3000\naxes:\n  training.lr: [0.1]\n")
    with pytest.raises(NlpcliError, match="3,000 training runs, more than 2,000"):
        variants(found)
