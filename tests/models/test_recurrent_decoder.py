"""Recurrent decoders against cases worked out by hand, and against loops over pieces of torch.nn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nlpcli.attention.score_functions import SCORES
from nlpcli.models.decoder_state import Memory
from nlpcli.models.recurrent_attention import MonotonicWindow, SourceAttention
from nlpcli.models.recurrent_decoder import (
    BahdanauDecoder,
    DecoderSizes,
    FixedContextDecoder,
    LuongDecoder,
    RecurrentDecoder,
)

ROUNDED = 256 * 2**-23
E, D, ROWS, M, N = 3, 4, 2, 5, 6


def filled(module, **values):
    """All parameters 0, but for those named."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.tensor(values.pop(name.replace(".", "_"), 0.0)))
    assert not values
    return module


# --- by hand: one feature, two source positions with the states 1 and -1

ONE = DecoderSizes("rnn", 1, 1, 1)
TWO_STATES = Memory(torch.tensor([[[1.0], [-1.0]]]), None)


def read(decoder, inputs, final):
    state = decoder.start(TWO_STATES, torch.tensor([[final]]))
    return decoder.read(torch.tensor([[[y] for y in inputs]]), state)


def test_bahdanau_by_hand():
    decoder = filled(
        BahdanauDecoder(ONE, attention=SourceAttention(SCORES["additive"](1, 1), 1)),
        bridge_weight=[[1.0]],
        layers_0_weight_ih_l0=[[1.0, 1.0]],  # of y and c
        layers_0_weight_hh_l0=[[1.0]],
        cross_attention_score_query_weight=[[[1.0]]],
        cross_attention_score_key_weight=[[[1.0]]],
        cross_attention_score_vector=[[[1.0]]],
        readout_dense_weight=[[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]],  # max(s + c + y, -s)
    )
    found = read(decoder, [0.2, -3.0], 0.5)
    # s_0 = tanh(0.5) = 0.4621; scores tanh(1.4621) = 0.8981 and tanh(-0.5379) = -0.4914; weights 0.8005 and 0.1995
    # c_1 = 0.6010; s_1 = tanh(0.2 + 0.6010 + 0.4621) = 0.8519
    # scores tanh(1.8520) = 0.9519 and tanh(-0.1480) = -0.1470; weights 0.7501 and 0.2499
    # c_2 = 0.5001; s_2 = tanh(-3 + 0.5001 + 0.8519) = -0.9286
    assert found.states[0, :, 0].tolist() == pytest.approx([0.8519, -0.9286], abs=1e-4)
    # max(0.8519 + 0.6010 + 0.2, -0.8519), max(-0.9286 + 0.5001 - 3, 0.9286)
    assert found.hidden[0, :, 0].tolist() == pytest.approx([1.6529, 0.9286], abs=1e-4)


def test_luong_by_hand():
    decoder = filled(
        LuongDecoder(ONE, attention=SourceAttention(SCORES["dot"](1, 1), 1)),
        layers_0_weight_ih_l0=[[1.0, 0.5]],  # of y and what is fed
        layers_0_weight_hh_l0=[[1.0]],
        combine_weight=[[1.0, 1.0]],
    )
    found = read(decoder, [1.0, 0.5], 0.7)
    # s_0 = 0; s_1 = tanh(1) = 0.7616; weights of the states 1 and -1 from scores ±s: c = tanh(s), c_1 = 0.6420
    # h~_1 = tanh(0.6420 + 0.7616) = 0.8861
    # s_2 = tanh(0.5 + 0.5 · 0.8861 + 0.7616) = 0.9360; c_2 = 0.7334; h~_2 = tanh(0.7334 + 0.9360) = 0.9315
    assert found.states[0, :, 0].tolist() == pytest.approx([0.7616, 0.9360], abs=1e-4)
    assert found.hidden[0, :, 0].tolist() == pytest.approx([0.8861, 0.9315], abs=1e-4)


def test_a_fixed_context_by_hand():
    decoder = filled(
        FixedContextDecoder(ONE),
        bridge_bias=[2.0],
        layers_0_weight_ih_l0=[[1.0, -1.0]],  # of y and c
        layers_0_weight_hh_l0=[[0.5]],
        readout_dense_weight=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],  # max(s, c)
    )
    found = read(decoder, [0.3, 0.9], 0.4)
    # s_0 = tanh(2) = 0.9640; s_1 = tanh(0.3 - 0.4 + 0.4820) = 0.3645; s_2 = tanh(0.9 - 0.4 + 0.1822) = 0.5930
    assert found.states[0, :, 0].tolist() == pytest.approx([0.3645, 0.5930], abs=1e-4)
    assert found.hidden[0, :, 0].tolist() == pytest.approx([0.4, 0.5930], abs=1e-4)


# --- against pieces of torch.nn


def tensors():
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(ROWS, M, D, generator=generator)
    mask = torch.arange(M) < torch.tensor([[M], [3]])
    return Memory(states, mask), torch.randn(ROWS, D, generator=generator), torch.randn(ROWS, N, E, generator=generator)


def pieces(decoder, cell):
    """torch's cells with the weights of the decoder's layers."""
    kind = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}[cell]
    found = []
    for layer in decoder.layers:
        own = kind(layer.input_size, layer.hidden_size)
        own.load_state_dict({name.removesuffix("_l0"): weight for name, weight in layer.state_dict().items()})
        found.append(own)
    return found


def stepped(cells, x, carries):
    after = []
    for cell, carry in zip(cells, carries, strict=True):
        found = cell(x, carry)
        after.append(found)
        x = found[0] if isinstance(found, tuple) else found
    return x, after


def first_states(decoder, cell, final):
    per_layer = decoder.bridge(final).view(ROWS, len(decoder.layers), -1, D)
    states = per_layer[:, :, 0].tanh()
    if cell == "lstm":
        return [(states[:, k], per_layer[:, k, 1]) for k in range(len(decoder.layers))]
    return [states[:, k] for k in range(len(decoder.layers))]


def context_of(memory, scores):
    weights = scores.masked_fill(~memory.mask, -math.inf).softmax(-1)
    return torch.einsum("rm,rmd->rd", weights, memory.states)


CELLS_AND_LAYERS = pytest.mark.parametrize(
    ("cell", "layers"), [("rnn", 1), ("lstm", 1), ("gru", 1), ("lstm", 2), ("gru", 3)]
)


@CELLS_AND_LAYERS
def test_bahdanau_is_a_loop_over_cells_and_linear_layers(cell, layers):
    torch.manual_seed(2)
    score = SCORES["additive"](D, D)
    decoder = BahdanauDecoder(DecoderSizes(cell, E, D, layers), attention=SourceAttention(score, D))
    memory, final, inputs = tensors()
    found = decoder.read(inputs, decoder.start(memory, final))
    cells, carries = pieces(decoder, cell), first_states(decoder, cell, final)
    query = nn.Linear(D, D, bias=False)
    query.weight.data = score.query_weight[0].T
    key = nn.Linear(D, D, bias=False)
    key.weight.data = score.key_weight[0].T
    vector = nn.Linear(D, 1, bias=False)
    vector.weight.data = score.vector[0].T
    for t in range(N):
        top = carries[-1][0] if cell == "lstm" else carries[-1]
        scores = vector((query(top)[:, None] + key(memory.states)).tanh())[..., 0]
        context = context_of(memory, scores)
        top, carries = stepped(cells, torch.cat((inputs[:, t], context), -1), carries)
        assert torch.allclose(found.states[:, t], top, atol=ROUNDED)
        maxout = decoder.readout.dense(torch.cat((top, context, inputs[:, t]), -1))
        hidden = torch.maximum(maxout[:, ::2], maxout[:, 1::2])
        assert torch.allclose(found.hidden[:, t], hidden, atol=ROUNDED)


@pytest.mark.parametrize("feeding", [False, True])
@CELLS_AND_LAYERS
def test_luong_is_a_loop_over_cells_and_linear_layers(cell, layers, feeding):
    torch.manual_seed(2)
    score = SCORES["general"](D, D)
    decoder = LuongDecoder(DecoderSizes(cell, E, D, layers), attention=SourceAttention(score, D), input_feeding=feeding)
    memory, final, inputs = tensors()
    found = decoder.read(inputs, decoder.start(memory, final))
    cells, carries = pieces(decoder, cell), first_states(decoder, cell, final)
    bilinear = nn.Bilinear(D, D, 1, bias=False)
    bilinear.weight.data = score.weight.transpose(1, 2)  # of query and key
    fed = torch.zeros(ROWS, E)
    for t in range(N):
        x = torch.cat((inputs[:, t], fed), -1) if feeding else inputs[:, t]
        top, carries = stepped(cells, x, carries)
        scores = bilinear(top[:, None].expand(-1, M, -1).contiguous(), memory.states)[..., 0]
        context = context_of(memory, scores)
        fed = decoder.combine(torch.cat((context, top), -1)).tanh()
        assert torch.allclose(found.states[:, t], top, atol=ROUNDED)
        assert torch.allclose(found.hidden[:, t], fed, atol=ROUNDED)


@CELLS_AND_LAYERS
def test_a_decoder_without_attention_is_a_loop_over_cells(cell, layers):
    torch.manual_seed(2)
    decoder = FixedContextDecoder(DecoderSizes(cell, E, D, layers))
    memory, final, inputs = tensors()
    found = decoder.read(inputs, decoder.start(memory, final))
    cells, carries = pieces(decoder, cell), first_states(decoder, cell, final)
    for t in range(N):
        top, carries = stepped(cells, torch.cat((inputs[:, t], final), -1), carries)
        assert torch.allclose(found.states[:, t], top, atol=ROUNDED)
        maxout = decoder.readout.dense(torch.cat((top, final, inputs[:, t]), -1))
        assert torch.allclose(found.hidden[:, t], torch.maximum(maxout[:, ::2], maxout[:, 1::2]), atol=ROUNDED)


# --- states


def decoders():
    torch.manual_seed(3)
    sizes = DecoderSizes("lstm", E, D, 2)

    def attention(**settings):
        return SourceAttention(SCORES["general"](D, D), D, **settings)

    return {
        "fixed": FixedContextDecoder(sizes),
        "bahdanau": BahdanauDecoder(sizes, attention=attention()),
        "feeding": LuongDecoder(sizes, attention=attention(window=MonotonicWindow(1))),
        "at once": LuongDecoder(sizes, attention=attention(window=MonotonicWindow(1)), input_feeding=False),
    }


@pytest.mark.parametrize("cuts", [[6], [1, 1, 1, 1, 1, 1], [2, 3, 1]])
@pytest.mark.parametrize("kind", decoders())
def test_every_cut_of_a_target_into_steps_gives_the_whole(kind, cuts):
    decoder, (memory, final, inputs) = decoders()[kind], tensors()
    whole = decoder.read(inputs, decoder.start(memory, final))
    state, parts = decoder.start(memory, final), []
    size = state.bytes()
    for part in inputs.split(cuts, dim=1):
        found = decoder.read(part, state)
        state = found.state
        parts.append(found.hidden)
    assert torch.allclose(torch.cat(parts, dim=1), whole.hidden, atol=ROUNDED)
    assert (state.length, state.bytes()) == (N, size)


@pytest.mark.parametrize("kind", decoders())
def test_selecting_rows_commutes_with_a_step(kind):
    decoder, (memory, final, inputs) = decoders()[kind], tensors()
    state = decoder.read(inputs[:, :2], decoder.start(memory, final)).state
    index = torch.tensor([1, 1, 0, 0])
    first = decoder.read(inputs[index, 2:4], state.select(index, 2))
    after = decoder.read(inputs[:, 2:4], state)
    assert torch.allclose(first.hidden, after.hidden[index], atol=ROUNDED)
    again = torch.tensor([1, 0, 3, 3])
    second = decoder.read(inputs[index, 4:], first.state.select(again, 2))
    assert torch.allclose(
        second.hidden, decoder.read(inputs[index, 4:], after.state.select(index, 1)).hidden, atol=ROUNDED
    )


def test_only_where_no_step_depends_on_the_context_the_fused_kernels_read_all_at_once(monkeypatch):
    stepped_ = []
    own = RecurrentDecoder._step
    monkeypatch.setattr(RecurrentDecoder, "_step", lambda *given: stepped_.append(1) or own(*given))
    counts = {}
    for kind, decoder in decoders().items():
        memory, final, inputs = tensors()
        stepped_.clear()
        decoder.read(inputs, decoder.start(memory, final))
        counts[kind] = len(stepped_)
    assert counts == {"fixed": 0, "bahdanau": N, "feeding": N, "at once": 0}
