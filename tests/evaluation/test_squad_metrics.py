from __future__ import annotations

import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Resampling, squad_metrics
from nlpcli.evaluation.squad_metrics import AnswerF1, ExactMatch

WORD = st.sampled_from(["the", "A", "an", "cat", "Cat's", "cat", "–", "1.5", "München", "theme", "  "])
TEXT = st.lists(WORD, max_size=6).map(" ".join)
ANSWER = st.lists(TEXT.filter(str.strip), max_size=3).map(tuple)
QUESTIONS = st.lists(st.tuples(ANSWER, TEXT, st.floats(0, 1)), min_size=1, max_size=10)


def oracle(predicted, gold):
    """Exact match and F1 of a question after the description in Rajpurkar et al. 2018, answers by sorted words."""

    def words(text):
        kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
        return [word for word in re.sub(r"\b(?:a|an|the)\b", " ", kept).split() if word]

    best = (0.0, 0.0)
    for answer in [answer for answer in gold if words(answer)] or [""]:
        guess, true = words(predicted), words(answer)
        common = sum(min(count, Counter(true)[word]) for word, count in Counter(guess).items())
        f1 = float(guess == true)
        if guess and true and common:
            precision, recall = common / len(guess), common / len(true)
            f1 = 2 * precision * recall / (precision + recall)
        best = (max(best[0], float(guess == true)), max(best[1], f1))
    return best


@given(QUESTIONS)
def test_exact_match_and_f1_follow_the_definition(questions):
    gold, predicted, _ = map(list, zip(*questions, strict=True))
    expected = np.mean([oracle(guess, true) for guess, true in zip(predicted, gold, strict=True)], axis=0)
    assert squad_metrics.exact_match(gold, predicted).value == pytest.approx(100 * expected[0])
    assert squad_metrics.answer_f1(gold, predicted).value == pytest.approx(100 * expected[1])


@given(QUESTIONS, st.sampled_from([ExactMatch, AnswerF1]))
def test_the_best_threshold_is_the_best_of_all_thresholds_and_gives_its_score(questions, metric):
    gold, predicted, no_answer = map(list, zip(*questions, strict=True))
    best = squad_metrics.best_threshold(gold, predicted, no_answer, metric)

    def scored(threshold):
        kept = [guess if p <= threshold else "" for guess, p in zip(predicted, no_answer, strict=True)]
        return metric().corpus(kept, [[true if any(true) else () for true in gold]]).value

    distinct = len(set(no_answer)) == len(no_answer)  # among equal ones the official script counts some alone
    strange = any(true and not any(map(squad_metrics.normalise_answer, true)) for true in gold)
    blank = any(guess and not squad_metrics.normalise_answer(guess) for guess in predicted)
    if distinct and not strange and not blank:
        assert best.score == pytest.approx(max(map(scored, [-1.0, *no_answer])))
        assert best.threshold in (0.0, *no_answer)


def test_normalisation_drops_case_punctuation_articles_and_spaces():
    assert squad_metrics.normalise_answer(" The  Cat's\tan  A-team; ") == "cats ateam"
    assert squad_metrics.exact_match([("the Cat's!",)], ["cats"]).value == 100
    assert ExactMatch(normalize_answers="none").corpus(["cats"], [[("the Cat's!",)]]).value == 0


def test_questions_with_and_without_answers_are_distinguished():
    gold = [("Paris", "in Paris"), (), ("",), ("blue",)]
    score = squad_metrics.answer_f1(gold, ["Paris", "", "London", None])
    assert score.value == 50
    assert score.details == {
        "questions": 4,
        "missing": 1,
        "has_answer_questions": 2,
        "has_answer": 50.0,
        "no_answer_questions": 2,
        "no_answer": 50.0,
    }
    assert ExactMatch().cautions(["Paris", "", "London", None], [gold]) == [
        "1 of 4 questions has no prediction and scores 0"
    ]
    assert ExactMatch().cautions(["x"], [[("x",)]]) == []


def test_questions_are_scored_one_by_one_and_resampled():
    gold, predicted = [("a cat",), ("two words",)] * 10, ["cat", "two"] * 10
    assert [score.value for score in AnswerF1().sentences(predicted[:2], [gold[:2]])] == pytest.approx([100, 200 / 3])
    score = squad_metrics.answer_f1(gold, predicted, Resampling(100))
    assert 200 / 3 < score.low < score.value < score.high < 100
    assert score.signature.startswith("answer-F1|nrefs:1|bs:100|seed:12345|norm:squad|")


def test_bad_calls_are_refused():
    with pytest.raises(NlpcliError, match="unknown normalization 'squat'"):
        ExactMatch(normalize_answers="squat")
    with pytest.raises(NlpcliError, match=r"questions \(2\), predictions \(1\) and probabilities \(2\) are not equal"):
        squad_metrics.best_threshold([(), ()], ["a"], [0.5, 0.5])
