from __future__ import annotations

import pytest

from nlpcli.data.examples import Example
from nlpcli.errors import NlpcliError
from nlpcli.tasks.similarity_labels import Comparison


def examples(labels):
    return [Example((f"text {i}", f"other {i}"), label, f"train.tsv:{i}") for i, label in enumerate(labels, start=1)]


@pytest.mark.parametrize(
    ("labels", "objective"),
    [
        (["0.0", "2.5", "5", "3"], "cosine"),
        (["1", "0", "1"], "contrastive"),
        (["yes", "no", "no"], "contrastive"),
        (["entailment", "not_entailment"], "contrastive"),
        (["entailment", "neutral", "contradiction"], "softmax"),
        (["cats", "dogs"], "softmax"),
        ([None, None], "multiple-negatives"),
    ],
)
def test_the_labels_say_which_objective_fits(labels, objective):
    assert Comparison.for_examples(examples(labels)).objective == objective


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["1.5", "x", "2"], {"objective": "cosine"}, r"train\.tsv:2: the score 'x' is not a number"),
        (["1.5", None, "2"], {}, r"train\.tsv:2: the label is missing"),
        (["1", "nan", "2"], {"objective": "cosine"}, r"train\.tsv:2: the score 'nan' is not a number"),
        (["1", "6", "2"], {"maximum": 5.0}, r"train\.tsv:2: the score 6 is outside"),
        (["2", "2", "2"], {"objective": "cosine"}, "all training examples have the same score 2"),
        (["1", "1"], {}, "needs two labels, but all training examples have the label '1'"),
        (["yes", "no", "maybe"], {"objective": "contrastive"}, r"train\.tsv:3: .* not 'maybe'"),
        (["cats", "dogs"], {"objective": "contrastive"}, "contrastive needs the labels 1"),
        (["same", "same"], {"objective": "softmax"}, "all training examples have the same label 'same'"),
        (
            ["yes", "no"],
            {"objective": "multiple-negatives"},
            r"train\.tsv:2: .* has 'no' and the first one 'yes'",
        ),
        (["yes", "no"], {"objective": "cosin"}, "unknown objective of similarity 'cosin'"),
    ],
)
def test_labels_that_do_not_fit_are_named_with_their_place(labels, options, message):
    with pytest.raises(NlpcliError, match=message):
        Comparison.for_examples(examples(labels), **options)
