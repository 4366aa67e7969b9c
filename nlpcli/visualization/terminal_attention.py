"""Attention in a terminal: shades or colors, in the width there is, readable without either.

One or a few matrices are drawn in full, with their tokens; more as a grid of small maps. `draw_matrix` does the same
for any matrix, such as encodings of positions, and `table` for the numbers of heads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from nlpcli.errors import NlpcliError, unknown
from nlpcli.visualization.attention_data import Attention, Side, Site, axes_of
from nlpcli.visualization.document_text import WeightedSentence, meanings, weighted_sentences
from nlpcli.visualization.heat_map import BOLD, FAINT, Line, Scale, TerminalAbilities, scale_of, written
from nlpcli.visualization.terminal_document import sentence_lines
from nlpcli.visualization.terminal_grid import grid
from nlpcli.visualization.terminal_matrix import matrix
from nlpcli.visualization.terminal_table import tables
from nlpcli.visualization.text_width import cells, cut, isolated, printable, to_right, wrapped
from nlpcli.visualization.transformations import MEAN, ROLLOUT, HeadNumbers

VIEWS = ("auto", "matrix", "grid", "text")
NARROWEST = 20
_FEW = 4  # matrices of a site that are still drawn in full
_MOST_LINKS = 3
_LEAST_SHARE = 0.1  # of a row's weight, below which only its strongest link is shown


def draw(
    attention: Attention,
    *,
    width: int,
    color: bool,
    unicode: bool = True,
    view: str = "auto",
    links: bool = False,
) -> str:
    """All sites as lines of at most `width` columns (at least 20 are taken), without an end of line after the last.

    Rows are queries, columns keys. All weights of a site share one scale, from 0 to the largest, rounded up. `view`:
    "matrix" draws every matrix in full, "grid" all of them small, "auto" up to four of a site in full, or the words of
    sentences as a text, like "text". `links` lists below each full matrix which keys every query attends to
    most. Without `color` there are no escape sequences; without `unicode` all is ASCII.
    Raises: NlpcliError for another view, and for "text" where there are no words of sentences.
    """
    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
    ink, width = TerminalAbilities(color, unicode), max(width, NARROWEST)
    lines = _heading(attention, ink, width)
    sentences = weighted_sentences(attention) if view in ("auto", "text") and not links else []
    if sentences:
        return written([*lines, [], *_document(attention, sentences, ink, width)], ink)
    if view == "text":
        raise NlpcliError(
            "the view 'text' needs the weights of the words of sentences, which only a model with learned queries has",
            hint="use --view matrix",
        )
    sites = [site for site in attention.sites if len(site.queries) and len(site.keys)]
    for site in sites:
        lines += [[], *_site(site, ink, width, view, links, attention.texts.values())]
    if not sites:
        lines += [[], [("there are no tokens to draw", FAINT)]]
    return written(lines if attention.texts or attention.notes else lines[1:], ink)


def draw_matrix(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    width: int,
    color: bool,
    unicode: bool = True,
) -> str:
    """Any matrix of numbers (n, m) with its labels, in the form of `draw`; numbers below 0 have a hue or a sign.

    Whole numbers of up to two digits stand in their cells where there is room. Of a matrix that is too large for the
    width, only every second (third, …) row and column is drawn, with a note.
    """
    values = np.asarray(values, dtype=np.float32)
    ink, width = TerminalAbilities(color, unicode), max(width, NARROWEST)
    scale = replace(scale_of([values], ink, signed=bool((values < 0).any())), hollow=False)
    scale = replace(scale, digits=_holds_digits(values, rows, width))
    lines: list[Line] = [[(line, BOLD)] for line in wrapped(_words(title, ink), width)]
    lines += [[], *matrix(values, Side(tuple(rows)), Side(tuple(columns)), scale, width, samples=True)]
    legend = flowing(scale.legend(), width)
    return written([*lines, [], *legend] if legend else lines, ink)


def _holds_digits(values: np.ndarray, rows: Sequence[str], width: int) -> bool:
    """Whether the numbers are whole, of two digits at most, more than yes and no, and fit into the width."""
    whole = bool(((values == np.round(values)) & (values >= 0) & (values < 100)).all()) and values.max(initial=0) > 1
    return whole and max(map(cells, rows), default=0) + 1 + 3 * values.shape[1] <= width


def table(numbers: Sequence[HeadNumbers], *, width: int, color: bool, unicode: bool = True) -> str:
    """Entropies and mean distances of heads (`transformations.statistics`) as tables of layers and heads."""
    ink = TerminalAbilities(color, unicode)
    return written(tables(numbers, ink, max(width, NARROWEST)), ink)


# --- one site ----------------------------------------------------------------------------------------------------


def _site(
    site: Site, ink: TerminalAbilities, width: int, view: str, links: bool, titles: Collection[str]
) -> list[Line]:
    """A site's matrices and their legend; a title that stands above already is left out."""
    scale = scale_of(site.weights, ink, signed=site.signed, pattern=site.name == "pattern")
    several = len(site.layers) * len(site.heads)
    legend = [*([(axis, FAINT)] for axis in axes_of([site]).split(", ")), *scale.legend()]
    if view == "grid" or (view == "auto" and several > _FEW):
        return [*_title(_counted(site), ink, width), [], *_small(site, scale, width), [], *flowing(legend, width)]
    lines: list[Line] = []
    for layer, weights in zip(site.layers, site.weights, strict=True):
        for head, values in zip(site.heads, weights, strict=True):
            title = ", ".join(filter(None, _names(site, layer, head)))
            lines += [] if title in titles else [*_title(title, ink, width), []]
            lines += [*matrix(values, site.queries, site.keys, scale, width, samples=False), []]
            if links:
                lines += [*_links(values, site, ink, width), []]
    return [*lines, *flowing(legend, width)]


def _document(
    attention: Attention, sentences: Sequence[WeightedSentence], ink: TerminalAbilities, width: int
) -> list[Line]:
    """The sentences with the weights of their words, and what these mean."""
    signed = attention.site("words").signed
    scale = replace(scale_of(attention.site("words").weights, ink, signed=signed), hollow=False)
    weights = [sentence.weight for sentence in sentences if sentence.weight is not None]
    of_document = scale_of([np.array(weights)], ink, signed=True) if signed else Scale(1.0, ink)
    lines = sentence_lines(sentences, scale, of_document, width)
    notes: list[Line] = [[(line, FAINT)] for line in meanings(sentences, signed=signed)]
    return [*lines, [], *flowing([*notes[:1], *scale.legend(), *notes[1:]], width)]


def _small(site: Site, scale: Scale, width: int) -> list[Line]:
    """A strip of heads for each layer; where there is one head only, its layers are beside each other."""
    strips = [
        [(_label(site, layer, head), values) for head, values in zip(site.heads, weights, strict=True)]
        for layer, weights in zip(site.layers, site.weights, strict=True)
    ]
    if len(site.heads) == 1:
        strips = [[tile for strip in strips for tile in strip]]
    return grid(strips, scale, width)


def _label(site: Site, layer: int | str, head: int | str) -> str:
    if len(site.heads) == 1:
        return str(layer)
    return str(head) if len(site.layers) == 1 else f"{layer}.{head}"


def _names(site: Site, layer: int | str, head: int | str) -> tuple[str, ...]:
    if site.name == "pattern":
        return (site.title or site.name,)
    return site.title or site.name, _name("layer", layer), _name("head", head)


def _name(kind: str, value: int | str) -> str:
    if value == MEAN:
        return f"mean of {kind}s"
    return "" if value == ROLLOUT else f"{kind} {value}" if isinstance(value, int) else str(value)


def _counted(site: Site) -> str:
    """`Encoder: 6 layers with 8 heads each, 12 by 12 tokens; label above each matrix: layer.head`."""
    layers, heads = len(site.layers), len(site.heads)
    if heads == 1:
        maps, above = [f"{layers} layers" if layers > 1 else _name("layer", site.layers[0])], "layer"
        maps.append(_name("head", site.heads[0]))
    elif layers == 1:
        maps, above = [_name("layer", site.layers[0]), f"{heads} heads"], "head"
    else:
        maps, above = [f"{layers} layers with {heads} heads each"], "layer.head"
    size = f"{len(site.queries)} by {len(site.keys)} tokens"
    return f"{site.title or site.name}: {', '.join(filter(None, [*maps, size]))}; label above each matrix: {above}"


# --- strongest links ------------------------------------------------------------------------------------------


def _links(values: np.ndarray, site: Site, ink: TerminalAbilities, width: int) -> list[Line]:
    """`man ← Mann 0.92` for every query: its strongest key, and the next that have a tenth of the row."""
    queries, keys = (_distinct_labels(side, ink) for side in (site.queries, site.keys))
    mark, arrow = ("…", "←") if ink.unicode else ("~", "<-")
    most = max(5, min(24, width // 4))
    room = min(most, max(map(cells, queries)))
    lines: list[Line] = []
    for query, row in zip(queries, values, strict=True):
        least = _LEAST_SHARE * float(np.abs(row).sum())
        strongest = np.argsort(-np.abs(row), kind="stable")[:_MOST_LINKS]
        best = [j for rank, j in enumerate(strongest) if row[j] and (rank == 0 or abs(row[j]) >= least)]
        line: Line = [(to_right(cut(query, room, mark), room) + f" {arrow}", "")]
        used = room + 1 + len(arrow)
        for index, j in enumerate(best):
            key, weight = cut(keys[j], most, mark), _weight(row[j])
            used += cells(key) + len(weight) + 2 + (index > 0)
            if used > width:
                break
            line += [("," if index else "", ""), (f" {isolated(key)}", ""), (f" {weight}", FAINT)]
        lines.append(line if best else [*line, (" no key" if used + 7 <= width else "", FAINT)])
    return lines


def _weight(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.005 else f"{value:.1g}"


def _distinct_labels(side: Side, ink: TerminalAbilities) -> list[str]:
    """The tokens as they are shown; one that is there twice with its place from 1."""
    tokens = [printable(token, unicode=ink.unicode) for token in side.tokens]
    counts = Counter(tokens)
    return [f"{token}({index})" if counts[token] > 1 else token for index, token in enumerate(tokens, start=1)]


# --- lines of words ----------------------------------------------------------------------------------------------


def _heading(attention: Attention, ink: TerminalAbilities, width: int) -> list[Line]:
    """The texts, and the transformations of the weights."""
    lines: list[Line] = []
    for name, text in attention.texts.items():
        line = f"{_words(name, ink)}: {_words(text, ink)}"
        lines.append([(cut(line, width, "…" if ink.unicode else "~"), "")])
    notes = "; ".join(f"{what} {how}" for what, how in attention.notes.items())
    lines += [[(line, FAINT)] for line in wrapped(_words(notes, ink), width)]
    return lines


def _title(text: str, ink: TerminalAbilities, width: int) -> list[Line]:
    return [[(line, BOLD)] for line in wrapped(_words(text, ink), width)]


def _words(text: str, ink: TerminalAbilities) -> str:
    """Running text as it is shown, with its spaces."""
    return isolated(" ".join(printable(word, unicode=ink.unicode) for word in text.split()))


def flowing(parts: Sequence[Line], width: int) -> list[Line]:
    """Parts beside each other, in as many lines as they need."""
    lines: list[Line] = []
    used = width
    for part in parts:
        long = sum(cells(text) for text, _ in part)
        if used + 3 + long > width:
            lines.append([])
            used = 0
        else:
            lines[-1].append(("   ", ""))
            used += 3
        lines[-1] += part
        used += long
    return lines
