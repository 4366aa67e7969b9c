from __future__ import annotations

from pathlib import Path

import pytest

from nlpcli.commands.compare import CompareRequest, make_plan, preview
from nlpcli.commands.compare.cells import parameters
from nlpcli.errors import NlpcliError


def test_every_cell_is_the_base_with_its_change_and_the_budget(job):
    plan = make_plan(job("equal: {tokens: 900}\nrows: [{name: base}, {name: wide, set: {model: {d_ff: 64}}}]"))
    base, wide = plan.cells
    assert (base.config.model.d_ff, wide.config.model.d_ff) == (16, 64)
    for cell in plan.cells:
        training = cell.config.training
        assert (training.max_tokens, training.max_epochs, training.patience) == (900, None, None)
        assert cell.config.data.train == ["train.en", "train.de"]
    assert [str(cell.folder) for cell in plan.cells] == ["runs/grid/base", "runs/grid/wide"]


def test_the_first_seed_has_the_folder_of_its_cell_whatever_the_number_of_seeds(job):
    def folders(seeds: str) -> list[str]:
        plan = make_plan(job(f"equal: {{steps: 1}}\nseeds: {seeds}\nrows: [{{name: base}}]"))
        return [cell.name for cell in plan.cells]

    assert folders("1") == ["base"]
    assert folders("3") == ["base", "base-seed-2", "base-seed-3"]
    assert folders("[5, 1]") == ["base-seed-5", "base"]
    rows = "[{name: base, seeds: 2}, {name: wide, set: {model.d_ff: 32}}]"
    assert [c.name for c in make_plan(job(f"equal: {{steps: 1}}\nrows: {rows}")).cells] == [
        "base",
        "base-seed-2",
        "wide",
    ]
    with pytest.raises(NlpcliError, match="contains a seed twice"):
        folders("[4, 4]")


def test_settings_of_all_cells_lie_beneath_what_a_cell_changes(job):
    plan = make_plan(job(overrides=["model.heads=4", "model.d_model=32"]))
    assert [cell.config.model.heads for cell in plan.cells] == [4, 1, 4]
    assert {cell.config.model.d_model for cell in plan.cells} == {32}


def test_the_base_may_be_a_file_beside_the_grid(job, tmp_path):
    grid_job = job("base: small.yaml\nequal: {steps: 1}\nrows: [{name: base}]")
    Path("small.yaml").write_text("extends: transformer-tiny\ntask: translation\nmodel: {d_model: 64}")
    assert make_plan(grid_job).cells[0].config.model.d_model == 64


def test_an_objective_takes_its_own_preset_where_none_is_named(job):
    text = "base: {}\nequal: {steps: 1}\naxes: {objective: [clm, mlm]}"
    plan = make_plan(job(text, train=["train.en"], dev=["dev.en"]))
    assert [(cell.command, cell.config.model.kind) for cell in plan.cells] == [
        ("pretrain", "decoder"), ("pretrain", "encoder"),
    ]  # fmt: skip


def test_a_task_is_trained_as_it_usually_is(job):
    text = "base: {task: classify}\nequal: {epochs: 1}\naxes: {training.lr: [0.001, 0.01]}"
    cell = make_plan(job(text, train=["a.tsv"], dev=["b.tsv"])).cells[0]
    assert (cell.command, cell.config.model.kind, cell.config.training.schedule) == ("finetune", "encoder", "linear")
    assert cell.config.training.metric == "auto"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("equal: {steps: 1}\nrows: [{name: a}, {name: b, set: {model.head: 1}}]", "cell 'b': unknown key 'model.head'"),
        ("equal: {steps: 1}\nrows: [{name: b, set: {model.heads: 3}}]", "cell 'b': model: d_model 16 can't be split"),
        (
            "equal: {steps: 1}\nrows: [{name: b, set: {model.kind: decoder}}]",
            "cell 'b': translation needs an encoder-d",
        ),
        ("equal: {steps: 1}\nrows: [{name: b, set: {training.metric: f1}}]", "training.metric 'f1' is not measured"),
        ("equal: {steps: 1}\nrows: [{name: b, set: {task: chess}}]", "cell 'b': unknown task 'chess'"),
        ("equal: {steps: 1}\nrows: [{name: b, set: {extends: transfomer}}]", "cell 'b': unknown preset 'transfomer'"),
        ("base: {}\nequal: {steps: 1}\nrows: [{name: b}]", "cell 'b': neither a task nor an objective is given"),
        ("base: {extends: 3}\nequal: {steps: 1}\nrows: [{name: b}]", "'extends' must be the name of a preset"),
        (
            "equal: {steps: 1}\nrows: [{name: table.md}]",
            "the name of a cell can't be 'table.md', which is a file in the grid's folder",
        ),
        (
            "equal: {steps: 1}\nrows: [{name: Results.JSON}]",
            "can't be 'Results.JSON', which is a file in the grid's folder",
        ),
        (f"equal: {{steps: 1}}\nrows: [{{name: {'n' * 256}}}]", "can't be the name of a file or folder"),
        (
            "equal: {steps: 1}\ncolumns: [model.head]\nrows: [{name: b}]",
            "columns: the setting 'model.head' does not exist",
        ),
    ],
)
def test_a_mistake_in_any_cell_is_reported_with_its_name_before_anything_is_trained(job, text, message):
    with pytest.raises(NlpcliError) as error:
        make_plan(job(text))
    assert message in error.value.message


def test_only_cells_that_are_there_can_be_chosen(job):
    with pytest.raises(NlpcliError) as error:
        make_plan(job(only=("head-1",)))
    assert (error.value.message, error.value.hint) == ("unknown cell 'head-1'", "did you mean 'heads-1'?")
    assert make_plan(job(only=("heads-1",), overwrite=True)).repeated == {"heads-1"}


def test_a_preview_needs_no_data_and_reports_sizes_and_operations(job):
    shown = preview(job(train=(), dev=()))
    assert [cell["cell"] for cell in shown] == ["base", "heads-1", "d_ff-32"]
    assert shown[0]["parameters"] == shown[1]["parameters"] < shown[2]["parameters"]
    assert shown[0]["flops_per_token"] < shown[2]["flops_per_token"]
    assert {cell["state"] for cell in shown} == {"new"}
    assert not Path("runs").exists()


def test_the_committed_grid_is_table_3_of_the_transformer_paper_at_a_quarter_of_its_widths():
    grid = Path(__file__).parents[3] / "benchmarks" / "multi30k" / "table3.yaml"
    cells = {cell.name: cell for cell in make_plan(CompareRequest(grid)).cells if "seed" not in cell.name}
    assert "".join(sorted({cell.variant.group for cell in cells.values()})) == "ABCDE"
    for name, cell in cells.items():
        model, base = cell.config.model, cells["base"].config.model
        if cell.variant.group == "A":
            assert model.heads * model.d_key == model.heads * model.d_value == base.d_model, name
        same = cell.variant.group in ("A", "D")
        assert (parameters(cell) == parameters(cells["base"])) == (same or name == "base"), name
