"""The functions as a program uses them: light to import, typed, with errors in Python's words."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nlpcli
from nlpcli.api import options
from nlpcli.cli.app import build_command
from nlpcli.evaluation import METRICS

ROOT = Path(nlpcli.__file__).resolve().parents[1]
FUNCTIONS = ("pretrain", "finetune", "translate", "generate", "predict", "score", "evaluate", "embed", "load")
HEAVY = {"torch", "numpy", "pydantic", "yaml", "sacrebleu", "sentencepiece", "tokenizers", "typer", "rich"}


def python(code: str, environment, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_importing_loads_no_library_and_knows_every_name(environment):
    code = f"import nlpcli, sys; print(sorted({HEAVY!r} & set(sys.modules)), set(nlpcli.__all__) <= set(dir(nlpcli)))"
    assert python(code, environment) == "[] True\n"


def test_importing_takes_less_than_a_tenth_of_a_second(environment):
    code = "import time; t = time.process_time(); import nlpcli; print(time.process_time() - t)"
    assert min(float(python(code, environment)) for _ in range(3)) < 0.1


def test_scoring_loads_no_torch(environment):
    code = "import nlpcli, sys; nlpcli.score('bleu', ['a b'], ['a b']); print('torch' in sys.modules)"
    assert python(code, environment) == "False\n"


def test_every_public_name_can_be_taken_and_has_a_docstring():
    from nlpcli import __all__ as names

    assert set(FUNCTIONS) <= set(names)
    for name in names:
        assert inspect.getdoc(getattr(nlpcli, name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trnslate'"):
        _ = nlpcli.trnslate


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "nlpcli" / "py.typed").is_file()


def test_results_can_not_be_changed():
    with pytest.raises(AttributeError):
        nlpcli.score("bleu", ["a"], ["a"]).value = 3


# --- arguments ---------------------------------------------------------------------------------------------------

OF_A_FILTER = {
    "files",
    "processes",
    "results",
    "json",
    "format",
    "field",
    "output_field",
    "line_buffered",
    "scores",
    "echo",
}
WITHOUT = {
    "pretrain": {"objective_name", "show", "processes", "json"},
    "finetune": {"task_name", "suite", "only", "seeds", "processes", "json"},
    "translate": {*OF_A_FILTER, "target_prefix_file"},
    "generate": {*OF_A_FILTER, "template", "data", "shots", "examples", "text", "text2", "label", "header"},
    "predict": {*OF_A_FILTER, "top", "text", "text2", "choices"},
    "embed": {*OF_A_FILTER, "output", "tokens", "word", "word_pooling", "only", "static", "similarity"},
    "evaluate": {"files", "results", "json", "suite", "only", "predictions"},
    "score": {
        "arguments", "results", "json", "metrics", "sentence", "alignment", "score_only", "decimals", "format",
        "model", "window", "stride", "memory_length", "streams", "dynamic_evaluation", "dynamic_decay",
        "documents", "field", "pll", "device", "threads", "processes",
    },
}  # fmt: skip
MORE = {
    "pretrain": {"settings", "progress"}, "finetune": {"settings", "progress", "preset"},
    "translate": {"texts"}, "generate": {"prompts"}, "predict": {"texts"}, "embed": {"texts"}, "evaluate": set(),
    "score": {"metric", "hypotheses"},
}  # fmt: skip
RENAMED = {"overrides": None, "prompt": None, "dry_run": None, "samples": "bootstrap_samples"}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_function_has_the_options_of_its_command(name):
    parameters = {parameter.name for parameter in build_command(name).params} - WITHOUT[name] - {"help"}
    wanted = {RENAMED.get(one, one) for one in parameters} - {None}
    assert set(inspect.signature(getattr(nlpcli, name)).parameters) == wanted | MORE[name]


def test_scoring_takes_every_option_that_a_metric_has():
    own = {"confidence", "baseline", "bootstrap_samples", "seed"}
    known = set().union(*(METRICS.load(name).options for name in METRICS))
    assert known | own == set(options.ScoreOptions.__annotations__)


@pytest.mark.parametrize("name", ["translate", "generate", "predict", "embed", "evaluate", "score"])
def test_an_argument_that_is_not_there_is_answered_with_the_nearest(name):
    wrong = {"translate": "beam_sise", "generate": "max_new_token", "score": "lowercas"}.get(name, "batch_token")
    required = {"score": ("bleu", ["a"], ["a"])}.get(name, (["a"],))
    with pytest.raises(TypeError, match=re.escape(f"{name}() got an unexpected keyword argument '{wrong}'. Did you")):
        getattr(nlpcli, name)(*required, **{wrong: 1})


WRONG = [
    (lambda: nlpcli.translate(["a"], sample=True, beam_size=3), "sample and beam_size can't be used together"),
    (lambda: nlpcli.translate(["a"], top_k=3), "top_k has no effect without sample"),
    (lambda: nlpcli.translate(["a"], alignment_layer=1), "alignment_layer has no effect without alignments"),
    (lambda: nlpcli.translate(["a"], min_length=3, max_length=2), "min_length 3 is greater than max_length 2"),
    (lambda: nlpcli.generate(["a"], greedy=True, top_p=0.5), "greedy and top_p can't be used together"),
    (lambda: nlpcli.evaluate("x", seed=1, confidence=False), "seed has no effect without confidence"),
    (lambda: nlpcli.score("bleu", ["a"], ["a"], seed=1), "seed has no effect without confidence"),
    (lambda: nlpcli.score("bleu", ["a"], "a"), "references must be a list of texts"),
    (lambda: nlpcli.score("blue", ["a"], ["a"]), "unknown metric 'blue'"),
    (lambda: nlpcli.score("rouge", ["a"], ["a"]), "'rouge' stands for 3 metrics"),
    (lambda: nlpcli.score("wer", ["a"], ["a"], tokenize="char"), "tokenize"),
    (lambda: nlpcli.score("bleu", ["a", "b"], ["a"]), "hypotheses has 2 lines, but references has 1 line"),
    (lambda: nlpcli.score("bleu", [], []), "is empty, so there is nothing to score"),
    (lambda: nlpcli.score("pearson", ["a", "b"], [1, 2]), "hypotheses:1: 'a' is not a number"),
    (lambda: nlpcli.score("bleu", [{}], ["a"]), "hypotheses: item 1 is of the type dict"),
    (lambda: nlpcli.finetune(resume=True), "resume needs the folder of the run"),
    (lambda: nlpcli.finetune(model="a", preset="b"), "model and preset can't be used together"),
    (lambda: nlpcli.finetune("clasify", train="x"), "unknown task 'clasify'"),
    (lambda: nlpcli.finetune("classify", train="x", settings={"training.lrr": 1}), "lrr"),
    (lambda: nlpcli.finetune("classify", train="x", settings={3: 1}), "the name of a setting must be a string"),
    (lambda: nlpcli.pretrain("cml"), "cml"),
    (lambda: nlpcli.load("nowhere"), "nowhere"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_call_is_one_error_in_the_words_of_python(call, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nlpcli.NlpcliError) as caught:
        call()
    assert message in str(caught.value)
    assert not re.search(r"(?<!\w)--\w", str(caught.value))
    assert list(tmp_path.iterdir()) == []


def test_a_hint_that_shows_a_command_keeps_its_options(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(nlpcli.NlpcliError) as caught:
        nlpcli.translate(["a"])
    assert "nlpcli finetune --task translation" in caught.value.hint


def test_results_of_a_model_can_be_scored_as_they_are():
    translations = [nlpcli.Translation("eins", "one", 0.0, 0.0)]
    assert nlpcli.score("bleu", translations, ["one"], max_ngram_order=1).value == pytest.approx(100)
    predictions = [nlpcli.Prediction("a", 0.5, {"label": "a"}), nlpcli.Prediction("b", 0.5, {"label": "b"})]
    assert nlpcli.score("accuracy", predictions, ["a", "a"]).value == 50


def test_an_answer_of_another_kind_is_refused_by_name():
    prediction = nlpcli.Prediction(("a", "b"), None, {"tags": ["a", "b"]})
    assert prediction.tags == ("a", "b")
    with pytest.raises(nlpcli.NlpcliError, match="has no label"):
        _ = prediction.label
