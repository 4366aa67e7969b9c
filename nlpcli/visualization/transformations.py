"""Transformations of attention maps, which make many matrices of weights readable. Pure functions.

Each takes an `Attention` or one of its sites and gives the same form back, or numbers by layer and head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np

from nlpcli.errors import NlpcliError, unknown
from nlpcli.visualization.attention_data import Attention, Side, Site

_Value = TypeVar("_Value")
MEAN = "mean"
_OWN = ("encoder", "source-encoder", "decoder", "content", "query")  # sites of self-attention
ROLLOUT = "rollout"
_BYTES = re.compile("(?:<0x(?:[89A-F][0-9A-F])+>)+")


# --- fewer tokens ------------------------------------------------------------------------------------------------


def without_special(attention: Attention, *, renormalize: bool = False) -> Attention:
    """Drops the rows and columns of special tokens; a site without any other token on one of its sides goes, too.

    The weights that are left stay as they are, so that a row's sum shows how much the special tokens took from it;
    with `renormalize` every row is divided by its sum (rows without weight stay zero, signed weights as they are).
    """
    sites = [_without_special(site, renormalize) for site in attention.sites]
    note = "left out; each row is divided by its sum" if renormalize else "left out"
    return _changed(attention, [site for site in sites if len(site.queries) and len(site.keys)], "special tokens", note)


def merge_words(attention: Attention) -> Attention:
    """Subwords become words: the weights at a word's tokens are summed, those of its tokens' rows averaged.

    So rows keep their sum. Neighbours are merged that have the same word number and the same part of the text; special
    tokens and those of no word stay on their own. Source: Clark et al. 2019, section 4.1.
    """
    return _changed(attention, [_merge_words(site) for site in attention.sites], "subwords", "merged into words")


def _without_special(site: Site, renormalize: bool) -> Site:
    rows = [i for i, special in enumerate(site.queries.special) if not special]
    columns = [j for j, special in enumerate(site.keys.special) if not special]
    weights = [layer[:, rows][:, :, columns] for layer in site.weights]
    if renormalize and not site.signed:
        weights = [_divided_by_sums(layer) for layer in weights]
    return replace(
        site, queries=_taken(site.queries, rows), keys=_taken(site.keys, columns), weights=tuple(map(_single, weights))
    )


def _taken(side: Side, indices: Sequence[int]) -> Side:
    """The tokens at these indices; their words keep their numbers, and they their positions."""

    def taken(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
        return tuple(values[i] for i in indices if values)

    columns = (taken(side.tokens), taken(side.words), taken(side.special), taken(side.groups), taken(side.positions))
    return Side(*columns)


def _merge_words(site: Site) -> Site:
    rows, columns = _runs(site.queries), _runs(site.keys)
    weights = []
    for layer in site.weights:
        summed = np.add.reduceat(layer.astype(np.float64), columns, axis=2) if columns else layer
        counts = np.diff([*rows, len(site.queries)])
        mean = np.add.reduceat(summed, rows, axis=1) / counts[:, None] if rows else summed
        weights.append(_single(mean))
    return replace(site, queries=_merged(site.queries, rows), keys=_merged(site.keys, columns), weights=tuple(weights))


def _runs(side: Side) -> list[int]:
    """Where each word begins."""
    groups = side.groups or ("",) * len(side)
    whose = [
        (word, group) if word >= 0 and not special else None
        for word, special, group in zip(side.words, side.special, groups, strict=True)
    ]
    return [i for i in range(len(side)) if i == 0 or whose[i] is None or whose[i] != whose[i - 1]]


def _merged(side: Side, starts: list[int]) -> Side:
    plain = [token for token, special in zip(side.tokens, side.special, strict=True) if not special]
    joined = _joiner(plain)
    spans = list(pairwise([*starts, len(side)]))
    words = [
        side.tokens[a] if side.special[a] or side.words[a] < 0 else _whole_characters(joined(side.tokens[a:b]))
        for a, b in spans
    ]
    positions = [sum(side.positions[a:b]) / (b - a) if b - a > 1 else side.positions[a] for a, b in spans]
    return replace(_taken(side, starts), tokens=tuple(words), positions=tuple(positions))


def _whole_characters(word: str) -> str:
    """`<0xC3><0xA4>`, bytes of a character that stood in several tokens, as the character."""
    return _BYTES.sub(lambda found: _decoded(found.group()), word)


def _decoded(spelled: str) -> str:
    try:
        return bytes.fromhex(spelled.replace("<0x", "").replace(">", "")).decode("utf-8")
    except UnicodeDecodeError:  # only a part of it is in this word
        return spelled


def _joiner(tokens: Sequence[str]) -> Callable[[Sequence[str]], str]:
    """How tokens become a word: without the marks by which the tokenizer of these `tokens` marks a word's tokens."""
    for mark in "▁Ġ":  # SentencePiece, byte-level BPE: before the first token
        if any(token.startswith(mark) for token in tokens):
            return lambda word: "".join(word).removeprefix(mark) or word[0]
    if any(token.startswith("##") and len(token) > 2 for token in tokens):  # WordPiece: before all but the first
        return lambda word: word[0] + "".join(token.removeprefix("##") for token in word[1:])
    if any(token.endswith("@@") and len(token) > 2 for token in tokens):  # subword-nmt: after all but the last
        return lambda word: "".join(token.removesuffix("@@") for token in word[:-1]) + word[-1]
    return "".join


# --- fewer matrices ----------------------------------------------------------------------------------------------


def select(
    attention: Attention,
    sites: Iterable[str] | None = None,
    layers: Iterable[int | str] | None = None,
    heads: Iterable[int | str] | None = None,
) -> Attention:
    """The sites, layers and heads of these names and numbers, which are those shown (from 1); None takes all.

    A site that has none of the layers or heads goes; the order stays that of the model.
    Raises: NlpcliError for a site, layer or head that is nowhere in `attention`.
    """
    selected = attention.sites
    if sites is not None:
        sites, names = list(sites), [site.name for site in selected]
        for name in sites:
            if name not in names:
                raise unknown("attention", name, names)
        selected = tuple(site for site in selected if site.name in sites)
    if layers is not None:
        selected = _with(selected, "layer", list(layers))
    if heads is not None:
        selected = _with(selected, "head", list(heads))
    return replace(attention, sites=selected)


def average(attention: Attention, over: str = "heads") -> Attention:
    """The mean over "heads", over "layers", or over "both"; what was averaged over is shown as "mean".

    Raises: NlpcliError for another word than these.
    """
    if over not in ("heads", "layers", "both"):
        raise unknown("average", over, ("heads", "layers", "both"))
    note = {"heads": "heads", "layers": "layers", "both": "heads and layers"}[over]
    return _changed(attention, [_average(site, over) for site in attention.sites], "averaged", f"over {note}")


def _with(sites: Sequence[Site], kind: str, wanted: list[int | str]) -> tuple[Site, ...]:
    present = list(dict.fromkeys(number for site in sites for number in getattr(site, f"{kind}s")))
    for number in wanted:
        if number not in present:
            raise NlpcliError(f"{kind} {number} does not exist", hint=_choice(kind, present))
    chosen = []
    for site in sites:
        numbers = getattr(site, f"{kind}s")
        at = [i for i, number in enumerate(numbers) if number in wanted]
        if not at:
            continue
        names = tuple(numbers[i] for i in at)
        if kind == "layer":
            chosen.append(replace(site, weights=tuple(site.weights[i] for i in at), layers=names))
        else:
            chosen.append(replace(site, weights=tuple(layer[at] for layer in site.weights), heads=names))
    return tuple(chosen)


def _choice(kind: str, numbers: list[int | str]) -> str:
    if len(numbers) == 1:
        return f"the only {kind} is {numbers[0]}"
    if len(numbers) > 2 and numbers == list(range(1, len(numbers) + 1)):
        return f"choose a {kind} from 1 to {len(numbers)}"
    return f"choose one of these {kind}s: {', '.join(map(str, numbers))}"


def _average(site: Site, over: str) -> Site:
    weights = np.stack(site.weights).astype(np.float64)  # (layers, heads, n, m)
    layers, heads = site.layers, site.heads
    if over in ("heads", "both"):
        weights, heads = weights.mean(axis=1, keepdims=True), (MEAN,)
    if over in ("layers", "both"):
        weights, layers = weights.mean(axis=0, keepdims=True), (MEAN,)
    return replace(site, weights=tuple(map(_single, weights)), layers=layers, heads=heads)


# --- through the layers ------------------------------------------------------------------------------------------


def is_self_attention(site: Site) -> bool:
    """Whether queries and keys are positions of one text; the keys may begin earlier (a memory).

    The site's name shows it; for other names the tokens do: queries are named by the tokens that they read or, in a
    decoder, by those that they predict.
    """
    n = len(site.queries)
    if site.name in ("cross", "alignment", "words", "sentences") or not (n and len(site.keys)):
        return False
    own, named = site.keys.tokens[-n:], site.queries.tokens
    return site.name in _OWN or own == named or (n > 1 and own[1:] == named[:-1])


def rollout(site: Site) -> Site:
    """How much of each token's input reaches a position after each layer, when attention passes it on.

        Ã_l = ½ · mean_h A_{l,h} + ½ · I,     R_l = Ã_l R_{l-1},     R_0 = I

    with the rows of Ã divided by their sum, so that a query that may attend to nothing passes itself on. Layer l of the
    result is R_l, its one head is called "rollout". `site` needs all its layers.
    Raises: NlpcliError where queries and keys are not the same positions (as after special tokens of a decoder were
    left out, which differ between queries and keys), or the weights are signed.
    Source: Abnar & Zuidema 2020, section 3, with the residual of their equation 1.
    """
    if site.signed or site.queries.positions != site.keys.positions or not is_self_attention(site):
        raise NlpcliError(
            f"rollout needs the same tokens as queries and as keys, but those of '{site.name}' differ"
            if not site.signed
            else f"rollout needs weights that are not negative, but some of '{site.name}' are",
            hint="use the self-attention of the encoder or the decoder, without a memory and with special tokens",
        )
    identity = np.eye(len(site.queries))
    reached, layers = identity, []
    for layer in site.weights:
        passed = layer.mean(axis=0, dtype=np.float64) + identity
        reached = passed / passed.sum(axis=1, keepdims=True) @ reached
        layers.append(_single(reached[None]))
    return replace(site, title=f"{site.title}, rollout", weights=tuple(layers), heads=(ROLLOUT,))


# --- numbers of a head -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeadNumbers:
    """One head in numbers. entropy: in bits, of at most `most`; distance: in tokens, None but in self-attention."""

    site: str
    layer: int | str
    head: int | str
    entropy: float | None
    most: float
    distance: float | None


def entropy(site: Site) -> np.ndarray:
    """How spread each head's looks are: the mean over its rows of -Σ_j p_j log2 p_j, in bits, (layers, heads).

    From 0 (one key) to log2 m (all m keys alike). p is a row divided by its sum; rows without weight don't count.
    NaN where no row has weight, or the weights are signed.
    """
    return np.array([[_entropy(head, site.signed) for head in layer] for layer in site.weights], dtype=np.float64)


def mean_distance(site: Site) -> np.ndarray:
    """How far each head looks: Σ_ij a_ij |i - j| / Σ_ij a_ij over positions i, j, in tokens, (layers, heads).

    i and j are the positions that the sides carry, so that left out tokens still count on the way, and a word stands in
    the middle of its tokens. NaN where queries and keys are not positions of one text, no row has weight, or the
    weights are signed. Source: Vig & Belinkov 2019, section 4.3, with the absolute distance.
    """
    if site.signed or not is_self_attention(site):
        return np.full((len(site.layers), len(site.heads)), np.nan)
    distances = np.abs(np.subtract.outer(site.queries.positions, site.keys.positions))
    values = []
    for layer in site.weights:
        total = layer.sum(axis=(1, 2), dtype=np.float64)
        far = (layer * distances).sum(axis=(1, 2), dtype=np.float64)
        values.append(np.divide(far, total, out=np.full(len(total), np.nan), where=total > 0))
    return np.array(values)


def statistics(attention: Attention) -> list[HeadNumbers]:
    """Entropy and mean distance of every head, in the order of sites, layers, heads."""
    rows = []
    for site in attention.sites:
        entropies, distances = entropy(site), mean_distance(site)
        most = float(np.log2(len(site.keys)))
        rows += [
            HeadNumbers(site.name, layer, head, _known(entropies[i, j]), most, _known(distances[i, j]))
            for i, layer in enumerate(site.layers)
            for j, head in enumerate(site.heads)
        ]
    return rows


def _entropy(head: np.ndarray, signed: bool) -> float:
    sums = head.sum(axis=1, dtype=np.float64)
    if signed or not (sums > 0).any():
        return float("nan")
    shares = head[sums > 0] / sums[sums > 0, None]
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(max(0.0, -(shares * logs).sum(axis=1).mean()))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


# --- shared ------------------------------------------------------------------------------------------------------


def _changed(attention: Attention, sites: Sequence[Site], what: str, how: str) -> Attention:
    """With other sites, and a note that reads as a sentence: "subwords" "merged into words"."""
    return replace(attention, sites=tuple(sites), notes={**attention.notes, what: how})


def _single(weights: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(weights, dtype=np.float32)


def _divided_by_sums(weights: np.ndarray) -> np.ndarray:
    sums = weights.sum(axis=-1, keepdims=True, dtype=np.float64)
    return np.divide(weights, sums, out=np.zeros(weights.shape), where=sums > 0)
