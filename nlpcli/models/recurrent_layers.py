"""One layer of a recurrent network: over whole texts by PyTorch's fused kernels, or step by step.

A layer's state after a step is a tuple of tensors (rows, d): h, and the cell c of an LSTM.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

Carry = tuple[Tensor, ...]

CELLS: dict[str, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
"""Elman 1990, with tanh; Hochreiter and Schmidhuber 1997, with a forget gate (Gers et al. 2000); Cho et al. 2014."""

CARRIED = {"rnn": 1, "lstm": 2, "gru": 1}
"""The number of tensors in the state of each."""


def recurrent_layer(cell: str, d_in: int, d_out: int, *, bidirectional: bool = False) -> nn.RNNBase:
    """A layer from `d_in` to `d_out` features; if `bidirectional`, each direction has half of them."""
    return CELLS[cell](d_in, d_out // 2 if bidirectional else d_out, batch_first=True, bidirectional=bidirectional)


def initialize_layer(layer: nn.RNNBase) -> None:
    """Input matrices uniform after Glorot and Bengio 2010 for each gate, recurrent ones orthogonal for each gate (Saxe
    et al. 2014), biases 0, and that of an LSTM's forget gate 1 (Jozefowicz et al. 2015)."""
    size = layer.hidden_size
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(weight)
                if isinstance(layer, nn.LSTM) and name.startswith("bias_ih"):
                    weight[size : 2 * size].fill_(1.0)
                continue
            fill = nn.init.orthogonal_ if name.startswith("weight_hh") else nn.init.xavier_uniform_
            for gate in weight.split(size):
                fill(gate)


def run_layer(
    layer: nn.RNNBase, x: Tensor, carry: Carry | None = None, *, recurrent: Tensor | None = None
) -> tuple[Tensor, Carry]:
    """Whole texts x (rows, n, d_in) after `carry`, None: from the beginning -> (rows, n, d_out), and the state after
    them, of a layer with one direction. recurrent: stands in for the layer's recurrent matrix (gates · d_out, d_out).
    """
    x = _cast(x)
    before = None if carry is None else tuple(_cast(part)[None] for part in carry)
    if recurrent is not None:
        return _run_with(layer, recurrent, x, before)
    found, after = layer(x, before[0] if before is not None and len(before) == 1 else before)
    return found, tuple(part[0] for part in (after if isinstance(after, tuple) else (after,)))


def _run_with(layer: nn.RNNBase, recurrent: Tensor, x: Tensor, before: Carry | None) -> tuple[Tensor, Carry]:
    """The kernel that the layer calls, with another recurrent matrix. before: as the kernel takes it, (1, rows, d)."""
    weight, _, bias, recurrent_bias = layer.parameters()
    parts = 2 if isinstance(layer, nn.LSTM) else 1
    state = before or tuple(x.new_zeros(1, x.size(0), layer.hidden_size) for _ in range(parts))
    weights = [weight, recurrent, bias, recurrent_bias]
    rest = (True, 1, 0.0, layer.training, False, True)  # biases, layers, dropout, training, both ways, rows first
    if isinstance(layer, nn.LSTM):
        found, hidden, cell = torch.lstm(x, state, weights, *rest)
        return found, (hidden[0], cell[0])
    kernel = torch.gru if isinstance(layer, nn.GRU) else torch.rnn_tanh
    found, hidden = kernel(x, state[0], weights, *rest)
    return found, (hidden[0],)


def run_packed(layer: nn.RNNBase, x: PackedSequence) -> PackedSequence:
    """Whole texts without their padding."""
    found: PackedSequence = layer(x._replace(data=_cast(x.data)))[0]
    return found


def _cast(x: Tensor) -> Tensor:
    """On a CPU, autocast does not cast what an LSTM reads."""
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return x.to(torch.get_autocast_dtype("cpu"))
    return x


class StepLayer:
    """A layer with one direction that takes one step at a time, with the weights of `layer`.

    known (rows, n, d_known): the first features of what the layer reads at each of the next n steps, where they are
    known beforehand; None: none are. The others are given to each step.
    """

    def __init__(self, layer: nn.RNNBase, known: Tensor | None) -> None:
        self.kind = type(layer)
        weight, self.recurrent, self.bias, self.recurrent_bias = layer.parameters()
        first = 0 if known is None else known.size(-1)
        self.weight = weight[:, first:]
        self.known: tuple[Tensor, ...] | None = None
        if known is not None:
            self.known = nn.functional.linear(known, weight[:, :first], self.bias).unbind(1)

    def __call__(self, step: int, given: Tensor, carry: Carry) -> Carry:
        """The state after step `step` of the n. given (rows, d_in - d_known): the features that were not known."""
        if self.known is None:
            read = nn.functional.linear(given, self.weight, self.bias)
        else:
            read = self.known[step] + nn.functional.linear(given, self.weight)
        remembered = nn.functional.linear(carry[0], self.recurrent, self.recurrent_bias)
        if self.kind is nn.LSTM:
            return _lstm(read + remembered, carry[1])
        if self.kind is nn.GRU:
            return (_gru(read, remembered, carry[0]),)
        return ((read + remembered).tanh(),)


def _lstm(gates: Tensor, cell: Tensor) -> Carry:
    into, keep, new, out = gates.chunk(4, dim=-1)
    cell = keep.sigmoid() * cell + into.sigmoid() * new.tanh()
    return out.sigmoid() * cell.tanh(), cell


def _gru(read: Tensor, remembered: Tensor, state: Tensor) -> Tensor:
    width = state.size(-1)
    gates = (read[..., : 2 * width] + remembered[..., : 2 * width]).sigmoid()
    reset, keep = gates.chunk(2, dim=-1)
    new = (read[..., 2 * width :] + reset * remembered[..., 2 * width :]).tanh()
    return new + keep * (state - new)
