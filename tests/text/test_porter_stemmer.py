from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer

from nlpcli.text.porter_stemmer import nltk_stem, rouge_stem

ENDINGS = [
    "s",
    "es",
    "sses",
    "ies",
    "ss",
    "ed",
    "ied",
    "eed",
    "ing",
    "y",
    "ational",
    "tional",
    "enci",
    "anci",
    "izer",
    "bli",
    "alli",
    "entli",
    "eli",
    "ousli",
    "ization",
    "ation",
    "ator",
    "alism",
    "iveness",
    "fulness",
    "ousness",
    "aliti",
    "iviti",
    "biliti",
    "fulli",
    "logi",
    "icate",
    "ative",
    "alize",
    "iciti",
    "ical",
    "ful",
    "ness",
    "al",
    "ance",
    "ence",
    "er",
    "ic",
    "able",
    "ible",
    "ant",
    "ement",
    "ment",
    "ent",
    "ion",
    "sion",
    "tion",
    "ou",
    "ism",
    "ate",
    "iti",
    "ous",
    "ive",
    "ize",
    "e",
    "ll",
]
WORD = st.builds(
    lambda stem, endings: stem + "".join(endings),
    st.text("abcdeilnstuvwxyz1", max_size=6),
    st.lists(st.sampled_from(ENDINGS), max_size=3),
)
THEIRS = PorterStemmer()


@given(WORD)
def test_stems_are_those_of_the_nltk(word):
    assert nltk_stem(word) == THEIRS.stem(word)


@pytest.mark.parametrize("word", ["skies", "dying", "news", "innings", "proceed", "ties", "died", "by", "enjoy", "spy"])
def test_the_nltks_irregular_and_short_words_are_known(word):
    assert nltk_stem(word) == THEIRS.stem(word)


@given(WORD.filter(lambda word: not word.endswith(("ment", "ent", "ion")) and "ent" not in word and "ion" not in word))
def test_rouges_stems_are_porters_revision_apart_from_three_endings(word):
    assert rouge_stem(word) == PorterStemmer(PorterStemmer.MARTIN_EXTENSIONS).stem(word)


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("accidental", "accid"),
        ("agreement", "agreem"),
        ("documents", "docum"),
        ("commissioner", "commiss"),
        ("emotionally", "emot"),
        ("payment", "payment"),
        ("adoption", "adopt"),
        ("apology", "apolog"),
        ("be", "be"),
    ],
)
def test_rouges_stemmer_strips_ment_ent_and_ion_one_after_the_other(word, stem):
    assert rouge_stem(word) == stem
