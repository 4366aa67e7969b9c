"""The page in a real Chromium. Whatever it asks of a network, prints on the console or pops up fails the test."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nlpcli.visualization import transformations
from nlpcli.visualization.attention_data import Attention, Side, Site
from nlpcli.visualization.attention_page import page

GERMAN = ("▁Ein", "▁Mann", "▁far", "ben", "er", "▁Hut", ".", "</s>")
ENGLISH = ("▁A", "▁man", "▁in", "▁hat", "s", "</s>")


def weights(heads: int, n: int, m: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(m, 0.4), size=(heads, n)).astype(np.float32)


def translator(heads: int = 3, layers: int = 2) -> Attention:
    source = Side(GERMAN, (0, 1, 2, 2, 2, 3, 3, -1), (False,) * 7 + (True,))
    target = Side(ENGLISH, (0, 1, 2, 3, 3, -1), (False,) * 5 + (True,))
    sites = [
        Site(
            name, title, queries, keys, tuple(weights(heads, len(queries), len(keys), layer) for layer in range(layers))
        )
        for name, title, queries, keys in [
            ("encoder", "Encoder self-attention", source, source),
            ("cross", "Cross-attention", target, source),
        ]
    ]
    return Attention(tuple(sites), "runs/deen", {"source": "Ein Mann farbener Hut.", "target": "A man in hats"})


def decoder() -> Attention:
    """Rows named by what they predict, columns by what was read."""
    rows = Side(ENGLISH, (0, 1, 2, 3, 3, -1), (False,) * 5 + (True,))
    columns = Side(("<s>", *ENGLISH[:-1]), (-1, 0, 1, 2, 3, 3), (True,) + (False,) * 5)
    return Attention((Site("decoder", "Decoder", rows, columns, (weights(3, 6, 6),)),))


def text(tokens: tuple[str, ...], layers: int = 1, heads: int = 2) -> Attention:
    side, n = Side(tokens), len(tokens)
    site = Site("encoder", "Encoder", side, side, tuple(weights(heads, n, n, seed) for seed in range(layers)))
    return Attention((site,), "m", {"text": " ".join(tokens)})


def html(*attentions: Attention, title: str = "A page") -> str:
    return page(attentions or [translator()], title=title)


def shown(opened) -> tuple[list[str], list[str], np.ndarray]:
    numbers = opened.page.evaluate("attention.shown()")
    return numbers["rows"], numbers["columns"], np.array(numbers["weights"])


def test_every_view_draws_something(open_page):
    opened = open_page(html())
    pictures = [opened.click(f"#tab-{view}").picture() for view in ("head", "model", "matrix")]
    assert len(set(pictures)) == 3
    assert opened.text("h1") == "A page"
    assert "Cross-attention" in opened.text("#caption")


def test_a_click_on_a_head_changes_the_picture(open_page):
    opened = open_page(html(), "#view=head&site=cross&layer=1&head=1")
    one = opened.picture("#wires-canvas")
    two = opened.click("#heads button:nth-child(2)").picture("#wires-canvas")
    back = opened.click("#heads button:nth-child(2)").picture("#wires-canvas")
    assert one != two and one == back
    opened.click("#tab-matrix")
    first = opened.picture("#matrix-canvas")
    second = opened.click("#heads button:nth-child(3)").picture("#matrix-canvas")
    assert first != second
    assert np.allclose(shown(opened)[2], translator().site("cross").weights[0][2], rtol=2**-11, atol=1e-6)


def test_several_heads_become_their_mean_in_the_matrix(open_page):
    opened = open_page(html(), "#view=matrix&site=cross&layer=2&head=1")
    opened.click("#heads button:nth-child(3)", modifiers=["Shift"])
    expected = translator().site("cross").weights[1]
    assert np.allclose(shown(opened)[2], expected[[0, 2]].mean(axis=0), atol=1e-3)
    assert "mean of heads 1, 3" in opened.text("#caption")
    opened.press("0")
    assert np.allclose(shown(opened)[2], expected.mean(axis=0), atol=1e-3)


def test_every_choice_can_be_made_with_keys(open_page):
    opened = open_page(html(), "#view=head&site=cross&layer=2&head=1")
    assert opened.press("[").text("#caption").startswith("Cross-attention · layer 1")
    assert "heads 1, 3" in opened.press("3").text("#caption")
    opened.page.focus("#queries li")
    opened.press("ArrowDown", "Enter")
    assert opened.page.get_attribute("#queries li:nth-child(2)", "aria-selected") == "true"
    assert opened.text("#readout").startswith("▁man attends to")
    opened.press("Escape", "g")
    opened.page.focus("#thumbs [tabindex='0']")
    opened.press("ArrowRight", "ArrowDown", "Enter")
    assert opened.text("#caption") == "Cross-attention · layer 2 · head 2"
    assert opened.page.get_attribute("#tab-matrix", "aria-selected") == "true"
    opened.press("ArrowLeft", "ArrowLeft")
    assert opened.page.evaluate("document.activeElement.id") == "tab-head"
    opened.press("?")
    assert opened.page.is_visible("#help")
    opened.press("Escape")
    assert not opened.page.is_visible("#help")


def test_a_token_shows_its_lines_alone_until_it_is_let_go(open_page):
    opened = open_page(html(), "#view=head&site=cross")
    opened.page.mouse.move(5, 5)
    everything = opened.picture("#wires-canvas")
    opened.page.hover("#keys li:nth-child(2)")
    alone = opened.picture("#wires-canvas")
    assert "receives attention from" in opened.text("#readout")
    opened.page.mouse.move(5, 5)
    assert alone != everything == opened.picture("#wires-canvas")
    opened.click("#keys li:nth-child(2)")
    opened.page.mouse.move(5, 5)
    assert opened.picture("#wires-canvas") == alone
    opened.click("#keys li:nth-child(2)")
    opened.page.mouse.move(5, 5)
    assert opened.picture("#wires-canvas") == everything


def test_a_weight_finer_than_the_page_holds_is_not_shown(open_page, monkeypatch):
    monkeypatch.setattr("nlpcli.visualization.attention_page.FINE_UP_TO", 1)
    layer = np.array([[[0.9996, 0.0004], [0.25, 0.75]]], dtype=np.float32)
    side = Side(("a", "b"))
    opened = open_page(html(Attention((Site("encoder", "Encoder", side, side, (layer,)),))), "#view=matrix")
    opened.page.focus("#matrix")
    weights = [opened.press(*keys).text("#tip .number") for keys in (["ArrowRight"], ["ArrowRight"], ["ArrowDown"])]
    assert weights == ["1.000", "<0.001", "0.750"]


def test_a_greater_minimum_leaves_the_strong_lines(open_page):
    opened = open_page(html(), "#view=head&site=cross&layer=1")

    def thinnest() -> float:
        return float(re.search(r"thinnest line ([\d.]+)", opened.text("#head-legend"))[1])

    before = opened.picture("#wires-canvas")
    assert 0.05 <= thinnest() < 0.1
    opened.page.focus("#minimum")
    assert opened.press("End").picture("#wires-canvas") != before
    assert thinnest() >= 0.5
    opened.press("Home")
    assert thinnest() < 0.01


def test_the_cell_pointed_at_shows_its_weight_to_three_decimals(open_page):
    opened = open_page(html(), "#view=matrix&site=cross&layer=2&head=3")
    expected = translator().site("cross").weights[1][2]
    box = opened.page.locator("#matrix").bounding_box()
    seen = set()
    for across, down in [(0.4, 0.5), (0.5, 0.8), (0.6, 0.6)]:
        opened.page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
        readout = opened.text("#readout")
        i, j = (int(number) - 1 for number in re.search(r"row (\d+), column (\d+)", readout).groups())
        shown_value = float(opened.text("#tip .number"))
        assert abs(shown_value - expected[i, j]) <= 6e-4 if expected[i, j] >= 0.001 else shown_value < 0.0011
        assert readout.startswith(f"{ENGLISH[i]} attends to {GERMAN[j]} with {opened.text('#tip .number')}")
        seen.add((i, j))
    assert len(seen) == 3
    opened.page.mouse.move(5, 5)
    opened.page.focus("#matrix")
    opened.press("ArrowRight", "ArrowDown", "ArrowRight")
    assert "row 2, column 2" in opened.text("#readout")
    assert abs(float(opened.text("#tip .number")) - expected[1, 1]) <= 6e-4


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("hide", [False, True])
@pytest.mark.parametrize(("attended", "name"), [(translator(), "encoder"), (decoder(), "decoder")])
def test_words_and_special_tokens_are_those_of_the_reading_aids(open_page, attended, name, words, hide):
    opened = open_page(html(attended), f"#view=matrix&site={name}&layer=1&head=2")
    if words:
        opened.click("#words")
        attended = transformations.merge_words(attended)
    if hide:
        opened.click("#special")
        attended = transformations.without_special(attended)
    site = attended.site(name)
    rows, columns, found = shown(opened)
    assert tuple(rows) == site.queries.tokens and tuple(columns) == site.keys.tokens
    assert np.allclose(found, site.weights[0][1], rtol=2**-10, atol=1e-6)
    numbers = [re.findall(r"[\d.]+", text) for text in opened.page.locator("#heads button").all_inner_texts()]
    assert np.allclose([float(n[1]) for n in numbers], transformations.entropy(site)[0], atol=0.0051)
    assert np.allclose([float(n[2]) for n in numbers], transformations.mean_distance(site)[0], atol=0.0051)


def test_text_that_looks_like_a_script_stays_text(open_page):
    bad = "</script><script>window.hacked = 1; alert(1)</script>"
    image = "<img src=x onerror='window.hacked=1'>"
    attended = text((bad, image, "<!--", "\"'"))
    opened = open_page(html(Attention(attended.sites, image, {"text": bad}, {"note": image}), title=bad))
    for view in ("model", "matrix", "head"):
        opened.click(f"#tab-{view}")
    opened.page.hover("#queries li:nth-child(1)")
    assert opened.page.evaluate("window.hacked === undefined")
    assert opened.page.locator("img").count() == 0
    assert opened.text("h1") == bad == opened.page.title()
    assert opened.text("#queries li:nth-child(2)") == image


def test_light_and_dark_differ_and_follow_the_system(open_page):
    def look(opened) -> tuple[str, str]:
        back = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return back, opened.picture("#matrix-canvas")

    opened = open_page(html(), "#view=matrix", scheme="dark")
    dark = look(opened)
    opened.page.select_option("#theme", "light")
    chosen = look(opened.drawn())
    opened.page.select_option("#theme", "auto")
    opened.page.emulate_media(color_scheme="light")
    opened.page.locator(":root[data-theme='light']").wait_for(state="attached")
    opened.drawn()
    assert look(opened) == chosen
    assert chosen[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(20, 23, 27)"
    assert dark[1] != chosen[1]


def test_the_address_holds_the_place(open_page):
    opened = open_page(html(translator(), translator()), "#view=matrix&text=2&site=encoder&layer=2&head=1,3&words=1")
    assert opened.text("#caption") == "Encoder self-attention · layer 2 · mean of heads 1, 3"
    assert opened.page.input_value("#text") == "1" and opened.page.is_checked("#words")
    opened.press("[", "r", "h", "2")
    place = opened.page.evaluate("location.hash")
    picture = opened.picture()
    again = open_page(html(translator(), translator()), place)
    assert again.text("#caption") == opened.text("#caption") == "Encoder self-attention · layer 1 · all heads"
    assert again.picture() == picture
    again.page.evaluate("location.hash = '#view=model&site=nowhere&layer=99&head=x'")
    again.page.wait_for_selector("#view-model:not([hidden])")
    again.drawn()


def test_another_text_brings_its_own_sites_layers_and_heads(open_page):
    opened = open_page(html(translator(), text(("x", "y"), layers=3)), "#view=head&site=cross&layer=2&head=3")
    opened.page.select_option("#text", "1")
    assert opened.drawn().text("#caption") == "Encoder · layer 2 · all heads"
    assert opened.page.locator("#queries li").all_inner_texts() == ["x", "y"]
    opened.page.select_option("#text", "0")
    opened.drawn().page.select_option("#site", "1")
    assert opened.drawn().text("#caption") == "Cross-attention · layer 2 · heads 1, 2"


def test_keys_without_control_can_be_switched_off(open_page):
    opened = open_page(html(), "#view=head")
    opened.press("?").page.uncheck("#shortcuts")
    opened.press("Escape", "m")
    assert opened.page.is_visible("#view-head") and not opened.page.is_visible("#help")


def test_a_single_matrix_has_no_needless_controls(open_page):
    site = Site("alignment", "Alignment", Side(ENGLISH), Side(GERMAN), (weights(1, 6, 8),))
    opened = open_page(html(Attention((site,))))
    for name in ("text-field", "site-field", "layer-field", "tab-model", "all", "mean", "words-field", "special-field"):
        assert not opened.page.is_visible(f"#{name}"), name
    assert opened.press("g", "3", "w", "s").text("#caption") == "Alignment"


def test_negative_weights_have_another_color_than_positive_ones(open_page):
    side = Side(("a", "b"))
    site = Site(
        "encoder", "Gradient", side, side, (np.array([[[-1e-4, 0], [0, 1e-4]]], dtype=np.float32),), signed=True
    )
    opened = open_page(html(Attention((site,))), "#view=matrix")
    opened.page.focus("#matrix")
    assert opened.press("ArrowRight").text("#tip .number") == "−0.000100"
    opened.press("Escape")
    # The strongest colors of the canvas: orange for -1, blue for +1.
    count = """() => {
      const canvas = document.getElementById("matrix-canvas");
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      const found = [0, 0];
      for (let i = 0; i < data.length; i += 4) {
        found[0] += data[i] - data[i + 2] > 80;
        found[1] += data[i + 2] - data[i] > 80;
      }
      return found;
    }"""
    orange, blue = opened.page.evaluate(count)
    assert orange > 500 and abs(orange - blue) < 0.1 * blue
    assert opened.press("h").picture("#wires-canvas")


TEXTS = {
    "one token": ("hi",),
    "right to left": ("مرحبا", "بالعالم", "שלום", "!"),
    "Chinese, emoji, marks": ("中文", "👩‍👩‍👧", "e\u0301", "\u0301", "\u200d", "ｱ"),
    "blanks and nothing": ("", " ", "\n", "\t", "x" * 200, "\u202e", "\ud83d"),
}


@pytest.mark.parametrize("tokens", TEXTS.values(), ids=TEXTS)
def test_any_text_is_drawn(open_page, tokens):
    opened = open_page(html(text(tokens, layers=2)))
    for view in ("model", "matrix", "head"):
        assert opened.click(f"#tab-{view}").picture()
    labels = opened.page.locator("#queries .label").all_inner_texts()
    assert len(labels) == len(tokens) and all(label.strip() for label in labels)
    directions = opened.page.evaluate(
        "[...document.querySelectorAll('#keys .label')].map((e) => getComputedStyle(e).direction)"
    )
    assert directions == ["rtl" if re.match("[\u0590-\u06ff]", token) else "ltr" for token in tokens]


def test_512_tokens_are_drawn_where_they_are_looked_at(open_page):
    opened = open_page(html(text(tuple(f"w{i}" for i in range(512)), layers=1, heads=2)), "#view=head&head=1")
    first = opened.picture("#wires-canvas")
    height = opened.page.evaluate("document.getElementById('wires-canvas').height")
    assert height < 4000
    opened.page.wait_for_function("document.documentElement.scrollHeight > 9000")  # the page is laid out
    opened.page.evaluate("window.scrollTo(0, 8000)")
    opened.page.wait_for_function("parseFloat(document.getElementById('wires-canvas').style.top) > 5000")
    assert opened.picture("#wires-canvas") != first
    opened.click("#tab-model")
    opened.click("#tab-matrix").page.focus("#matrix")
    opened.press("Control+ArrowDown", "Control+ArrowRight")
    assert "row 512, column 512" in opened.text("#readout")


@pytest.mark.parametrize("view", ["head", "model", "matrix"])
def test_nothing_sticks_out_at_the_width_of_a_phone(open_page, view):
    opened = open_page(html(translator(heads=12)), f"#view={view}", size=(390, 844))
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    opened.click("#controls summary")
    opened.click("#heads button:nth-child(2)")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    opened.press("?")
    box = opened.page.locator("#help").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390


@pytest.mark.parametrize("view", ["head", "model", "matrix"])
def test_paper_is_white_and_shows_the_picture_without_the_controls(open_page, view):
    def printed(scheme: str) -> str:
        opened = open_page(html(), f"#view={view}", scheme=scheme)
        opened.page.emulate_media(media="print")
        opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert not opened.page.is_visible("#controls") and not opened.page.is_visible("#tabs")
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        return opened.picture()

    assert printed("dark") == printed("light")


def test_after_printing_the_screen_is_as_before(open_page):
    opened = open_page(html(text(tuple("abcdefghij" * 6))), "#view=matrix", scheme="dark")
    before = opened.picture()
    assert opened.page.pdf()[:4] == b"%PDF"
    assert opened.drawn().picture() == before


def test_every_control_has_a_name(open_page):
    opened = open_page(html(translator(), translator()), "#view=model")
    nameless = """() => [...document.querySelectorAll("button, select, input, [role=listbox], [role=application]")]
      .filter((e) => !(e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.labels?.length
                       || e.textContent.trim()))
      .map((e) => e.outerHTML)"""
    assert opened.page.evaluate(nameless) == []
