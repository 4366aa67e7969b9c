"""A family of models that nlpcli does not have, in one file: an LSTM encoder-decoder with Bahdanau's attention.

`test_families.py` adds it to the table of families by one line and asks of it whatever the program does with models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nlpcli.attention.hooks import Recordable, Recorder
from nlpcli.config.model_settings import CacheSize, ModelConfig
from nlpcli.models.backbone import CROSS, EMBEDDINGS, Backbone, Direction, Part
from nlpcli.models.decoder_state import Memory
from nlpcli.models.padded_batch import Rows


class TrialConfig(ModelConfig):
    """The settings of the family."""

    build: ClassVar = "trial_family:Trial"
    kind: Literal["encoder-decoder"] = "encoder-decoder"

    @property
    def stacks(self) -> Mapping[str, int]:
        return {"encoder": 1, "decoder": 1}

    def cached_numbers(self) -> CacheSize:
        return CacheSize(window=2 * self.d_model, per_source_token=2 * self.d_model)


@dataclass
class State:
    hidden: Tensor
    cell: Tensor
    memory: Memory
    keys: Tensor
    length: int = 0

    def bytes(self) -> int:
        return self.hidden.nbytes + self.cell.nbytes


class Attention(nn.Module):
    """softmax(vᵀ tanh(W s + U h_j))"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.score = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)
        self.recorder: Recorder | None = None

    def forward(self, state: Tensor, keys: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        scores = self.score((self.query(state)[:, None] + keys).tanh())[..., 0]
        if memory.mask is not None:
            scores = scores.masked_fill(~memory.mask, -torch.inf)
        weights = scores.softmax(-1)
        return (weights[:, None] @ memory.states)[:, 0], weights


class DecoderLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.cross_attention, self.cell = Attention(width), nn.LSTMCell(2 * width, width)


class Decoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([DecoderLayer(width)])


class Trial(Backbone):
    direction: ClassVar[Direction] = "source-to-target"
    output_bias = None
    source_encoder = None

    def __init__(self, settings: TrialConfig, vocab_size: int) -> None:
        super().__init__()
        width = settings.d_model
        self.max_length = None
        self.embedding = nn.Embedding(vocab_size, width)
        self.encoder = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)
        self.decoder = Decoder(width)

    @property
    def output_weight(self) -> Tensor:
        return self.embedding.weight

    def encode(self, source: Tensor, source_mask: Tensor | None = None, kept: list[Tensor] | None = None) -> Memory:
        x = self.embedding(source)
        if source_mask is None:
            return Memory(self.encoder(x)[0], None)
        lengths = source_mask.sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.encoder(packed)[0], batch_first=True, total_length=source.size(1)
        )
        return Memory(states, source_mask)

    def init_state(self, memory: Memory) -> State:
        zeros = memory.states.new_zeros(memory.states.size(0), memory.states.size(2))
        return State(zeros, zeros, memory, self.decoder.layers[0].cross_attention.key(memory.states))

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        layer, states, looks = self.decoder.layers[0], [], []
        hidden, cell = state.hidden, state.cell
        for x in self.embedding(tokens).unbind(1):
            context, weights = layer.cross_attention(hidden, state.keys, state.memory)
            looks.append(weights)
            hidden, cell = layer.cell(torch.cat((x, context), -1), (hidden, cell))
            states.append(hidden)
        if layer.cross_attention.recorder is not None:
            layer.cross_attention.recorder.append(torch.stack(looks, 1)[:, None].detach())
        after = State(hidden, cell, state.memory, state.keys, state.length + tokens.size(1))
        return torch.stack(states, 1), after

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        hidden, state = self.advance(tokens, state)
        return self.logits(hidden[:, -1]), state

    def reorder(self, state: State, index: Tensor, width: int = 1) -> State:
        memory = state.memory
        mask = None if memory.mask is None else memory.mask[index]
        moved = Memory(memory.states[index], mask)
        return State(state.hidden[index], state.cell[index], moved, state.keys[index], state.length)

    def target_hidden(self, target: Tensor, memory: Memory, kept: list[Tensor] | None = None) -> Tensor:
        return self.advance(target, self.init_state(memory))[0]

    def hidden(self, source: Tensor, source_mask: Tensor | None, target: Tensor) -> Tensor:
        return self.target_hidden(target, self.encode(source, source_mask))

    def logits(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.output_weight)

    def forward(self, source: Tensor, source_mask: Tensor | None, target: Tensor) -> Tensor:
        return self.logits(self.hidden(source, source_mask, target))

    def states(
        self, rows: Rows, *, side: str = "encoder", start: int = 0, hidden_states: list[Tensor] | None = None
    ) -> Tensor:
        memory = self.encode(rows.ids, rows.mask)
        return memory.states if side == "encoder" else self.target_hidden(rows.ids.roll(1, 1), memory)

    def depth(self, side: str = "encoder") -> None:
        return None

    @property
    def token_embedding(self) -> nn.Embedding:
        return self.embedding

    def layer_groups(self) -> Iterator[tuple[str, Part]]:
        yield EMBEDDINGS, self.embedding
        yield "encoder.0", self.encoder
        yield "decoder.0", self.decoder

    def attention_sites(self) -> Mapping[str, Sequence[Recordable]]:
        return {CROSS: [self.decoder.layers[0].cross_attention]}

    def example(self, tokens: Tensor) -> Tensor:
        return self(tokens, None, tokens)

    def state_after(self, tokens: Tensor) -> State:
        state = self.init_state(self.encode(nn.functional.pad(tokens, (0, 1))))
        return self.advance(tokens, state)[1] if tokens.size(1) else state
