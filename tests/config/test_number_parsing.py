"""What is a number, and what only looks like one to Python."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.config.number_parsing import parse_float, parse_int

NO_NUMBERS = [
    "", " ", "nan", "NaN", "-nan", "inf", "Infinity", "-inf", "1_0", "1__0", "1,0", "1 0", "1.0.0", "1e", "e5", ".",
    "+", "-", "--1", "0x10", "１０", "١٠", "१", "²", "−1", "1\u00a00", "1e1_0", "1f", "½", "1j", "True", "1\n2",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_not_written_in_plain_digits_is_no_number(text):
    assert parse_float(text) is None
    assert parse_int(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0.0), ("-2", -2.0), ("+2", 2.0), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e-3", 1e-3), ("1E+2", 100.0),
     ("007", 7.0), (" 3 ", 3.0), ("3\r\n", 3.0), ("\t-0.25\t", -0.25), ("1e-999", 0.0)],
)  # fmt: skip
def test_decimal_numbers_are_read_with_white_space_around_them(text, value):
    assert parse_float(text) == value


@pytest.mark.parametrize("text", ["1e999", "-1e999", "9" * 400])
def test_a_number_beyond_the_range_of_a_float_is_none(text):
    assert parse_float(text) is None


@pytest.mark.parametrize("text", ["0.5", "1.", "1e3"])
def test_a_fraction_is_no_whole_number(text):
    assert parse_int(text) is None


def test_whole_numbers_are_exact_up_to_the_digits_that_python_converts():
    assert parse_int(" +12345678901234567890 ") == 12345678901234567890
    assert parse_int("-007") == -7
    assert parse_int("9" * 4300) == 10**4300 - 1
    assert parse_int("9" * 4301) is None


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_writes_is_read_back(value):
    assert parse_float(repr(value)) == value
    assert math.copysign(1, parse_float(repr(value))) == math.copysign(1, value)


@given(st.integers())
def test_whole_numbers_are_read_back(value):
    assert parse_int(str(value)) == value


@given(st.text(alphabet="0123456789_.,eE+-naifty \t１٣", max_size=8))
def test_what_is_a_number_here_is_one_to_python_with_the_same_value(text):
    value = parse_float(text)
    if value is not None:
        assert value == float(text) and "_" not in text and text.isascii()
    whole = parse_int(text)
    if whole is not None:
        assert whole == int(text) == value
