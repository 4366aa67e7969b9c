"""What a file's name may end in, by the format that is written to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlpcli.config.output_formats import check_ending
from nlpcli.errors import NlpcliError

ENDINGS = {".png": "png", ".svg": "svg", ".htm": "html", ".html": "html", ".txt": "terminal"}


@pytest.mark.parametrize(
    ("format", "name"), [("svg", "r.svg"), ("html", "r.HTM"), ("png", "r.raw"), ("png", "r"), ("html", "r.txt")]
)
def test_an_ending_of_the_format_or_of_none_is_free_and_text_may_be_named_so(format, name):
    check_ending(format, Path(name), ENDINGS)
    check_ending(format, None, ENDINGS)


@pytest.mark.parametrize(("format", "name"), [("png", "r.svg"), ("terminal", "r.html"), ("png", "r.txt")])
def test_an_ending_of_another_format_is_refused(format, name):
    with pytest.raises(NlpcliError, match=f"{name}: the file name is for the format .*, but --format is {format}"):
        check_ending(format, Path(name), ENDINGS)
