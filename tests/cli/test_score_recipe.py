"""What `nlpcli score` does, called as a function."""

from __future__ import annotations

import pytest

from nlpcli.commands.score import score as recipe
from nlpcli.config.lazy_tables import LazyTable
from nlpcli.errors import NlpcliError


@pytest.fixture
def pair(tmp_path):
    (tmp_path / "hyp").write_text("a b\nc\n")
    (tmp_path / "ref").write_text("a b\nd\n")
    return str(tmp_path / "hyp"), str(tmp_path / "ref")


def test_a_request_is_scored_in_one_call(pair):
    hypothesis, reference = pair
    report = recipe.score(recipe.ScoreRequest((hypothesis,), (reference,), ("wer",)))
    [row] = report.scores
    assert (row.system, row.metric, report.segments) == (hypothesis, "wer", 2)
    assert row.score.value == pytest.approx(100 / 3)


def test_metrics_are_named_once_each_in_the_order_given():
    assert recipe.parse_metrics(["bleu,chrf", "BLEU", "ter, wer"]) == ("bleu", "chrf", "ter", "wer")
    with pytest.raises(NlpcliError, match="unknown metric 'rouhe'"):
        recipe.parse_metrics(["bleu,rouhe"])
    assert recipe.parse_metrics(["Rouge", "rougeL,squad"]) == ("rouge1", "rouge2", "rougel", "exact-match", "answer-f1")


@pytest.mark.parametrize(
    ("arguments", "metrics", "files"),
    [
        (["bleu", "a.txt"], ("bleu",), ("a.txt",)),
        (["bleu,chrf"], ("bleu", "chrf"), ()),
        (["WER", "-"], ("wer",), ("-",)),
        (["a.txt", "bleu"], (), ("a.txt", "bleu")),
        (["./bleu"], (), ("./bleu",)),
        (["bleu.txt"], (), ("bleu.txt",)),
        ([], (), ()),
    ],
)
def test_only_a_first_argument_that_is_a_metrics_name_is_taken_for_one(arguments, metrics, files):
    assert recipe.split_metric(arguments) == (metrics, files)


class Untextual:
    needs = "pictures"
    max_references = None
    options = frozenset()


def test_a_metric_that_is_not_computed_from_files_is_refused(pair, monkeypatch):
    monkeypatch.setattr(recipe, "METRICS", LazyTable("metric", {"gallery": f"{__name__}:Untextual"}))
    monkeypatch.setattr(LazyTable, "load", lambda self, name: Untextual)
    with pytest.raises(NlpcliError, match="can't be computed from hypotheses and references"):
        recipe.build_metrics(["gallery"], {})


def test_an_option_goes_to_all_metrics_that_have_it_and_must_belong_to_one():
    built = recipe.build_metrics(["bleu", "wer"], {"lowercase": True, "tokenize": "intl"})
    assert built["bleu"].tokenize == "intl" and "case:lc" in built["wer"].signature()
    with pytest.raises(NlpcliError, match="--remove-punctuation has no effect on bleu, ter") as refusal:
        recipe.build_metrics(["bleu", "ter"], {"remove_punctuation": True})
    assert "wer, cer, mer, wil" in refusal.value.hint


def test_one_caution_is_given_once_for_all_systems(tmp_path):
    for name in ("hyp", "same", "ref"):
        (tmp_path / name).write_text("a long line .\n" * 100)
    hyp, same, ref = (str(tmp_path / name) for name in ("hyp", "same", "ref"))
    assert len(recipe.score(recipe.ScoreRequest((hyp, same), (ref,), ("bleu",))).warnings) == 1


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        (["a, b"], ["a, b"]),  # itself a label
        (["a, b", "c"], ["a, b", "c"]),
        ([" a, b "], ["a, b"]),
        (['"a, b",c'], ["a, b", "c"]),
        (['c, "a, b"'], ["c", "a, b"]),
        (["c,d", "c"], ["c", "d"]),
        (["c, e"], ["c", "e"]),
        (["x,y"], ["x", "y"]),  # in no file
        (['say "no"'], ['say "no"']),
    ],
)
def test_labels_are_taken_whole_where_they_are_labels_and_split_at_commas_elsewhere(values, chosen):
    assert recipe.chosen_labels(values, {"a, b", "c", "d", "e", 'say "no"'}) == chosen


@pytest.mark.parametrize("value", ["", " ", "a,,b", "a,", '"",b'])
def test_an_empty_label_is_refused(value):
    with pytest.raises(NlpcliError, match="contains an empty label"):
        recipe.chosen_labels([value], {"a", "b"})
