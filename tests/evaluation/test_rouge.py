from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Resampling
from nlpcli.evaluation.rouge import Rouge1, Rouge2, RougeL, RougeLsum, read_irregular_forms, rouge

KINDS = {"rouge1": Rouge1, "rouge2": Rouge2, "rougeL": RougeL, "rougeLsum": RougeLsum}
WORD = st.sampled_from(["The", "cats", "cat", "running", "ran", "happily,", "e-mail", "3.5", "München", "\n", "skies"])
TEXT = st.lists(WORD, max_size=10).map(" ".join) | st.text(max_size=12)
CORPUS = st.integers(1, 3).flatmap(
    lambda references: st.lists(st.tuples(*[TEXT] * (references + 1)), min_size=1, max_size=4)
)


@pytest.fixture
def irregular(tmp_path):
    (tmp_path / "verb.exc").write_text("went go\nleft leave\n\nsaid say\n")
    (tmp_path / "noun.exc").write_text("children child\n")
    return tmp_path


@pytest.mark.parametrize("stemmer", ["none", "porter"])
@given(corpus=CORPUS)
def test_every_kind_of_rouge_is_that_of_rouge_score(stemmer, corpus):
    hypotheses, *references = map(list, zip(*corpus, strict=True))
    theirs = RougeScorer(list(KINDS), use_stemmer=stemmer == "porter")
    expected = [theirs.score_multi(others, hypothesis) for hypothesis, *others in corpus]
    for name, kind in KINDS.items():
        metric = kind(rouge_stemmer=stemmer)
        rows = [[row[name].precision, row[name].recall, row[name].fmeasure] for row in expected]
        assert metric.line_statistics(hypotheses, references).tolist() == pytest.approx(np.array(rows), abs=1e-12)
        score = metric.corpus(hypotheses, references)
        assert score.value == pytest.approx(100 * np.mean([row[2] for row in rows]))
        assert score.details["recall"] == pytest.approx(100 * np.mean([row[1] for row in rows]))
        each = [score.value for score in metric.sentences(hypotheses, references)]
        assert each == pytest.approx([100 * row[2] for row in rows])


def test_of_several_references_the_best_or_the_mean_counts():
    hypotheses, references = ["a b c d"], [["a b c d"], ["a x"]]
    best, mean = (Rouge1(rouge_references=way).corpus(hypotheses, references) for way in ("best", "mean"))
    assert (best.value, mean.value) == pytest.approx((100, 100 * (1 + 1 / 3) / 2))
    assert best.signature.startswith("ROUGE-1|nrefs:2|stem:none|tok:ascii|refs:best|")


def test_other_scripts_are_scored_with_the_unicode_tokenizer_alone():
    hypotheses, references = ["Кошка сидит", "他来到了"], [["кошка, сидит!", "他来了"]]
    assert Rouge1().corpus(hypotheses, references).value == 0
    assert "--rouge-tokenize unicode" in Rouge1().cautions(hypotheses, references)[0]
    metric = Rouge1(rouge_tokenize="unicode")
    assert [score.value for score in metric.sentences(hypotheses, references)] == pytest.approx([100, 600 / 7])
    assert metric.cautions(hypotheses, references) == []
    assert metric.tokens("हिन्दी 3.5 a_b") == ["हिन्दी", "3", "5", "a", "b"]
    assert "|tok:unicode|" in metric.signature()


def test_the_stemmer_of_the_script_takes_irregular_forms_first(irregular):
    metric = Rouge1(rouge_stemmer="rouge-1.5.5", rouge_irregular=str(irregular))
    assert metric.tokens("Children went accidental did left said") == ["child", "go", "accid", "did", "leave", "say"]
    assert "|stem:rouge-1.5.5|" in metric.signature()


def test_sentences_are_lines_or_cut_out_of_them():
    text, other = "He sat. She stood.", "She stood. He sat."
    [lines] = RougeLsum().sentences([text], [[other]])
    [cut] = RougeLsum(rouge_sentences="split").sentences([text], [[other]])
    assert lines.value == RougeL().sentences([text], [[other]])[0].value == 50
    assert cut.value == 100
    assert "--rouge-sentences split" in RougeLsum().cautions([text], [[other]])[0]
    assert (
        RougeLsum().cautions(["a\nb"], [["a"]]) == RougeLsum(rouge_sentences="split").cautions([text], [[other]]) == []
    )


def test_systems_are_compared_and_intervals_drawn_over_examples():
    references = [f"word{n} and word{n + 1}" for n in range(50)]
    worse = [f"word{n} or something" for n in range(50)]
    better = [f"word{n} and else" for n in range(50)]
    first, second = Rouge1().compare(worse, [better], [references], Resampling(100))
    assert first.value < second.value and second.p_value < 0.05
    assert rouge(better, [references], "rouge1", Resampling(100)).value == second.value


def test_an_unknown_kind_is_refused():
    with pytest.raises(NlpcliError, match="unknown ROUGE metric 'rouge3'"):
        rouge(["a"], [["a"]], "rouge3")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rouge_stemmer": "poter"}, "unknown ROUGE stemmer 'poter'"),
        ({"rouge_tokenize": "13a"}, "unknown ROUGE tokenizer '13a'"),
        ({"rouge_references": "worst"}, "unknown value of --rouge-references 'worst'"),
        ({"rouge_sentences": "cut"}, "unknown value of --rouge-sentences 'cut'"),
        ({"rouge_stemmer": "rouge-1.5.5"}, "needs WordNet's lists"),
        ({"rouge_irregular": "."}, "--rouge-irregular has no effect on the ROUGE stemmer 'none'"),
        ({"rouge_stemmer": "rouge-1.5.5", "rouge_irregular": "nowhere"}, "the folder nowhere contains none of adj.exc"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, words):
    with pytest.raises(NlpcliError, match=words):
        RougeLsum(**options)


def test_a_line_without_a_base_form_is_named(irregular):
    (irregular / "adj.exc").write_text("better good\nworse\n")
    with pytest.raises(NlpcliError, match=r"adj.exc:2: the form 'worse' has no base form"):
        read_irregular_forms(irregular)
