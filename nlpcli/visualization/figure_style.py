"""The style of figures: light or dark background, matplotlib without its global state, and files as bytes."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from nlpcli.errors import NlpcliError, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
_WIDEST = 2**15  # pixels: more than any screen or printer shows, and about what Agg can hold


@dataclass(frozen=True)
class Theme:
    """Colors: of the paper, of writing on it, of what stands back, of lines, and of numbers.

    shades: from 0 to the largest number; poles: from the most negative number through 0 to the most positive.
    """

    paper: str
    ink: str
    muted: str
    line: str
    shades: tuple[str, ...]
    poles: tuple[str, ...]


THEMES = {
    "light": Theme(
        paper="#ffffff",
        ink="#1d2530",
        muted="#76808c",
        line="#e2e6ea",
        shades=("#ffffff", "#d3e3f3", "#86b7dd", "#3a7fbd", "#14508f", "#072a57"),
        poles=("#8a1538", "#d7604f", "#f6bfa6", "#ffffff", "#a9cfe6", "#3d82bd", "#0a3a74"),
    ),
    "dark": Theme(
        paper="#14171c",
        ink="#e4e8ee",
        muted="#8b95a3",
        line="#2b313a",
        shades=("#14171c", "#18324f", "#1f5a8f", "#4191cc", "#97cbee", "#f4fbff"),
        poles=("#ffd0c2", "#e8745b", "#7c2a2c", "#14171c", "#1f4f7d", "#4b9bd6", "#d2ecfd"),
    ),
}


def theme_named(name: str) -> Theme:
    """Raises: NlpcliError for a theme that isn't there."""
    if name not in THEMES:
        raise unknown("theme", name, THEMES)
    return THEMES[name]


def needed(module: str) -> ModuleType:
    """A module of matplotlib. Raises: NlpcliError with how to install it, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and not error.name.startswith("matplotlib"):
            raise
        raise NlpcliError(
            "a figure needs matplotlib, which is not installed", hint="pip install 'nlpcli[plot]'"
        ) from None


@contextmanager
def plain_settings(theme: Theme, families: tuple[str, ...] = ("DejaVu Sans",)) -> Iterator[None]:
    """matplotlib's own settings and these, whatever a person has configured: a figure is the same everywhere."""
    matplotlib = needed("matplotlib")
    own = {
        "font.family": list(families),
        "text.parse_math": False,  # a token such as $x_1$ is text
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "axes.edgecolor": theme.muted,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "figure.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "axes.linewidth": 0.6,
        "text.hinting": "none",  # letters of other proportions at few dots per inch would not fit
        "svg.hashsalt": "nlpcli",
        "image.composite_image": False,
    }
    standard = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}
    with matplotlib.rc_context({**standard, **own}):
        yield


def color_map(theme: Theme, *, signed: bool) -> Colormap:
    colors = needed("matplotlib.colors")
    return colors.LinearSegmentedColormap.from_list("nlpcli", theme.poles if signed else theme.shades)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, with a canvas of its own."""
    figure = needed("matplotlib.figure").Figure(figsize=(width, height))
    needed("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def place_axes(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Axes whose upper left corner is x inches from the figure's left and y from its top."""
    whole, tall = figure.get_size_inches()
    return figure.add_axes((x / whole, 1 - (y + height) / tall, width / whole, height / tall))


def plane(figure: Figure) -> Axes:
    """Axes over the whole figure without marks, whose coordinates are inches from its upper left corner."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return axes


def as_bytes(figure: Figure, format: str, dpi: int) -> bytes:
    """The file's content; the same figure gives the same bytes at any time.

    Raises: NlpcliError for a format that isn't there, and for a picture that is too large to be drawn.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if not 10 <= dpi <= 1200:
        raise NlpcliError(f"the resolution is {dpi} dots per inch, but it must be between 10 and 1200")
    width, height = (round(inches * dpi) for inches in figure.get_size_inches())
    if format == "png" and max(width, height) > _WIDEST:
        raise NlpcliError(
            f"the picture would have {width:,} × {height:,} pixels, but at most {_WIDEST:,} per side are possible",
            hint="draw fewer layers or heads, or use a lower resolution (--dpi)",
        )
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
    file = io.BytesIO()
    figure.savefig(file, format=format, dpi=dpi, metadata=metadata[format])
    return file.getvalue()
