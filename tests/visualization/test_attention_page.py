"""The page as text: what it holds, what it lets nobody put into it, and what it refuses."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.visualization import attention_page as module
from nlpcli.visualization.attention_data import Attention, Side, Site
from nlpcli.visualization.attention_page import MOST, page


class Elements(HTMLParser):
    """The elements of a page, with their attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict, list[str]]] = []
        self.inside = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), []))
        self.inside = True

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.found[-1][2].append(data)

    def all(self, tag: str) -> list[tuple[dict, str]]:
        return [(attributes, "".join(text)) for name, attributes, text in self.found if name == tag]

    def data(self) -> list[dict]:
        return json.loads(next(text for attributes, text in self.all("script") if attributes.get("id") == "data"))

    def weights(self, site: dict) -> np.ndarray:
        """(layers, heads, n, m), as the page's script reads them."""
        shape = (len(site["heads"]), len(site["queries"]["tokens"]), len(site["keys"]["tokens"]))
        packed = {a["id"]: text for a, text in self.all("script") if a.get("type") == "text/plain"}
        layers = []
        for block in site["blocks"]:
            planes = np.frombuffer(zlib.decompress(base64.b64decode(packed[f"block-{block}"])), dtype=np.uint8)
            codes = planes.reshape(2, -1).astype(np.uint16)
            layers.append((codes[0] << 8 | codes[1]).view(np.float16).astype(np.float64).reshape(shape))
        return np.stack(layers) * site["scale"]


def attention(tokens: tuple[str, ...] = ("a", "b", "c"), *, signed: bool = False, scale: float = 1.0) -> Attention:
    n = len(tokens)
    numbers = np.random.default_rng(0)
    layers = [numbers.dirichlet(np.full(n, 0.3), size=(3, n)).astype(np.float32) for _ in range(2)]
    if signed:
        layers = [(layer * numbers.normal(size=layer.shape) * scale).astype(np.float32) for layer in layers]
    side = Side(tokens)
    return Attention((Site("encoder", "Encoder", side, side, tuple(layers), signed=signed),), "m", {"text": "a b c"})


def test_weights_are_read_back_with_three_significant_decimals():
    attended = attention(tuple("abcdefgh"))
    elements = Elements(page([attended], title="t"))
    found = elements.weights(elements.data()[0]["sites"][0])
    assert np.allclose(found, np.stack(attended.sites[0].weights), rtol=2**-11, atol=4e-8)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_signed_weights_of_any_size_are_read_back(scale):
    attended = attention(tuple("abcdefgh"), signed=True, scale=scale)
    elements = Elements(page([attended], title="t"))
    site = elements.data()[0]["sites"][0]
    weights = np.stack(attended.sites[0].weights)
    assert site["signed"]
    assert np.allclose(elements.weights(site), weights, rtol=2**-11, atol=4e-8 * np.abs(weights).max())


def test_weights_of_a_large_page_are_read_back_within_a_thousandth(monkeypatch):
    attended = attention(tuple("abcdefgh"))
    fine = page([attended], title="t")
    monkeypatch.setattr(module, "FINE_UP_TO", 10)
    coarse = page([attended], title="t")
    elements = Elements(coarse)
    found = elements.weights(elements.data()[0]["sites"][0])
    assert np.abs(found - np.stack(attended.sites[0].weights)).max() <= 4e-4
    assert len(coarse) < len(fine)


def test_a_page_takes_less_than_three_bytes_a_weight():
    short, long = (page([attention(("x",) * n)], title="t") for n in (1, 90))
    assert len(long) - len(short) < 3 * 2 * 3 * 90 * 90
    assert len(short) < 120_000


def test_what_is_drawn_keeps_its_names():
    first, second = attention(("x", "y")), attention(signed=True)
    elements = Elements(page([first, second], title="t"))
    texts = elements.data()
    assert [text["sites"][0]["queries"]["tokens"] for text in texts] == [["x", "y"], ["a", "b", "c"]]
    assert texts[0]["model"] == "m" and texts[0]["texts"] == {"text": "a b c"}
    assert texts[0]["sites"][0]["layers"] == [1, 2] and texts[0]["sites"][0]["heads"] == [1, 2, 3]
    assert [text["sites"][0]["blocks"] for text in texts] == [[0, 1], [2, 3]]


@given(st.lists(st.text(max_size=12), min_size=1, max_size=4), st.text(max_size=20))
def test_no_text_leaves_its_place(tokens, text):
    risky = ("</script><script>alert(1)</script>", "<!--<script>", "\"'`", "&lt;", "{{script}}", "]]>", *tokens)
    attended = attention(risky)
    attended = Attention(attended.sites, text, {"source": text}, {"note": text})
    html = page([attended], title=f"</title><script>{text}")
    elements = Elements(html)
    plain = Elements(page([attention(tuple("x" * len(risky)))], title="t"))
    assert [(tag, attributes) for tag, attributes, _ in elements.found] == [
        (tag, attributes) for tag, attributes, _ in plain.found
    ]
    site = elements.data()[0]["sites"][0]
    assert site["queries"]["tokens"] == list(risky)
    assert elements.data()[0]["model"] == text
    html.encode("utf-8")


def test_a_title_with_half_a_character_can_be_written():
    html = page([attention(("\ud83d",))], title="runs/\udcff")
    assert "<title>runs/?</title>" in html.encode("utf-8").decode("utf-8")
    assert Elements(html).data()[0]["sites"][0]["queries"]["tokens"] == ["\ud83d"]


def test_the_policy_allows_the_pages_own_script_and_style_alone():
    elements = Elements(page([attention()], title="t"))
    policy = next(a["content"] for a, _ in elements.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    [script] = [text for attributes, text in elements.all("script") if attributes.get("type") == "module"]
    [(_, style)] = elements.all("style")

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert allowed["default-src"] == "'none'"
    assert allowed["script-src"] == digest(script)
    assert allowed["style-src"] == digest(style)
    assert allowed["base-uri"] == allowed["form-action"] == "'none'"


def test_nothing_in_the_page_is_loaded_from_elsewhere():
    html = page([attention()], title="t")
    loads = [a[name] for _, a, _ in Elements(html).found for name in ("src", "href", "srcset", "action") if name in a]
    assert loads == ["data:,"]
    assert not any(word in html for word in ("http://", "https://", "@import", "url(", "innerHTML", "eval("))


def test_every_file_of_the_page_is_used():
    folder = Path(module.__file__).with_name("page")
    used = {"page.html", "page.css", *(f"{name}.js" for name in module._SCRIPTS)}
    assert {file.name for file in folder.iterdir()} == used


def test_too_many_weights_are_refused_before_they_are_packed():
    side = Side(("x",) * 2100)
    layer = np.broadcast_to(np.float32(0), (12, 2100, 2100))
    with pytest.raises(NlpcliError, match=r"weights, but at most 50,000,000 are possible") as refused:
        page([Attention((Site("encoder", "Encoder", side, side, (layer,)),))], title="t")
    assert layer.size > MOST
    assert "layers" in refused.value.hint


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(number):
    side = Side(("x",))
    layer = np.full((1, 1, 1), number, dtype=np.float32)
    with pytest.raises(NlpcliError, match="'encoder' contains a weight that is not a finite number"):
        page([Attention((Site("encoder", "Encoder", side, side, (layer,)),))], title="t")


def test_nothing_to_draw_is_refused():
    empty = Site("encoder", "Encoder", Side(()), Side(()), (np.zeros((1, 0, 0), dtype=np.float32),))
    for attentions in ([], [Attention(())], [Attention((empty,))]):
        with pytest.raises(NlpcliError, match="no attention weights to draw"):
            page(attentions, title="t")


def test_a_site_without_tokens_is_left_out():
    empty = Site("cross", "Cross", Side(()), Side(("a",)), (np.zeros((1, 0, 1), dtype=np.float32),))
    [text] = Elements(page([Attention((empty, *attention().sites))], title="t")).data()
    assert [site["name"] for site in text["sites"]] == ["encoder"]
