"""Hierarchical attention networks (Yang et al. 2016): words make up sentences, sentences make up a document.

    h_it = BiGRU(x_it)      s_i = Σ_t α_it h_it      h_i = BiGRU(s_i)      v = Σ_i α_i h_i

Both α are attention with a learned query. With means or maxima in its place (HN-AVE, HN-MAX) the model has no weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from nlpcli.attention.attention_pooling import AttentionPooling
from nlpcli.attention.hooks import Recordable
from nlpcli.config.hierarchical_settings import HierarchicalConfig
from nlpcli.layers.embeddings import Embedding
from nlpcli.models.backbone import EMBEDDINGS, SENTENCES, WORDS, Backbone, Part
from nlpcli.models.heads import greatest, mean
from nlpcli.models.padded_batch import Rows
from nlpcli.models.recurrent_encoder import RecurrentEncoder


class Groups:
    """Items one after the other that belong to groups, such as words to sentences, as rows of a padded grid.

    number (items,): the group of each item, ascending from 0, none left out.
    """

    def __init__(self, number: Tensor) -> None:
        self.number = number
        sizes = number.bincount()
        self.ends = sizes.cumsum(0)
        """Behind the last item of each group."""
        self.place = torch.arange(len(number), device=number.device) - (self.ends - sizes)[number]
        self.mask = torch.arange(int(sizes.max()), device=number.device) < sizes[:, None]

    def grid(self, items: Tensor) -> Tensor:
        """(items, …) -> (groups, longest, …), zeros where a group has no more items."""
        empty = items.new_zeros(*self.mask.shape, *items.shape[1:])
        return empty.index_put((self.number, self.place), items)

    def items(self, grid: Tensor) -> Tensor:
        """(groups, longest, …) -> (items, …)"""
        return grid[self.number, self.place]


class Level(nn.Module):
    """A recurrent encoder that reads both ways, and what makes one vector of its states: attention, mean or max."""

    def __init__(self, d_in: int, layers: int, settings: HierarchicalConfig) -> None:
        super().__init__()
        c = settings
        self.encoder = RecurrentEncoder(c.rnn_type, d_in, c.d_model, layers, dropout=c.dropout)
        self.attention = (
            AttentionPooling(c.d_model, c.d_attention or c.d_model) if c.aggregation == "attention" else None
        )
        self.without_attention = mean if c.aggregation == "mean" else greatest

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (groups, longest, d_in) -> states (groups, longest, d_model) and vectors (groups, d_model).

        mask (groups, longest): True where there is an item; None: everywhere.
        """
        states = self.encoder(x, mask)
        return states, (self.attention or self.without_attention)(states, mask)

    def layer_groups(self, name: str) -> Iterator[tuple[str, Part]]:
        """See `Backbone.layer_groups`."""
        yield from ((f"{name}.{number}", layer) for number, layer in enumerate(self.encoder.layers))
        if self.attention is not None:
            yield f"{name}.{len(self.encoder.layers) - 1}", self.attention


class HierarchicalNetwork(Backbone):
    """An encoder of documents, whose first token and separators behind sentences are places for vectors."""

    def __init__(self, settings: HierarchicalConfig, vocab_size: int) -> None:
        super().__init__()
        c, d_embedding = settings, settings.d_embedding or settings.d_model
        self.embedding = Embedding(nn.Embedding(vocab_size, d_embedding), dropout=c.dropout)
        self.words = Level(d_embedding, c.word_layers, c)
        self.sentences = Level(c.d_model, c.sentence_layers, c)
        self.d_model = c.d_model
        self.max_length: int | None = None

    def forward(self, tokens: Tensor, sentences: Tensor | None = None) -> Tensor:
        """States (rows, n, d_model) of tokens (rows, n), as an encoder with a [CLS] and a [SEP] token gives them.

        sentences (rows, n): the number of each word's sentence in its row, ascending; -1 of special tokens and of
        padding, which are not read. None: all tokens behind the first are one sentence.
        The states: h_it of a word; h_i at a special token behind sentence i; v at the first token; zeros elsewhere.
        """
        if sentences is None:
            return self._one_sentence(tokens)
        row, place = (sentences >= 0).nonzero(as_tuple=True)
        if not len(row):
            return self._nothing(tokens)
        number = sentences[row, place]
        begins = (row.diff() != 0) | (number.diff() != 0)
        words = Groups(nn.functional.pad(begins.cumsum(0), (1, 0)))
        states, vectors = self.words(self.embedding(words.grid(tokens[row, place])), words.mask)
        last = words.ends - 1
        document, of_sentence = row[last].unique_consecutive(return_inverse=True)
        parts = Groups(of_sentence)
        above, documents = self.sentences(parts.grid(vectors), parts.mask)
        found = states.new_zeros(*tokens.shape, self.d_model)
        found = found.index_put((row, place), words.items(states))
        behind = (place[last] + 1).clamp(max=tokens.size(1) - 1)
        special = sentences[row[last], behind] < 0
        found = found.index_put((row[last][special], behind[special]), parts.items(above)[special])
        return found.index_put((document, torch.zeros_like(document)), documents)

    def _one_sentence(self, tokens: Tensor) -> Tensor:
        if tokens.size(1) < 2:
            return self._nothing(tokens)
        states, vectors = self.words(self.embedding(tokens[:, 1:]), None)
        _, documents = self.sentences(vectors[:, None], None)
        return torch.cat((documents[:, None], states), dim=1)

    def _nothing(self, tokens: Tensor) -> Tensor:
        """The states of texts without words."""
        return self.embedding.tokens.weight.new_zeros(*tokens.shape, self.d_model)

    def states(
        self, rows: Rows, *, side: str = "encoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """See `Backbone.states`."""
        return self(rows.ids, rows.sentences)

    def depth(self, side: str = "encoder") -> None:
        """See `Backbone.depth`."""
        return

    @property
    def token_embedding(self) -> nn.Embedding:
        """See `Backbone.token_embedding`."""
        return self.embedding.tokens

    def attention_sites(self) -> Mapping[str, Sequence[Recordable]]:
        """See `Backbone.attention_sites`. Each row of the weights of words is a sentence."""
        levels = {WORDS: self.words.attention, SENTENCES: self.sentences.attention}
        return {site: [attention] for site, attention in levels.items() if attention is not None}

    def layer_groups(self) -> Iterator[tuple[str, Part]]:
        """See `Backbone.layer_groups`."""
        yield EMBEDDINGS, self.embedding
        yield from self.words.layer_groups("words")
        yield from self.sentences.layer_groups("sentences")
