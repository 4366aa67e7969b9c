"""Stems of English words: Porter's algorithm in the two forms that ROUGE is computed with.

The algorithm strips suffixes in five steps, each under a condition on the stem that would remain: its measure m, the
number of times a vowel sequence is followed by a consonant sequence, or that it holds a vowel at all.

`nltk_stem` is the form of the NLTK, which the package rouge-score uses: Porter's own revision with a few irregular
words, `y -> i` only after a consonant, and `ies`, `ied` -> `ie` in words of four letters. `rouge_stem` is the form in
ROUGE-1.5.5: Porter's revision, but in step 4 the endings -ment, -ent and -ion are tried after the others, one after the
other, so that "accidental" becomes "accid".

Source: Porter 1980, "An algorithm for suffix stripping", and the departures its author lists with the published code.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

_IRREGULAR = {
    "skies": "sky",
    "sky": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "news": "news",
    "innings": "inning",
    "inning": "inning",
    "outings": "outing",
    "outing": "outing",
    "cannings": "canning",
    "canning": "canning",
    "howe": "howe",
    "proceed": "proceed",
    "exceed": "exceed",
    "succeed": "succeed",
}

_STEP_2 = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
}
_STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP_4 = [
    "al",
    "ance",
    "ence",
    "er",
    "ic",
    "able",
    "ible",
    "ant",
    "ement",
    "ou",
    "ism",
    "ate",
    "iti",
    "ous",
    "ive",
    "ize",
]


def _any_of(suffixes: Mapping[str, str] | list[str]) -> re.Pattern[str]:
    """Finds the longest of these endings."""
    return re.compile(f"(?:{'|'.join(sorted(suffixes, key=len, reverse=True))})$")


_NLTK_2 = {**_STEP_2, "fulli": "ful"}
_ROUGE_2 = {**_STEP_2, "logi": "log"}
_NLTK_2_ENDS, _ROUGE_2_ENDS = _any_of(_NLTK_2), _any_of(_ROUGE_2)
_STEP_3_ENDS = _any_of(_STEP_3)
_NLTK_4_ENDS, _ROUGE_4_ENDS = _any_of([*_STEP_4, "ment", "ent", "ion"]), _any_of(_STEP_4)


@functools.lru_cache(maxsize=1 << 17)
def nltk_stem(word: str) -> str:
    """The stem of a lower-case word as NLTK's PorterStemmer gives it."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = f"{word[:-3]}ie" if len(word) == 4 and word.endswith("ies") else _plural(word)
    if word.endswith("ied"):
        word = word[:-1] if len(word) == 4 else word[:-2]
    else:
        word = _past(word, short_vowel_stems=True)
    if word.endswith("y") and len(word) > 2 and _shape(word)[-2] == "c":
        word = word[:-1] + "i"
    word = _nltk_step_2(word)
    word = _replaced(word, _STEP_3, _STEP_3_ENDS)
    found = _NLTK_4_ENDS.search(word)
    if found:
        stem = word[: found.start()]
        if _measure(stem) > 1 and (found[0] != "ion" or stem[-1] in "st"):
            word = stem
    return _final(word, short_vowel_stems=True)


@functools.lru_cache(maxsize=1 << 17)
def rouge_stem(word: str) -> str:
    """The stem of a lower-case word as ROUGE-1.5.5 gives it where it has no exception for the word."""
    if len(word) < 3:
        return word
    word = _past(_plural(word))
    if word.endswith("y") and "v" in _shape(word[:-1]):
        word = word[:-1] + "i"
    word = _replaced(word, _ROUGE_2, _ROUGE_2_ENDS)
    word = _replaced(word, _STEP_3, _STEP_3_ENDS)
    found = _ROUGE_4_ENDS.search(word)
    if found:
        word = _shortened(word, len(found[0]))
    if word.endswith("ment"):
        word = _shortened(word, 4)
    if word.endswith(("ent", "sion", "tion")):
        word = _shortened(word, 3)
    return _final(word)


def _shape(word: str) -> str:
    """c for each consonant and v for each vowel; y is a vowel after a consonant. Digits are consonants."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(stem: str) -> int:
    return _shape(stem).count("vc")


def _short(stem: str, short_vowel_stems: bool) -> bool:
    """Condition *o: the end is consonant, vowel, consonant other than w, x, y; or the stem is vowel, consonant."""
    shape = _shape(stem)
    return (shape.endswith("cvc") and stem[-1] not in "wxy") or (short_vowel_stems and shape == "vc")


def _plural(word: str) -> str:
    """Step 1a."""
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str, short_vowel_stems: bool = False) -> str:
    """Step 1b."""
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    stem = word[:-2] if word.endswith("ed") else word[:-3] if word.endswith("ing") else word
    if stem == word or "v" not in _shape(stem):
        return word
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if len(stem) > 1 and stem[-1] == stem[-2] and _shape(stem)[-1] == "c":
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _short(stem, short_vowel_stems) else stem


def _nltk_step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        word = word[:-2]
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replaced(word, _NLTK_2, _NLTK_2_ENDS)


def _replaced(word: str, suffixes: Mapping[str, str], ends: re.Pattern[str]) -> str:
    """The longest of the suffixes replaced, if the measure of what stands before it is above 0."""
    found = ends.search(word)
    if not found or _measure(word[: found.start()]) == 0:
        return word
    return word[: found.start()] + suffixes[found[0]]


def _shortened(word: str, letters: int) -> str:
    """The word without its last letters, if the measure of the rest is above 1."""
    return word[:-letters] if _measure(word[:-letters]) > 1 else word


def _final(word: str, short_vowel_stems: bool = False) -> str:
    """Step 5."""
    if word.endswith("e"):
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _short(word[:-1], short_vowel_stems)):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
