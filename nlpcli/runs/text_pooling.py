"""How the vectors of a text's tokens become one vector, where no head of the model does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from torch import Tensor

    from nlpcli.models.backbone import Backbone
    from nlpcli.models.padded_batch import Rows
    from nlpcli.models.word_vectors import WordVectors

SIF, PARAGRAPH = "sif", "paragraph"
FITTED = 10_000  # texts from which a pooling takes what its vectors depend on
_LEAST = 10
_A = 1e-3


class SmoothInverseFrequency:
    """Arora et al. 2017, algorithm 1: v = 1/n Σ_i a / (a + p(w_i)) v_i, less its part along the first principal
    component u of the vectors of all texts, v - u uᵀ v.

    p(w): the share of a word in the training text; a = 0.001. A call gives the weighted means; `fit` finds u.
    """

    def __init__(self, frequencies: Tensor) -> None:
        self.weights = _A / (_A + frequencies)
        self.component: np.ndarray | None = None

    def __call__(self, states: Tensor, rows: Rows) -> Tensor:
        weights = self.weights[rows.ids]
        if rows.mask is not None:
            weights = weights * rows.mask
        count = (rows.ends + 1)[:, None]
        return (states * weights[..., None]).sum(dim=1) / count

    def fit(self, vectors: np.ndarray) -> None:
        """vectors (texts, width): weighted means. Raises: NlpcliError for too few of them."""
        if len(vectors) < _LEAST:
            raise NlpcliError(
                "the pooling sif leaves out the first principal component of all lines, but "
                f"{counted(len(vectors), 'line')} {'is' if len(vectors) == 1 else 'are'} too few for it",
                hint=f"give at least {_LEAST} lines, or use --pooling mean",
            )
        self.component = np.linalg.svd(vectors.astype(np.float64), full_matrices=False)[2][0].astype(np.float32)

    def without_component(self, vectors: np.ndarray) -> np.ndarray:
        """Weighted means (texts, width) less their part along the component."""
        assert self.component is not None  # `fit` comes first
        return vectors - np.outer(vectors @ self.component, self.component)


class InferredParagraph:
    """The vector of a new text by a model of paragraph vectors, see `nlpcli.objectives.paragraph_vectors`."""

    def __init__(self, model: WordVectors, settings: Mapping[str, Any]) -> None:
        from nlpcli.objectives.paragraph_vectors import ParagraphInference
        from nlpcli.objectives.word_windows import WindowSettings

        self._infer = ParagraphInference(model, WindowSettings(**settings))

    def __call__(self, states: Tensor, rows: Rows) -> Tensor:
        return self._infer([ids[: end + 1].tolist() for ids, end in zip(rows.ids, rows.ends, strict=True)])


def sif_of(body: Backbone) -> SmoothInverseFrequency:
    """Raises: NlpcliError for a model without word frequencies."""
    if body.token_frequencies is None:
        raise NlpcliError(
            "the pooling sif needs the frequencies of words, which this model does not have",
            hint="use a word2vec model or a file of word vectors, or choose another --pooling",
        )
    return SmoothInverseFrequency(body.token_frequencies)


def paragraph_of(body: Backbone, info: Mapping[str, Any]) -> InferredParagraph:
    """Raises: NlpcliError for a model without paragraph vectors."""
    if "paragraphs" not in info:
        raise NlpcliError(
            "the pooling paragraph needs a model of paragraph vectors, which this model is not",
            hint="choose another --pooling, or train one with: nlpcli pretrain --objective paragraph-vector",
        )
    return InferredParagraph(cast("WordVectors", body), info["paragraphs"])  # the only family with paragraphs
