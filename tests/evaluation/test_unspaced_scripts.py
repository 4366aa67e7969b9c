"""Texts without spaces between words are hinted at where a metric counts words, and only there."""

from __future__ import annotations

import pytest

from nlpcli.evaluation import METRICS
from nlpcli.evaluation.unspaced_scripts import EAST_ASIAN, SOUTHEAST_ASIAN, unspaced_script

CHINESE = ["今天天气很好。", "他们来到了这里"]
JAPANESE = ["今日はとても天気がいいです。", "カタカナだけ"]
THAI = ["วันนี้อากาศดีมาก", "พวกเขามาถึงที่นี่"]


@pytest.mark.parametrize(
    ("lines", "script"),
    [
        (CHINESE, EAST_ASIAN),
        (JAPANESE, EAST_ASIAN),
        (THAI, SOUTHEAST_ASIAN),
        (["ມື້ນີ້ອາກາດດີຫຼາຍ"], SOUTHEAST_ASIAN),
        (["ថ្ងៃនេះអាកាសធាតុល្អណាស់"], SOUTHEAST_ASIAN),
        (["ဒီနေ့ရာသီဥတုကောင်းတယ်"], SOUTHEAST_ASIAN),
        (["", None, *CHINESE, "iPhone 15 和 Windows 的区别在哪里呢？"], EAST_ASIAN),
        (["今天 天气 很 好 。", "他们 来到 了 这里"], None),  # cut into words already
        (["วันนี้ อากาศ ดี มาก"], None),
        (["오늘은 날씨가 아주 좋습니다"], None),
        (["The word 今天 means today."], None),
        (["Сегодня хорошая погода"], None),
        (["", None, " "], None),
        ([], None),
    ],
)
def test_the_script_is_found_where_no_spaces_part_the_words(lines, script):
    assert unspaced_script(lines) == script


def cautions(name, lines, **options):
    return METRICS.load(name)(**options).cautions(lines, [lines])


@pytest.mark.parametrize("name", ["wer", "mer", "wil", "ter", "bleu", "chrf++"])
@pytest.mark.parametrize("lines", [CHINESE, JAPANESE, THAI], ids=["zh", "ja", "th"])
def test_a_metric_of_words_says_so(name, lines):
    found = [caution for caution in cautions(name, lines) if "the references look like" in caution]
    assert len(found) == 1
    remedies = {"bleu": "--tokenize", "ter": "--ter-asian-support" if lines is not THAI else "chrf", "chrf++": "chrf"}
    assert remedies.get(name, "cer") in found[0]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cer", {}),
        ("chrf", {}),
        ("ter", {"ter_normalized": True, "ter_asian_support": True}),
        ("bleu", {"tokenize": "zh"}),
        ("bleu", {"tokenize": "char"}),
        ("rouge1", {"rouge_tokenize": "unicode"}),
    ],
)
def test_what_counts_characters_says_nothing(name, options):
    assert not any("look" in caution for caution in cautions(name, CHINESE, **options))


def test_rouge_names_the_tokenizer_that_keeps_other_letters_and_what_that_cannot_do():
    assert "--rouge-tokenize unicode" in cautions("rouge1", CHINESE)[0]
    assert "Thai" in cautions("rouge1", THAI, rouge_tokenize="unicode")[0]


def test_answers_without_spaces_are_one_word_each():
    (caution,) = METRICS.load("answer-f1")().cautions(CHINESE, [[(line,) for line in CHINESE]])
    assert "answer-F1 does not split into words" in caution
    assert METRICS.load("exact-match")().cautions(CHINESE, [[(line,) for line in CHINESE]]) == []
