"""Links from a file in Pharaoh format, checked against the sentence pairs that they belong to."""

from __future__ import annotations

import pytest

from nlpcli.errors import NlpcliError
from nlpcli.tasks.alignment_file import WordLinks, read_links

TEXTS = [("ein mann  läuft", "a man runs"), ("", ""), ("ja", "yes sir")]


@pytest.fixture
def write(tmp_path):
    def file(*lines):
        path = tmp_path / "links"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(path)

    return file


def test_links_are_read_pair_by_pair_sure_and_possible_ones_alike(write):
    links = WordLinks.read(write("1-1 0-0 2p2", "", "0-1"), TEXTS)
    assert [links.of(i).tolist() for i in range(len(links))] == [[[0, 0], [1, 1], [2, 2]], [], [[0, 1]]]
    other = WordLinks.read(write("1-1 0-0 2p2", "", "0-0"), TEXTS)
    assert links.fingerprint != other.fingerprint


def test_possible_links_of_a_reference_stay_apart(write):
    first = read_links(write("1-1 0-0 2p2", "", "0-1"), TEXTS)[0]
    assert first.sure == {(0, 0), (1, 1)} and first.possible == {(0, 0), (1, 1), (2, 2)}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0-0", ""], "has 2 lines, but there are 3 sentence pairs"),
        (["0-0", "", "", ""], "has 4 lines, but there are 3 sentence pairs"),
        ([], "has 0 lines"),
        (["3-0", "", ""], r"links:1: the link 3-0 is outside of the pair, whose source has 3 words"),
        (["0-0", "", "0-2"], r"links:3: the link 0-2 is outside of the pair, whose target has 2 words"),
        (["0-0", "0-0", ""], r"links:2: the link 0-0 is outside of the pair, whose source has 0 words"),
        (["0:0", "", ""], "links:1: '0:0' is not a link"),
        (["", "", ""], "contains no links"),
    ],
)
def test_files_that_do_not_fit_the_pairs_are_refused_with_their_place(write, lines, message):
    with pytest.raises(NlpcliError, match=message):
        WordLinks.read(write(*lines), TEXTS)
