"""`nlpcli visualize-attention`, as a shell runs it: every kind of model, every format, and every wrong call."""

from __future__ import annotations

import io
import json
import re
import sys

import numpy as np
import pytest
import torch
from model_settings import of_family

from nlpcli.attention.pattern_parser import parse
from nlpcli.cli.main import main
from nlpcli.cli.visualize_attention import Command
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.runs.open_model import open_model
from nlpcli.text import train_tokenizer
from nlpcli.visualization.attention_export import from_json_lines, from_npz

LINES = ["der mann läuft im haus", "ein hund und ein kind", "the dog sleeps in the house", "a man and a child"]
SIZES = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 3, "decoder_layers": 3, "max_length": 24}
HEAD = {"kind": "text", "outputs": 2, "pooling": "first"}
KINDS = {
    "translation": {},
    "encoder": {"kind": "encoder", "segments": 2, "mlm_head": True},
    "language-model": {"kind": "decoder"},
    "xl": {"family": "transformer-xl", "kind": "decoder", "memory_length": 8},
    "xlnet": {"family": "xlnet", "kind": "encoder"},
    "classify": {"kind": "encoder"},
    "learned-positions": {"kind": "encoder", "positions": "learned", "position_offset": 2},
    "global-tokens": {"kind": "encoder", "attention": ["window:3+global:2"], "global_tokens": 2},
}
TASKS = {"xl": "language-model", "xlnet": "encoder", "learned-positions": "encoder", "global-tokens": "encoder"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of each kind that was never trained, in folders of these names."""
    root = tmp_path_factory.mktemp("runs")
    tokenizer = train_tokenizer("bpe", LINES, vocab_size=60, byte_fallback=False, seed=1)
    for name, settings in KINDS.items():
        torch.manual_seed(2)
        head = HEAD if name == "classify" else None
        about = {
            "task": TASKS.get(name, name),
            **({"head": HEAD, "problem": {"labels": ["no", "yes"]}} if head else {}),
        }
        config = of_family({**SIZES, **settings})
        model = build_model(config, tokenizer.vocab_size, head)
        save_model(root / name, weights=model.state_dict(), config=config, tokenizer=tokenizer, info=about)
    return root


@pytest.fixture
def call(capsys, monkeypatch, models, tmp_path):
    """The command in this process and an empty folder: (status, stdout, stderr). `model` is the name of a kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run_it(*arguments: object, model: str | None = None, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8"))))
        named = ["--model", models / model] if model else []
        status = main(["visualize-attention", *map(str, [*named, *arguments])])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


def found(call, *arguments, **how):
    """The records that the command writes as JSON."""
    status, out, err = call("--format", "json", *arguments, **how)
    assert status == 0, err
    return list(from_json_lines(out.splitlines()))


# --- whole commands ----------------------------------------------------------------------------------------------


def test_a_translator_shows_the_layer_that_aligns_and_says_so(run, models):
    done = run("visualize-attention", "--model", models / "translation", "a man", "--target", "ein mann", COLUMNS="60")
    assert done.returncode == 0
    assert done.stderr.startswith(
        "this is Cross-attention, layer 2 of 3, mean of 2 heads; select others with --site, --layer and --head"
    )
    assert "Cross-attention, layer 2" in done.stdout and "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 60


def test_a_pipe_of_lines_becomes_a_pipe_of_records(run, models):
    done = run(
        "visualize-attention", "--model", models / "encoder", "--format", "json", stdin="the dog\n\nthe man\ta child\n"
    )
    assert done.returncode == 0
    assert done.stderr == "warning: <stdin>:2: the text is blank and was skipped\n"
    one, two = (json.loads(line) for line in done.stdout.splitlines())
    assert (one["notes"]["line"], two["notes"]["line"]) == (1, 3)
    assert two["texts"] == {"a": "the man", "b": "a child"}


# --- formats -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", KINDS)
def test_every_kind_of_model_is_drawn(call, model, tmp_path):
    for suffix, begin in (("txt", b""), ("html", b"<!doctype html>"), ("json", b'{"format":'), ("npz", b"PK")):
        status, out, err = call("the dog sleeps", "--out", f"found.{suffix}", model=model)
        assert (status, out) == (0, ""), err
        data = (tmp_path / f"found.{suffix}").read_bytes()
        assert data.lower().startswith(begin) or data.startswith(begin)
        assert len(data) > 200


def test_global_tokens_of_the_model_are_named_before_the_text(call, tmp_path):
    status, _, err = call("the dog sleeps", "--out", "found.json", model="global-tokens")
    assert (status, err) == (0, "")
    [maps] = from_json_lines((tmp_path / "found.json").read_text().splitlines()[:1], "found.json")
    site = maps.sites[0]
    assert site.keys.tokens[:2] == ("<global 1>", "<global 2>") and site.keys.special[:2] == (True, True)
    assert site.keys.words[:2] == (-1, -1) and len(site.keys) == site.weights[0].shape[-1]


@pytest.mark.parametrize(("suffix", "begin"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_figures_are_written(call, suffix, begin, tmp_path):
    pytest.importorskip("matplotlib", reason="figures need the extra 'plot'")
    status, out, err = call("the dog", "--target", "ein hund", "--out", f"found.{suffix}", model="translation")
    assert (status, out) == (0, ""), err
    assert (tmp_path / f"found.{suffix}").read_bytes().startswith(begin)


def test_numbers_are_the_same_in_both_forms_of_numbers(call, tmp_path):
    [record] = found(call, "the dog", model="encoder")
    call("the dog", "--out", "found.npz", model="encoder")
    same = from_npz((tmp_path / "found.npz").read_bytes())
    assert same.sites[0].keys == record.sites[0].keys
    assert all(np.array_equal(a, b) for a, b in zip(same.sites[0].weights, record.sites[0].weights, strict=True))


def test_one_page_holds_all_texts(call, tmp_path):
    status, _, err = call("the dog", "a <script>alert(1)</script> man", "--out", "found.html", model="encoder")
    assert status == 0, err
    page = (tmp_path / "found.html").read_text("utf-8")
    assert "<script>alert(1)" not in page and "the dog" in page


def test_the_line_of_a_text_is_noted_where_there_are_several(call, tmp_path):
    one, two = "the dog\n", "the dog\na man\n"
    for lines, noted in ((one, []), (two, ["line 2"])):
        _, out, _ = call(model="encoder", stdin=lines)
        assert re.findall(r"line \d", out) == noted
    for lines, noted in ((one, []), (two, ['"line":"1"', '"line":"2"'])):
        call("--out", "found.html", model="encoder", stdin=lines)
        assert re.findall(r'"line":"\d"', (tmp_path / "found.html").read_text("utf-8")) == noted
    [record] = found(call, model="encoder", stdin=one)
    assert record.notes["line"] == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ((), "no tokens to draw"),
        (("--words",), "no tokens to draw"),
        (("--out", "x.html"), "no attention weights to draw"),
        (("--stats",), "only special tokens were selected"),
    ],
)
def test_where_only_special_tokens_were_read_nothing_is_left_without_them(call, how, message):
    nothing = ("a man", "--target", "", "--site", "decoder", "--no-special")
    status, out, err = call(*nothing, *how, model="translation")
    assert message in out + err and "internal" not in err
    assert status == (2 if err.startswith("nlpcli: ") else 0)


def test_files_that_hold_one_text_are_numbered(call, tmp_path):
    status, _, err = call("--out", "found.npz", model="encoder", stdin="the dog\na man\n")
    assert status == 0
    assert err == "wrote found-1.npz\nwrote found-2.npz\n"
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["found-1.npz", "found-2.npz"]


def test_what_can_not_be_written_whole_is_not_written(call, tmp_path):
    (tmp_path / "t").write_text("ein hund\n", encoding="utf-8")
    given = ("--out", "found.json", "--target-file", "t")
    status, _, err = call(*given, model="translation", stdin="the dog\na man\n")
    assert status == 2 and "t has only 1 line" in err
    assert not (tmp_path / "found.json").exists()


@pytest.mark.parametrize(("color", "colored"), [("always", True), ("never", False), ("auto", False)])
def test_color_is_for_terminals_unless_it_is_requested(call, color, colored):
    _, out, _ = call("the dog", "--color", color, model="encoder")
    assert ("\x1b[" in out) is colored


def test_figures_of_an_encoder_show_all_heads_and_of_a_translator_the_alignment(call, tmp_path, monkeypatch):

    from nlpcli.visualization import attention_figures

    drawn = []
    monkeypatch.setattr(attention_figures, "draw", lambda attention, **settings: drawn.append(attention) or b"figure")
    call("the dog", "--out", "a.png", model="encoder")
    call("the dog", "--out", "a.png", model="translation")
    call("the dog", "--out", "a.png", "--site", "cross", model="translation")
    shapes = [[(site.name, len(site.layers), len(site.heads)) for site in attention.sites] for attention in drawn]
    assert shapes == [[("encoder", 3, 2)], [("cross", 1, 1)], [("cross", 3, 2)]]


# --- what is chosen ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [("--layer", 1, 3), ("--layer", "1,3"), ("--layer", 1, "--layer", 3), ("--layer=1", "--layer=3")]
)
def test_several_layers_are_chosen_in_any_way_of_writing(call, arguments):
    [record] = found(call, *arguments, "--head", 2, "--site", "encoder", "a man", model="translation")
    assert [(site.name, site.layers, site.heads) for site in record.sites] == [("encoder", (1, 3), (2,))]
    assert record.texts["source"] == "a man"


def test_values_of_options_end_where_a_text_begins():
    import typer

    parsed = {}

    def command(texts: list[str] = typer.Argument(None), layer: list[str] = typer.Option(None, "--layer")) -> None:
        parsed.update(texts=texts, layer=layer)

    app = typer.Typer()
    app.command(cls=Command)(command)
    typer.main.get_command(app).main(["--layer", "1", "2-3", "a text", "4"], standalone_mode=False)
    assert parsed == {"texts": ["a text", "4"], "layer": ["1", "2-3"]}


def test_averages_words_and_special_tokens(call):
    [record] = found(call, "the dog sleeps", "--average", "both", "--words", "--no-special", model="encoder")
    [site] = record.sites
    assert (site.layers, site.heads) == (("mean",), ("mean",))
    assert [token.strip("▁") for token in site.keys.tokens] == ["the", "dog", "sleeps"]
    [whole] = found(call, "the dog sleeps", model="encoder")
    kept = np.mean([layer.mean(0) for layer in whole.sites[0].weights], axis=0)[1:-1, 1:-1]
    assert np.isclose(site.weights[0].sum() * len(kept) / 3, kept.sum(), rtol=0.2)


def test_a_rollout_is_of_what_looks_at_itself(call):
    [record] = found(call, "a man", "--target", "ein hund", "--rollout", model="translation")
    assert [(site.name, site.heads) for site in record.sites] == [("encoder", ("rollout",)), ("decoder", ("rollout",))]
    status, out, _ = call("the dog", "--rollout", model="encoder")
    assert status == 0 and "rollout" in out
    status, _, err = call("a man", "--target", "ein hund", "--rollout", "--site", "cross", model="translation")
    assert status == 2 and "rollout needs" in err
    status, _, err = call("a man", "--rollout", "--order", "random", "--site", "query", model="xlnet")
    assert status == 2 and "use --site content" in err


def test_statistics_are_means_over_all_texts(call):
    lines = "the dog\na man and a child\n"
    status, out, err = call("--stats", "--format", "json", model="encoder", stdin=lines)
    assert status == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 6 and {row["texts"] for row in rows} == {2}
    alone = [
        [json.loads(line) for line in call("--stats", "--format", "json", text, model="encoder")[1].splitlines()]
        for text in lines.splitlines()
    ]
    for row, one, two in zip(rows, *alone, strict=True):
        assert (row["layer"], row["head"]) == (one["layer"], one["head"])
        for name in ("entropy", "distance"):
            assert row[name] == pytest.approx((one[name] + two[name]) / 2)
    status, out, err = call("--stats", model="encoder", stdin=lines)
    assert "entropy" in out and err == "these are means over 2 texts\n"


def test_gradients_are_signed_and_name_what_is_differentiated(call):
    [record] = found(call, "the dog", "--gradient", "--target-label", "yes", model="classify")
    assert record.sites[0].signed
    assert record.notes["gradient of"] == "the logit of the label 'yes'"
    status, out, _ = call("the dog", "--gradient", model="language-model")
    assert status == 0 and "log-probability" in out


def test_a_memory_and_both_streams_are_drawn(call):
    [record] = found(call, "the dog", "--memory", "a man", model="xl")
    assert record.sites[0].keys.groups[0] == "memory"
    [record] = found(call, "the dog", "--order", "random", "--seed", 2, model="xlnet")
    assert [site.name for site in record.sites] == ["content", "query"]


def test_targets_come_from_a_file_line_by_line(call, tmp_path):
    (tmp_path / "t").write_text("ein mann\nein hund\n", encoding="utf-8")
    one, two = found(call, "--target-file", "t", model="translation", stdin="a man\na dog\n")
    assert (one.texts["target"], two.texts["target"]) == ("ein mann", "ein hund")
    status, out, err = call("--target-file", "t", "a", "b", "c", "--format", "json", model="translation")
    assert status == 2 and len(out.splitlines()) == 2
    assert "text 3: no target is left; t has only 2 lines" in err
    status, _, err = call("--target-file", "t", "a", "--format", "json", model="translation")
    assert status == 2 and "the file has more lines than there are texts (1)" in err


def test_the_newest_run_is_taken_and_named(call, models, tmp_path):
    import shutil

    shutil.copytree(models / "encoder", tmp_path / "runs" / "mine")
    status, _, err = call("the dog")
    assert status == 0
    assert err.startswith("model: runs/mine (the newest run; choose another one with --model)\n")


# --- links of words ----------------------------------------------------------------------------------------------


def test_links_of_words_are_those_of_the_texts_and_their_targets(call, tmp_path):
    (tmp_path / "t").write_text("ein mann\n\nein hund\n", encoding="utf-8")
    status, out, err = call(
        "--format", "pharaoh", "--target-file", "t", model="translation", stdin="a man\n\na dog in the house\n"
    )
    assert status == 0, err
    lines = out.split("\n")[:-1]
    assert len(lines) == 3 and lines[1] == ""
    status, _, _ = call("a man", "--target", "ein mann", "--out", "x.align", model="translation")
    assert (tmp_path / "x.align").read_text("utf-8") == lines[0] + "\n"
    assert all(i < 2 and j < 2 for i, j in (map(int, link.split("-")) for link in lines[0].split()))


def test_links_of_two_directions_are_combined(call, models):
    both = ("--format", "pharaoh", "--target", "ein mann", "--align", "intersection")
    status, _, err = call("a man", *both, model="translation")
    assert status == 0, err
    status, _, err = call("a man", *both, "--reverse-model", models / "translation", "--layer", 1, model="translation")
    assert status == 0, err


# --- without a model ---------------------------------------------------------------------------------------------


def test_a_pattern_is_drawn_without_a_model(call, tmp_path):
    status, out, err = call("--pattern", "window:2+global:1", "--length", 6)
    assert (status, err) == (0, "")
    assert "window:2+global:1" in out
    [record] = found(call, "--pattern", "causal", "--length", 4)
    assert record.sites[0].weights[0][0].tolist() == np.tril(np.ones((4, 4))).tolist()
    one, two = (found(call, "--pattern", "random:2", "--seed", seed)[0] for seed in (1, 2))
    assert not np.array_equal(one.sites[0].weights[0], two.sites[0].weights[0])
    [unsaid] = found(call, "--pattern", "random:2")
    assert unsaid.sites[0].title == "random:2"
    assert np.array_equal(unsaid.sites[0].weights[0][0], parse("random:2").dense(32).numpy())


def test_one_head_is_explained_in_numbers_without_a_model(call):
    status, out, err = call("--explain", "The cat sat")
    assert status == 0 and err == ""
    assert "7. A = softmax" in out and max(map(len, out.splitlines())) <= 80
    status, out, _ = call("--explain", "The cat sat", "--causal", "--format", "json")
    assert status == 0 and json.loads(out)["weights"][0] == [1.0, 0.0, 0.0]


def test_kernel_regression_is_drawn_without_a_model_and_without_standard_input(call):
    status, out, err = call("--kernel-regression")
    assert status == 0 and err == ""
    assert "learned width" in out and "Attention weights" in out
    status, out, _ = call("--kernel-regression", "--bandwidth", "0.5", "--seed", 3, "--json")
    data = json.loads(out)
    assert status == 0 and [fit["bandwidth"] for fit in data["fits"]] == [[None], [0.5]]
    assert np.array(data["fits"][1]["weights"]).shape == (len(data["queries"]), len(data["points"]["y"])) == (101, 50)
    assert json.loads(call("--kernel-regression", "--json")[1])["points"] != data["points"]


def test_kernel_regression_reads_points_from_a_file_or_a_pipe(call, tmp_path):
    (tmp_path / "p.csv").write_text("age,height\n1,80\n2,90\n4,100\n")
    for arguments in (("--kernel-regression", "p.csv"), ("p.csv", "--kernel-regression")):
        status, out, _ = call(*arguments, "--bandwidth", "learn", "--json")
        data = json.loads(out)
        assert status == 0 and data["columns"] == ["age", "height"] and data["points"]["y"] == [80, 90, 100]
        assert [fit["name"] for fit in data["fits"]] == ["mean", "learned"] and data["truth"] is None
    status, out, _ = call("--kernel-regression", "-", "--bandwidth", 1, stdin="1 2\n2 3\n")
    assert status == 0 and "2 points of <stdin>" in out


@pytest.mark.parametrize("subject", [("--kernel-regression",), ("--convolution", "3x3")])
@pytest.mark.parametrize(("suffix", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_pictures_of_the_course_are_written(call, subject, suffix, begin, tmp_path):
    pytest.importorskip("matplotlib", reason="figures need the extra 'plot'")
    assert call(*subject, "--out", f"a.{suffix}", "--theme", "dark", "--title", "A title")[0] == 0
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(begin)


def test_the_page_of_a_kernel_regression_is_written(call, tmp_path):
    assert call("--kernel-regression", "--out", "a.html", "--title", "A & B")[0] == 0
    assert "<title>A &amp; B</title>" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_convolution_is_compared_with_attention(call):
    status, out, err = call("--convolution", "5")
    assert status == 0 and err == "" and "Convolution 5 as attention with 5 heads" in out
    data = json.loads(call("--convolution", "3x3", "--seed", 2, "--json")[1])
    assert data["levels"][-1]["alpha"] == 50 and data["levels"][-1]["error"] < 1e-4
    assert np.array(data["levels"][0]["weights"]).shape == (9, 5, 5)


@pytest.mark.parametrize("kind", ["sinusoidal", "rotary", "transformer-xl", "relative", "alibi"])
def test_positions_are_drawn_without_a_model(call, tmp_path, kind):
    size = {"relative": ("--buckets", 8), "alibi": ()}.get(kind, ("--d-model", 16))
    status, out, _ = call("--positions", kind, "--length", 10, *size)
    assert status == 0 and kind in out.lower()
    status, out, _ = call("--positions", kind, "--length", 10, *size, "--format", "json")
    assert np.array(json.loads(out)["values"]).shape[0] == 10
    pytest.importorskip("matplotlib", reason="figures need the extra 'plot'")
    assert call("--positions", kind, "--length", 10, *size, "--out", "p.png")[0] == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_learned_positions_are_the_vectors_of_the_model(call, models):
    status, out, _ = call("--positions", "learned", "--length", 9, "--json", model="learned-positions")
    matrix = json.loads(out)
    weights = open_model(models / "learned-positions").model.get_parameter("encoder_embedding.positions.weight")
    assert status == 0 and np.allclose(matrix["values"], weights[2:11].detach().numpy())
    status, out, _ = call("--positions", "learned", "--json", model="learned-positions")
    assert np.array(json.loads(out)["values"]).shape == (24, 16)


def test_the_newest_run_with_learned_positions_is_drawn(call, models, tmp_path):
    (tmp_path / "runs").symlink_to(models)
    status, out, err = call("--positions", "learned", "--length", 4)
    assert status == 0 and "model: runs/learned-positions (the newest run with learned positions" in err
    assert "learned positions (position by dimension)" in out


# --- wrong calls -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "--format", "bmp"), "unknown format 'bmp'"),
        (("a", "--out", "x.bmp"), "x.bmp: the ending of the file name is not a supported format"),
        (("a", "--out", "x.svg", "--format", "png"), "x.svg: the file name is for the format svg, but --format is png"),
        (("a", "--theme", "dark"), "--theme has no effect on the format terminal"),
        (("a", "--format", "json", "--width", "40"), "--width has no effect on the format json"),
        (("a", "--out", "x.svg", "--color", "always"), "--color has no effect on the format svg"),
        (("a", "--color", "blue"), "unknown color 'blue'"),
        (("a", "--view", "round"), "unknown view 'round'"),
        (("a", "--layer", "x"), "--layer x is not a number"),
        (("a", "--layer", "9"), "layer 9 does not exist"),
        (("a", "--layer", "2-9999999999"), "layer 4 does not exist"),
        (("a", "--layer", "3-1"), "--layer 3-1 is a descending range"),
        (("a", "--head", "1,2-1"), "--head 2-1 is a descending range"),
        (("a", "--head", "0"), "head 0 does not exist"),
        (("a", "--site", "crss"), "unknown attention 'crss'"),
        (("a", "--average", "words"), "unknown average 'words'"),
        (("a", "--rollout", "--head", "1"), "so --head has no effect"),
        (("a", "--rollout", "--average", "heads"), "so --average has no effect"),
        (("a", "--rollout", "--gradient"), "--rollout applies to attention weights"),
        (("a", "--stats", "--gradient"), "--stats applies to attention weights"),
        (("a", "--stats", "--out", "x.png"), "--stats does not support the format png"),
        (("a", "--stats", "--links"), "--links applies to matrices, but --stats prints a table"),
        (("a", "--stats", "--view", "grid"), "--view applies to matrices, but --stats prints a table"),
        (("a", "--links", "--view", "grid"), "--links has no effect on a grid, which contains no full matrices"),
        (("a", "--target-label", "yes"), "has no effect without --gradient"),
        (("a", "--seed", "2"), "--seed applies to a random order only"),
        (("a", "--seed", "0"), "--seed applies to a random order only"),
        (("a", "--length", "2"), "--length applies to drawings without a model only"),
        (("--positions", "learned"), "encoder has no learned positions"),
        (("a", "--align", "argmax"), "--align applies to word alignments only"),
        (("a", "--text-a", "b"), "--text-a and another text can't be used together"),
        (("--text-b", "b"), "the first text is missing"),
        (("a", "--target", "x", "--target-file", "y"), "can't be used together"),
        (("a", "b", "--target", "x"), "only one target is given, but there are 2 texts"),
        (("a", "--target-file", "y"), "y: no such file"),
        (("a", "--target", "x"), "a target is not possible"),
        (("a", "--memory", "x"), "a memory is not possible"),
        (("a", "--order", "random"), "a factorization order is not possible"),
        (("a", "--pattern", "causal"), "TEXT needs a model, but --pattern uses none"),
        (("a", "--format", "pharaoh"), "none is given"),
        (("a", "--format", "pharaoh", "--target", "x", "--head", "1"), "--head has no effect on word alignments"),
        (("  ",), "no text is given"),
    ],
)
def test_what_is_wrong_is_refused_in_a_sentence(call, arguments, message):
    status, out, err = call(*arguments, model="encoder")
    assert status == 2 and message in err and out == ""
    assert "internal" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pattern", "windw:3"), "windw"),
        (("--pattern", "causal", "--positions", "rotary"), "--positions can't be used with --pattern"),
        (("--pattern", "causal", "--d-model", 8), "--d-model applies to positions"),
        (("--pattern", "random:3", "--seed", -1), "--seed must be at least 0, not '-1'"),
        (("--pattern", "causal", "--seed", 4), "--seed has no effect, because the pattern is not random"),
        (("--pattern", "random:3:7", "--seed", 4), "--seed has no effect, because the pattern is not random"),
        (("--pattern", "causal", "--device", "cpu"), "--device needs a model"),
        (("--pattern", "causal", "--threads", 4), "--threads needs a model"),
        (("--explain", "The cat", "--pattern", "causal"), "--explain can't be used with --pattern"),
        (("--explain", "The cat", "--length", 8), "--length has no effect on --explain"),
        (("--explain", "The cat", "--model", "runs/x"), "--model needs a model"),
        (("--explain", "The cat", "--format", "svg"), "--explain does not support the format svg"),
        (("--explain", " "), "--explain needs a text"),
        (("--positions", "relative", "--distance", 0), "relative distance 0 is not between"),
        (("--positions", "rotary", "--distance", 0), "--distance applies to relative positions only"),
        (("--positions", "rotary", "--seed", 8), "--seed has no effect, because positions are not random"),
        (("--positions", "rotary", "--causal"), "--causal applies to relative positions only"),
        (("--positions", "relative", "--d-model", 8), "--d-model applies to vectors"),
        (("--positions", "alibi", "--d-model", 8), "--d-model applies to vectors, but alibi is a number"),
        (("--positions", "alibi", "--causal"), "--causal applies to relative positions only"),
        (("--positions", "learned"), "no model is given, and no run in runs/ has learned positions"),
        (("--positions", "learned", "--d-model", 8), "--d-model has no effect on --positions learned"),
        (("--positions", "learned", "--device", "cpu"), "--device has no effect on --positions learned"),
        (("--positions", "rotry"), "unknown positions 'rotry'"),
        (("--positions", "rotary", "--format", "html"), "--positions does not support the format html"),
        (("--positions", "rotary", "--words"), "--words needs a model"),
        (("--kernel-regression", "a.tsv", "b.tsv"), "--kernel-regression takes one file of points, but 2 are given"),
        (("--kernel-regression", "a.tsv"), "a.tsv: no such file"),
        (("--kernel-regression", "a.tsv", "--seed", 1), "--seed has no effect, because the points come from a file"),
        (("--kernel-regression", "--bandwidth", 0), "--bandwidth 0 is not possible"),
        (("--kernel-regression", "--causal"), "--causal has no effect on --kernel-regression"),
        (("--kernel-regression", "--view", "grid"), "--view has no effect on --kernel-regression"),
        (("--kernel-regression", "--convolution", 3), "--convolution can't be used with --kernel-regression"),
        (("--kernel-regression", "--format", "npz"), "--kernel-regression does not support the format npz"),
        (("--kernel-regression", "--words"), "--words needs a model, but --kernel-regression uses none"),
        (("--bandwidth", 1), "--bandwidth applies to kernel regression only"),
        (("--pattern", "causal", "--bandwidth", 1), "--bandwidth applies to kernel regression only"),
        (("--convolution", 4), "--convolution 4 is not possible"),
        (("--convolution", 3, "a text"), "TEXT needs a model, but --convolution uses none"),
        (("--convolution", 3, "--format", "html"), "--convolution does not support the format html"),
        (("--convolution", 3, "--length", 9), "--length has no effect on --convolution"),
        ((), "no text is given"),
    ],
)
def test_what_is_wrong_without_a_model_is_refused_too(call, arguments, message):
    status, _, err = call(*arguments)
    assert status == 2 and message in err


def test_bytes_are_not_written_to_a_terminal(call, monkeypatch):
    monkeypatch.setattr("nlpcli.cli.attention_output.sys.stdout.isatty", lambda: True)
    status, _, err = call("a", "--format", "npz", model="encoder")
    assert status == 2 and "npz can't be written to a terminal" in err
