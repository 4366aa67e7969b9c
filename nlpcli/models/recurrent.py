"""Recurrent sequence to sequence: an encoder and a decoder of RNN, LSTM or GRU layers, with or without attention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from nlpcli.attention.hooks import Recordable
from nlpcli.attention.score_functions import SCORES
from nlpcli.config.recurrent_settings import RecurrentConfig
from nlpcli.layers.dropout import Dropout
from nlpcli.layers.embeddings import Embedding
from nlpcli.models.backbone import CROSS, EMBEDDINGS, FINAL, Direction, Part
from nlpcli.models.decoder_state import Memory
from nlpcli.models.padded_batch import Rows
from nlpcli.models.recurrent_attention import MonotonicWindow, PredictiveWindow, SampledPositions, SourceAttention
from nlpcli.models.recurrent_decoder import (
    BahdanauDecoder,
    DecoderOutput,
    DecoderSizes,
    FixedContextDecoder,
    LuongDecoder,
    RecurrentDecoder,
    RecurrentState,
)
from nlpcli.models.recurrent_encoder import RecurrentEncoder
from nlpcli.models.transformer import WithVocabulary


class RecurrentEncoderDecoder(WithVocabulary):
    """Source in, target out, as `nlpcli.models.transformer.EncoderDecoder`, by recurrent layers.

    The hidden states that predict tokens have as many features as embeddings, d_embedding; those of layers d_model.
    """

    direction: ClassVar[Direction] = "source-to-target"

    def __init__(self, settings: RecurrentConfig, vocab_size: int) -> None:
        super().__init__()
        c, d_embedding = settings, settings.d_embedding or settings.d_model
        source = nn.Embedding(vocab_size, d_embedding)
        target = source if c.tie in ("all", "source-target") else nn.Embedding(vocab_size, d_embedding)
        self.encoder_embedding = Embedding(source, dropout=c.dropout)
        self.encoder = RecurrentEncoder(
            c.rnn_type, d_embedding, c.d_model, c.encoder_layers, bidirectional=c.bidirectional, dropout=c.dropout
        )
        self.decoder_embedding = Embedding(target, dropout=c.dropout)
        self.decoder = decoder_of(c)
        self.dropout = Dropout(c.dropout)
        self.add_vocabulary(target, tied=c.tie in ("all", "target-output"), bias=c.output_bias)
        self.max_length: int | None = None

    def encode(
        self, source: Tensor, source_mask: Tensor | None = None, hidden_states: list[Tensor] | None = None
    ) -> Memory:
        """source (batch, m) ids, source_mask (batch, m) True where there is a token; None when there is no padding.

        hidden_states: is given the embeddings and the states of all layers.
        """
        if source_mask is not None and bool(source_mask.all()):
            source_mask = None
        return Memory(self.encoder(self.encoder_embedding(source), source_mask, hidden_states), source_mask)

    def init_state(self, memory: Memory) -> RecurrentState:
        """The state before the first target token; what attention makes of the sources alone is computed here, once."""
        return self.decoder.start(memory, self.encoder.final(memory.states, memory.mask))

    def step(self, tokens: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """See `Decodable.step`."""
        hidden, state = self.advance(tokens, state)
        return self.logits(hidden[:, -1]), state

    def advance(self, tokens: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """As `step`, but the hidden states of all tokens read: (rows, n, d_embedding)."""
        found = self._read(tokens, state)
        return self.dropout(found.hidden), found.state

    def reorder(self, state: RecurrentState, index: Tensor, width: int = 1) -> RecurrentState:
        """See `Decodable.reorder`."""
        return state.select(index, width)

    def _read(self, tokens: Tensor, state: RecurrentState) -> DecoderOutput:
        return self.decoder.read(self.decoder_embedding(tokens), state)

    def hidden(self, source: Tensor, source_mask: Tensor | None, target: Tensor) -> Tensor:
        """Hidden states (batch, n, d_embedding) that predict what follows each token of target (batch, n)."""
        return self.target_hidden(target, self.encode(source, source_mask))

    def target_hidden(self, target: Tensor, memory: Memory) -> Tensor:
        """As `hidden`, for a source that was encoded."""
        return self.advance(target, self.init_state(memory))[0]

    @property
    def samples_attention(self) -> bool:
        """Whether positions of the source are sampled in training, whose probabilities need a gradient of their own."""
        attention = self.decoder.cross_attention
        return attention is not None and attention.baseline is not None

    def hidden_and_choices(
        self, source: Tensor, source_mask: Tensor | None, target: Tensor
    ) -> tuple[Tensor, SampledPositions | None]:
        """As `hidden`, and what hard attention has sampled."""
        found = self._read(target, self.init_state(self.encode(source, source_mask)))
        return self.dropout(found.hidden), found.choices

    def forward(self, source: Tensor, source_mask: Tensor | None, target: Tensor) -> Tensor:
        """Logits (batch, n, vocab) for what follows each token of target (batch, n)."""
        return self.logits(self.hidden(source, source_mask, target))

    def states(
        self, rows: Rows, *, side: str = "encoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        """See `Backbone.states`. Of the decoder the states of its top layer, (rows, n, d_model)."""
        memory = self.encode(rows.ids, rows.mask, hidden_states if side == "encoder" else None)
        if side == "encoder":
            return memory.states
        target = rows.ids.roll(1, dims=1)
        target[:, 0] = start
        return self._read(target, self.init_state(memory)).states

    def depth(self, side: str = "encoder") -> int | None:
        """See `Backbone.depth`. Embeddings of another width than the states can't be put together with them."""
        width = self.encoder.layers[0].input_size
        alike = width == self.decoder.layers[0].hidden_size
        return len(self.encoder.layers) if side == "encoder" and alike else None

    @property
    def token_embedding(self) -> nn.Embedding:
        """See `Backbone.token_embedding`."""
        return self.encoder_embedding.tokens

    def attention_sites(self) -> Mapping[str, Sequence[Recordable]]:
        """See `Backbone.attention_sites`."""
        attention = self.decoder.cross_attention
        return {} if attention is None else {CROSS: [attention]}

    def layer_groups(self) -> Iterator[tuple[str, Part]]:
        """See `Backbone.layer_groups`."""
        yield from ((EMBEDDINGS, part) for part in (self.encoder_embedding, self.decoder_embedding))
        yield from ((f"encoder.{number}", layer) for number, layer in enumerate(self.encoder.layers))
        yield "decoder.0", self.decoder.bridge
        yield from ((f"decoder.{number}", layer) for number, layer in enumerate(self.decoder.layers))
        yield FINAL, self.decoder

    def example(self, tokens: Tensor) -> Tensor:
        """See `Backbone.example`."""
        return self(tokens, None, tokens)

    def trained_example(self, tokens: Tensor) -> Tensor:
        """See `Backbone.trained_example`: with what gives hard attention its gradients, added to the logits."""
        hidden, choices = self.hidden_and_choices(tokens, None, tokens)
        logits = self.logits(hidden)
        if choices is None:
            return logits
        return logits + (choices.log_probability + choices.entropy + choices.baseline)[..., None]

    def state_after(self, tokens: Tensor) -> RecurrentState:
        """See `Backbone.state_after`."""
        source = nn.functional.pad(tokens, (0, 1))
        state = self.init_state(self.encode(source))
        return self.advance(tokens, state)[1] if tokens.size(1) else state


def decoder_of(settings: RecurrentConfig) -> RecurrentDecoder:
    """The decoder that the settings name."""
    c = settings
    sizes = DecoderSizes(c.rnn_type, c.d_embedding or c.d_model, c.d_model, c.decoder_layers)
    if c.decoder == "fixed-context":
        return FixedContextDecoder(sizes, dropout=c.dropout)
    own: dict[str, int] = {"positions": c.max_length} if c.score == "location" else {}
    window: MonotonicWindow | PredictiveWindow | None = None
    if c.attention_window == "local-m":
        window = MonotonicWindow(c.window_size)
    elif c.attention_window == "local-p":
        window = PredictiveWindow(c.window_size, c.d_model)
    attention = SourceAttention(
        SCORES[c.score](c.d_model, c.d_model, **own),
        c.d_model,
        window=window,
        hard=None if c.hard_attention == "none" else c.hard_attention,
        temperature=c.gumbel_temperature,
    )
    if c.decoder == "bahdanau":
        return BahdanauDecoder(sizes, attention=attention, dropout=c.dropout)
    return LuongDecoder(sizes, attention=attention, input_feeding=c.input_feeding, dropout=c.dropout)
