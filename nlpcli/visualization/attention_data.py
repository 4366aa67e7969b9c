"""The data of attention drawings: the attention weights of one text, with their query and key tokens.

Whatever attends fills the same form: the heads of a Transformer's layers, the one alignment of a recurrent translator,
the words of a sentence and the sentences of a document, the matrix that a linear attention implies, a pattern. Drawings
do not depend on models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_ALIGNING = ("cross", "alignment")
"""Sites whose queries are tokens of the target and whose keys are tokens of the source."""


@dataclass(frozen=True)
class Side:
    """The tokens on one side of a matrix of weights.

    tokens: as they are shown; words: the number of the word each belongs to, from 0, or -1 where it belongs to none
    (special tokens, memory without text); special: whether each is a special token; groups: a name for each token's
    part of the text ("memory", "a", "b"), empty where there is but one. positions: the place of each in all that was
    read, from 0, for a query that of the token read last; they stay what they were when tokens are left out, and a word
    made of several tokens has the mean of theirs.
    """

    tokens: tuple[str, ...]
    words: tuple[int, ...] = ()
    special: tuple[bool, ...] = ()
    groups: tuple[str, ...] = ()
    positions: tuple[int | float, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.tokens)
        object.__setattr__(self, "words", self.words or tuple(range(n)))
        object.__setattr__(self, "special", self.special or (False,) * n)
        object.__setattr__(self, "positions", self.positions or tuple(range(n)))
        for name in ("words", "special", "groups", "positions"):
            assert len(getattr(self, name)) in ({0, n} if name == "groups" else {n}), f"{name} of {n} tokens"

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Site:
    """One kind of attention in a model: all its layers and heads over the same queries and keys.

    name: "encoder", "decoder", "cross", "content", "query", …; title: for people. weights: for each layer an array
    (heads, n, m), float32, n queries (the rows) and m keys (the columns). A row sums to 1, or to 0 where a query may
    attend to nothing. layers: the numbers of the layers, from 1; heads: those of the heads that were recorded, the same
    in every layer, from 1, or names such as "mean". signed: weights may be negative and sum to
    anything (gradient times attention).
    """

    name: str
    title: str
    queries: Side
    keys: Side
    weights: tuple[np.ndarray, ...]
    layers: tuple[int | str, ...] = ()
    heads: tuple[int | str, ...] = ()
    signed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", self.layers or tuple(range(1, len(self.weights) + 1)))
        heads = self.heads or tuple(range(1, len(self.weights[0]) + 1))
        object.__setattr__(self, "heads", heads)
        shape = (len(heads), len(self.queries), len(self.keys))
        assert all(layer.shape == shape for layer in self.weights), [layer.shape for layer in self.weights] + [shape]
        assert len(self.layers) == len(self.weights)


def axes_of(sites: Sequence[Site]) -> str:
    """The names of rows and columns of matrices: `queries (rows), keys (columns)`; source and target by name."""
    if sites and all(site.name in _ALIGNING for site in sites):
        return "target (rows), source (columns)"
    return "queries (rows), keys (columns)"


@dataclass(frozen=True)
class Attention:
    """All that is drawn of one text: the sites of a model. texts: what was read, by part ("source", "target", …)."""

    sites: tuple[Site, ...]
    model: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)  # for people: what was merged, averaged, cut

    def site(self, name: str) -> Site:
        return next(site for site in self.sites if site.name == name)
