"""Golden images are in golden/; `python tests/visualization/test_attention_figures.py` draws them anew.

Versions of matplotlib set letters and dots a little differently, so pictures are drawn large, scaled down and blurred
before they are compared, with a tolerance that a transposed matrix or other colors exceed by far (tested below).
"""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from nlpcli.errors import NlpcliError
from nlpcli.visualization import attention_figures, figure_style
from nlpcli.visualization.attention_data import Attention, Side, Site
from nlpcli.visualization.position_matrices import Matrix
from nlpcli.visualization.token_labels import TokenLabels

pytest.importorskip("matplotlib")
Image, ImageFilter = (pytest.importorskip(f"PIL.{name}") for name in ("Image", "ImageFilter"))

GOLDEN = Path(__file__).parent / "golden"
DPI, SMALLER = 240, 4
TOLERANCE = 5.0  # of 255, root mean square; matplotlib 3.9 differs from 3.11 by 4

SOURCE = Side(("Ein", "Mann", "in", "einem", "blauen", "Hemd", "schläft", ".", "</s>"), special=(False,) * 8 + (True,))
TARGET = Side(("A", "man", "in", "a", "blue", "shirt", "sleeps", ".", "</s>"), special=(False,) * 8 + (True,))


def weights(heads: int, n: int, m: int) -> np.ndarray:
    """Rows that sum to 1, without random numbers: near the diagonal, one step off it from head to head."""
    head, i, j = np.ogrid[:heads, :n, :m]
    found = np.exp(-((j - i * m / n - head % 3 + 0.3 * (i % 2)) ** 2) / (0.3 + 0.2 * head)).astype(np.float32)
    return found / found.sum(axis=2, keepdims=True)


def alignment(queries: Side = TARGET, keys: Side = SOURCE) -> Attention:
    layer = weights(1, len(queries), len(keys))
    layer[:, 1] = np.eye(len(keys), dtype=np.float32)[-2]  # so that turning it over is seen
    site = Site("cross", "Cross-attention", queries, keys, (layer,), layers=(3,), heads=("mean",))
    return Attention((site,), model="runs/deen", notes={"averaged": "over heads"})


def grid() -> Attention:
    encoder = Site("encoder", "Encoder self-attention", SOURCE, SOURCE, tuple(weights(4, 9, 9) for _ in range(2)))
    cross = Site("cross", "Cross-attention", TARGET, SOURCE, tuple(weights(4, 9, 9) ** 2 for _ in range(2)))
    return Attention((encoder, cross), model="runs/deen")


def many() -> Attention:
    side = numbered(24)
    return Attention((Site("encoder", "Self-attention", side, side, tuple(weights(8, 24, 24) for _ in range(3))),))


def layers() -> Attention:
    weighted = tuple(weights(3, 9, 9)[i : i + 1] for i in range(3))
    site = Site("encoder", "Encoder, rollout", SOURCE, SOURCE, weighted, heads=("rollout",))
    return Attention((site,), notes={"rollout": "residual connections counted"})


def signed() -> Attention:
    site = alignment().sites[0]
    sign = np.where(np.arange(9) % 3 == 0, -0.4, 0.2).astype(np.float32)
    return Attention((replace(site, title="Gradient × attention", weights=(site.weights[0] * sign,), signed=True),))


def memory() -> Attention:
    keys = Side(tuple("wxyzabcd"), groups=("memory",) * 4 + ("text",) * 4)
    return Attention((Site("memory", "Attention with memory", Side(tuple("abcd")), keys, (weights(1, 4, 8),)),))


def scripts() -> Attention:
    queries = Side(("$x_1$", "50%", "a_b", "\\alpha", "^{}", "", " ", "\n", "x" * 60))
    return alignment(queries, Side(("Привет", "κόσμε", "▁the", "ếñß", "∑", "→", "😀", "…", "#")))


def pattern() -> Attention:
    near = np.abs(np.subtract.outer(np.arange(20), np.arange(20))) < 3
    near[0] = near[:, 0] = True
    return Attention((Site("pattern", "window:3+global:1", numbered(20), numbered(20), (near[None].astype("f4"),)),))


def numbered(count: int) -> Side:
    return Side(tuple(map(str, range(count))))


def positions() -> Matrix:
    angle = np.arange(30)[:, None] / 50 ** (np.arange(24) / 24)
    return Matrix("sines", np.sin(angle), "position", "dimension", -1.0, 1.0)


CASES: dict[str, Callable[[], bytes]] = {
    "alignment": lambda: attention_figures.draw(alignment(), dpi=DPI),
    "alignment-dark": lambda: attention_figures.draw(alignment(), dpi=DPI, theme="dark", title="Deutsch und Englisch"),
    "grid": lambda: attention_figures.draw(grid(), dpi=DPI // 2),
    "grid-of-many": lambda: attention_figures.draw(many(), dpi=DPI, theme="dark"),
    "layers": lambda: attention_figures.draw(layers(), dpi=DPI // 2),
    "signed": lambda: attention_figures.draw(signed(), dpi=DPI),
    "signed-dark": lambda: attention_figures.draw(signed(), dpi=DPI, theme="dark"),
    "memory": lambda: attention_figures.draw(memory(), dpi=DPI),
    "scripts": lambda: attention_figures.draw(scripts(), dpi=DPI),
    "pattern": lambda: attention_figures.draw(pattern(), dpi=DPI),
    "positions": lambda: attention_figures.draw_matrix(positions(), dpi=DPI),
    "positions-dark": lambda: attention_figures.draw_matrix(positions(), dpi=DPI, theme="dark"),
}


def image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def small(drawn: bytes) -> Image.Image:
    large = image(drawn)
    return large.resize((large.width // SMALLER, large.height // SMALLER), Image.Resampling.BOX)


def golden(name: str) -> Image.Image:
    return Image.open(GOLDEN / f"figure-{name}.png").convert("RGB")


def difference(drawn: bytes, looked_at: Image.Image) -> float:
    """Root mean square over the colors of both blurred pictures, moved onto each other; infinite for other sizes."""
    ours = small(drawn)
    if any(abs(a - b) > 3 for a, b in zip(ours.size, looked_at.size, strict=True)):
        return float("inf")
    blur = ImageFilter.GaussianBlur(2)
    ours, theirs = (np.asarray(one.filter(blur), dtype=float) for one in (ours, looked_at))
    return min(rms(ours, theirs, dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1))


def rms(a: np.ndarray, b: np.ndarray, dx: int, dy: int) -> float:
    """Of a and of b, which is moved by dx and dy, where they overlap."""
    a, b = a[max(dy, 0) :, max(dx, 0) :], b[max(-dy, 0) :, max(-dx, 0) :]
    height, width = min(a.shape[0], b.shape[0]), min(a.shape[1], b.shape[1])
    return float(np.sqrt(np.mean((a[:height, :width] - b[:height, :width]) ** 2)))


@pytest.mark.parametrize("name", CASES)
def test_a_figure_is_the_one_that_was_looked_at(name):
    assert difference(CASES[name](), golden(name)) < TOLERANCE


def test_the_tolerance_detects_a_transposed_matrix_and_other_colors():
    looked_at = golden("alignment")
    site = alignment().sites[0]
    turned = replace(alignment(), sites=(replace(site, weights=(site.weights[0].transpose(0, 2, 1),)),))
    mirrored = replace(alignment(), sites=(replace(site, weights=(site.weights[0][:, ::-1],)),))
    swapped = replace(alignment(), sites=(replace(site, queries=site.keys, keys=site.queries),))
    weaker = replace(alignment(), sites=(replace(site, weights=(site.weights[0] * 0.8,)),))
    for wrong in (turned, mirrored):
        assert difference(attention_figures.draw(wrong, dpi=DPI), looked_at) > 2 * TOLERANCE
    for wrong in (swapped, weaker):
        assert difference(attention_figures.draw(wrong, dpi=DPI), looked_at) > TOLERANCE
    assert difference(attention_figures.draw(alignment(), dpi=DPI, theme="dark"), looked_at) > 2 * TOLERANCE
    assert difference(attention_figures.draw(signed(), dpi=DPI), looked_at) > 2 * TOLERANCE


@pytest.mark.parametrize("theme", figure_style.THEMES)
def test_each_square_has_the_color_of_its_weight(theme):
    site, dpi = alignment().sites[0], 200
    pixels = np.asarray(image(attention_figures.draw(alignment(), theme=theme, dpi=dpi)), dtype=int)
    labels = TokenLabels((*SOURCE.tokens, *TARGET.tokens), attention_figures._lines(alignment(), None))
    with figure_style.plain_settings(figure_style.THEMES[theme]):
        left, right, bottom, top = attention_figures._Sheet(
            alignment(), figure_style.THEMES[theme], labels, None
        ).axes.images[0].get_extent()  # fmt: skip
    cmap = figure_style.color_map(figure_style.THEMES[theme], signed=False)
    for i, row in enumerate(site.weights[0][0]):
        for j, weight in enumerate(row):
            y, x = top + (i + 0.5) * (bottom - top) / len(TARGET), left + (j + 0.5) * (right - left) / len(SOURCE)
            wanted = np.array(cmap(float(weight))[:3]) * 255
            assert np.abs(pixels[int(y * dpi), int(x * dpi)] - wanted).max() < 3, (i, j)


@pytest.mark.parametrize("format", figure_style.FORMATS)
def test_the_same_attention_gives_the_same_bytes(format):
    first, second = (attention_figures.draw(alignment(), format=format) for _ in range(2))
    assert first == second
    assert first.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[format])
    assert not re.search(rb"CreationDate|<dc:date>|matplotlib\.org/?</dc:title", first)


def test_a_picture_has_as_many_dots_per_inch_as_requested():
    small, large = (
        image(attention_figures.draw(alignment(), dpi=50)),
        image(attention_figures.draw(alignment(), dpi=100)),
    )
    assert abs(large.width - 2 * small.width) <= 2 and abs(large.height - 2 * small.height) <= 2


@pytest.mark.parametrize(
    ("n", "m", "theme"),
    [(1, 1, "light"), (1, 300, "light"), (300, 1, "dark"), (3, 90, "dark"), (512, 512, "light")],
)
def test_texts_of_any_length_are_drawn_and_large_enough_to_be_seen(n, m, theme):
    site = Site("cross", "Cross-attention", Side(("word",) * n), Side(("Wort",) * m), (weights(1, n, m),))
    drawn = image(attention_figures.draw(Attention((site,)), theme=theme, dpi=100))
    assert 150 < drawn.width < 1300 and 100 < drawn.height < 1300
    assert len(drawn.getcolors(1 << 20)) > 4


def test_a_long_text_has_numbers_beside_it_and_no_heap_of_tokens():
    side = Side(tuple(f"token{i}" for i in range(512)))
    long = attention_figures.draw(
        Attention((Site("encoder", "Self-attention", side, side, (weights(1, 512, 512),)),)), format="svg"
    )
    short = attention_figures.draw(alignment(), format="svg")
    written = [re.findall(rb"<!-- (.*?) -->", svg) for svg in (long, short)]
    assert b"500" in written[0] and not any(text.startswith(b"token") for text in written[0])
    assert {
        b"Mann",
        b"sleeps",
        b"Cross-attention, layer 3, mean",
        b"target (rows), source (columns); averaged over heads",
    } <= set(written[1])


def test_words_are_in_the_order_of_the_text():
    written = re.findall(r"<!-- (.*?) -->", attention_figures.draw(alignment(), format="svg").decode())
    for one, other in ((SOURCE, TARGET), (TARGET, SOURCE)):
        own = [token for token in one.tokens if token not in other.tokens]
        assert [text for text in written if text in own] == own


def test_markup_of_formulas_stays_text():
    drawn = attention_figures.draw(
        alignment(Side(("$x_1$", "$", "<b>", "&amp;", "-->")), SOURCE), format="svg"
    ).decode()
    ElementTree.fromstring(drawn)
    assert "$x_1$" in drawn


def test_many_scripts_are_drawn_in_silence():
    tokens = Side(
        (
            "שלום",
            "مرحبا",
            "你好",
            "こんにちは",
            "안녕",
            "👩\u200d👩\u200d👧",
            "❤\ufe0f",
            "e\u0301",
            "\u202eevil",
            "\x00",
            "\ud800",
            "क्षि",
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert attention_figures.draw(alignment(tokens, tokens), dpi=40)
        for format in ("svg", "pdf"):
            assert attention_figures.draw(alignment(tokens, tokens), format=format)


def test_characters_without_a_font_are_reported_once():
    warnings: list[str] = []
    tokens = Side(("\U000f0000", "a\U000f0000", "\U0001fbff", "b"))
    attention_figures.draw(alignment(tokens, tokens), dpi=30, warn=warnings.append)
    assert len(warnings) == 1 and "U+F0000" in warnings[0] and "the figure shows □ instead" in warnings[0]


def test_nothing_of_a_persons_own_settings_is_used_or_changed():
    import matplotlib
    from matplotlib._pylab_helpers import Gcf

    plain = attention_figures.draw(alignment(), dpi=40)
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 20, "figure.dpi": 300, "savefig.bbox": "tight"}):
        assert attention_figures.draw(alignment(), dpi=40) == plain
    assert dict(matplotlib.rcParams) == before
    assert Gcf.get_num_fig_managers() == 0


def test_all_sites_share_one_scale():
    weak = replace(alignment().sites[0], weights=(alignment().sites[0].weights[0] * 0.2,))
    alone, beside = Attention((weak,)), Attention((weak, alignment().sites[0]))
    assert attention_figures._limits(alone.sites)[False] == pytest.approx(0.2)
    assert attention_figures._limits(beside.sites)[False] == 1.0
    assert attention_figures._limits(signed().sites)[True] == pytest.approx(np.abs(signed().sites[0].weights[0]).max())


@pytest.mark.parametrize(
    ("settings", "named", "hint"),
    [
        ({"theme": "drak"}, "theme 'drak'", "dark"),
        ({"format": "jpg"}, "format 'jpg'", "png"),
        ({"dpi": 5}, "5 dots per inch", None),
        ({"dpi": 100_000}, "100000 dots per inch", None),
    ],
)
def test_wrong_settings_are_named(settings, named, hint):
    with pytest.raises(NlpcliError) as caught:
        attention_figures.draw(alignment(), **settings)
    assert named in caught.value.message and (hint or "") in (caught.value.hint or "")


def test_a_picture_too_large_for_any_screen_is_refused():
    side = numbered(40)
    site = Site("encoder", "Self-attention", side, side, tuple(weights(2, 40, 40) for _ in range(40)))
    with pytest.raises(NlpcliError, match="pixels, but at most 32,768 per side are possible"):
        attention_figures.draw(Attention((site,)), dpi=300)


def test_nothing_to_draw_is_refused():
    with pytest.raises(NlpcliError, match="there are no attention weights to draw"):
        attention_figures.draw(Attention(()))


def test_without_matplotlib_the_error_states_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.font_manager", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NlpcliError) as caught:
        attention_figures.draw(alignment())
    assert "not installed" in caught.value.message and "nlpcli[plot]" in caught.value.hint


if __name__ == "__main__":
    for name, draw in CASES.items():
        few_colors = small(draw()).quantize(64, dither=Image.Dither.NONE)
        few_colors.save(GOLDEN / f"figure-{name}.png", optimize=True)
