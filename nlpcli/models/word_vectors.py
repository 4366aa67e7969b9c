"""Vectors of words without context: word2vec and paragraph vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from nlpcli.config.word_vectors_settings import WordVectorsConfig
from nlpcli.layers.embeddings import Embedding
from nlpcli.models.backbone import EMBEDDINGS, FINAL, Backbone, Part
from nlpcli.models.padded_batch import Rows


class WordVectors(Backbone):
    """One vector for each word; its state is this vector.

    output (vocab, d_model): the vectors of words as what is predicted, zeros at first (Mikolov et al. 2013, section
    2.2). documents (documents, d_model): those of the texts that were trained on (Le and Mikolov 2014).
    frequencies (vocab,): the share of each word in the training text, 0 for special tokens; all 0 where it is unknown.
    """

    frequencies: Tensor

    def __init__(self, settings: WordVectorsConfig, vocab_size: int) -> None:
        super().__init__()
        width = settings.d_model
        self.architecture = settings.architecture
        self.max_length = None
        self.embedding = Embedding(nn.Embedding(vocab_size, width), scale=False, dropout=settings.dropout)
        outputs = settings.output_vectors or settings.has_paragraphs
        self.output = nn.Parameter(torch.zeros(vocab_size, width)) if outputs else None
        self.documents: nn.Parameter | None = None
        if settings.documents and settings.has_paragraphs:
            self.documents = nn.Parameter(torch.empty(settings.documents, width).normal_(std=settings.init_std))
        self.register_buffer("frequencies", torch.zeros(vocab_size))

    def forward(self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """tokens (batch, n) -> their vectors (batch, n, d_model); of special tokens zeros."""
        return cast("Tensor", self.embedding(tokens))

    def predictors(self, contexts: Tensor, mask: Tensor, paragraphs: Tensor | None = None) -> Tensor:
        """The vectors that predict each of n words: (n, m, d_model).

        contexts (n, w): the words near it, mask (n, w): True where there is one. paragraphs (n, d_model): the vectors
        of its document. skip-gram: each of the m = w words near it; otherwise one, m = 1: their mean (cbow), the mean
        of them and of the document's vector (pv-dm; Le and Mikolov 2014, section 2.2), or the latter alone (pv-dbow;
        section 2.3).
        """
        if self.architecture == "pv-dbow":
            assert paragraphs is not None
            return paragraphs[:, None]
        vectors = cast("Tensor", self.embedding(contexts))
        if self.architecture == "skip-gram":
            return vectors
        shown = mask.to(vectors.dtype)
        total, count = torch.einsum("nwd,nw->nd", vectors, shown), shown.sum(dim=1, keepdim=True)
        if paragraphs is not None:
            total, count = total + paragraphs, count + 1
        return (total / count)[:, None]

    def scores(self, predictors: Tensor, words: Tensor) -> Tensor:
        """The scores (n, m, k) of k words (n, k) by each of m predictors (n, m, d_model): products of vectors."""
        assert self.output is not None  # a model that is trained has the matrix
        return predictors @ embedding(words, self.output).transpose(1, 2)

    def states(
        self, rows: Rows, *, side: str = "encoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """See `Backbone.states`."""
        found: Tensor = self(rows.ids)
        if hidden_states is not None:
            hidden_states.append(found)
        return found

    def depth(self, side: str = "encoder") -> int:
        """See `Backbone.depth`."""
        return 0

    @property
    def token_embedding(self) -> nn.Embedding:
        """See `Backbone.token_embedding`."""
        return self.embedding.tokens

    @property
    def token_frequencies(self) -> Tensor | None:
        """See `Backbone.token_frequencies`."""
        return self.frequencies if bool(self.frequencies.any()) else None

    def layer_groups(self) -> Iterator[tuple[str, Part]]:
        """See `Backbone.layer_groups`."""
        yield EMBEDDINGS, self.embedding
        yield from ((FINAL, part) for part in (self.documents, self.output) if part is not None)

    @torch.no_grad()
    def set_frequencies(self, counts: Tensor) -> None:
        """Takes how often each word occurs, (vocab,); the vectors of words that never do, as special tokens, become
        zeros, so that they add nothing to a mean."""
        self.frequencies.copy_(counts / counts.sum())
        self.token_embedding.weight[counts == 0] = 0.0
