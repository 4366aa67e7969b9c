from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.text.sentence_splitting import split_sentences

CUT = {
    "english": ["It rained.", "We left!", "Did he?", "Well…", "Yes."],
    "quotes": ["“Stay.”", "He said “No!”", '"Go."', "That was it (or so.)", "End."],
    "numbers": ["Pi is 3.14, not 3.", "It costs 1,234.50 $.", "In 1998.", "It was over."],
    "abbreviations": [
        "Dr. Smith met Mrs. J. R. Jones at 5 p.m. sharp.",
        "See e.g. Fig. 3 and vol. II.",
        "He sat.",
        "No.",
        "Look at no. 5.",
    ],
    "web": ["Visit example.com or U.S. sites.", "Mail a.b@c.de today."],
    "enumeration": ["1. First comes this.", "Then that."],
    "lists go on": ["Apples, pears, etc., were there.", "And more etc.", "The rest…", "Then no more."],
    "small letters": ["He joined Yahoo! in May.", "“What?” he asked.", "Well... maybe not.", "Go!"],
    "uncased": ["it rained.", "we left.", "it was 3.5 km."],
    "german": ["Am 3. Oktober kam Dr. Weiß, z. B. aus Köln.", "„Gut.“", "Es war der 17. Juli."],
    "russian": ["А. С. Пушкин, т.е. поэт, жил на ул. Мойка.", "Он умер.", "«Да!»", "Нет."],
    "tokenised": ["H. americanus is found ( often ) there .", 'He said , " I go . "', "Then 3 @.@ 5 km ."],
    "latex quotes": ["`` I go . ''", "He left ."],
    "hindi": ["यह एक वाक्य है।", "यह दूसरा है।"],
    "arabic": ["هل ذهبت؟", "نعم ذهبت."],
}


@pytest.mark.parametrize("sentences", CUT.values(), ids=CUT)
def test_running_text_is_cut_where_its_sentences_end(sentences):
    assert split_sentences(" ".join(sentences)) == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["今日は雨です。", "行きますか？", "はい！", "「行く。」と言った。", "「またね。」", "終わり"],
        ["他来了。", "“你好！”", "他说，“走吧。”", "真的吗？！", "好。"],
    ],
    ids=["japanese", "chinese"],
)
def test_scripts_without_spaces_are_cut_without_spaces(sentences):
    assert split_sentences("".join(sentences)) == sentences


def test_ends_of_lines_end_sentences_and_blank_lines_are_none():
    assert split_sentences("= A title =\n\n no mark here\r\nnor here \n") == ["= A title =", "no mark here", "nor here"]
    assert split_sentences(" \n\n") == split_sentences("") == []


@given(st.text(alphabet="aB1 .!?…。」\"'”)(,\n日é", max_size=60))
def test_nothing_but_white_space_is_lost(text):
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)


@given(st.lists(st.sampled_from([s for group in CUT.values() for s in group if not s.endswith(("1998.", "etc."))])))
def test_a_line_each_gives_the_same_as_lines_cut_one_by_one(sentences):
    assert split_sentences("\n".join(sentences)) == [part for s in sentences for part in split_sentences(s)]
