from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nlpcli.commands.compare import compare, preview
from nlpcli.commands.compare.results_table import notes
from nlpcli.commands.compare.seed_significance import welch_p_value
from nlpcli.errors import NlpcliError
from nlpcli.models.model_folder import read_info
from nlpcli.training.training_log import read_metrics

ONE = "equal: {steps: 4}\nrows: [{name: base}]"


def test_cells_are_trained_once_and_leave_runs_and_results(job, listener):
    results = compare(job(test=("test.en", "test.de")), listener)
    assert listener.trained() == ["base", "heads-1", "d_ff-32"]
    assert [row.status for row in results.rows] == ["finished"] * 3
    assert [row.cost["step"].mean for row in results.rows] == [6, 6, 6]
    assert results.rows[2].cost["parameters"].mean > results.rows[0].cost["parameters"].mean
    for row in results.rows:
        info = read_info(Path(row.folders[0]))
        assert row.metrics["perplexity"].mean == info["metrics"]["perplexity"]
        assert row.metrics["test_bleu"].low <= row.metrics["test_bleu"].high
        assert len(Path(row.folders[0], "test-output.txt").read_text().splitlines()) == 12
    written = json.loads(Path("runs/grid/results.json").read_text())
    assert written == json.loads(json.dumps(results.as_dict()))
    for row, cell in zip(results.rows, written["cells"], strict=True):
        scores = {score["metric"]: score for score in cell["scores"]}
        assert scores.keys() == row.metrics.keys() and cell["cost"]["step"] == {"mean": 6, "values": [6]}
        for name, score in scores.items():
            assert score.keys() - {"p_value"} == {"metric", "value", "low", "high", "signature", "values"}
            assert score["value"] == row.metrics[name].mean and [score["signature"]] == written["signatures"][name]
    assert Path("runs/grid/table.md").read_text().count("\n| ") == 3
    assert Path("runs/grid/picture.png").read_bytes().startswith(b"\x89PNG")
    again = type(listener)()
    assert compare(job(test=("test.en", "test.de")), again) == results
    assert again.notes == []


def test_cells_share_a_tokenizer_and_are_measured_by_the_byte_where_they_do_not(job, listener):
    text = """
equal: {steps: 1}
rows:
  - name: base
  - {name: wide, set: {model.d_ff: 32}}
  - {name: letters, set: {tokenizer.type: chars, tokenizer.vocab_size: 300}}
  - {name: letters-wide, set: {tokenizer.type: chars, tokenizer.vocab_size: 300, model.d_ff: 32}}
"""
    assert compare(job(text, only=("base", "wide")), listener).metrics == ["perplexity", "bleu"]
    results = compare(job(text), listener)
    assert not results.failed, results.failed
    assert results.metrics == ["perplexity", "byte_perplexity", "bleu"]
    assert [note for note in listener.notes if note.startswith("training a tokenizer")] == [
        "training a tokenizer (words, 30 tokens)", "training a tokenizer (chars, 300 tokens)",
    ]  # fmt: skip


def test_an_interrupted_grid_goes_on_and_ends_as_if_nothing_had_been(job, listener):
    (whole,) = (row for row in compare(job(out=Path("whole"), only=("heads-1",)), listener).rows if row.folders)

    class Impatient(type(listener)):
        def evaluated(self, *_: object) -> None:
            super().evaluated()
            if self.evaluations == 3:  # in the middle of the second cell
                os.kill(os.getpid(), signal.SIGINT)

    first, second = Impatient(), type(listener)()
    with pytest.raises(KeyboardInterrupt):
        compare(job(), first)
    assert first.trained() == ["base", "heads-1"]
    results = compare(job(), second)
    assert second.trained() == ["heads-1", "d_ff-32"]
    assert [row.status for row in results.rows] == ["finished"] * 3
    assert results.rows[1].metrics["loss"] == whole.metrics["loss"]
    assert results.rows[1].cost["tokens"] == whole.cost["tokens"]
    steps = [line["step"] for line in read_metrics(Path("runs/grid/heads-1")) if line["kind"] == "dev"]
    assert steps == [4, 6]


def test_a_cell_goes_on_with_the_log_settings_requested_now(job, listener):
    class Impatient(type(listener)):
        def evaluated(self, *_: object) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    longer = "equal: {steps: 8}\nrows: [{name: base}]"
    with pytest.raises(KeyboardInterrupt):
        compare(job(longer), Impatient())
    assert (Path("runs/grid/base/checkpoints")).exists()
    compare(job(longer, overrides=("training.log_every=1", "data.workers=1")), listener)
    steps = [line["step"] for line in read_metrics(Path("runs/grid/base")) if line["kind"] == "train"]
    assert steps[-4:] == [5, 6, 7, 8]


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew(job, listener):
    compare(job(ONE), listener)
    for name in ("checkpoints", "model.yaml", "README.md"):
        path = Path("runs/grid/base", name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert compare(job(ONE), listener).rows[0].status == "finished"
    assert listener.trained() == ["base", "base"]


def test_a_cell_that_fails_does_not_lose_the_others_and_is_tried_again_only_on_request(job, listener):
    text = """
equal: {steps: 4}
rows:
  - {name: wild, set: {training.lr: 1.0e+30, training.max_grad_norm: 0, training.warmup_steps: 0}}
  - {name: wide, set: {model.d_ff: 32}}
"""
    results = compare(job(text), listener)
    assert [row.status for row in results.rows] == ["failed", "finished"]
    assert "is not finite" in results.rows[0].reason
    assert [row.name for row in results.failed] == ["wild"]
    again = type(listener)()
    assert [row.status for row in compare(job(text), again).rows] == ["failed", "finished"]
    assert again.trained() == []
    compare(job(text, rerun=("wild",)), again)
    assert again.trained() == ["wild"]


def test_what_would_be_another_training_is_refused_and_can_be_repeated(job, listener):
    longer = "equal: {steps: 5}\nrows: [{name: base}]"
    compare(job(ONE), listener)
    for text, more, message in (
        (longer, {}, "training.max_steps was 4, not 5"),
        (ONE, {"overrides": ("model.d_ff=32",)}, "model.d_ff was 16, not 32"),
        (ONE, {"train": ("dev.en", "dev.de")}, "the text of data.train differs"),
    ):
        with pytest.raises(NlpcliError) as error:
            compare(job(text, **more), listener)
        assert error.value.message == f"runs/grid/base was trained with other settings: {message}"
    longer = compare(job(longer, rerun=("base",)), listener)
    assert longer.rows[0].cost["step"].mean == 5


def test_a_cell_that_another_command_changed_is_not_taken_for_the_requested_one(job, listener):
    compare(job(ONE), listener)
    with open("runs/grid/base/config.yaml", "a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(NlpcliError, match=r"its config\.yaml was changed by another command"):
        compare(job(ONE), listener)


def test_a_model_to_begin_with_counts_by_its_weights(job, listener):
    compare(job(ONE, out=Path("start")), listener)
    text = "base: {task: translation, init: start/base, training: {batch_tokens: 256}}\n" + ONE
    compare(job(text), listener)
    assert compare(job(text), listener).rows[0].status == "finished"
    assert listener.trained() == ["base", "base"]
    compare(job(ONE, out=Path("start"), overwrite=True, overrides=("training.seed=3",)), listener)
    with pytest.raises(NlpcliError, match="was trained with other settings: the model of init differs"):
        compare(job(text), listener)
    record = json.loads(Path("runs/grid/base/cell.json").read_text())
    del record["requested"]["the model of init"]  # as before they were recorded
    Path("runs/grid/base/cell.json").write_text(json.dumps(record))
    assert compare(job(text), listener).rows[0].status == "finished"


def test_a_record_of_an_earlier_version_is_read(job, listener):
    compare(job(ONE), listener)
    path = Path("runs/grid/base/cell.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"asked": record.pop("requested")}))
    assert compare(job(ONE), listener).rows[0].status == "finished"
    with pytest.raises(NlpcliError, match=r"was trained with other settings: training\.seed"):
        compare(job(ONE, overrides=("training.seed=3",)), listener)
    assert listener.trained() == ["base"]


def test_weights_that_another_command_made_are_not_given_the_results_of_those_before(job, listener):
    compare(job(ONE), listener)
    path = Path("runs/grid/base/model.yaml")
    trained = read_info(path.parent)["sha256"]
    path.write_text(path.read_text().replace(trained, "f" * 64))
    with pytest.raises(NlpcliError, match="its weights were changed by another command"):
        compare(job(ONE), listener)
    path.write_text("sha256: damaged")
    assert (
        preview(job(ONE))[0]["state"]
        == "it was trained with other settings: its weights were changed by another command"
    )
    record = json.loads(Path("runs/grid/base/cell.json").read_text())
    assert record.pop("weights") == trained
    Path("runs/grid/base/cell.json").write_text(json.dumps(record))  # as before they were recorded
    assert compare(job(ONE), listener).rows[0].status == "finished"
    assert listener.trained() == ["base"]


def test_text_may_move_and_what_only_describes_a_run_may_change(job, listener):
    compare(job(ONE), listener)
    for name in ("train.en", "train.de"):
        Path(name).rename(f"moved.{name}")
    compare(job(ONE, train=("moved.train.en", "moved.train.de"), overrides=("training.log_every=7",)), listener)
    assert listener.trained() == ["base"]


def test_a_folder_that_holds_something_else_is_left_alone(job, listener):
    Path("runs/grid/base").mkdir(parents=True)
    Path("runs/grid/base/letter.txt").write_text("Dear reader")
    with pytest.raises(NlpcliError, match="contains files that are not a cell of a grid"):
        compare(job(ONE), listener)
    assert Path("runs/grid/base/letter.txt").read_text() == "Dear reader"


@pytest.mark.parametrize("left", ["README.md", "model.safetensors", "checkpoints"])
def test_a_run_that_no_grid_made_is_replaced_only_on_request(job, listener, left):
    compare(job(ONE), listener)
    run, kept = Path("runs/grid/base"), Path("kept")
    run.rename(kept)
    run.mkdir()
    for name in ("config.yaml", left):
        (shutil.copytree if (kept / name).is_dir() else shutil.copy)(kept / name, run / name)
    with pytest.raises(NlpcliError, match="contains a run that is not a cell of a grid") as error:
        compare(job(ONE), listener)
    assert "--rerun CELL or --overwrite" in error.value.hint
    assert listener.trained() == ["base"] and (run / left).exists()
    compare(job(ONE, overwrite=True), listener)
    assert listener.trained() == ["base", "base"]


def test_chosen_cells_run_and_the_others_are_reported_to_be_open(job, listener):
    results = compare(job(only=("heads-1",)), listener)
    assert listener.trained() == ["heads-1"]
    assert [row.status for row in results.rows] == ["open", "finished", "open"]


def test_without_matplotlib_the_table_stands_and_a_note_reports_it(job, listener, monkeypatch):
    def missing(*_: object, **__: object) -> None:
        raise NlpcliError("a figure needs matplotlib, which is not installed", hint="pip install 'nlpcli[plot]'")

    monkeypatch.setattr("nlpcli.commands.compare.results_files.picture", missing)
    compare(job(ONE), listener)
    assert (
        "no figure was drawn: a figure needs matplotlib, which is not installed (pip install 'nlpcli[plot]')"
        in listener.notes
    )
    assert sorted(path.name for path in Path("runs/grid").iterdir()) == ["base", "results.json", "table.md"]


def test_a_wrong_file_is_one_refusal_and_not_a_failure_of_every_cell(job, listener):
    Path("short.de").write_text("eins\n")
    request = job()
    with pytest.raises(NlpcliError, match=r"short\.de"):
        compare(replace(request, train=("train.en", "short.de")), listener)
    with pytest.raises(NlpcliError, match=r"nowhere\.en: no such file"):
        compare(replace(request, train=("nowhere.en", "train.de")), listener)
    with pytest.raises(NlpcliError, match="does not name any training data"):
        compare(replace(request, train=(), dev=()), listener)


def test_numbers_of_several_seeds_are_means_with_deviations(job, listener):
    results = compare(job("equal: {steps: 2}\nseeds: 2\nrows: [{name: base}]"), listener)
    assert listener.trained() == ["base", "base-seed-2"]
    loss = results.rows[0].metrics["loss"]
    assert len(loss.values) == 2 and loss.values[0] != loss.values[1]
    assert loss.mean == pytest.approx(sum(loss.values) / 2)
    assert loss.deviation == pytest.approx(abs(loss.values[0] - loss.values[1]) / 2**0.5)


def test_the_difference_from_a_base_of_several_seeds_is_that_from_the_nearest(job, listener, monkeypatch):
    values = {"base": 0.01, "base-seed-2": 0.4}
    monkeypatch.setattr(
        "nlpcli.commands.compare.run_cells.p_values", lambda base, others, test: [values[base.name]] * len(others)
    )
    text = "equal: {steps: 2}\nrows: [{name: base, seeds: 2}, {name: wide, set: {model.d_ff: 32}}]"
    results = compare(job(text, test=("test.en", "test.de")), listener)
    assert [row.metrics["test_bleu"].p_value for row in results.rows] == [None, 0.4]


def test_a_difference_counts_only_from_the_base_that_stands_there_now(job, listener, monkeypatch):
    monkeypatch.setattr("nlpcli.commands.compare.run_cells.p_values", lambda base, others, test: [0.01] * len(others))
    text = "equal: {steps: 2}\nrows: [{name: base}, {name: wide, set: {model.d_ff: 32}}]"
    tested = {"test": ("test.en", "test.de")}
    assert compare(job(text, **tested), listener).rows[1].metrics["test_bleu"].p_value == 0.01
    Path("runs/grid/base/README.md").unlink()
    base, wide = compare(job(text, only=("wide",), **tested), listener).rows
    assert (base.status, wide.status) == ("open", "finished")
    assert wide.metrics["test_bleu"].p_value is None
    assert "†" not in Path("runs/grid/table.md").read_text()
    assert compare(job(text, **tested), listener).rows[1].metrics["test_bleu"].p_value == 0.01


def test_a_test_is_for_translators(job, listener):
    text = "base: {}\nequal: {steps: 1}\naxes: {objective: [clm]}"
    with pytest.raises(NlpcliError, match="the cell 'clm' is trained on clm"):
        compare(job(text, train=("train.en",), dev=("dev.en",), test=("test.en", "test.de")), listener)


MIXTURE = """
base:
  task: text-to-text
  model: {encoder_layers: 1, decoder_layers: 1, d_model: 16, d_ff: 16, heads: 2, dropout: 0.0}
  tokenizer: {type: words, vocab_size: 200}
  training: {batch_tokens: 256, warmup_steps: 2, precision: float32}
  data: {mixture: mix.yaml}
equal: {steps: 1}
rows: [{name: base}, {name: wide, set: {model.d_ff: 32}}]
"""


@pytest.fixture
def mixture():
    """Writes the files of a mixture of two tasks into the working directory."""

    def write() -> None:
        for name, words in (("up", "one two"), ("down", "two one")):
            for part in ("train", "dev"):
                Path(f"{name}.{part}.tsv").write_text("text\tlabel\n" + f"{words}\tone\n" * 8, encoding="utf-8")
        tasks = "".join(f"  {n}: {{train: {n}.train.tsv, dev: {n}.dev.tsv}}\n" for n in ("up", "down"))
        Path("mix.yaml").write_text("tasks:\n" + tasks, encoding="utf-8")

    return write


def test_cells_that_learn_a_mixture_are_trained(job, listener, mixture):
    request = job(MIXTURE, train=(), dev=())
    mixture()
    assert [(row.status, row.reason) for row in compare(request, listener).rows] == [("finished", "")] * 2


@pytest.mark.parametrize("name", ["mix.yaml", "down.train.tsv", "up.dev.tsv"])
def test_a_line_more_in_a_file_of_a_mixture_makes_another_training(job, listener, mixture, name):
    request = job(MIXTURE, train=(), dev=(), only=("base",))
    mixture()
    compare(request, listener)
    with open(name, "a", encoding="utf-8") as file:
        file.write("# mixed\n" if name == "mix.yaml" else "one\tone\n")
    with pytest.raises(NlpcliError, match=r"was trained with other settings: the text of data\.mixture differs"):
        compare(request, listener)


def test_objectives_are_compared_on_raw_text(job, listener):
    text = """
base:
  model: {encoder_layers: 1, decoder_layers: 1, d_model: 16, d_ff: 16, heads: 2, max_length: 64}
  tokenizer: {type: chars}
  data: {context: 16, workers: 1}
  training: {batch_tokens: 128, warmup_steps: 2, precision: float32, evaluate_every: 100}
equal: {flops: 2.0e+7}
axes: {objective: [clm, mlm]}
"""
    results = compare(job(text, train=("train.en",), dev=("dev.en",)), listener)
    for row in results.rows:
        assert row.status == "finished", row.reason
        assert 2e7 <= row.cost["flops"].mean < 4e7
    assert {"perplexity", "mlm_accuracy"} <= set(results.metrics)


def test_cells_of_several_seeds_are_tested_against_the_reference(job, listener):
    text = (
        "equal: {steps: 3}\nseeds: 3\nreference: slow\nmetrics: [loss]\n"
        "rows: [{name: base, set: {training.lr: 0.01}}, {name: slow, set: {training.lr: 1.0e-9}}]"
    )
    results = compare(job(text), listener)
    fast, slow = (row.metrics["loss"] for row in results.rows)
    assert slow.p_value_over_seeds is None and results.reference == "slow"
    assert fast.p_value_over_seeds == pytest.approx(welch_p_value(fast.values, slow.values))
    assert results.rows[0].as_dict()["scores"][0]["p_value_over_seeds"] == fast.p_value_over_seeds


def test_without_scipy_the_table_says_why_no_cell_was_tested_over_seeds(job, listener, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    text = "equal: {steps: 1}\nseeds: 2\nrows: [{name: base}, {name: wide, set: {model.d_ff: 32}}]"
    results = compare(job(text), listener)
    assert (
        "no cell was tested over its seeds: a test over seeds needs scipy, which is not installed" in notes(results)[0]
    )
    assert "nlpcli[stats]" in notes(results)[0]


def test_a_signal_in_a_cell_that_fails_at_once_ends_the_grid(job, listener):
    class Both(type(listener)):
        def stepped(self, *_: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            raise NlpcliError("the disk is full")

    listener = Both()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            compare(job(), listener)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert listener.trained() == ["base"] and "base failed: the disk is full" in listener.notes
