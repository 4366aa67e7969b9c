"""Recurrent decoders: without attention, with Bahdanau's, with Luong's.

All read what follows a state, one token or a whole target, and give the hidden states that predict what comes next.
Where no step depends on the context of the one before, the fused kernels read the whole target at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from nlpcli.attention.hooks import StepRecording
from nlpcli.layers.dropout import Dropout
from nlpcli.layers.linear import Linear
from nlpcli.models.decoder_state import Memory
from nlpcli.models.recurrent_attention import AttendedSource, SampledPositions, SourceAttention
from nlpcli.models.recurrent_layers import CARRIED, Carry, StepLayer, recurrent_layer, run_layer


@dataclass(frozen=True)
class FixedContext:
    """The sources for a decoder without attention: a vector for each row, (rows, d_model)."""

    vector: Tensor

    def select(self, index: Tensor, width: int) -> FixedContext:
        return FixedContext(self.vector.index_select(0, index))


@dataclass(frozen=True)
class RecurrentState:
    """The decoding state: the state of each layer, and the attentional vector that is the next step's input."""

    length: int
    layers: list[Carry]
    source: AttendedSource | FixedContext
    fed: Tensor | None = None

    def select(self, index: Tensor, width: int) -> RecurrentState:
        layers = [tuple(part.index_select(0, index) for part in carry) for carry in self.layers]
        fed = None if self.fed is None else self.fed.index_select(0, index)
        return RecurrentState(self.length, layers, self.source.select(index, width), fed)

    def bytes(self) -> int:
        """The memory that the target read so far takes."""
        fed = [] if self.fed is None else [self.fed]
        return sum(part.nbytes for part in [*fed, *(part for carry in self.layers for part in carry)])


@dataclass(frozen=True)
class DecoderOutput:
    """hidden (rows, n, d_embedding), which predicts the next tokens; states (rows, n, d_model) of the top layer; the
    state after the last token; what hard attention has sampled in training."""

    hidden: Tensor
    states: Tensor
    state: RecurrentState
    choices: SampledPositions | None = None


@dataclass(frozen=True)
class DecoderSizes:
    """cell: rnn, lstm or gru. d_embedding: features of the embeddings, and of the hidden states that predict tokens;
    d_model: of the layers' states, and of the encoder's."""

    cell: str
    d_embedding: int
    d_model: int
    layers: int


class RecurrentDecoder(nn.Module):
    """Base of the decoders: layers, and their state before the first token, computed from the encoder's final state.

    The state of each layer is h = tanh(W e + b), the cell of an LSTM W' e + b', with e the encoder's last states
    (Bahdanau et al. 2015, appendix A.2.2). attention: how the decoder attends to the source, None: not at all.
    """

    def __init__(
        self, sizes: DecoderSizes, *, d_fed: int, attention: SourceAttention | None = None, dropout: float = 0.0
    ) -> None:
        """d_fed: features of what the first layer reads besides embeddings."""
        super().__init__()
        d_model, layers = sizes.d_model, sizes.layers
        first = sizes.d_embedding + d_fed
        made = [recurrent_layer(sizes.cell, d_model if number else first, d_model) for number in range(layers)]
        self.layers = cast("Sequence[nn.RNNBase]", nn.ModuleList(made))  # modules of this class alone
        self.parts = CARRIED[sizes.cell]
        self.bridge = Linear(d_model, layers * self.parts * d_model)
        self.cross_attention = attention
        self.dropout = Dropout(dropout)

    def start(self, memory: Memory, final: Tensor) -> RecurrentState:
        """The state before the first token; final (rows, d_model): the encoder's final state."""
        raise NotImplementedError

    def read(self, inputs: Tensor, state: RecurrentState) -> DecoderOutput:
        """Embeddings (rows, n, d_embedding) of the tokens after those of `state`."""
        raise NotImplementedError

    def _first(self, final: Tensor) -> list[Carry]:
        found = self.bridge(final).chunk(len(self.layers) * self.parts, dim=-1)
        layers = [found[place : place + self.parts] for place in range(0, len(found), self.parts)]
        return [(state.tanh(), *cell) for state, *cell in layers]

    def _run(self, x: Tensor, carries: Sequence[Carry]) -> tuple[Tensor, list[Carry]]:
        """All steps at once: (rows, n, d_embedding + d_fed) -> (rows, n, d_model), and the states after them."""
        after: list[Carry] = []
        for layer, carry in zip(self.layers, carries, strict=True):
            if after:
                x = self.dropout(x)
            x, last = run_layer(layer, x, carry)
            after.append(last)
        return x, after

    def _steps(self, inputs: Tensor) -> list[StepLayer]:
        """The layers for steps that read `inputs` (rows, n, d_embedding) and what is fed besides."""
        return [StepLayer(layer, None if number else inputs) for number, layer in enumerate(self.layers)]

    def _step(self, steps: Sequence[StepLayer], number: int, fed: Tensor, carries: Sequence[Carry]) -> list[Carry]:
        """Step `number` of all layers; the first layer receives `fed` (rows, d_fed): their states after it."""
        after: list[Carry] = []
        for step, carry in zip(steps, carries, strict=True):
            after.append(step(number, self.dropout(after[-1][0]) if after else fed, carry))
        return after

    @property
    def _attention(self) -> SourceAttention:
        """The attention of a decoder that has one."""
        assert self.cross_attention is not None
        return self.cross_attention

    def _attend(
        self, query: Tensor, state: RecurrentState, step: int, recording: StepRecording | None
    ) -> tuple[Tensor, SampledPositions | None]:
        """query (rows, d_model) of step `step` after `state` -> context (rows, d_model), and what was sampled."""
        source = cast(AttendedSource, state.source)  # as `start` made it
        found = self._attention(query[:, None], source, state.length + step, recording)
        return found.context[:, 0], found.choices

    def _recording(self, state: RecurrentState, n: int) -> StepRecording | None:
        return self._attention.recording(n, cast(AttendedSource, state.source))  # as above


class DeepOutput(nn.Module):
    """max over pairs of features of W [s; c; y] + b, with the decoder's state, the context and the embedding of the
    token before: a maxout layer (Bahdanau et al. 2015, appendix A.2.2)."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.dense = Linear(2 * sizes.d_model + sizes.d_embedding, 2 * sizes.d_embedding)

    def forward(self, *parts: Tensor) -> Tensor:
        """(rows, n, …) each -> (rows, n, d_embedding)."""
        return self.dense(torch.cat(parts, dim=-1)).unflatten(-1, (-1, 2)).amax(dim=-1)


class FixedContextDecoder(RecurrentDecoder):
    """s_t = f(s_{t-1}, [y_{t-1}; c]) with one context c for all steps: the encoder's final state (Cho et al.
    2014)."""

    def __init__(self, sizes: DecoderSizes, *, dropout: float = 0.0) -> None:
        super().__init__(sizes, d_fed=sizes.d_model, dropout=dropout)
        self.readout = DeepOutput(sizes)

    def start(self, memory: Memory, final: Tensor) -> RecurrentState:
        return RecurrentState(0, self._first(final), FixedContext(final))

    def read(self, inputs: Tensor, state: RecurrentState) -> DecoderOutput:
        source = cast(FixedContext, state.source)  # as `start` made it
        context = source.vector[:, None].expand(-1, inputs.size(1), -1)
        states, layers = self._run(torch.cat((inputs, context), dim=-1), state.layers)
        hidden = self.readout(states, context, inputs)
        return DecoderOutput(hidden, states, replace(state, length=state.length + inputs.size(1), layers=layers))


class BahdanauDecoder(RecurrentDecoder):
    """s_t = f(s_{t-1}, [y_{t-1}; c_t]) with a context c_t, for which the previous state of the top layer is the query.

    Source: Bahdanau et al. 2015, section 3.1 and appendix A.2.2.
    """

    def __init__(self, sizes: DecoderSizes, *, attention: SourceAttention, dropout: float = 0.0) -> None:
        super().__init__(sizes, d_fed=sizes.d_model, attention=attention, dropout=dropout)
        self.readout = DeepOutput(sizes)

    def start(self, memory: Memory, final: Tensor) -> RecurrentState:
        return RecurrentState(0, self._first(final), self._attention.prepare(memory))

    def read(self, inputs: Tensor, state: RecurrentState) -> DecoderOutput:
        n = inputs.size(1)
        steps, carries, recording = self._steps(inputs), state.layers, self._recording(state, n)
        contexts, states, choices = [], [], []
        for number in range(n):
            context, chosen = self._attend(carries[-1][0], state, number, recording)
            carries = self._step(steps, number, context, carries)
            contexts.append(context)
            states.append(carries[-1][0])
            choices.append(chosen)
        if recording is not None:
            recording.finish()
        top = torch.stack(states, dim=1)
        hidden = self.readout(top, torch.stack(contexts, dim=1), inputs)
        after = replace(state, length=state.length + n, layers=carries)
        return DecoderOutput(hidden, top, after, _joined(choices))


class LuongDecoder(RecurrentDecoder):
    """h~_t = tanh(W [c_t; s_t]) with a context c_t, for which the current state s_t of the top layer is the query.

    With `input_feeding` s_t = f(s_{t-1}, [y_{t-1}; h~_{t-1}]), and h~_0 = 0; otherwise s_t = f(s_{t-1}, y_{t-1}), so
    that all steps are computed at once. Source: Luong et al. 2015, sections 3 and 3.3.
    """

    def __init__(
        self, sizes: DecoderSizes, *, attention: SourceAttention, input_feeding: bool = True, dropout: float = 0.0
    ) -> None:
        d_fed = sizes.d_embedding if input_feeding else 0
        super().__init__(sizes, d_fed=d_fed, attention=attention, dropout=dropout)
        self.d_fed = d_fed
        self.combine = Linear(2 * sizes.d_model, sizes.d_embedding, bias=False)

    def start(self, memory: Memory, final: Tensor) -> RecurrentState:
        fed = final.new_zeros(final.size(0), self.d_fed) if self.d_fed else None
        return RecurrentState(0, self._first(final), self._attention.prepare(memory), fed)

    def read(self, inputs: Tensor, state: RecurrentState) -> DecoderOutput:
        if state.fed is not None:
            return self._read_in_steps(inputs, state, state.fed)
        n = inputs.size(1)
        states, layers = self._run(inputs, state.layers)
        recording = self._recording(state, n)
        source = cast(AttendedSource, state.source)  # as `start` made it
        found = self._attention(states, source, state.length, recording)
        if recording is not None:
            recording.finish()
        hidden = self.combine(torch.cat((found.context, states), dim=-1)).tanh()
        after = replace(state, length=state.length + n, layers=layers)
        return DecoderOutput(hidden, states, after, found.choices)

    def _read_in_steps(self, inputs: Tensor, state: RecurrentState, fed: Tensor) -> DecoderOutput:
        n = inputs.size(1)
        steps, carries, recording = self._steps(inputs), state.layers, self._recording(state, n)
        hidden, states, choices = [], [], []
        for number in range(n):
            carries = self._step(steps, number, fed, carries)
            states.append(carries[-1][0])
            context, chosen = self._attend(states[-1], state, number, recording)
            fed = self.combine(torch.cat((context, states[-1]), dim=-1)).tanh()
            hidden.append(fed)
            choices.append(chosen)
        if recording is not None:
            recording.finish()
        after = replace(state, length=state.length + n, layers=carries, fed=fed)
        return DecoderOutput(torch.stack(hidden, dim=1), torch.stack(states, dim=1), after, _joined(choices))


def _joined(choices: Sequence[SampledPositions | None]) -> SampledPositions | None:
    """The positions sampled in all steps; each step changes those after it."""
    found = [chosen for chosen in choices if chosen is not None]
    if not found:
        return None
    return SampledPositions(
        torch.cat([chosen.log_probability for chosen in found], dim=1),
        torch.cat([chosen.entropy for chosen in found], dim=1),
        torch.cat([chosen.baseline for chosen in found], dim=1),
        lasting=True,
    )
