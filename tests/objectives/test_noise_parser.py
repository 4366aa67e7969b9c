"""What can be written for a noise."""

from __future__ import annotations

import pytest

from nlpcli.errors import NlpcliError
from nlpcli.objectives.gap_sentences import GapSentences
from nlpcli.objectives.noise import Bart
from nlpcli.objectives.noise_parser import NOISES, parse_noise
from nlpcli.objectives.span_corruption import Spans


@pytest.mark.parametrize(
    ("text", "noise"),
    [
        ("infill:0.3,permute", Bart(infill=0.3, permute=True)),
        ("permute, infill", Bart(infill=0.3, permute=True)),
        ("infill:0.2:2", Bart(infill=0.2, mean=2.0)),
        ("mask", Bart(mask=0.15)),
        ("delete:0.1,mask:0.2,rotate", Bart(mask=0.2, delete=0.1, rotate=True)),
        ("spans", Spans("spans", 0.15, 3.0)),
        ("spans:0.5", Spans("spans", 0.5, 3.0)),
        ("spans:0.5:10", Spans("spans", 0.5, 10.0)),
        ("iid:0.25", Spans("iid", 0.25)),
        ("drop", Spans("drop")),
        ("prefix", Spans("prefix")),
        ("deshuffle", Spans("deshuffle")),
        ("bert-style", Spans("bert-style")),
        ("mass-style:0.5", Spans("mass-style", 0.5)),
        ("gap-sentences", GapSentences()),
        ("gap-sentences:0.45", GapSentences(0.45)),
        ("gap-sentences:0.45:1", GapSentences(0.45, mlm=1.0)),
    ],
)
def test_a_noise_is_what_its_name_and_numbers_say(text, noise):
    assert parse_noise(text) == noise


def test_every_name_alone_is_a_noise():
    for name in NOISES:
        parse_noise(name)


def test_settings_that_the_text_does_not_name_are_those_handed_in():
    assert parse_noise("infill", whole_words=True) == Bart(infill=0.3, whole_words=True)
    gaps = GapSentences(0.2, choice="lead", mlm=0.5)
    assert parse_noise("gap-sentences", gaps=gaps) == gaps
    assert parse_noise("gap-sentences:0.4", gaps=gaps) == GapSentences(0.4, choice="lead", mlm=0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown noise ''"),
        ("infil:0.3", "unknown noise 'infil'"),
        ("infill,", "unknown noise ''"),
        ("permute,infill,permute", "names permute twice"),
        ("infill:1.5", "rate 1.5 is not between 0 and 1"),
        ("mask:-1", "rate -1 is not between 0 and 1"),
        ("infill:0.3:0", "must be at least 1 and finite, not 0"),
        ("infill:lots", "noise 'infill:lots': 'lots' is not a number"),
        ("infill:0.3:3:3", "infill takes at most 2 numbers, not 3"),
        ("mask:0.3:3", "mask takes at most 1 number, not 2"),
        ("permute:0.3", "permute takes no number"),
        ("spans:0", "rate 0 is not between 0 and 1"),
        ("spans,permute", "spans can't be combined"),
        ("permute,gap-sentences", "gap-sentences can't be combined"),
        ("spans,iid", "spans can't be combined"),
    ],
)
def test_a_wrong_noise_is_refused_with_the_reason(text, message):
    with pytest.raises(NlpcliError) as caught:
        parse_noise(text)
    assert message in caught.value.message


def test_the_nearest_name_is_suggested():
    with pytest.raises(NlpcliError) as caught:
        parse_noise("infil")
    assert "infill" in caught.value.hint
