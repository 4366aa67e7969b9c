"""Recurrent encoder-decoders as whole models: padding, steps, beams, heads and costs, for every decoder."""

from __future__ import annotations

import itertools

import pytest
import torch

from nlpcli.attention.hooks import recording
from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.models.build import build_model, count_parameters
from nlpcli.models.padded_batch import Row, stack
from nlpcli.models.recurrent_layers import CELLS

VOCABULARY, ROUNDED = 13, 256 * 2**-23
SOURCE = torch.randint(4, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(1))
LENGTHS = torch.tensor([7, 3, 1])
MASK = torch.arange(7) < LENGTHS[:, None]
TARGET = torch.randint(4, VOCABULARY, (3, 5), generator=torch.Generator().manual_seed(2))

DECODERS = {
    "fixed-context": {"decoder": "fixed-context"},
    "bahdanau": {},
    "luong": {"decoder": "luong"},
    "luong at once": {"decoder": "luong", "input_feeding": False, "score": "general"},
    "local-m": {"decoder": "luong", "attention_window": "local-m", "window_size": 2, "score": "dot"},
    "local-p": {"decoder": "luong", "attention_window": "local-p", "window_size": 2, "score": "cosine"},
    "location": {"decoder": "luong", "score": "location", "max_length": 5},
    "hard": {"decoder": "luong", "input_feeding": False, "hard_attention": "sample"},
    "gumbel": {"hard_attention": "gumbel", "score": "gaussian"},
}


def model(decoder="bahdanau", **settings):
    torch.manual_seed(3)
    sizes = {"family": "recurrent", "d_model": 8, "d_embedding": 6, "encoder_layers": 2, "decoder_layers": 2}
    return build_model({**sizes, "dropout": 0.0, **DECODERS[decoder], **settings}, VOCABULARY).eval()


every = pytest.mark.parametrize(
    ("decoder", "cell"),
    [*itertools.product(DECODERS, ["gru"]), ("bahdanau", "lstm"), ("luong", "rnn"), ("hard", "lstm")],
)


@every
def test_padding_changes_nothing_and_gets_no_gradient(decoder, cell):
    made = model(decoder, rnn_type=cell)
    whole = made(SOURCE, MASK, TARGET)
    assert torch.equal(made(torch.where(MASK, SOURCE, 1), MASK, TARGET), whole)
    for row, length in enumerate(LENGTHS):
        alone = made(SOURCE[row : row + 1, :length], None, TARGET[row : row + 1])
        assert torch.allclose(alone[0], whole[row], atol=ROUNDED)
        padded = made(SOURCE[row : row + 1], MASK[row : row + 1], TARGET[row : row + 1])
        assert torch.allclose(padded[0], whole[row], atol=ROUNDED)
    embedding = model(decoder, rnn_type=cell, tie="none")
    embedding(torch.where(MASK, SOURCE, 1), MASK, TARGET).square().sum().backward()
    assert torch.equal(embedding.token_embedding.weight.grad[1], torch.zeros(6))  # of the padding


@every
def test_steps_give_the_logits_of_the_whole_pass(decoder, cell):
    made = model(decoder, rnn_type=cell)
    with torch.no_grad():
        whole = made(SOURCE, MASK, TARGET)
        state = made.init_state(made.encode(SOURCE, MASK))
        for place in range(TARGET.size(1)):
            logits, state = made.step(TARGET[:, place : place + 1], state)
            assert torch.allclose(logits, whole[:, place], atol=ROUNDED)


@every
def test_a_beam_finds_what_scoring_all_its_prefixes_anew_finds(decoder, cell):
    made = model(decoder, rnn_type=cell)

    class Anew:
        """Reads everything from the beginning at each step."""

        max_length = None

        def parameters(self):
            return made.parameters()

        def step(self, tokens, state):
            rows, read = state
            read = torch.cat((read, tokens), 1)
            return made(SOURCE[rows], MASK[rows], read)[:, -1].detach(), (rows, read)

        def reorder(self, state, index, width=1):
            return state[0][index], state[1][index]

    settings = BeamSettings(beam_size=3, n_best=3)
    options = {"eos": 3, "max_length": 5, "settings": settings}
    fast = beam_search(made, made.init_state(made.encode(SOURCE, MASK)), [[2]] * 3, **options)
    slow = beam_search(Anew(), (torch.arange(3), torch.empty(3, 0, dtype=torch.long)), [[2]] * 3, **options)
    for mine, right in zip(fast, slow, strict=True):
        assert [found.ids for found in mine] == [found.ids for found in right]
        assert [found.logprob for found in mine] == pytest.approx([found.logprob for found in right], abs=1e-4)


@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "fixed-context"])
def test_weights_recorded_in_steps_are_those_of_the_whole_pass_and_looking_changes_no_logit(decoder):
    made = model(decoder)
    [attention] = made.attention_sites()["cross"]
    plain = made(SOURCE, MASK, TARGET)
    with torch.no_grad(), recording(attention) as [recorded]:
        looked = made(SOURCE, MASK, TARGET)
        state = made.init_state(made.encode(SOURCE, MASK))
        for place in range(TARGET.size(1)):
            _, state = made.step(TARGET[:, place : place + 1], state)
    assert torch.allclose(looked, plain, atol=ROUNDED)
    whole, *steps = recorded
    assert whole.shape == (3, 1, 5, 7)
    assert torch.allclose(torch.cat(steps, dim=2), whole, atol=ROUNDED)
    assert float(whole[~MASK[:, None, None].expand_as(whole)].abs().max()) == 0


@pytest.mark.parametrize("decoder", ["bahdanau", "luong", "luong at once", "local-p"])
def test_derivatives_by_recorded_weights_are_what_a_change_of_a_weight_does_also_to_later_steps(decoder):
    made = model(decoder).double()
    [attention] = made.attention_sites()["cross"]
    direction = torch.randn(3, 5, VOCABULARY, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    with recording(attention, gradients=True) as [recorded]:
        output = (made(SOURCE, MASK, TARGET) * direction).sum()
    [slope] = torch.autograd.grad(output, [recorded[0]])
    place = (0, 0, 2, 4)
    own = type(attention)._weights

    def changed(amount, monkeypatch):
        calls = []

        def weights(self, scores):
            found = own(self, scores).clone()
            n = found.size(2)
            first = sum(calls)
            if first <= place[2] < first + n:
                found[place[0], 0, place[2] - first, place[3]] += amount
            calls.append(n)
            return found

        monkeypatch.setattr(type(attention), "_weights", weights)
        with torch.no_grad(), recording(attention):  # which keeps the fused kernel out of it
            return float((made(SOURCE, MASK, TARGET) * direction).sum())

    with pytest.MonkeyPatch.context() as patch:
        difference = (changed(1e-6, patch) - changed(-1e-6, patch)) / 2e-6
    factor = 1.0
    if decoder == "local-p":  # what is recorded is already multiplied with the window's factor
        with recording(attention) as [again]:
            made(SOURCE, MASK, TARGET)
        state = made.init_state(made.encode(SOURCE, MASK))
        assert again[0].shape == slope.shape
        factor = difference / float(slope[place])
        assert 0 < factor <= 1
        assert state.length == 0
    assert difference == pytest.approx(factor * float(slope[place]), rel=1e-4)


@pytest.mark.parametrize("tie", ["all", "source-target", "target-output", "none"])
def test_ties_say_which_vocabulary_matrices_are_one(tie):
    made = model(tie=tie)
    source, target, output = (
        made.encoder_embedding.tokens.weight,
        made.decoder_embedding.tokens.weight,
        made.output_weight,
    )
    assert (source is target) == (tie in ("all", "source-target"))
    assert (target is output) == (tie in ("all", "target-output"))
    assert count_parameters(made) - count_parameters(model(tie="all")) == (
        {"all": 0, "source-target": 1, "target-output": 1, "none": 2}[tie] * VOCABULARY * 6
    )


def test_heads_read_the_states_of_the_encoder_or_of_the_decoders_top_layer():
    made = model()
    rows = stack([Row([4, 5, 6], [0, 0, 0]), Row([7], [0])], 0)
    encoder = made.states(rows)
    assert torch.equal(encoder, made.encode(rows.ids, rows.mask).states)
    decoder = made.states(rows, side="decoder", start=2)
    assert decoder.shape == (2, 3, 8)
    state = made.init_state(made.encode(rows.ids, rows.mask))
    read = made.decoder.read(made.decoder_embedding(torch.tensor([[2, 4, 5], [2, 7, 0]])), state)
    assert torch.allclose(decoder, read.states, atol=ROUNDED)


def test_states_of_all_layers_are_given_where_embeddings_are_as_wide():
    made = model(d_embedding=8)
    kept: list[torch.Tensor] = []
    states = made.states(stack([Row([4, 5, 6], [0, 0, 0]), Row([7], [0])], 0), hidden_states=kept)
    assert made.depth() == 2 and made.depth("decoder") is None
    assert len(kept) == 3 and kept[-1] is states
    assert model().depth() is None


@pytest.mark.parametrize("cell", CELLS)
def test_every_gate_begins_as_the_initialization_says(cell):
    made = model(rnn_type=cell)
    for layer in (*made.encoder.layers, *made.decoder.layers):
        for gate in layer.weight_hh_l0.split(layer.hidden_size):
            assert torch.allclose(gate @ gate.T, torch.eye(layer.hidden_size), atol=1e-5)
    assert float(made.decoder.bridge.bias.abs().max()) == 0


@pytest.mark.parametrize("decoder", DECODERS)
def test_it_learns_in_bfloat16(decoder):
    made = model(decoder).train()
    with torch.autocast("cpu", torch.bfloat16):
        hidden = made.hidden(SOURCE, MASK, TARGET)
    hidden.float().square().sum().backward()
    missing = {name for name, weight in made.named_parameters() if weight.grad is None}
    assert all("score." in name or "baseline" in name for name in missing)
    assert all(bool(weight.grad.isfinite().all()) for weight in made.parameters() if weight.grad is not None)
    assert (
        torch.allclose(hidden.float(), model(decoder).hidden(SOURCE, MASK, TARGET), atol=0.1) or made.decoder.training
    )
