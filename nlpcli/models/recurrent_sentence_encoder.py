"""A recurrent encoder of sentences, with decoders of the sentences before and after them for pretraining."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from nlpcli.config.recurrent_encoder_settings import RecurrentEncoderConfig
from nlpcli.layers.embeddings import Embedding
from nlpcli.layers.linear import Linear
from nlpcli.models.backbone import EMBEDDINGS, HEAD, Backbone, Part
from nlpcli.models.padded_batch import Rows
from nlpcli.models.recurrent_encoder import RecurrentEncoder
from nlpcli.models.recurrent_layers import recurrent_layer, run_layer


class NeighborDecoder(nn.Module):
    """A GRU that writes a sentence, given the vector of one beside it (Kiros et al. 2015, eq. 5 to 8).

    Each step reads the embedding of a token and the vector, which so acts on both gates and on the new state.
    """

    def __init__(self, d_embedding: int, d_model: int) -> None:
        super().__init__()
        self.layer = recurrent_layer("gru", d_embedding + d_model, d_model)

    def forward(self, tokens: Tensor, vectors: Tensor) -> Tensor:
        """tokens (rows, n, d_embedding), vectors (rows, d_model) -> states (rows, n, d_model) that predict what follows
        each token."""
        known = vectors[:, None].expand(-1, tokens.size(1), -1)
        return run_layer(self.layer, torch.cat((tokens, known.to(tokens.dtype)), dim=-1))[0]


class RecurrentSentenceEncoder(Backbone):
    """States of sentences by RNN, LSTM or GRU layers.

    before, after: decoders of the sentences around one, which share one matrix from states to the vocabulary; None
    without `neighbor_decoders`.
    """

    def __init__(self, settings: RecurrentEncoderConfig, vocab_size: int) -> None:
        super().__init__()
        c, d_embedding = settings, settings.d_embedding or settings.d_model
        self.max_length = None
        tokens = nn.Embedding(vocab_size, d_embedding)
        self.embedding = Embedding(tokens, scale=False, dropout=c.dropout)
        self.encoder = RecurrentEncoder(
            c.rnn_type, d_embedding, c.d_model, c.encoder_layers, bidirectional=c.bidirectional, dropout=c.dropout
        )
        self.before: NeighborDecoder | None = None
        self.after: NeighborDecoder | None = None
        self.output: nn.Linear | None = None
        if c.neighbor_decoders:
            self.before, self.after = NeighborDecoder(d_embedding, c.d_model), NeighborDecoder(d_embedding, c.d_model)
            self.output = Linear(c.d_model, vocab_size)

    @property
    def output_weight(self) -> Tensor:
        """The matrix that turns states of the decoders into logits: (vocab, d_model)."""
        assert self.output is not None  # with decoders only
        return self.output.weight

    @property
    def output_bias(self) -> Tensor | None:
        """(vocab,)"""
        assert self.output is not None
        return self.output.bias

    def forward(self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """States (batch, n, d_model) of tokens (batch, n), zeros where there is padding.

        mask (batch, n): True where there is a token, None when there is no padding.
        """
        return self._encode(tokens, mask, None)

    def _encode(self, tokens: Tensor, mask: Tensor | None, hidden_states: list[Tensor] | None) -> Tensor:
        return cast("Tensor", self.encoder(self.embedding(tokens), mask, hidden_states))

    def vectors(self, rows: Rows) -> Tensor:
        """The vectors of sentences (rows, d_model): the encoder's final state."""
        return self.encoder.final(self(rows.ids, rows.mask), rows.mask)

    def neighbor_hidden(self, which: str, tokens: Tensor, vectors: Tensor) -> Tensor:
        """States (rows, n, d_model) of a decoder that predict what follows each of tokens (rows, n).

        which: "before" or "after". vectors (rows, d_model): of the sentences beside those that are written.
        """
        decoder = self.before if which == "before" else self.after
        assert decoder is not None
        return cast("Tensor", decoder(self.embedding(tokens), vectors))

    def states(
        self, rows: Rows, *, side: str = "encoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """See `Backbone.states`."""
        return self._encode(rows.ids, rows.mask, hidden_states)

    def depth(self, side: str = "encoder") -> int | None:
        """See `Backbone.depth`. Embeddings of another width than the states can't be put together with them."""
        first = self.encoder.layers[0]
        alike = first.input_size == first.hidden_size * (2 if first.bidirectional else 1)
        return len(self.encoder.layers) if alike else None

    @property
    def token_embedding(self) -> nn.Embedding:
        """See `Backbone.token_embedding`."""
        return self.embedding.tokens

    def layer_groups(self) -> Iterator[tuple[str, Part]]:
        """See `Backbone.layer_groups`."""
        yield EMBEDDINGS, self.embedding
        yield from ((f"encoder.{number}", layer) for number, layer in enumerate(self.encoder.layers))
        yield from ((HEAD, part) for part in (self.before, self.after, self.output) if part is not None)

    def trained_example(self, tokens: Tensor) -> Tensor:
        """See `Backbone.trained_example`: with both neighbors, as long as the sentence."""
        states = self(tokens)
        if self.output is None:
            return states
        written = [self.neighbor_hidden(which, tokens, states[:, -1]) for which in ("before", "after")]
        return cast("Tensor", self.output(torch.cat(written, dim=1)))
