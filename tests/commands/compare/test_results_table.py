from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.commands.compare.grid_results import Number, Results, Row
from nlpcli.commands.compare.results_files import page, write_report
from nlpcli.commands.compare.results_picture import picture
from nlpcli.commands.compare.results_table import as_csv, heading, markdown, matrices, notes, table, text_lines
from nlpcli.errors import NlpcliError
from nlpcli.runs.text_metrics import MEASURED


def row(name: str, settings: dict, group: str = "", labels: dict | None = None, **numbers) -> Row:
    measured = {key: Number((value,)) for key, value in numbers.items() if key != "parameters"}
    if "test_bleu" in measured:
        measured["test_bleu"] = Number((numbers["test_bleu"],), numbers["test_bleu"] - 1, numbers["test_bleu"] + 1)
    return Row(
        name=name, title=name, group=group, labels=labels or {}, settings=settings, changes=settings if group else {},
        status="finished", folders=(f"runs/g/{name}",), seeds=(1,),
        cost={"parameters": Number((numbers["parameters"],)), "seconds": Number((90.0,)),
              "flops": Number((2e13,)), "tokens": Number((1e6,))},
        metrics=measured,
    )  # fmt: skip


ROWS = [
    row("base", {"h": None, "N": None}, parameters=1_435_136, perplexity=10.0, test_bleu=30.0),
    row("heads-1", {"h": 1, "N": None}, "A", parameters=1_435_136, perplexity=11.0, test_bleu=29.0),
    row("layers-4", {"h": None, "N": 4}, "C", parameters=2_357_760, perplexity=9.5, test_bleu=31.25),
]


def results(rows: list[Row] = ROWS, **more) -> Results:
    known = {
        "name": "g", "title": "Things", "description": "A test.", "equal": "1,000,000 tokens", "kind": "tokens",
        "command": "nlpcli compare g.yaml", "rows": rows, "headings": ["h", "N"],
        "base": {"h": 4, "N": 2}, "metrics": ["perplexity", "test_bleu"],
        "missing": [], "axes": {}, "signatures": {"perplexity": ["perplexity|level:token"]}, "machines": ["cpu"],
        "data": {"train": ["a"], "dev": ["b"], "test": ["c", "d"]}, "by_axes": True,
    }  # fmt: skip
    return Results(**known | more)


def test_the_wide_table_has_the_base_in_full_and_blanks_where_cells_are_as_it():
    found = table(results())
    assert found.headings == ["", "cell", "h", "N", "parameters", "minutes", "FLOPs", "perplexity", "test BLEU"]
    assert [line[2:4] for line in found.lines] == [["4", "2"], ["1", ""], ["", "4"]]
    assert found.lines[0][4:] == ["1.44M", "1.5", "2.00e13", "10.00", "30.00 [29.00, 31.00]"]
    assert sorted(found.best) == [(2, 7), (2, 8)]


def test_without_a_base_among_the_rows_no_cell_is_blank():
    found = table(results([replace(ROWS[1], changes={"h": 1}), ROWS[2]]))
    assert [line[2:4] for line in found.lines] == [["1", "2"], ["4", "4"]]


@given(st.integers(43, 130))
def test_a_table_is_no_wider_than_it_may_be_and_keeps_the_measures(width):
    found = table(results(), width=width)
    assert found.width <= width
    assert found.headings[-2:] == ["perplexity", "test BLEU"]
    lines = ["".join(text for text, _ in line) for line in text_lines(found)]
    assert max(map(len, lines)) == found.width
    assert lines[2] == "" and lines[1].startswith("   base")


def test_what_was_made_equal_is_no_column():
    assert "tokens" not in table(results()).headings
    assert "minutes" not in table(results(kind="minutes")).headings


def test_markdown_marks_the_best_and_csv_has_all_digits():
    text = markdown(results())
    assert "| C | layers-4 |  | 4 | 2.36M | 1.5 | 2.00e13 | **9.50** | **31.25 [30.25, 32.25]** |" in text
    rows = list(csv.DictReader(io.StringIO(as_csv(results()))))
    assert [row["parameters"] for row in rows] == ["1435136", "1435136", "2357760"]
    assert [(row["h"], row["N"]) for row in rows] == [("4", "2"), ("1", "2"), ("4", "4")]
    assert rows[2]["test_bleu_low"] == "30.25"


def test_two_axes_are_a_matrix_of_each_measure():
    cells = [
        row(f"{a}-{b}", {}, labels={"objective": a, "size": b}, parameters=1, perplexity=value)
        for (a, b), value in zip([(a, b) for a in "mc" for b in "sl"], (4.0, 3.0, 2.0, 1.0), strict=True)
    ]
    found = results(cells, axes={"objective": ["m", "c"], "size": ["s", "l"]}, metrics=["perplexity"], headings=[])
    ((name, matrix),) = matrices(found)
    assert (name, matrix.headings) == ("perplexity", ["objective \\ size", "s", "l"])
    assert matrix.lines == [["m", "4.00", "3.00"], ["c", "2.00", "1.00"]]
    assert matrix.best == {(1, 2)}
    assert table(found).headings[:2] == ["objective", "size"]


def test_differences_that_chance_hardly_makes_are_marked_and_explained():
    number = replace(ROWS[2].metrics["test_bleu"], p_value=0.01)
    marked = replace(ROWS[2], metrics={**ROWS[2].metrics, "test_bleu": number})
    assert "31.25† [30.25, 32.25]" in markdown(results([*ROWS[:2], marked]))
    assert "† marks a difference from the base with p < 0.05" in markdown(results([*ROWS[:2], marked]))
    assert "†" not in markdown(results())
    certain = replace(marked, metrics={"test_bleu": replace(number, p_value=0.0)})
    assert "† marks a difference from the base" in markdown(results([*ROWS[:2], certain]))


def test_intervals_have_the_digits_of_the_score_and_may_lie_below_0():
    small = replace(ROWS[2], metrics={"test_bleu": Number((0.09,), 0.0, 0.144), "pearson": Number((0.1,), -0.2, 0.4)})
    line = table(results([small], metrics=["test_bleu", "pearson"])).lines[0]
    assert line[-2:] == ["0.09 [0.00, 0.14]", "0.10 [-0.20, 0.40]"]


def test_names_of_cells_are_no_markdown():
    failed = replace(ROWS[1], title="<b>*x*", status="failed", reason="[too](hot)", folders=(), metrics={}, cost={})
    text = page(results([replace(ROWS[0], title="a_b_ c"), failed], title="*T*", name="g_h_"), "my grid.png")
    assert text.startswith("# \\*T\\*\n")
    assert "| a\\_b\\_ c |" in text and "| \\<b\\>\\*x\\* |" in text
    assert "- \\<b\\>\\*x\\* failed: \\[too\\](hot)\n" in text
    assert "![The cells of g\\_h\\_](my%20grid.png)" in text


def test_cells_that_are_missing_are_explained():
    failed = replace(ROWS[1], status="failed", reason="too hot", folders=(), metrics={}, cost={})
    waiting = replace(ROWS[2], status="open", folders=(), metrics={}, cost={})
    text = markdown(results([ROWS[0], failed, waiting], missing=["chrf"]))
    assert "- heads-1 failed: too hot\n- this cell is not finished: layers-4\n- chrf is not measured\n" in text
    assert picture(results([ROWS[0], failed, waiting])).startswith(b"\x89PNG")


def test_measures_with_several_signatures_are_reported_not_to_be_comparable():
    text = markdown(results(signatures={"perplexity": ["tok:bpe-300", "tok:chars-300"]}))
    assert "perplexity was measured in different ways: tok:bpe-300; tok:chars-300" in text


def test_the_page_says_how_it_was_made_and_measured():
    text = page(results(), "g.png")
    assert text.startswith(
        "# Things\n\nA test.\n\n    nlpcli compare g.yaml\n\nEvery cell is trained for 1,000,000 tokens"
    )
    assert "](g.png)" in text and "- perplexity: `perplexity|level:token`" in text and "Trained on: cpu." in text
    assert "](" not in page(results(), None)


def test_the_headings_of_perplexities_are_their_names_with_spaces():
    assert [heading(name) for name in MEASURED] == [name.replace("_", " ") for name in MEASURED]
    other = replace(ROWS[1], metrics={"byte_perplexity": Number((2.5,))})
    assert "| byte perplexity |" in markdown(results([other], metrics=["byte_perplexity"])).splitlines()[0]


def test_a_mean_over_seeds_that_differs_is_marked_and_the_mark_is_explained():
    near, far = (Number((1.0, 2.0), p_value_over_seeds=p) for p in (0.2, 0.01))
    rows = [
        ROWS[0],
        *(replace(row, metrics={"loss": number}) for row, number in zip(ROWS[1:], (near, far), strict=True)),
    ]
    found = results(rows, metrics=["loss"], reference="base", tested={"loss": 2})
    assert [line[-1] for line in table(found).lines[1:]] == ["1.500 ± 0.707", "1.500 ± 0.707‡"]
    assert (
        "‡ marks a mean over seeds that differs from that of base with p < 0.05 (Welch's t-test, corrected by Holm "
        "for 2 cells)" in notes(found)
    )


def test_the_page_says_which_cells_are_of_more_seeds_and_what_bars_are():
    twice = {name: Number((number.mean, number.mean + 1)) for name, number in ROWS[0].metrics.items()}
    text = page(results([replace(ROWS[0], seeds=(1, 2), metrics=twice), *ROWS[1:]]), "g.png")
    assert "from one seed, base from 2. " in text
    assert "± is the standard deviation over seeds. In brackets: the 95 % bootstrap interval" in text
    bars = "The error bars are standard deviations over seeds or, for one seed, 95 % bootstrap intervals over the test"
    assert f"{bars} sentences. The dashed line" in text


def test_a_page_that_can_not_be_written_leaves_no_picture_behind(tmp_path, listener):
    (tmp_path / "g.png").write_bytes(b"before")
    (tmp_path / "g.md").mkdir()
    with pytest.raises(NlpcliError):
        write_report(results(), tmp_path / "g.md", listener)
    assert (tmp_path / "g.png").read_bytes() == b"before"


def test_pictures_are_drawn_in_every_format_and_are_the_same_each_time():
    for format, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        drawn = picture(results(), format=format)
        assert drawn.startswith(start)
        assert drawn == picture(results(), format=format)
    assert picture(results(), theme="dark") != picture(results())


def crossed(measures: dict[str, tuple[float, ...]], **more) -> Results:
    """Cells of the axes attention (full, window:4) and size (s, l), in this order."""
    places = [(a, b) for a in ("full", "window:4") for b in "sl"]
    cells = [
        row(f"{a}-{b}", {"attention": a, "size": None}, labels={"attention": a, "size": b}, parameters=1,
            **{name: values[i] for name, values in measures.items()})
        for i, (a, b) in enumerate(places)
    ]  # fmt: skip
    known = {"axes": {"attention": ["full", "window:4"], "size": ["s", "l"]}, "metrics": list(measures),
             "headings": ["attention", "size"], "base": {"attention": "full", "size": 64},
             "full_names": {"attention": "model.attention", "size": "model.size"}}  # fmt: skip
    return results(cells, **known | more)


def test_columns_of_csv_have_names_of_their_own_and_none_repeats_an_axis():
    found = crossed({"perplexity": (4.0, 3.0, 2.0, 1.0)})
    header, first, *_ = csv.reader(io.StringIO(as_csv(found)))
    assert header[:6] == ["cell", "group", "attention", "size", "model.size", "status"]
    assert first[2:5] == ["full", "s", "64"]
    assert len(set(header)) == len(header) == len(first)
    by_hand = replace(found, rows=[*found.rows, row("other", {"attention": "mean", "size": None}, parameters=1)])
    last = list(csv.DictReader(io.StringIO(as_csv(by_hand))))[-1]
    assert (last["attention"], last["model.attention"]) == ("", "mean")


def test_a_setting_without_a_longer_name_is_distinguished_from_its_axis_too():
    found = crossed({"perplexity": (4.0, 3.0, 2.0, 1.0)}, full_names={"attention": "attention", "size": "size"})
    assert next(csv.reader(io.StringIO(as_csv(found))))[3:5] == ["size", "setting size"]


def test_an_axis_called_as_a_cost_is_distinguished_from_it():
    cells = [row(name, {}, labels={"parameters": name}, parameters=1) for name in ("few", "many")]
    found = results(cells, axes={"parameters": ["few", "many"]}, metrics=[], headings=[])
    _, second = csv.DictReader(io.StringIO(as_csv(found)))
    assert (second["axis parameters"], second["parameters"]) == ("many", "1")


def test_what_guessing_would_get_is_a_column_that_is_never_best_and_no_matrix():
    found = crossed({"mlm_accuracy": (0.1, 0.2, 0.3, 0.4), "mlm_baseline": (0.05, 0.05, 0.06, 0.06)})
    wide = table(found)
    assert wide.headings[-2:] == ["mlm accuracy", "mlm baseline"]
    assert wide.best == {(3, len(wide.headings) - 2)}
    assert [name for name, _ in matrices(found)] == ["mlm accuracy"]


def test_nothing_is_best_where_all_are_the_same():
    found = crossed({"perplexity": (3.0,) * 4})
    ((_, matrix),) = matrices(found)
    assert table(found).best == matrix.best == frozenset()
    assert "**" not in markdown(found)
