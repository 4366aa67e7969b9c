"""Attention as a page: one HTML file that contains its numbers, styles and scripts and needs no network.

The page has three views: lines between the tokens, a grid of all heads, and a matrix; of a model that attends to the
words of each sentence also the text itself, on the colors of the weights. Its parts are the files of the folder `page`,
which `nlpcli.visualization.html_page` puts together.

Weights are stored as float16, so that a value that is read off the page has three significant decimals: it is off by
at most 2^-11 = 0.05 % of itself (below 6e-5 of the largest, by 3e-8 of it). Where a page holds more than `FINE_UP_TO`
weights they are first rounded to multiples of 2^-12, by which files get several times smaller; a value is then off by
at most 4e-4, and one below 0.001 is shown as just that. Signed weights, and those above 1, are stored as shares of the
site's largest, and this holds for the shares.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nlpcli.errors import NlpcliError
from nlpcli.visualization.attention_data import Attention, Side, Site
from nlpcli.visualization.document_text import WeightedSentence, meanings, weighted_sentences
from nlpcli.visualization.html_page import fill, json_text
from nlpcli.visualization.transformations import is_self_attention, merge_words

FINE_UP_TO = 4_000_000
"""Weights of a page that keep all of float16's precision; a page with more of them is rounded more coarsely."""

MOST = 50_000_000
"""Weights that a page may hold: 512 tokens with 12 layers of 12 heads have 38 million."""

_COARSE = 2.0**12
_SCRIPTS = ("elements", "data", "colours", "state", "text", "lines", "grid", "matrix", "page")
"""In the order of their use."""


def page(attentions: Sequence[Attention], *, title: str) -> str:
    """One self-contained HTML page with the attention of each text.

    Raises: NlpcliError where there is nothing to draw, a weight is not a finite number, or there are more than `MOST`.
    """
    sites = [site for attention in attentions for site in attention.sites]
    if not any(layer.size for site in sites for layer in site.weights):
        raise NlpcliError("there are no attention weights to draw")
    count = sum(layer.size for site in sites for layer in site.weights)
    if count > MOST:
        raise NlpcliError(
            f"the page would contain {count:,} weights, but at most {MOST:,} are possible",
            hint="select fewer layers or heads, or draw fewer or shorter texts",
        )
    blocks: list[str] = []
    texts = [_text(attention, blocks, coarse=count > FINE_UP_TO) for attention in attentions if _drawn(attention)]
    return fill("page", _SCRIPTS, title=title, data=json_text(texts), blocks="\n".join(blocks))


def _drawn(attention: Attention) -> list[Site]:
    return [site for site in attention.sites if any(layer.size for layer in site.weights)]


def _text(attention: Attention, blocks: list[str], coarse: bool) -> dict[str, Any]:
    sentences = weighted_sentences(attention)
    signed = bool(sentences) and attention.site("words").signed
    return {
        "model": attention.model,
        "texts": dict(attention.texts),
        "notes": {name: _note_text(note) for name, note in attention.notes.items()},
        "sites": [_site(site, blocks, coarse) for site in _drawn(attention)],
        "sentences": [_sentence(sentence) for sentence in sentences],
        "signed": signed,
        "meaning": "; ".join(meanings(sentences, signed=signed)),
    }


def _sentence(sentence: WeightedSentence) -> dict[str, Any]:
    words = [
        {"text": word.text, "spaced": word.spaced, "weight": float(f"{word.weight:.4g}")} for word in sentence.words
    ]
    return {"weight": sentence.weight if sentence.weight is None else float(f"{sentence.weight:.4g}"), "words": words}


def _note_text(note: object) -> str:
    return ", ".join(map(str, note)) if isinstance(note, (list, tuple)) else str(note)


def _site(site: Site, blocks: list[str], coarse: bool) -> dict[str, Any]:
    top = max((float(np.abs(layer).max(initial=0.0)) for layer in site.weights), default=0.0)
    if not np.isfinite(top):
        raise NlpcliError(f"the attention '{site.name}' contains a weight that is not a finite number")
    scale = top if top > 0 and (site.signed or top > 1) else 1.0
    numbers = []
    for layer in site.weights:
        numbers.append(len(blocks))
        blocks.append(f'<script type="text/plain" id="block-{len(blocks)}">{_packed(layer / scale, coarse)}</script>')
    return {
        "name": site.name,
        "title": site.title,
        "queries": _side(site.queries),
        "keys": _side(site.keys),
        "layers": list(site.layers),
        "heads": list(site.heads),
        "signed": site.signed,
        "self": is_self_attention(site),
        "scale": scale,
        "step": scale / _COARSE if coarse else 0,
        "blocks": numbers,
    }


def _side(side: Side) -> dict[str, Any]:
    merged = _merged(side)
    return {
        "tokens": list(side.tokens),
        "words": list(side.words),
        "special": [int(special) for special in side.special],
        "groups": list(side.groups),
        "positions": list(side.positions),
        "merged": merged,
        "pieces": len(merged) < len(side),
    }


def _merged(side: Side) -> list[str]:
    """The words of a side as `merge_words` writes them."""
    alone = Site("", "", side, Side(("",)), (np.zeros((1, len(side), 1), dtype=np.float32),))
    return list(merge_words(Attention((alone,))).sites[0].queries.tokens)


def _packed(weights: np.ndarray, coarse: bool) -> str:
    """float16, high bytes before low ones (alike bytes side by side pack better), deflated, in base64."""
    if coarse:
        weights = np.round(weights * _COARSE) / _COARSE
    return base64.b64encode(zlib.compress(b"".join(_planes(weights)), 4)).decode("ascii")


def _planes(weights: np.ndarray) -> Iterator[bytes]:
    halves = np.ascontiguousarray(weights, dtype="<f2").reshape(-1).view(np.uint8).reshape(-1, 2)
    yield halves[:, 1].tobytes()
    yield halves[:, 0].tobytes()
