"""Normal forms."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.text.normalization import NORMALIZATIONS, normalizer

TEXTS = st.text(max_size=30)


@given(TEXTS)
def test_the_default_changes_nothing(text):
    assert normalizer("identity")(text) == text


@pytest.mark.parametrize("name", NORMALIZATIONS)
@given(text=TEXTS)
def test_a_normal_form_is_normal_already(name, text):
    once = normalizer(name)(text)
    assert normalizer(name)(once) == once


@given(TEXTS)
def test_nfkc_is_the_standards(text):
    assert normalizer("nfkc")(text) == unicodedata.normalize("NFKC", text)


def test_lowercasing_comes_after_the_normal_form():
    assert normalizer("nfkc", lowercase=True)("ℌÄ") == "hä"
    assert normalizer("identity", lowercase=True)("ℌÄ") == "ℌä"


def test_case_folding_meets_what_lowercasing_does_not():
    assert normalizer("nfkc_cf")("STRASSE") == normalizer("nfkc_cf")("Straße")


def test_an_unknown_form_gets_the_nearest_spelling():
    with pytest.raises(NlpcliError, match="unknown normalization 'nfkccf'") as error:
        normalizer("nfkccf")
    assert error.value.hint == "did you mean 'nfkc_cf'?"
