"""A recurrent encoder: states of a text, read from left to right, or both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from nlpcli.layers.dropout import Dropout
from nlpcli.models.recurrent_layers import recurrent_layer, run_layer, run_packed


class RecurrentEncoder(nn.Module):
    """Layers of an RNN, LSTM or GRU, with dropout on what each of them gives.

    d_in: features of the embeddings. bidirectional: half of the features of each state come from the left, half from
    the right (Schuster and Paliwal 1997). Padding is left out of the computation.
    """

    def __init__(
        self, cell: str, d_in: int, d_model: int, layers: int, *, bidirectional: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        made = [
            recurrent_layer(cell, d_model if number else d_in, d_model, bidirectional=bidirectional)
            for number in range(layers)
        ]
        self.layers = cast("Sequence[nn.RNNBase]", nn.ModuleList(made))  # modules of this class alone
        self.bidirectional = bidirectional
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, hidden_states: list[Tensor] | None = None) -> Tensor:
        """x (rows, m, d_in) -> states (rows, m, d_model), zeros where there is padding.

        mask (rows, m): True where there is a token; None when there is no padding. hidden_states: gets what the first
        layer reads, and the states of all layers.
        """
        if hidden_states is not None:
            hidden_states.append(x)
        packed = None if mask is None else _packed(x, mask)
        for layer in self.layers:
            if packed is None:
                x = self.dropout(run_layer(layer, x)[0])
            else:
                found = run_packed(layer, packed)
                packed = found._replace(data=self.dropout(found.data))
            if packed is not None and (hidden_states is not None or layer is self.layers[-1]):
                x, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.size(1))
            if hidden_states is not None:
                hidden_states.append(x)
        return x

    def final(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """The final state: (rows, m, d_model) -> (rows, d_model).

        From the left the state of the last token, from the right that of the first.
        """
        last = states[:, -1]
        if mask is not None:
            ends = mask.sum(dim=1) - 1
            last = states[torch.arange(states.size(0), device=states.device), ends]
        if not self.bidirectional:
            return last
        half = states.size(-1) // 2
        return torch.cat((last[:, :half], states[:, 0, half:]), dim=-1)


def _packed(x: Tensor, mask: Tensor) -> PackedSequence:
    return pack_padded_sequence(x, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
