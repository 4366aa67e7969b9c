"""Recurrent language models: RNN, LSTM or GRU layers over tokens, with or without attention to their past states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from nlpcli.attention.hooks import Recordable
from nlpcli.config.recurrent_lm_settings import RecurrentLMConfig
from nlpcli.layers.dropout import Dropout, TokenDropout, VariationalDropout
from nlpcli.layers.embeddings import Embedding
from nlpcli.layers.linear import Linear
from nlpcli.models.backbone import EMBEDDINGS, FINAL, OWN, Direction, Part
from nlpcli.models.padded_batch import Rows
from nlpcli.models.past_attention import PastAttention
from nlpcli.models.recurrent_layers import CARRIED, Carry, recurrent_layer, run_layer
from nlpcli.models.transformer import WithVocabulary


@dataclass(frozen=True)
class RecurrentLMState:
    """The decoding state: the state of each layer, and the top layer's last states (rows, m, d_model) for attention.

    Without layers nothing was read yet.
    """

    length: int = 0
    layers: Sequence[Carry] = ()
    past: Tensor | None = None

    def select(self, index: Tensor) -> RecurrentLMState:
        layers = [tuple(part.index_select(0, index) for part in carry) for carry in self.layers]
        return RecurrentLMState(self.length, layers, None if self.past is None else self.past.index_select(0, index))

    @property
    def tensors(self) -> list[Tensor]:
        """All of it, layer by layer, each with the rows first."""
        return [*(part for carry in self.layers for part in carry), *([] if self.past is None else [self.past])]

    def bytes(self) -> int:
        """The memory it takes."""
        return sum(part.nbytes for part in self.tensors)


class RecurrentLM(WithVocabulary):
    """p(x_t | x_<t) = softmax(W h_t + b) with h_t the top layer's state, or what attention makes of past states.

    hidden(segment, memory) gives the memory for the segment that follows: the state of each layer (Mikolov et al. 2010;
    truncated back-propagation through time). Each layer is one call of PyTorch's fused kernel for a whole segment.
    Dropout as in Zaremba et al. 2015, on all that is not recurrent; as in Merity et al. 2018 with
    `variational_dropout`, `weight_dropout` and `embedding_dropout`.
    """

    direction: ClassVar[Direction] = "left-to-right"
    has_memory: ClassVar[bool] = True

    def __init__(self, settings: RecurrentLMConfig, vocab_size: int) -> None:
        super().__init__()
        c, widths = settings, settings.widths
        tokens = nn.Embedding(vocab_size, widths[0])
        self.embedding = Embedding(tokens, scale=False)
        self.layers = cast(
            "Sequence[nn.RNNBase]",  # modules of this class alone
            nn.ModuleList(recurrent_layer(c.rnn_type, d_in, d_out) for d_in, d_out in pairwise(widths)),
        )
        self.attention = PastAttention(c.d_model, c.past_states, score=c.score) if c.past_states else None
        kind = VariationalDropout if c.variational_dropout else Dropout
        self.embedding_dropout = TokenDropout(vocab_size, c.embedding_dropout)
        self.input_dropout = kind(c.input_dropout)
        self.hidden_dropout = kind(c.hidden_dropout)
        self.dropout = kind(c.dropout)
        self.weight_dropout = Dropout(c.weight_dropout)
        self.output_weight_owner = tokens if c.is_tied else Linear(c.d_model, vocab_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocab_size)) if c.output_bias else None
        self.parts = CARRIED[c.rnn_type]
        self.uniform = len(set(widths)) == 1
        self.penalties = (c.activation_regularization, c.temporal_activation_regularization)
        self.memory_length = c.carried_states
        self.max_length: int | None = None

    def hidden(self, tokens: Tensor, memory: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Hidden states (rows, n, d_model) that predict what follows each of tokens (rows, n), and the new memory.

        memory: what the call for the segment before gave, None: nothing was read before; no gradient flows into it.
        """
        hidden, _, state = self._read(tokens, self._state(memory))
        return hidden, [part.detach() for part in state.tensors]

    def regularized(self, tokens: Tensor, memory: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor], Tensor]:
        """As `hidden`, and the penalty α · mean(h²) + β · mean((s_{t+1} - s_t)²) on the states h that predict tokens,
        after dropout, and on the states s of the top layer, before it (Merity et al. 2017)."""
        hidden, states, state = self._read(tokens, self._state(memory))
        alpha, beta = self.penalties
        penalty = alpha * hidden.float().square().mean()
        if states.size(1) > 1:
            penalty = penalty + beta * (states[:, 1:] - states[:, :-1]).float().square().mean()
        return hidden, [part.detach() for part in state.tensors], penalty

    @property
    def regularizes_activations(self) -> bool:
        """See `Backbone.regularizes_activations`."""
        return any(self.penalties)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (rows, n, vocab) for what follows each token of whole texts (rows, n)."""
        return self.logits(self.hidden(tokens)[0])

    def states(
        self, rows: Rows, *, side: str = "decoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """See `Backbone.states`. Padding stands at the end, after all that a state depends on."""
        return self._read(rows.ids, RecurrentLMState(), hidden_states)[0]

    def depth(self, side: str = "decoder") -> int | None:
        """See `Backbone.depth`: where all layers and the embeddings have one width."""
        return len(self.layers) if self.uniform else None

    @property
    def token_embedding(self) -> nn.Embedding:
        """See `Backbone.token_embedding`."""
        return self.embedding.tokens

    def attention_sites(self) -> Mapping[str, Sequence[Recordable]]:
        """See `Backbone.attention_sites`."""
        return {} if self.attention is None else {OWN: [self.attention]}

    def layer_groups(self) -> Iterator[tuple[str, Part]]:
        """See `Backbone.layer_groups`."""
        yield EMBEDDINGS, self.embedding
        yield from ((f"layers.{number}", layer) for number, layer in enumerate(self.layers))
        if self.attention is not None:
            yield FINAL, self.attention

    def state_after(self, tokens: Tensor) -> RecurrentLMState:
        """See `Backbone.state_after`."""
        state = self.init_state(tokens.size(0))
        return self.advance(tokens, state)[1] if tokens.size(1) else state

    def init_state(self, batch_size: int) -> RecurrentLMState:
        """The state before the first token of `batch_size` sequences."""
        return RecurrentLMState()

    def step(self, tokens: Tensor, state: RecurrentLMState) -> tuple[Tensor, RecurrentLMState]:
        """See `Decodable.step`."""
        hidden, state = self.advance(tokens, state)
        return self.logits(hidden[:, -1]), state

    def advance(self, tokens: Tensor, state: RecurrentLMState) -> tuple[Tensor, RecurrentLMState]:
        """As `step`, but the hidden states of all tokens read: (rows, n, d_model)."""
        hidden, _, state = self._read(tokens, state)
        return hidden, state

    def reorder(self, state: RecurrentLMState, index: Tensor, width: int = 1) -> RecurrentLMState:
        """See `Decodable.reorder`."""
        return state.select(index)

    def _state(self, memory: list[Tensor] | None) -> RecurrentLMState:
        """The state that these tensors are. Its length is not known, and nothing depends on it."""
        if not memory:
            return RecurrentLMState()
        ends = range(self.parts, self.parts * len(self.layers) + 1, self.parts)
        layers = [tuple(memory[end - self.parts : end]) for end in ends]
        return RecurrentLMState(0, layers, memory[-1] if self.attention is not None else None)

    def _read(
        self, tokens: Tensor, state: RecurrentLMState, hidden_states: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor, RecurrentLMState]:
        """The states that predict what follows each token, those of the top layer, and the state after the last token.

        hidden_states: is given the embeddings and the states of all layers.
        """
        x = self.input_dropout(self.embedding_dropout.of(self.embedding(tokens), tokens))
        layers: list[Carry] = []
        for number, layer in enumerate(self.layers):
            if hidden_states is not None:
                hidden_states.append(x)
            if number:
                x = self.hidden_dropout(x)
            x, after = run_layer(
                layer, x, state.layers[number] if state.layers else None, recurrent=self._dropped(layer)
            )
            layers.append(after)
        top, past = x, None
        if self.attention is not None:
            x, past = self.attention(top, state.past), self.attention.remembered(top, state.past)
        x = self.dropout(x)
        if hidden_states is not None:
            hidden_states.append(x)
        return x, top, RecurrentLMState(state.length + tokens.size(1), layers, past)

    def _dropped(self, layer: nn.RNNBase) -> Tensor | None:
        """The recurrent matrix with some weights at 0 for a whole segment, where it has dropout (Wan et al. 2013)."""
        if not self.training or not self.weight_dropout.p:
            return None
        return self.weight_dropout(cast("Tensor", layer.weight_hh_l0))
