"""Golden texts are in golden/; `python tests/visualization/test_terminal_attention.py` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.visualization import terminal_attention, transformations
from nlpcli.visualization.attention_data import Attention, Side, Site
from nlpcli.visualization.text_width import cells, printable

GOLDEN = Path(__file__).parent / "golden"
ESCAPES = re.compile("\x1b\\[[0-9;]*m")

SOURCE = Side(("▁Ein", "▁Mann", "▁schl", "äft", "▁auf", "▁dem", "▁Sofa", "▁.", "</s>"))
TARGET = Side(("▁A", "▁man", "▁sleep", "s", "▁on", "▁the", "▁couch", "▁.", "</s>"))
TEXTS = {"source": "Ein Mann schläft auf dem Sofa .", "target": "A man sleeps on the couch ."}
ODD = Side(
    (
        "שלום",
        "مرحبا",
        "中文",
        "한",
        "👩\u200d👩\u200d👧",
        "👍🏽",
        "❤\ufe0f",
        "🇩🇪",
        "e\u0301",
        "\t",
        "x" * 200,
        "क्षि",
        "\u202eevil",
        "",
    )
)


def near_diagonal(n: int, m: int, heads: int = 1, causal: bool = False) -> np.ndarray:
    """Weights that need no random numbers: strong along the diagonal, a little everywhere."""
    i, j, h = np.ogrid[:n, :m, :heads]
    far = np.abs(i * max(m - 1, 1) / max(n - 1, 1) - j)
    weights = 1.0 / (1 + 6 * far**2 + (5 * i + 3 * j + 7 * h) % 4)
    if causal:
        weights = weights * (j <= i)
    return np.moveaxis(weights / weights.sum(axis=1, keepdims=True), 2, 0).astype(np.float32)


def one(name: str, title: str, queries: Side, keys: Side, *layers: np.ndarray, **more) -> Attention:
    return Attention((Site(name, title, queries, keys, layers, **more),))


def numbered(n: int, word: str = "word") -> Side:
    return Side(tuple(f"{word}{i}" for i in range(1, n + 1)))


def translation() -> Attention:
    cross = Site("cross", "Cross-attention", TARGET, SOURCE, (near_diagonal(9, 9),), (2,), ("mean",))
    return Attention((cross,), model="runs/ende", texts=TEXTS, notes={"averaged": "over heads"})


def model() -> Attention:
    own = tuple(near_diagonal(9, 9, 4, causal=True) for _ in range(2))
    cross = tuple(near_diagonal(9, 9, 4) for _ in range(2))
    sites = (
        Site("decoder", "Decoder self-attention", TARGET, TARGET, own),
        Site("cross", "Cross-attention", TARGET, SOURCE, cross),
    )
    return Attention(sites, texts=TEXTS)


def signed() -> Attention:
    weights = near_diagonal(5, 9) * np.where(np.arange(9) % 3 == 0, -1, 1).astype(np.float32)
    return one("cross", "Gradient × attention", Side(TARGET.tokens[:5]), SOURCE, weights, signed=True)


def pattern(n: int = 16) -> Attention:
    i, j = np.ogrid[:n, :n]
    allowed = (np.abs(i - j) <= 2) | (j == 0) | (i == 0)
    allowed[n // 2] = False
    side = Side(tuple(map(str, range(n))))
    return one("pattern", "window:2+global:1", side, side, allowed[None].astype(np.float32))


def memory() -> Attention:
    keys = Side(("the", "cat", "sat", "on", "the", "mat"), groups=("memory",) * 3 + ("text",) * 3)
    queries = Side(keys.tokens[3:], groups=keys.groups[3:])
    weights = near_diagonal(3, 6)
    weights[0, 1] = 0
    return one("decoder", "Self-attention", queries, keys, weights)


def odd() -> Attention:
    return one("encoder", "Encoder self-attention", ODD, ODD, near_diagonal(len(ODD), len(ODD)))


def words(n: int) -> Attention:
    return one("encoder", "Encoder self-attention", numbered(n), numbered(n), near_diagonal(n, n))


def single() -> Attention:
    return one("encoder", "Encoder self-attention", Side(("Ja",)), Side(("Ja",)), np.ones((1, 1, 1), np.float32))


def heads(layers: int = 12, count: int = 12) -> Attention:
    return one("encoder", "Encoder self-attention", SOURCE, SOURCE, *[near_diagonal(9, 9, count)] * layers)


def drawn(make: Callable[[], Attention], **more) -> Callable[..., str]:
    return lambda **how: terminal_attention.draw(make(), **more, **how)


def positions(**how) -> str:
    i, d = np.ogrid[:128, :256]
    angles = i / 10000 ** (d // 2 * 2 / 256)
    values = np.where(d % 2 == 0, np.sin(angles), np.cos(angles))
    return terminal_attention.draw_matrix(
        values, list(map(str, range(128))), list(map(str, range(256))), title="sinusoidal", **how
    )


def buckets(**how) -> str:
    i, j = np.ogrid[:12, :12]
    values = np.minimum(np.abs(i - j), 8) + 16 * (j > i)
    return terminal_attention.draw_matrix(
        values, list(map(str, range(12))), list(map(str, range(12))), title="T5's buckets", **how
    )


def few_rows(**how) -> str:
    weights = near_diagonal(60, 512)
    return terminal_attention.draw(one("cross", "Cross-attention", numbered(60, "t"), numbered(512), weights), **how)


def numbers(**how) -> str:
    return terminal_attention.table(transformations.statistics(model()), **how)


PICTURES: dict[str, tuple[Callable[..., str], dict]] = {
    "translation-80": (drawn(translation, links=True), {"width": 80}),
    "translation-80-color": (drawn(translation), {"width": 80, "color": True}),
    "translation-80-ascii": (drawn(translation, links=True), {"width": 80, "unicode": False}),
    "translation-40": (drawn(translation, links=True), {"width": 40}),
    "model-40": (drawn(model), {"width": 40}),
    "model-80": (drawn(model), {"width": 80}),
    "model-80-ascii": (drawn(model), {"width": 80, "unicode": False}),
    "model-120-color": (drawn(model), {"width": 120, "color": True}),
    "model-80-matrices": (drawn(lambda: transformations.select(model(), ["decoder"]), view="matrix"), {"width": 80}),
    "heads-80": (drawn(lambda: heads(2)), {"width": 80}),
    "single-80": (drawn(single, links=True), {"width": 80}),
    "signed-80": (drawn(signed, links=True), {"width": 80}),
    "signed-80-ascii": (drawn(signed), {"width": 80, "unicode": False}),
    "signed-80-color": (drawn(signed), {"width": 80, "color": True}),
    "pattern-80": (drawn(pattern), {"width": 80}),
    "pattern-80-color": (drawn(pattern), {"width": 80, "color": True}),
    "pattern-40-blocks": (drawn(lambda: pattern(64)), {"width": 40}),
    "memory-80": (drawn(memory, links=True), {"width": 80}),
    "scripts-80": (drawn(odd, links=True), {"width": 80}),
    "scripts-40": (drawn(odd), {"width": 40}),
    "scripts-80-ascii": (drawn(odd), {"width": 80, "unicode": False}),
    "scripts-120-color": (drawn(odd), {"width": 120, "color": True}),
    "words40-80": (drawn(lambda: words(40)), {"width": 80}),
    "words60-40-panels": (drawn(lambda: words(60)), {"width": 40}),
    "words512-80": (drawn(lambda: words(512)), {"width": 80}),
    "words512-80-ascii": (drawn(lambda: words(512)), {"width": 80, "unicode": False}),
    "words512-120-color": (drawn(lambda: words(512)), {"width": 120, "color": True}),
    "positions-80": (positions, {"width": 80}),
    "positions-80-color": (positions, {"width": 80, "color": True}),
    "buckets-80": (buckets, {"width": 80}),
    "buckets-80-color": (buckets, {"width": 80, "color": True}),
    "buckets-36-shades": (buckets, {"width": 36}),
    "words512-by-60-80": (few_rows, {"width": 80}),
    "numbers-80": (numbers, {"width": 80}),
    "numbers-80-color": (numbers, {"width": 80, "color": True}),
    "nothing-80": (drawn(lambda: Attention((), texts={"source": ""})), {"width": 80}),
}


def picture(name: str) -> str:
    make, how = PICTURES[name]
    return make(**{"color": False, **how}) + "\n"


def lines_of(text: str) -> list[str]:
    return ESCAPES.sub("", text).split("\n")


# --- golden texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_the_one_that_was_looked_at(name):
    assert picture(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_fits_its_width_and_ends_no_line_in_blanks(name):
    _, how = PICTURES[name]
    for line in lines_of(picture(name)):
        assert cells(line) <= how["width"]
        assert how.get("color") or line == line.rstrip(" ")


@pytest.mark.parametrize("name", [name for name in PICTURES if name.endswith("-ascii")])
def test_without_unicode_all_is_ascii(name):
    assert picture(name).isascii()


def test_no_golden_text_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(PICTURES)


# --- whatever the text -------------------------------------------------------------------------------------------

TOKENS = st.text(st.one_of(st.characters(), st.sampled_from("aäß中한שب😀\u200d\ufe0f\u0301\u202e\t")), max_size=6)


@st.composite
def attentions(draw, least: int = 0) -> Attention:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sides = []
    for _ in range(2):
        tokens = draw(st.lists(TOKENS, min_size=1, max_size=5)) * draw(st.sampled_from([1, 1, 3, 30]))
        parts = draw(st.lists(st.sampled_from(["", "a", "memory", "中"]), min_size=len(tokens), max_size=len(tokens)))
        sides.append(Side(tuple(tokens), groups=draw(st.sampled_from([(), tuple(parts)]))))
    layers, heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    weights = rng.standard_normal((layers, heads, len(sides[0]), len(sides[1]))).astype(np.float32)
    kind = draw(st.sampled_from(["weights", "signed", "pattern", "zeros"]))
    weights = {"weights": np.abs, "signed": np.array, "pattern": lambda w: w > 0, "zeros": np.zeros_like}[kind](weights)
    name = "pattern" if kind == "pattern" else "encoder"
    site = Site(name, draw(TOKENS), *sides, tuple(weights.astype(np.float32)), signed=kind == "signed")
    texts = draw(st.dictionaries(TOKENS, st.text(max_size=60), max_size=1))
    return Attention((site,), texts=texts, notes=draw(st.dictionaries(TOKENS, TOKENS, max_size=2)))


@settings(max_examples=50)
@given(
    attentions(),
    st.integers(20, 200),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([view for view in terminal_attention.VIEWS if view != "text"]),
)
def test_every_line_fits_the_width_whatever_the_tokens(attention, width, color, unicode, links, view):
    text = terminal_attention.draw(attention, width=width, color=color, unicode=unicode, links=links, view=view)
    assert all(cells(line) <= width for line in lines_of(text))
    assert color or "\x1b" not in text
    assert unicode or text.isascii()
    text.encode("utf-8")


@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 300), st.integers(20, 200), st.booleans())
def test_every_line_of_a_plain_matrix_fits_the_width(seed, n, m, width, whole):
    values = np.random.default_rng(seed).standard_normal((n, m)) * 5
    values = np.abs(values).round() if whole else values
    text = terminal_attention.draw_matrix(
        values, list(map(str, range(n))), list(map(str, range(m))), title="any", width=width, color=seed % 2 == 0
    )
    assert all(cells(line) <= width for line in lines_of(text))


@settings(max_examples=40)
@given(st.lists(TOKENS.filter(lambda token: "█" not in token), min_size=1, max_size=8), st.booleans())
def test_every_row_begins_and_ends_in_the_same_column(tokens, color):
    side = Side(tuple(tokens))
    weights = np.ones((1, len(side), len(side)), np.float32)
    text = terminal_attention.draw(one("encoder", "", side, side, weights), width=100, color=color)
    rows = text.split("\n\n")[1].split("\n")[-len(side) :]
    assert len({cells(ESCAPES.sub("", row)) for row in rows}) == 1
    labels = [cells(re.split("\x1b|█", row)[0]) for row in rows]
    assert len(set(labels)) == 1 and labels[0] == min(24, max(cells(printable(token)) for token in tokens)) + 1


# --- what the cells say ------------------------------------------------------------------------------------------


def test_darker_shades_are_larger_weights_and_nothing_is_blank():
    side = Side(tuple("abcdef"))
    weights = np.zeros((1, 6, 6), np.float32)
    weights[0, 0] = [0, 0.001, 0.25, 0.5, 0.75, 1]
    row = terminal_attention.draw(one("encoder", "", side, side, weights), width=80, color=False).split("\n")[3]
    assert row == "a   · ░░▒▒▓▓██"


def test_a_signed_weight_has_its_sign_and_its_hue():
    side = Side(tuple("abc"))
    weights = np.array([[[-1, 0.001, 1]] * 3], np.float32)
    attention = one("encoder", "", side, side, weights, signed=True)
    assert "a -█· +█" in terminal_attention.draw(attention, width=80, color=False)
    hues = re.findall("48;5;([0-9]+)m {2}", terminal_attention.draw(attention, width=80, color=True).split("\n")[3])
    assert len(set(hues)) == 3


def test_what_is_not_finite_is_left_blank():
    side = Side(tuple("abc"))
    weights = np.array([[[np.nan, np.inf, 1]] * 3], np.float32)
    assert "\na     ██\n" in terminal_attention.draw(one("encoder", "", side, side, weights), width=80, color=False)


def test_all_matrices_of_a_site_share_one_scale():
    side = Side(("a", "b"))
    strong, weak = np.full((1, 2, 2), 0.8, np.float32), np.full((1, 2, 2), 0.2, np.float32)
    text = terminal_attention.draw(one("encoder", "", side, side, strong, weak), width=80, color=False)
    assert "a ████" in text and "a ░░░░" in text


def test_a_pooled_cell_is_the_weight_farthest_from_zero():
    attention = words(512)
    attention.sites[0].weights[0][0, 100, 400] = 20
    text = terminal_attention.draw(attention, width=80, color=False)
    assert sum(line.count("█") for line in text.split("\n\n")[1].split("\n")) == 1


def test_few_matrices_are_drawn_in_full_and_many_as_a_grid():
    few, many = heads(1, 4), heads(1, 5)
    assert terminal_attention.draw(few, width=80, color=False).count("head ") == 4
    assert "\n1 " in terminal_attention.draw(many, width=80, color=False)
    assert terminal_attention.draw(many, width=80, color=False, view="matrix").count("head ") == 5
    assert "4 heads" in terminal_attention.draw(few, width=80, color=False, view="grid")


def test_small_maps_are_named_by_what_differs():
    def first_lines(attention: Attention) -> tuple[str, list[str]]:
        title, *_, names = terminal_attention.draw(attention, width=120, color=True, view="grid").split("\n")[:3]
        return ESCAPES.sub("", title), ESCAPES.sub("", names).split()

    title, names = first_lines(heads(2, 3))
    assert "2 layers with 3 heads" in title and names == ["1.1", "1.2", "1.3"]
    title, names = first_lines(transformations.select(heads(3, 3), layers=[2]))
    assert "layer 2, 3 heads" in title and names == ["1", "2", "3"]
    mean = np.stack([near_diagonal(9, 9)[0]])
    title, names = first_lines(one("encoder", "", SOURCE, SOURCE, mean, mean, mean, heads=("mean",)))
    assert "3 layers, mean of heads" in title and names == ["1", "2", "3"]


def test_a_row_spread_over_many_keys_still_names_its_strongest():
    side = numbered(20)
    weights = np.full((1, 20, 20), 0.05, np.float32)
    weights[0, :, 7] = 0.06
    text = terminal_attention.draw(one("encoder", "", side, side, weights), width=80, color=False, links=True)
    assert " word1 ← word8 0.06\n" in text


def test_small_weights_are_shown_by_their_first_digit():
    side = Side(("a", "b"))
    weights = np.array([[[0.0003, 0], [-0.2, 0]]], np.float32)
    text = terminal_attention.draw(
        one("encoder", "", side, side, weights, signed=True), width=80, color=False, links=True
    )
    assert "a ← a 0.0003\nb ← a -0.20\n" in text


def test_a_sentence_from_right_to_left_is_set_apart_as_a_whole():
    sites = single().sites
    text = terminal_attention.draw(Attention(sites, texts={"source": "שלום עולם"}), width=80, color=False)
    assert text.startswith("source: \u2066שלום עולם\u2069\n")


def test_a_patterns_name_is_not_printed_twice():
    attention = pattern()
    named = Attention(attention.sites, texts={"pattern": attention.sites[0].title})
    assert terminal_attention.draw(named, width=80, color=False).count("window:2+global:1") == 1


def test_links_name_the_strongest_keys_and_tell_repeated_tokens_apart():
    side = Side(("the", "cat", "the"))
    weights = np.array([[[0.95, 0.05, 0], [0.2, 0.3, 0.5], [0, 0, 0]]], np.float32)
    text = terminal_attention.draw(one("encoder", "", side, side, weights), width=80, color=False, links=True)
    assert "the(1) ← the(1) 0.95\n" in text
    assert "   cat ← the(3) 0.50, cat 0.30, the(1) 0.20\n" in text
    assert "the(3) ← no key\n" in text


def test_a_view_that_is_not_there_is_refused():
    with pytest.raises(NlpcliError, match="unknown view 'matrx'"):
        terminal_attention.draw(single(), width=80, color=False, view="matrx")


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in PICTURES:
        (GOLDEN / f"{name}.txt").write_text(picture(name), encoding="utf-8")


@settings(max_examples=20)
@given(attentions())
def test_the_text_view_needs_words_of_sentences(attention):
    with pytest.raises(NlpcliError, match="the view 'text' needs the weights of the words of sentences"):
        terminal_attention.draw(attention, width=80, color=False, view="text")
