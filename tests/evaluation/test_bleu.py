from __future__ import annotations

import io
import math
from collections import Counter

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
from sentencepiece import SentencePieceTrainer

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Resampling
from nlpcli.evaluation.bleu import SMOOTHING, TOKENIZERS, Bleu, bleu

LINE = st.lists(st.sampled_from(["the", "cat", "Cat", "sat", "on", "mat.", "don't", "，你好", "3.5%", "<a>"])).map(
    " ".join
)
CORPUS = st.integers(1, 6).flatmap(
    lambda lines: st.lists(
        st.lists(LINE | st.text(max_size=20), min_size=lines, max_size=lines), min_size=2, max_size=4
    )
)


def oracle(hypotheses, references):
    """Papineni et al. 2002 for words split at spaces, without smoothing."""
    counts, totals, length, closest = [0] * 4, [0] * 4, 0, 0
    for hypothesis, *others in zip(hypotheses, *references, strict=True):
        words, others = hypothesis.split(), [other.split() for other in others]
        length += len(words)
        closest += min((abs(len(other) - len(words)), len(other)) for other in others)[1]
        for n in range(4):
            grams = Counter(tuple(words[i : i + n + 1]) for i in range(len(words) - n))
            best = Counter()
            for other in others:
                best |= Counter(tuple(other[i : i + n + 1]) for i in range(len(other) - n))
            counts[n] += sum((grams & best).values())
            totals[n] += sum(grams.values())
    if not all(counts):
        return 0.0
    precision = math.exp(sum(math.log(c / t) for c, t in zip(counts, totals, strict=True)) / 4)
    return 100 * min(1.0, math.exp(1 - closest / length)) * precision


@given(CORPUS, st.sampled_from(["13a", "none", "intl", "char", "zh"]), st.booleans(), st.sampled_from(SMOOTHING))
def test_bleu_equals_sacrebleus_on_any_text_with_any_option(corpus, tokenize, lowercase, smooth):
    hypotheses, *references = corpus
    theirs = BLEU(tokenize=tokenize, lowercase=lowercase, smooth_method=smooth)
    expected = theirs.corpus_score(hypotheses, references)
    options = {"tokenize": tokenize, "lowercase": lowercase, "smooth": smooth}
    for ours in (bleu(hypotheses, references, **options), Bleu(**options).corpus(hypotheses, references)):
        assert ours.value == expected.score
        assert ours.signature == f"BLEU|{theirs.get_signature()}"
        assert ours.details["precisions"] == expected.precisions
        assert ours.details["brevity_penalty"] == expected.bp
        assert f"BLEU = {ours.value:.2f} {ours.summary}" == expected.format()


@given(CORPUS)
def test_unsmoothed_bleu_of_words_equals_the_equation_of_the_paper(corpus):
    hypotheses, *references = corpus
    score = bleu(hypotheses, references, tokenize="none", smooth="none")
    assert score.value == pytest.approx(oracle(hypotheses, references), abs=1e-9)


@given(CORPUS)
def test_sentence_scores_equal_sacrebleus_sentence_bleu(corpus):
    hypotheses, *references = corpus
    scores = Bleu().sentences(hypotheses, references)
    expected = [sacrebleu.sentence_bleu(h, list(r)).score for h, *r in zip(hypotheses, *references, strict=True)]
    assert [score.value for score in scores] == expected
    assert all("|eff:yes|" in score.signature for score in scores)


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"smooth": "floor", "smooth_value": 0.0}, {"smooth_method": "floor", "smooth_value": 0.0}),
        ({"smooth": "add-k", "smooth_value": 2.0}, {"smooth_method": "add-k", "smooth_value": 2.0}),
        ({"max_ngram_order": 2}, {"max_ngram_order": 2}),
        ({"effective_order": True}, {"effective_order": True}),
    ],
)
def test_each_further_option_reaches_sacrebleu(options, theirs):
    hypotheses, references = ["the cat", "on a mat today now"], [["the cat sat", "on the mat today"]]
    expected = BLEU(**theirs)
    value = expected.corpus_score(hypotheses, references).score
    ours = Bleu(**options).corpus(hypotheses, references)
    assert (ours.value, ours.signature) == (value, f"BLEU|{expected.get_signature()}")


def test_repeated_calls_with_kept_references_give_the_same_score():
    references = [["a b c d e", "f g h i"]]
    first = bleu(["a b c d x", "f g h i"], references)
    bleu(["nothing alike", "at all"], references)
    assert bleu(["a b c d x", "f g h i"], references) == first
    assert bleu(["a b c d x", "f g h i"], [["a b c d x", "f g h i"]]).value == pytest.approx(100.0)


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_the_interval_is_sacrebleus_for_the_same_seed(seed, monkeypatch):
    hypotheses = [f"word {n} of a line that is {'long' if n % 2 else 'short'}" for n in range(20)]
    references = [[f"word {n} of the line that is long" for n in range(20)]]
    ours = Bleu().corpus(hypotheses, references, Resampling(200, seed))
    monkeypatch.setenv("SACREBLEU_SEED", str(seed))
    theirs = BLEU()
    expected = theirs.corpus_score(hypotheses, references, n_bootstrap=200)
    assert expected.format(width=4).startswith(
        f"BLEU = {ours.value:.4f} (μ = {ours.mean:.4f} ± {(ours.high - ours.low) / 2:.4f})"
    )
    assert ours.signature == f"BLEU|{theirs.get_signature()}" and f"|bs:200|seed:{seed}|" in ours.signature


def test_the_caller_keeps_the_sacrebleu_seed_of_the_environment(monkeypatch):
    import os

    monkeypatch.setenv("SACREBLEU_SEED", "99")
    Bleu().corpus(["a b"], [["a b"]], Resampling(2, 1))
    assert os.environ["SACREBLEU_SEED"] == "99"
    monkeypatch.delenv("SACREBLEU_SEED")
    Bleu().corpus(["a b"], [["a b"]], Resampling(2, 1))
    assert "SACREBLEU_SEED" not in os.environ


def test_a_text_without_any_match_has_the_interval_zero_to_zero():
    score = Bleu().corpus(["a", "b"], [["c", "d"]], Resampling(10))
    assert (score.value, score.low, score.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ({"tokenize": "13b"}, "unknown tokenizer '13b'", "13a"),
        ({"smooth": "epx"}, "unknown smoothing method 'epx'", "exp"),
        ({"smooth": "exp", "smooth_value": 1.0}, "no effect on the smoothing method", "floor"),
        ({"max_ngram_order": 0}, "at least 1", None),
        ({"tokenize": "flores200"}, "needs the model", "download it once"),
        ({"tokenize": "flores101"}, "needs the model", "download it once"),
        ({"tokenize": "spBLEU-1K"}, "tokenizer 'spBLEU-1K' needs the model", "download it once"),
        ({"tokenize": "spbleu-1k"}, "tokenizer 'spBLEU-1K' needs the model", "download it once"),
        ({"smooth": "floor", "smooth_value": float("nan")}, "must be finite and at least 0, not nan", None),
        ({"smooth": "add-k", "smooth_value": -1.0}, "must be finite and at least 0, not -1.0", None),
        ({"smooth": "floor", "smooth_value": float("inf")}, "must be finite and at least 0, not inf", None),
    ],
)
def test_options_that_cannot_be_used_are_refused_with_the_remedy(options, words, hint, monkeypatch, tmp_path):
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    with pytest.raises(NlpcliError, match=words) as refusal:
        Bleu(**options)
    assert hint is None or hint in refusal.value.hint


def test_the_tokenizers_are_those_of_the_installed_sacrebleu():
    assert set(BLEU.TOKENIZERS) == set(TOKENIZERS) and "13a" in TOKENIZERS


@pytest.mark.parametrize("name", [name for name in SPM_MODELS if name in TOKENIZERS])
def test_a_tokenizer_whose_model_is_there_is_used_and_a_damaged_model_is_named(name, monkeypatch, tmp_path):
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_spm.SACREBLEU_DIR", str(tmp_path))
    path = tmp_path / "models" / SPM_MODELS[name]["url"].rpartition("/")[2]
    path.parent.mkdir()
    path.write_bytes(b"no model")
    with pytest.raises(NlpcliError, match=r"models/.* is not a SentencePiece model"):
        Bleu(tokenize=name)
    lines = ["the cat sat on the mat", "it is raining today", "a dog and a cat"] * 5
    trained = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=trained, vocab_size=23, model_type="unigram", minloglevel=2
    )
    path.write_bytes(trained.getvalue())
    score = Bleu(tokenize=name).corpus(lines[:1], [lines[1:2]])
    expected = BLEU(tokenize=SPM_MODELS[name]["signature"]).corpus_score(lines[:1], [lines[1:2]])
    assert score.value == expected.score and f"|tok:{SPM_MODELS[name]['signature']}|" in score.signature


@pytest.mark.parametrize(("name", "module"), [("ja", "ja_mecab"), ("ja-mecab", "ja_mecab"), ("ko", "ko_mecab")])
def test_a_tokenizer_of_a_missing_package_names_the_package(name, module, monkeypatch):
    import importlib

    monkeypatch.setattr(importlib.import_module(f"sacrebleu.tokenizers.tokenizer_{module}"), "MeCab", None)
    with pytest.raises(NlpcliError, match="not installed") as refusal:
        Bleu(tokenize=name)
    assert f"sacrebleu[{name[:2]}]" in refusal.value.hint


def test_lines_too_short_for_any_four_gram_are_cautioned_against():
    short = ["one two", "three four!"]
    assert Bleu().corpus(short, [short]).value == 0
    [caution] = Bleu().cautions(short, [short])
    assert "--effective-order" in caution
    assert Bleu(effective_order=True).corpus(short, [short]).value == pytest.approx(100)
    assert Bleu(effective_order=True).cautions(short, [short]) == []
    assert Bleu().cautions([*short, "three, four"], [[*short, "x"]]) == [caution]
    assert Bleu().cautions([*short, "three, four!"], [[*short, "x"]]) == []


def test_tokenised_hypotheses_and_unspaced_scripts_are_cautioned_against():
    tokenised = ["a long line ."] * 100
    assert "--tokenize none" in Bleu().cautions(tokenised, [["x"] * 100])[0]
    assert Bleu().cautions(tokenised[:99], [["x"] * 99]) == []
    assert Bleu(tokenize="none").cautions(tokenised, [["x"] * 100]) == []
    assert "Chinese" in Bleu().cautions(["a b c d"], [["他们来到了这里。"]])[0]
    assert Bleu(tokenize="zh").cautions(["他们来到了"], [["他们来到了这里。"]]) == []
