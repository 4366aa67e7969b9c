"""HTML pages that contain their numbers, styles and scripts, need no network and run no other script.

A page's parts are the files of a folder beside this module. A Content-Security-Policy names its script and style by
their SHA-256, and what was read enters it as text or as JSON only.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files

from nlpcli import __version__


def fill(folder: str, scripts: Sequence[str], *, title: str, **values: str) -> str:
    """The folder's page.html with its page.css, the scripts NAME.js in the order of their use, a title and the values.

    The values are HTML, such as what `json_text` gives.
    """
    script = "".join(_part(folder, f"{name}.js") for name in scripts)
    style = _part(folder, "page.css")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    filled = {
        **values,
        "policy": policy,
        "generator": f"nlpcli {__version__}",
        "title": html.escape(_encodable(title)),
        "style": style,
        "script": script,
    }
    # One pass, so that nothing that was filled in is taken for a place to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: filled[place[1]], _part(folder, "page.html"))


def json_text(value: object) -> str:
    """JSON in ASCII, without the characters that mean something to HTML: no text can end the element it is in."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.translate({ord(character): f"\\u{ord(character):04x}" for character in "<>&"})


def _part(folder: str, name: str) -> str:
    return (files("nlpcli.visualization") / folder / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _encodable(text: str) -> str:
    """Half a surrogate pair, which a file name may bring, is not a character of UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
