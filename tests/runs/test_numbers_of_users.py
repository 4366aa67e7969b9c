"""Wherever a number is read from a file or an option, the same texts are numbers: not `1_0`, `nan` or `٣`."""

from __future__ import annotations

import pytest

from nlpcli.cli.attention_options import numbers as layers_of
from nlpcli.cli.main import main
from nlpcli.commands.report.read_runs import runs_below
from nlpcli.commands.score.score_inputs import Files, Paths
from nlpcli.commands.visualize_attention.word_alignment import parse_layer
from nlpcli.config.loading import load_json
from nlpcli.config.multi_task import MixtureConfig
from nlpcli.data.columns import Columns, column_number, find
from nlpcli.data.examples import Example
from nlpcli.data.readers import read_documents
from nlpcli.errors import NlpcliError
from nlpcli.objectives.noise_parser import parse_noise
from nlpcli.runs.embedder import EmbedderSettings
from nlpcli.runs.pretraining import parse as parse_objective
from nlpcli.runs.suites.suite_predictions import _idx
from nlpcli.tasks.regression import score_in
from nlpcli.tasks.text_batches import labels_of

FEWER = "a number has too many digits"
NO_NUMBERS = ["1_0", "nan", "inf", "-Infinity", "٣", "３", "0x1", "1e999", "1,5"]
NO_COUNTS = ["1_0", "٣", "３", "²", "9" * 5000]


@pytest.fixture(params=NO_NUMBERS)
def text(request):
    return request.param


@pytest.fixture(params=NO_COUNTS, ids=lambda text: text[:6])
def count(request):
    return request.param


def test_a_line_of_scores(tmp_path, text):
    (tmp_path / "h").write_text(f"1\n{text}\n", encoding="utf-8")
    (tmp_path / "r").write_text("1\n2\n")
    paths = Paths((str(tmp_path / "r"),), None, (str(tmp_path / "h"),))
    with pytest.raises(NlpcliError, match=r"h:2: '.*' is not a (finite )?number$"):
        Files(paths, "auto").read("numbers", "pearson")


def test_a_label_that_is_a_score(text):
    with pytest.raises(NlpcliError, match="is not a number"):
        score_in(Example(("a",), text, "x:1"))


def test_labels_that_python_takes_for_numbers_are_names(text):
    names = labels_of([Example(("a",), label, "x:1") for label in (text, "b", "--1", "10", "9")], "a classifier")
    assert names.index("9") < names.index("10") and set(names) == {text, "b", "--1", "10", "9"}


def test_the_weight_of_an_objective(text):
    with pytest.raises(NlpcliError, match="not a positive number"):
        parse_objective(f"mlm=1+nsp={text}")


def test_the_numbers_of_a_noise(text):
    with pytest.raises(NlpcliError, match=r"not a number|unknown noise"):
        parse_noise(f"infill:{text}")


def test_the_temperature_of_a_mixture(text):
    with pytest.raises(ValueError, match="temperature:2"):
        MixtureConfig._mixing(f"temperature:{text}")
    assert MixtureConfig._mixing("temperature: 2.5") == "temperature: 2.5"


def test_a_layer_and_a_head(count):
    with pytest.raises(NlpcliError, match="is not a number"):
        layers_of("--layer", [count])
    with pytest.raises(NlpcliError, match="is not a layer"):
        parse_layer(count)
    assert layers_of("--layer", ["3", "1-2"]) == (3, 1, 2)
    assert (parse_layer("3"), parse_layer("3, 2")) == (3, (3, 2))


def test_the_layers_of_a_vector(count):
    with pytest.raises(NlpcliError, match="--layers does not support the value"):
        EmbedderSettings(layers=f"mean:{count}")


def test_a_column_selected_by_its_number(count):
    assert column_number(count) is None
    with pytest.raises(NlpcliError, match="no column"):
        find(count, None, 3, "x:1")
    assert Columns(text=count).is_header(["a", "b"])  # a name, so the file has a header
    assert find(count, ["a", count], 2, "x:1") == 1


def test_the_id_of_an_example_stays_what_it_is(count):
    assert _idx(count) == count
    assert _idx("17") == 17


def test_runs_whose_names_hold_other_digits_are_sorted(tmp_path):
    for name in ("²", "run-10", "run-9", "run-٣"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("")
    assert [run.name for run in runs_below(tmp_path)] == ["run-٣", "run-9", "run-10", "²"]


@pytest.mark.parametrize("option", ["--smooth-value", "--max-ngram-order", "--seed"])
def test_the_value_of_an_option(option, text, capsys):
    what = "number" if option == "--smooth-value" else "whole number"
    for call in ([option, text], [f"{option}={text}"]):
        assert main(["score", "bleu", "h", "--ref", "r", "--confidence", *call]) == 2
        sentence, hint = capsys.readouterr().err.splitlines()
        assert sentence == f"nlpcli: {option} needs a {what}, but '{text}' is not one"
        assert hint == "  hint: 'nlpcli score --help' lists its options"


def test_numbers_of_thousands_of_digits_are_refused_in_words_of_the_program(tmp_path):
    digits = "9" * 5000
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a"}}\n{{"text": "b", "n": {digits}}}\n')
    (tmp_path / "a.json").write_text(f'{{"n": {digits}}}')
    with pytest.raises(NlpcliError, match=rf"a\.jsonl:2: this is not valid JSON \({FEWER}\)"):
        list(read_documents([tmp_path / "a.jsonl"]))
    with pytest.raises(NlpcliError, match=rf"a\.json: this is not valid JSON \({FEWER}\)"):
        list(read_documents([tmp_path / "a.json"]))
    with pytest.raises(NlpcliError, match=rf"a\.json: this is not valid JSON \({FEWER}\)"):
        load_json(tmp_path / "a.json")
