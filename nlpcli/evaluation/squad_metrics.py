"""Exact match and F1 of answers to questions, as SQuAD's official scripts count them.

Both sides are normalised: lower case, ASCII punctuation removed, the words a, an and the removed, white space made
single. Exact match is 1 for equal strings; F1 is that of the two bags of words,

    F1 = 2·common / (words of the prediction + words of the answer)

and the best one over all reference answers counts. A question without an answer is correct where nothing is predicted,
and an answer that normalizes to nothing is not an answer, as in the script of version 2.0 (that of 1.1 gives F1 0
where both sides are articles alone). A question without a prediction counts 0.

Sources: Rajpurkar et al. 2016, section 6.1; Rajpurkar et al. 2018, section 5, and the scripts released with them.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError, unknown
from nlpcli.evaluation.count_metrics import ExampleMetric, Measurement, once, shares
from nlpcli.evaluation.score import ANSWERS, Resampling, Score, reference_count
from nlpcli.evaluation.unspaced_scripts import unspaced_script

Answers = Sequence[str]
NORMALISATIONS = ("squad", "none")

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, white space made single."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def words_f1(predicted: str, answer: str) -> float:
    """F1 of the words of two normalised strings, 0 to 1; 1 where both are empty."""
    found, wanted = predicted.split(), answer.split()
    if not found or not wanted:
        return float(found == wanted)
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted))


class ExactMatch(ExampleMetric):
    """The share of questions whose prediction equals one of the reference answers, in percent.

    Items: a prediction is a string ("" for "there is no answer") or None where there is none; a reference is a tuple of
    all reference answers, () or ("",) where there is no answer; of several references the answers of all count.
    `normalize_answers`: `squad` as above, or `none`: the strings as they are.

    Raises: NlpcliError for another normalization.
    """

    name: ClassVar[str] = "EM"
    needs: ClassVar[str] = ANSWERS
    max_references: ClassVar[int | None] = None
    options: ClassVar[frozenset[str]] = frozenset({"normalize_answers"})

    def __init__(self, *, normalize_answers: str = "squad") -> None:
        if normalize_answers not in NORMALISATIONS:
            raise unknown("normalization", normalize_answers, NORMALISATIONS)
        self.normalize = normalize_answers

    def choices(self) -> str:
        return f"norm:{self.normalize}"

    def each(self, predicted: Sequence[str | None], references: Sequence[Answers]) -> np.ndarray:
        """The score of each question, 0 to 1."""
        clean = normalise_answer if self.normalize == "squad" else str
        scores = np.zeros(len(references))
        for number, (text, answers) in enumerate(zip(predicted, references, strict=True)):
            if text is not None:
                wanted = [answer for answer in map(clean, answers) if answer] or [""]
                scores[number] = max(self.pair(clean(text), answer) for answer in wanted)
        return scores

    def pair(self, predicted: str, answer: str) -> float:
        """The score of a prediction and one answer, both normalised."""
        return float(predicted == answer)

    def measure(self, hypotheses: Sequence[str | None], references: Sequence[Sequence[Answers]]) -> Measurement:
        reference_answers = _together(references)
        each = self.each(hypotheses, reference_answers)
        values = shares(each)
        answerable = np.array([any(answers) for answers in reference_answers])
        details: dict[str, float] = {"questions": len(reference_answers), "missing": hypotheses.count(None)}
        for name, group in (("has_answer", answerable), ("no_answer", ~answerable)):
            if group.any() and not group.all():
                details |= {f"{name}_questions": int(group.sum()), name: 100 * float(each[group].mean())}
        summary = counted(len(reference_answers), "question")
        if "no_answer" in details:
            summary += f" (has answer = {details['has_answer']:.2f} no answer = {details['no_answer']:.2f})"
        return Measurement(len(reference_answers), once(values, len(reference_answers)), values, summary, details)

    def sentences(self, hypotheses: Sequence[str | None], references: Sequence[Sequence[Answers]]) -> list[Score]:
        self._measured(hypotheses, references)
        return self.per_example(100 * self.each(hypotheses, _together(references)), reference_count(references))

    def cautions(self, hypotheses: Sequence[str | None], references: Sequence[Sequence[Answers]]) -> list[str]:
        missing = hypotheses.count(None)
        of = f"{missing:,} of {counted(len(hypotheses), 'question')}"
        what = "has no prediction and scores 0" if missing == 1 else "have no prediction and score 0"
        return [f"{of} {what}"] if missing else []


class AnswerF1(ExactMatch):
    """The mean F1 of the words of predictions and reference answers, in percent."""

    name: ClassVar[str] = "answer-F1"

    def cautions(self, hypotheses: Sequence[str | None], references: Sequence[Sequence[Answers]]) -> list[str]:
        script = unspaced_script([answer for answers in references[0] for answer in answers])
        unfit = [f"the answers look like {script}, which answer-F1 does not split into words"] if script else []
        return super().cautions(hypotheses, references) + unfit

    def pair(self, predicted: str, answer: str) -> float:
        return words_f1(predicted, answer)


class Threshold(NamedTuple):
    """The best score in percent, and the greatest probability of "no answer" at which an answer is still given."""

    score: float
    threshold: float


def best_threshold(
    references: Sequence[Answers],
    predicted: Sequence[str],
    no_answer: Sequence[float],
    score: Callable[[], ExactMatch] = ExactMatch,
) -> Threshold:
    """The threshold on `no_answer` (probabilities or scores) that gives the best score of these very questions.

    Answers are given where no_answer <= threshold, nothing elsewhere. As the official script of SQuAD 2.0 finds it:
    from "no answer to anything" (threshold 0) on, questions are added in the order of their probability.

    score: `ExactMatch` or `AnswerF1`. Raises: NlpcliError where the lengths differ.
    """
    if not len(references) == len(predicted) == len(no_answer):
        raise NlpcliError(
            f"the numbers of questions ({len(references)}), predictions ({len(predicted)}) and probabilities "
            f"({len(no_answer)}) are not equal"
        )
    each = score().each(predicted, references)
    answerable = [any(answers) for answers in references]
    current = best = float(len(references) - sum(answerable))
    threshold = 0.0
    for number in sorted(range(len(references)), key=no_answer.__getitem__):
        current += each[number] if answerable[number] else -float(bool(predicted[number]))
        if current > best:
            best, threshold = current, float(no_answer[number])
    return Threshold(100 * best / max(1, len(references)), threshold)


def exact_match(
    references: Sequence[Answers], predicted: Sequence[str | None], resampling: Resampling | None = None
) -> Score:
    """SQuAD's exact match in percent, see `ExactMatch`. Raises: NlpcliError for unequal lengths or nothing."""
    return ExactMatch().corpus(predicted, [references], resampling)


def answer_f1(
    references: Sequence[Answers], predicted: Sequence[str | None], resampling: Resampling | None = None
) -> Score:
    """SQuAD's F1 in percent, see `AnswerF1`. Raises: NlpcliError for unequal lengths or nothing."""
    return AnswerF1().corpus(predicted, [references], resampling)


def _together(references: Sequence[Sequence[Answers]]) -> Sequence[Answers]:
    """All reference answers to each question, of all references."""
    if len(references) == 1:
        return references[0]
    return [tuple(answer for answers in some for answer in answers) for some in zip(*references, strict=True)]
