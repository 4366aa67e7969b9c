"""The language of a text is guessed from its little words, or from a script that has one language."""

from __future__ import annotations

import pytest

from nlpcli.commands.inspect.language_identification import LanguageGuess


def guess(text: str, **scripts: int):
    found = LanguageGuess()
    found.add(text.splitlines())
    return found.best(scripts or {"Latin": len(text)})


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "The man was in the house and it was not his. This is what they said to him."),
        ("de", "Der Mann war in dem Haus und es war nicht das seine. Sie ist auf der Straße."),
        ("fr", "Le chat est dans la maison et il ne sort pas. Elle est sur la table."),
        ("es", "El gato está en la casa y no sale de ella. Es que no lo quiere."),
        ("nl", "Het huis van de man is niet groot, maar ik ben er ook niet op de dag."),
        ("pl", "Nie wiem, co to jest, ale on się nie boi. To jest dla mnie."),
    ],
)
def test_sentences_are_recognised(language, text):
    assert guess(text)[0] == language


def test_scripts_of_one_language_decide_alone():
    assert guess("これは日本語です", Kana=6, Han=3) == ("ja", 1.0)
    assert guess("这是中文", Han=4)[0] == "zh"
    assert guess("나는 학생", Hangul=4)[0] == "ko"
    assert guess("Это не то, что я хотел, и он не был у них так к месту", Cyrillic=40)[0] == "ru"


def test_what_looks_like_no_language_is_not_guessed():
    assert guess("xq zvb qqw rrt " * 20) is None
    assert guess("I am") is None
    assert LanguageGuess().best({}) is None
