"""Reports of runs that are whole, unfinished, old, damaged or of different kinds."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from nlpcli.cli.main import main
from nlpcli.commands.report import report_wording
from nlpcli.commands.report.output_scores import Final
from nlpcli.commands.report.read_runs import find_runs, read_run, short_names
from nlpcli.commands.report.report import ReportRequest, make_report
from nlpcli.commands.report.report_data import as_dict
from nlpcli.commands.report.report_formats import FORMATS, format_of, text_of, write_report
from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Resampling
from nlpcli.visualization.text_width import cells

GOLDEN = Path(__file__).parent / "golden"
FEW = Resampling(100, 12345)


def report_of(*runs, **settings):
    return make_report(
        ReportRequest(tuple(map(Path, runs)), **{"resampling": FEW, **settings}), notify=lambda text: None
    )


def compare_with_golden(text, name, tmp_path):
    """Set NLPCLI_UPDATE_GOLDEN=1 to write the file anew, and look at it."""
    text = text.replace(str(tmp_path), "RUNS")
    text = re.sub(r"nlpcli:\d[\w.]*", "nlpcli:VERSION", re.sub(r"version:\d[\w.]*", "version:SACRE", text))
    if os.environ.get("NLPCLI_UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["one-80.txt", "two-100.txt", "two-60-ascii.txt", "two.md", "one.md"])
def test_reports_in_words_are_what_they_were(name, make_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run("a")
    make_run("b", rate=0.6, settings={"lr": 0.001, "max_minutes": 3.0}, shift=1)
    report = report_of("a", "b") if name.startswith("two") else report_of("a")
    if name.endswith(".md"):
        text = text_of(report, "markdown")
    else:
        text = text_of(report, "terminal", width=int(re.search(r"\d+", name)[0]), unicode="ascii" not in name)
    compare_with_golden(text, name, tmp_path)


def test_the_numbers_of_a_report_are_those_of_the_files(make_run):
    folder = make_run("a")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = as_dict(report_of(folder))
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, allow_nan=False))
    [run] = found["runs"]
    assert run["cost"]["tokens"] == lines[-2]["tokens"] and run["cost"]["flops"] == lines[-2]["flops"]
    assert run["cost"]["minutes"] == pytest.approx(lines[-1]["seconds"] / 60) and run["cost"]["parameters"] == 1234567
    assert run["best_checkpoint"] == "step 100" and run["stopped"] == "100 steps done" and run["finished"]
    panels = {panel["title"]: panel["lines"] for panel in found["curves"]}
    assert list(panels) == ["loss (nats)", "perplexity", "bleu", "learning rate", "gradient norm", "tokens per second"]
    drawn = [("bleu", "bleu", "dev"), ("learning rate", "lr", "train"), ("perplexity", "perplexity", "dev")]
    for title, name, kind in drawn:
        rows = [line for line in lines if line["kind"] == kind]
        assert panels[title] == [
            {"run": "a", "kind": kind, "x": [row["step"] for row in rows], "y": [row[name] for row in rows]}
        ]
    assert [line["kind"] for line in panels["loss (nats)"]] == ["train", "dev"]
    loss = next(score["value"] for score in run["scores"] if score["metric"] == "loss")
    assert loss == pytest.approx(lines[-1]["loss"])


def test_what_a_head_penalty_logs_is_drawn(make_run):
    folder = make_run("penalty")
    file = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    logged = [line | {"head_cosine": 1 / line["step"]} if line["kind"] == "train" else line for line in lines]
    file.write_text("".join(json.dumps(line) + "\n" for line in logged))
    panels = {panel["title"]: panel["lines"] for panel in as_dict(report_of(folder))["curves"]}
    [line] = panels["cosine of two heads' weights"]
    assert line["y"] == [1 / step for step in line["x"]]


@pytest.mark.parametrize("x", ["tokens", "minutes", "flops"])
def test_curves_can_be_drawn_against_what_training_cost(make_run, x):
    folder = make_run("a")
    per_step = {"tokens": 500, "minutes": 1.2 / 60, "flops": 3e9}[x]
    for panel in as_dict(report_of(folder, x=x))["curves"]:
        for line in panel["lines"]:
            steps = np.arange(10, 101, 10) if line["kind"] == "train" else np.arange(20, 101, 20)
            assert line["x"] == pytest.approx(list(steps * per_step))


def test_the_interval_of_bleu_is_that_of_nlpcli_score_on_the_same_outputs(make_run, tmp_path, capsys):
    folder = make_run("a")
    outputs = read_run(folder).outputs.items
    for name in ("reference", "output"):
        (tmp_path / name).write_text("".join(item[name] + "\n" for item in outputs))
    assert main(["score", "--metric", "bleu", "--ref", str(tmp_path / "reference"), "--confidence", "--json",
                 str(tmp_path / "output")]) == 0  # fmt: skip
    [scored] = json.loads(capsys.readouterr().out)["scores"]
    assert main(["report", str(folder), "--format", "json"]) == 0
    bleu = json.loads(capsys.readouterr().out)["runs"][0]["scores"]
    bleu = next(score for score in bleu if score["metric"] == "bleu")
    assert (bleu["value"], bleu["low"], bleu["high"]) == (scored["value"], scored["low"], scored["high"])
    assert bleu["signature"] == scored["signature"] + "|sentences:60|beam:1"


def test_only_settings_that_differ_are_laid_side_by_side(make_run):
    first, second = make_run("a"), make_run("b", settings={"lr": 0.5, "patience": 4})
    assert report_of(first, second).differences == {"training.lr": [0.002, 0.5], "training.patience": [None, 4]}
    assert report_of(first).differences == {}


def test_a_setting_an_older_version_did_not_know_has_its_default(make_run):
    first, second = make_run("a"), make_run("b")
    config = (second / "config.yaml").read_text()
    (second / "config.yaml").write_text(re.sub(r"\n  (samples|max_tokens): .*", "", config))
    assert report_of(first, second).differences == {}


def test_how_an_output_evolved_is_shown_once_for_equal_ones(make_run):
    report = report_of(make_run("a"))
    assert report.samples[0].text == "Ein Mann schläft ."
    [outputs] = report.samples[0].outputs
    assert [(o.step, o.last, o.text) for o in outputs] == [
        (20, 40, "in in in"), (60, 60, "a man is"), (80, 80, "a man is ."), (100, 100, "A man is sleeping ."),
    ]  # fmt: skip
    assert len(report_of(make_run("b"), samples=2).samples) == 2


def test_a_run_that_still_goes_on_is_reported_as_it_is(make_run):
    folder = make_run("a", steps=40, finished=False)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 50, "lo')  # being written, or cut off by a crash
    report = report_of(folder)
    assert report.runs[0].stopped == "not finished: step 40 of 100 so far (running or interrupted)"
    assert report.runs[0].best_checkpoint == "step 40, so far"
    for form in ("terminal", "markdown", "html"):
        assert "not finished" in text_of(report, form)


def test_of_log_and_checkpoint_the_further_one_says_how_many_steps_were_done(make_run):
    for steps, saved, done, finished in ((40, 41, 41, False), (40, 30, 40, False), (100, 100, 100, True),
                                         (100, 120, 120, False)):  # fmt: skip
        folder = make_run(f"{steps}-{saved}", steps=steps, finished=steps == 100)
        checkpoint = folder / "checkpoints" / f"step-{saved:08d}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "state.yaml").write_text(f"progress:\n  step: {saved}\n  tokens: {500 * saved}\n")
        report = report_of(folder)
        assert (report.runs[0].step, report.runs[0].finished) == (done, finished)
        assert report.cost[0]["steps"] == done and report.cost[0]["tokens"] == 500 * done


def test_a_metric_is_marked_where_all_runs_that_have_it_are_kept_by_it(make_run):
    by_loss, by_bleu = make_run("a"), make_run("b", settings={"metric": "bleu"})
    lines = [{"kind": "dev", "step": 50, "seconds": 9.0, "loss": 0.5, "accuracy": 80.0}]
    other = make_run("c", lines=lines, outputs=False, samples=False, settings={"metric": "accuracy"})
    for runs, marked in (((by_loss,), {"loss"}), ((by_loss, by_bleu), set()), ((by_loss, other), {"accuracy"}),
                         ((by_bleu, other), {"bleu", "accuracy"})):  # fmt: skip
        report = report_of(*runs)
        assert set(re.findall(r"(\w+) \(selection\)", text_of(report, "terminal"))) == marked
        assert set(re.findall(r"\*\*(\w+)\*\*", text_of(report, "markdown"))) == marked
        assert set(re.findall(r"class=decides>(\w+)<", text_of(report, "html"))) == marked


def test_a_run_with_nothing_logged_is_reported(make_run, tmp_path):
    folder = make_run("a", lines=[], samples=False, finished=False)
    report = report_of(folder)
    assert any("there are no curves yet" in sentence for sentence in report.missing)
    for form in ("terminal", "markdown", "html", "json"):
        assert "there are no curves yet" in text_of(report, form)
    assert write_report(report, tmp_path / "r.md", "markdown") == [tmp_path / "r.md"]
    with pytest.raises(NlpcliError, match="no curves"):
        write_report(report, tmp_path / "r.png", "png")


def test_what_an_older_run_lacks_is_reported(make_run):
    folder = make_run("a", outputs=False, samples=False, flops=False)
    report = report_of(folder)
    assert report.missing == (
        "FLOPs are missing, because the run is from an older version",
        "samples are missing, because the run is from an older version or not evaluated yet",
        "outputs of the best checkpoint are missing, so there are no intervals (the run is from an older version)",
    )
    assert report.cost[0]["flops"] is None
    with pytest.raises(NlpcliError, match="none of these runs recorded FLOPs"):
        report_of(folder, x="flops")
    both = report_of(folder, make_run("b"), x="flops")
    assert any("a: the run did not record FLOPs" in sentence for sentence in both.missing)
    assert {line.label for panel in both.curves.panels for line in panel.lines} == {"b"}
    off = make_run("c", outputs=False, settings={"bleu_sentences": 0})
    assert any("bleu_sentences is 0" in sentence for sentence in report_of(off).missing)


def test_a_run_without_a_line_of_its_training_yet_is_not_called_old(make_run):
    lines = [{"kind": "dev", "step": 4, "seconds": 1.0, "loss": 2.0}]
    report = report_of(make_run("a", lines=lines, outputs=False, finished=False))
    assert not any("flops" in sentence for sentence in report.missing)


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: "", lambda text: "[]\n" + text])
def test_outputs_that_are_damaged_are_not_called_those_of_an_older_version(make_run, damage):
    folder = make_run("a")
    (folder / "outputs.jsonl").write_text(damage((folder / "outputs.jsonl").read_text()))
    report = report_of(folder)
    assert report.missing == (
        "outputs of the best checkpoint are missing, so there are no intervals (outputs.jsonl is damaged)",
    )


@pytest.mark.parametrize("step", ['"x"', "null", "true", "2.5", "[1]"])
def test_a_line_whose_step_is_no_number_of_steps_is_left_out(make_run, step):
    folder = make_run("a")
    whole = as_dict(report_of(folder))
    for name, more in (("metrics", '"loss": 1.0'), ("samples", '"items": []')):
        with open(folder / f"{name}.jsonl", "a") as file:
            file.write(f'{{"kind": "dev", "step": {step}, {more}}}\n')
    assert as_dict(report_of(folder)) == whole


def test_of_different_tasks_only_what_both_are_measured_by_is_overlaid(make_run):
    lines = [{"kind": "dev", "step": 50, "seconds": 9.0, "loss": 0.5, "accuracy": 80.0},
             {"kind": "dev", "step": 90, "seconds": 19.0, "loss": 0.4, "accuracy": 85.0}]  # fmt: skip
    other = make_run("b", task="classify", lines=lines, outputs=False, samples=False)
    report = report_of(make_run("a"), other)
    titles = [panel.title for panel in report.curves.panels]
    assert "bleu" not in titles and "accuracy" not in titles and "loss (nats)" in titles
    assert any("accuracy" in sentence and "bleu" in sentence for sentence in report.missing)
    assert report.score(0, "accuracy") is None and report.score(1, "accuracy").value == 85.0
    assert [panel.title for panel in report_of(other, metrics=("accuracy",)).curves.panels[:2]] == [
        "loss (nats)", "accuracy",
    ]  # fmt: skip


def test_values_that_are_no_numbers_are_left_out_of_curves_and_null_in_json(make_run):
    folder = make_run("a", lines=[
        {"kind": "train", "step": 1, "loss": 3.0, "lr": 0.1, "seconds": 1.0},
        {"kind": "dev", "step": 2, "loss": 9.0, "perplexity": float("inf"), "seconds": 1.0},
        {"kind": "train", "step": 3, "loss": float("nan"), "lr": 0.1, "seconds": 1.0},
        {"kind": "dev", "step": 4, "loss": 8.0, "perplexity": 9e300, "seconds": 1.0},
    ], outputs=False)  # fmt: skip
    found = text_of(report_of(folder), "json")
    assert "Infinity" not in found and "NaN" not in found
    panels = {panel["title"]: panel for panel in json.loads(found)["curves"]}
    assert panels["perplexity"]["lines"][0]["y"] == [9e300] and len(panels["loss (nats)"]["lines"][0]["y"]) == 1
    assert text_of(report_of(folder), "terminal") and text_of(report_of(folder), "html")


@pytest.mark.parametrize("width", [40, 57, 80, 200])
def test_a_report_fits_the_terminal(make_run, width):
    runs = [make_run(name, settings={"lr": 10.0**-i}) for i, name in enumerate(["a", "日本語", "c" * 50])]
    for chosen in (runs[:1], runs):
        for line in text_of(report_of(*chosen), "terminal", width=width).splitlines():
            assert cells(line.replace("\u2066", "").replace("\u2069", "")) <= width, line


def test_a_folder_of_runs_stands_for_them_in_order(make_run, tmp_path):
    made = [make_run(f"seeds/seed-{n}") for n in (1, 10, 2)]
    assert [path.name for path in find_runs([tmp_path / "seeds"], print)] == ["seed-1", "seed-2", "seed-10"]
    assert find_runs([made[0], tmp_path / "seeds"], print)[0] == made[0]
    with pytest.raises(NlpcliError, match="is not a run"):
        find_runs([tmp_path], print)
    with pytest.raises(NlpcliError, match="nowhere does not exist"):
        find_runs([tmp_path / "nowhere"], print)


def test_without_a_name_the_newest_run_is_taken_and_named(make_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NlpcliError, match="the folder runs/ contains none"):
        find_runs([], print)
    old, new = make_run("runs/z"), make_run("runs/a")
    for path in old.iterdir():
        os.utime(path, (1, 1))
    messages = []
    assert find_runs([], messages.append) == [Path("runs/a")] and "runs/a" in messages[0] and new.exists()


def test_runs_of_one_name_are_distinguished_by_their_folders():
    assert short_names([Path("x/seed-1"), Path("y/seed-1"), Path("b")]) == ["x/seed-1", "y/seed-1", "b"]


def test_the_form_goes_by_the_name_of_the_file():
    names = {
        "r.html": "html",
        "r.MD": "markdown",
        "r.png": "png",
        "r.svg": "svg",
        "r.json": "json",
        "r.txt": "terminal",
    }
    assert {name: format_of(None, Path(name)) for name in names} == names
    assert format_of(None, None) == "terminal"
    assert format_of("json", Path("x.txt")) == "json" and format_of("html", Path("x.page")) == "html"
    for wrong in ((None, Path("r")), ("hmtl", None), ("png", None)):
        with pytest.raises(NlpcliError):
            format_of(*wrong)


def test_a_file_named_like_another_form_is_refused(make_run, tmp_path, capsys):
    for form, name in (("png", "r.svg"), ("markdown", "r.png"), ("png", "r.txt"), ("json", "r.HTML")):
        assert main(["report", str(tmp_path), "--format", form, "--out", str(tmp_path / name)]) == 2
        assert f"but --format is {form}" in capsys.readouterr().err and not (tmp_path / name).exists()


def test_markdown_is_written_with_its_picture_beside(make_run, tmp_path, capsys):
    folder = make_run("a")
    (tmp_path / "out").mkdir()
    assert main(["report", str(folder), "--out", str(tmp_path / "out" / "r.md")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / name) for name in ("r.md", "r.png")]
    text = (tmp_path / "out" / "r.md").read_text()
    assert "](r.png)" in text and (tmp_path / "out" / "r.png").read_bytes().startswith(b"\x89PNG")
    assert "<script>" not in text.replace("\\<script\\>", "")


@pytest.mark.parametrize("format", [form for form in FORMATS if form not in ("svg", "pdf")])  # as png is
def test_every_form_is_written_and_the_same_again(make_run, tmp_path, format, capsys):
    runs = [make_run("a"), make_run("b", rate=0.7, shift=1)]
    files = [tmp_path / str(n) / f"r.{format}" for n in (1, 2)]
    for file in files:
        file.parent.mkdir()
        assert (
            main(["report", *map(str, runs), "--format", format, "--out", str(file), "--bootstrap-samples", "50"]) == 0
        )
    capsys.readouterr()
    assert files[0].read_bytes() == files[1].read_bytes() != b""


def test_options_without_effect_are_reported(make_run, tmp_path, capsys):
    assert main(["report", str(make_run("a")), "--format", "json", "--theme", "dark", "--ascii"]) == 0
    error = capsys.readouterr().err
    assert "--theme has no effect" in error and "--ascii has no effect" in error
    drawn = ["report", str(make_run("c")), "--bootstrap-samples", "50", "--seed", "1"]
    for more, why in (
        (["--no-confidence"], "with --no-confidence"),
        (["--out", str(tmp_path / "r.png")], "on a report in the format png"),
    ):
        assert main([*drawn, *more]) == 0
        error = capsys.readouterr().err
        assert all(f"{name} has no effect {why}" in error for name in ("--bootstrap-samples", "--seed")), error
    assert main(["report", str(tmp_path / "c"), "--no-confidence", "--out", str(tmp_path / "r.png")]) == 0
    assert "--no-confidence has no effect on a report in the format png" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "c"), "--bootstrap-samples", "0"]) == 2
    assert "at least 2 resamples, not 0" in capsys.readouterr().err
    assert main([*drawn, "--format", "json"]) == 0 and "effect" not in capsys.readouterr().err
    assert main(["report", str(make_run("b")), "--metric", "blue"]) == 2
    assert "did you mean 'bleu'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("f1", 0.0, "0.00"), ("accuracy", 0.67, "0.67"), ("bleu", 3.14159, "3.14"), ("mlm_accuracy", 12.345, "12.35"),
        ("perplexity", 5.46931, "5.4693"), ("loss", 0.693806, "0.6938"), ("nsp_loss", 0.5, "0.5000"),
        ("bits_per_byte", 1.23456, "1.2346"), ("word_perplexity", 2412.869, "2412.87"),
    ],
)  # fmt: skip
def test_what_is_in_percent_has_two_decimals_however_small_it_is(name, value, shown):
    assert report_wording.score(Final(name, value)) == shown
    assert report_wording.score(Final(name, value, value, value)) == f"{shown} [{shown}, {shown}]"


def test_the_keys_of_a_report_are_in_snake_case(make_run):
    found = as_dict(report_of(make_run("a"), make_run("b", settings={"lr": 0.001})))
    for part in (found, *found["runs"], *(run["cost"] for run in found["runs"])):
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in part), list(part)


@pytest.mark.parametrize("damage", [{"seconds": "soon"}, {"tokens_per_second": [1]}, {"epoch": {}}, {"loss": "x"}])
def test_a_log_with_values_of_wrong_types_is_one_sentence(make_run, damage):
    run = make_run("a")
    log = run / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps({**line, **(damage if n % 2 else {})}) + "\n" for n, line in enumerate(lines)))
    with contextlib.suppress(NlpcliError):
        report_of(run)
