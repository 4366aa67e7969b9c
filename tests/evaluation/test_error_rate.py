from __future__ import annotations

import time

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import METRICS, Resampling
from nlpcli.evaluation.error_rate import Normalisation, WordErrorRate, cer, edits, wer

WORDS = st.lists(st.sampled_from(["a", "b", "c", "A", "b,", "—", "ß"]), max_size=7).map(" ".join)
PAIRS = st.lists(st.tuples(WORDS | st.text(max_size=12), WORDS | st.text(max_size=12)), min_size=1, max_size=6)
NAMES = ("wer", "mer", "wil", "cer")


def levenshtein(reference, hypothesis):
    """The plain recurrence, cell by cell."""
    above = list(range(len(hypothesis) + 1))
    for i, unit in enumerate(reference, start=1):
        row = [i]
        for j, other in enumerate(hypothesis, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (unit != other)))
        above = row
    return above[-1]


def columns(pairs):
    return [hypothesis for hypothesis, _ in pairs], [reference for _, reference in pairs]


@given(PAIRS)
def test_rates_equal_jiwers_own_on_any_text(pairs):
    hypotheses, references = columns(pairs)
    words = jiwer.process_words(references, hypotheses)
    expected = {"wer": words.wer, "mer": words.mer, "wil": words.wil, "cer": jiwer.cer(references, hypotheses)}
    for name in NAMES:
        score = METRICS.load(name)().corpus(hypotheses, [references])
        assert score.value == pytest.approx(100 * expected[name], rel=1e-12, abs=1e-12)
    details = wer(hypotheses, [references]).details
    assert [details[key] for key in ("hits", "substitutions", "deletions", "insertions")] == [
        words.hits,
        words.substitutions,
        words.deletions,
        words.insertions,
    ]


@given(PAIRS)
def test_errors_equal_a_plain_levenshtein_distance_empty_references_included(pairs):
    hypotheses, references = columns(pairs)
    split = [(jiwer.wer_default([reference])[0], jiwer.wer_default([hypothesis])[0]) for hypothesis, reference in pairs]
    errors = sum(levenshtein(reference, hypothesis) for reference, hypothesis in split)
    details = wer(hypotheses, [references]).details
    assert details["errors"] == errors
    assert details["reference_length"] == sum(len(reference) for reference, _ in split)
    assert cer(hypotheses, [references]).details["errors"] == sum(
        levenshtein(reference.strip(), hypothesis.strip()) for hypothesis, reference in pairs
    )


def test_words_against_an_empty_reference_are_insertions():
    score = wer(["a b", "c d"], [["", "c d"]])
    assert score.value == 100.0
    assert (score.details["insertions"], score.details["reference_length"]) == (2, 2)


@pytest.mark.parametrize(
    ("hypothesis", "expected"), [("a b", {"wer": 200.0, "mer": 100.0, "wil": 100.0}), ("", dict.fromkeys(NAMES, 0.0))]
)
def test_a_text_without_any_reference_word_follows_jiwers_convention_and_is_cautioned_against(hypothesis, expected):
    for name, value in expected.items():
        metric = METRICS.load(name)()
        assert metric.corpus([hypothesis], [[""]]).value == value
        assert "no reference contains any" in metric.cautions([hypothesis], [[""]])[0]
    assert WordErrorRate().cautions(["a", "b"], [["", "b"]]) == []


def test_an_empty_hypothesis_deletes_every_word():
    for name in NAMES:
        assert METRICS.load(name)().corpus(["", ""], [["a b", ""]]).value == 100.0


@given(
    PAIRS,
    st.fixed_dictionaries(
        {"lowercase": st.booleans(), "remove_punctuation": st.booleans(), "collapse_whitespace": st.booleans()}
    ),
)
def test_normalisation_equals_jiwers_transforms_in_the_documented_order(pairs, options):
    hypotheses, references = columns(pairs)
    steps = []
    if options["lowercase"]:
        steps.append(jiwer.ToLowerCase())
    if options["remove_punctuation"]:
        steps.append(jiwer.RemovePunctuation())
    if options["collapse_whitespace"]:
        steps.append(jiwer.SubstituteRegexes({r"[\s\x1c-\x1f]+": " "}))
    words = jiwer.Compose([*steps, jiwer.RemoveMultipleSpaces(), jiwer.Strip(), jiwer.ReduceToListOfListOfWords()])
    characters = jiwer.Compose([*steps, jiwer.Strip(), jiwer.ReduceToListOfListOfChars()])
    assert wer(hypotheses, [references], **options).value == pytest.approx(
        100 * jiwer.wer(references, hypotheses, words, words)
    )
    assert cer(hypotheses, [references], **options).value == pytest.approx(
        100 * jiwer.cer(references, hypotheses, characters, characters)
    )


def test_punctuation_is_dropped_without_leaving_a_space():
    normalise = Normalisation(lowercase=True, remove_punctuation=True, collapse_whitespace=True)
    assert normalise("  Don't,\u00a0 «well-known»\tСЛОВО… — end ") == "dont wellknown слово end"


def test_a_lone_tab_joins_two_words_unless_white_space_is_collapsed():
    assert wer(["a b"], [["a\tb"]]).value == 200.0
    assert wer(["a b"], [["a\tb"]], collapse_whitespace=True).value == 0.0


@given(PAIRS, st.booleans())
def test_sentence_scores_add_up_to_the_corpus_score(pairs, lowercase):
    hypotheses, references = columns(pairs)
    metric = WordErrorRate(lowercase=lowercase)
    rows = metric.sentences(hypotheses, [references])
    assert len(rows) == len(pairs)
    total = metric.corpus(hypotheses, [references])
    for key in ("errors", "reference_length", "hits"):
        assert sum(row.details[key] for row in rows) == total.details[key]


def test_the_alignment_as_data_rebuilds_both_sides():
    output = WordErrorRate().align(["a x c", "", "q"], [["a b c", "d e", ""]])
    rebuilt = [
        [[word for edit in segment for word in edit[side]] for segment in edits(output)]
        for side in ("reference", "hypothesis")
    ]
    assert rebuilt == [[["a", "b", "c"], ["d", "e"], []], [["a", "x", "c"], [], ["q"]]]


def test_the_signature_names_every_choice_that_moves_the_number():
    plain = WordErrorRate().signature()
    assert plain.startswith("WER|nrefs:1|case:mixed|punct:yes|space:jiwer|alternatives:no|jiwer:")
    for option in WordErrorRate.options:
        assert WordErrorRate(**{option: True}).signature() != plain
    assert "|bs:10|seed:3|" in WordErrorRate().corpus(["a"], [["a"]], Resampling(10, 3)).signature


def test_the_interval_covers_the_value_and_depends_on_nothing_but_the_seed():
    rng = np.random.default_rng(0)
    references = [" ".join(rng.choice(list("abcdef"), size=8)) for _ in range(60)]
    hypotheses = [line.replace("a", "x") if number % 3 else line for number, line in enumerate(references)]
    for name in NAMES:
        metric = METRICS.load(name)()
        first, again, other = (metric.corpus(hypotheses, [references], Resampling(300, seed)) for seed in (5, 5, 6))
        assert first == again != other
        assert first.low < first.value < first.high
        assert first.mean == pytest.approx(first.value, abs=first.high - first.low)


def test_two_references_are_refused():
    with pytest.raises(NlpcliError, match="takes 1 reference"):
        wer(["a"], [["a"], ["b"]])


def test_one_utterance_of_many_thousand_words_is_aligned_in_seconds():
    rng = np.random.default_rng(1)
    reference = rng.integers(0, 500, size=20_000)
    kept = reference[rng.random(len(reference)) > 0.1]
    start = time.perf_counter()
    score = wer([" ".join(map(str, kept))], [[" ".join(map(str, reference))]])
    assert time.perf_counter() - start < 10
    assert score.details["errors"] == score.details["deletions"] == len(reference) - len(kept)
