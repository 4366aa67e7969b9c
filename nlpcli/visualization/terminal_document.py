"""Attention over a text in a terminal: each sentence with its weight, its words on the shades of theirs."""

from __future__ import annotations

from collections.abc import Sequence

from nlpcli.visualization.document_text import WeightedSentence
from nlpcli.visualization.heat_map import Line, Scale
from nlpcli.visualization.text_width import cells, cut, isolated, printable

_MARGIN = 8  # columns of a sentence's weight, with its shade and the space behind it


def sentence_lines(sentences: Sequence[WeightedSentence], scale: Scale, of_document: Scale, width: int) -> list[Line]:
    """The sentences one below the other in at most `width` columns; long sentences continue in the next line.

    scale: of the weights of words; of_document: of those of sentences.
    """
    margin = 0 if all(sentence.weight is None for sentence in sentences) else _MARGIN
    lines: list[Line] = []
    for sentence in sentences:
        before = ("", "")
        if sentence.weight is not None:
            before = _marked(f"{sentence.weight:5.2f}", sentence.weight, of_document)
        for line in _wrapped(sentence, scale, width - margin):
            lines.append([before, (" " * (margin - cells(before[0])), ""), *line])
            before = ("", "")
    return lines


def _wrapped(sentence: WeightedSentence, scale: Scale, width: int) -> list[Line]:
    lines: list[Line] = [[]]
    used = 0
    for word in sentence.words:
        token = printable(word.text, unicode=scale.ink.unicode)
        text, style = _marked(cut(token, width - 1, "…" if scale.ink.unicode else "~"), word.weight, scale)
        space = " " if used and word.spaced else ""
        if used and used + len(space) + cells(text) > width:
            lines.append([])
            used, space = 0, ""
        lines[-1] += [(space, ""), (isolated(text), style)]
        used += len(space) + cells(text)
    return lines


def _marked(text: str, value: float, scale: Scale) -> tuple[str, str]:
    """A text on the color of its weight, or without colors behind the shade of it; a faint one has no shade."""
    if scale.ink.color:
        return scale.written_on(text, value)
    shade = scale.cell(value, 1)[0]
    return (text if shade.strip() in ("", "·", ".") else f"{shade}{text}"), ""
