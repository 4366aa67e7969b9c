"""Word borders in pieces of bytes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nlpcli.text.detokenization import join_surfaces, printable, word_starts


@given(st.text(st.sampled_from("ab \t\n語\u3000\u00a0"), max_size=30), st.lists(st.integers(0, 90), max_size=10))
def test_however_a_text_is_cut_its_words_are_marked(text, cuts):
    data = text.encode()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in pairwise(places)]
    starts = word_starts(pieces)
    assert len(starts) == len(pieces)
    assert sum(starts) <= len(text.split())
    single = word_starts([char.encode() for char in text])
    assert sum(single) == len(text.split())


def test_a_lone_space_belongs_to_the_word_it_stands_before():
    assert word_starts([b" ", b"a", b" ", b" ", b"b"]) == [True, False, False, True, False]
    assert word_starts([b"a ", b"b"]) == [True, True]
    assert word_starts([b" a", b"b", b" c"]) == [True, False, True]
    assert word_starts([b"  ", b"a"]) == [False, True]
    assert word_starts([]) == []


@given(st.lists(st.binary(max_size=4), max_size=10))
def test_broken_bytes_break_nothing(pieces):
    assert len(word_starts(pieces)) == len(pieces)
    assert isinstance(join_surfaces(pieces, range(len(pieces))), str)


@given(st.text(max_size=10))
def test_printable_pieces_fit_on_a_line_of_pieces(piece):
    shown = printable(piece)
    assert len(f"{shown.replace(' ', '_')}|".splitlines()) == 1
