from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention.hooks import recording
from nlpcli.decoding.cross_attention import (
    AttentionRecorder,
    cross_attentions,
    forced_weights,
    gradient_weights,
    pharaoh,
    word_weights,
    words_of_tokens,
)
from nlpcli.errors import NlpcliError
from nlpcli.models.alignment_head import READ, STEPS, choose_layer
from nlpcli.objectives.source_target_batches import pad
from nlpcli.text.words_of_tokens import NO_WORD, words_of_spans


def test_the_layer_is_the_last_but_one_unless_it_is_chosen(transformer):
    model = transformer(decoder_layers=3)
    layers = cross_attentions(model)
    assert len(layers) == 3
    assert choose_layer(model, None) is layers[1]
    assert choose_layer(model, 3) is layers[2]
    assert choose_layer(transformer(decoder_layers=1), None) is not None
    with pytest.raises(NlpcliError, match="no decoder layer 4"):
        choose_layer(model, 4)


def test_a_model_without_cross_attention_is_refused(transformer):
    with pytest.raises(NlpcliError, match="has no attention to its source"):
        cross_attentions(transformer(kind="decoder"))


@torch.inference_mode()
def test_a_decoder_that_is_watched_already_goes_on_telling(transformer):
    model = transformer()
    attending = AttentionRecorder(model)
    state = model.init_state(model.encode(torch.tensor([[8, 9, 3]])))
    with recording(attending.attention) as [outer]:
        _, state, _ = attending.step_with_attention(torch.tensor([[2]]), state)
        model.step(torch.tensor([[4]]), state)
    assert len(outer) == 1 and attending.attention.recorder is None


def test_a_layer_that_is_chosen_twice_tells_the_same_twice(transformer):
    model, source = transformer(decoder_layers=3), torch.tensor([[8, 9, 3]])
    one, two, other = forced_weights(model, source, source > 0, [[4, 5]], start=[2], layers=[None, 2, 3])
    assert torch.equal(one, two) and not torch.equal(one, other)


@torch.inference_mode()
def test_attention_shown_by_steps_sums_to_the_tokens_read_and_follows_its_rows(transformer):
    model = transformer(decoder_layers=2).double()
    attending = AttentionRecorder(model)
    source = torch.tensor([[8, 9, 10, 3], [11, 3, 0, 0]])
    mask = source > 0
    state = model.init_state(model.encode(source, mask))
    _, state, weights = attending.step_with_attention(torch.tensor([[2, 9], [2, 10]]), state)
    assert weights.shape == (2, 4)
    assert torch.allclose(weights.sum(1), weights.new_tensor(2.0))
    assert not weights[1, 2:].any()
    state = model.reorder(state, torch.tensor([0, 0, 0, 1, 1, 1]), 3)
    tokens = torch.tensor([[4], [5], [6], [4], [5], [6]])
    _, _, weights = attending.step_with_attention(tokens, state)
    with recording(attending.attention) as [recorded]:
        for row, ids in enumerate([[2, 9, 4], [2, 9, 5], [2, 9, 6], [2, 10, 4], [2, 10, 5], [2, 10, 6]]):
            model(source[row // 3][None], mask[row // 3][None], torch.tensor([ids]))
    expected = torch.stack([item.mean(1)[0, -1] for item in recorded])
    assert torch.allclose(weights, expected, atol=1e-5)


class Pointing(torch.nn.Module):
    """Its decoder looks where it is told: weights (batch, heads, n, m), cut to the target that is read."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights
        self.cross_attention = torch.nn.Module()
        self.cross_attention.recorder = None

    def attention_sites(self):
        return {"cross": [self.cross_attention]}

    def hidden(self, source, mask, target):
        self.read = target
        self.cross_attention.recorder.append(self.weights[:, :, : target.shape[1]])


def test_forced_weights_begin_with_the_step_that_predicts_the_first_piece():
    weights = torch.rand(2, 3, 5, 4)
    model = Pointing(weights)
    source = torch.tensor([[8, 9, 10, 3], [8, 9, 3, 0]])
    [found] = forced_weights(model, source, source > 0, [[5, 6, 7], [5]], start=[2, 4], layers=[None], fill=1)
    assert model.read.tolist() == [[2, 4, 5, 6, 7], [2, 4, 5, 1, 1]]
    assert torch.allclose(found, weights.mean(1)[:, 1:])


@torch.inference_mode()
def test_forced_weights_are_those_of_the_steps_one_by_one(transformer):
    model = transformer(decoder_layers=3).double()
    source = torch.tensor([[8, 9, 10, 3], [11, 3, 0, 0]])
    mask = source > 0
    found = forced_weights(model, source, mask, [[9, 4, 7], [10]], start=[2], layers=[1, 3])
    assert [tuple(weights.shape) for weights in found] == [(2, 4, 4)] * 2
    for weights, layer in zip(found, (1, 3), strict=True):
        attending = AttentionRecorder(model, layer)
        state = model.init_state(model.encode(source, mask))
        for step, tokens in enumerate(([2, 2], [9, 10])):
            _, state, looked = attending.step_with_attention(torch.tensor(tokens)[:, None], state)
            assert torch.allclose(weights[:, step], looked, atol=1e-6)


def test_gradient_weights_are_those_of_the_log_probability_of_the_target(transformer):
    model = transformer(decoder_layers=2, output_bias=True).double()  # two ways to the same numbers
    source = torch.tensor([[8, 9, 10, 3], [11, 3, 0, 0]])
    targets = [[9, 4, 7], [10]]
    found = gradient_weights(model, source, source > 0, targets, start=[2, 5])
    first = gradient_weights(model, source, source > 0, targets, start=[2, 5], layers=[1])
    assert found.shape == (2, 4, 4) and not found.requires_grad
    for row, ids in enumerate(targets):
        length = int((source[row] > 0).sum())
        lower, upper = cross_attentions(model)
        with recording(lower, upper, gradients=True) as [one, two]:
            logits = model(source[row : row + 1, :length], None, torch.tensor([[2, 5, *ids]]))
        total = sum(logits[0, 1 + t].log_softmax(-1)[id_] for t, id_ in enumerate(ids))
        weights = [one[0], two[0]]
        maps = [
            (weight * slope).clamp(min=0)[0].sum(0)[1 : 1 + len(ids)]
            for weight, slope in zip(weights, torch.autograd.grad(total, weights), strict=True)
        ]
        assert torch.allclose(found[row, : len(ids), :length], sum(maps), atol=1e-6)
        assert torch.allclose(first[row, : len(ids), :length], maps[0], atol=1e-6)
        assert not found[row, :, length:].any() and found[row].any()
    assert all(parameter.grad is None for parameter in model.parameters())


def by_loops(weights, source_words, target_words, step):
    """What `word_weights` does, one number at a time."""
    table = [[0.0] * (max(source_words, default=-1) + 1) for _ in range(max(target_words, default=-1) + 1)]
    for place, j in enumerate(target_words):
        for column, i in enumerate(source_words):
            if i >= 0 and j >= 0:
                table[j][i] += weights[place + (step == READ)][column]
    return table


WORDS_OF_PIECES = st.lists(st.sampled_from([0, 0, 0, 1, NO_WORD, NO_WORD]), min_size=1, max_size=6)


@given(
    st.lists(st.tuples(WORDS_OF_PIECES, WORDS_OF_PIECES), min_size=1, max_size=4), st.sampled_from(STEPS), st.randoms()
)
def test_words_get_the_weights_of_their_pieces_whatever_the_batch(pairs, step, rng):
    pairs = [tuple([w + k // 2 if w >= 0 else w for k, w in enumerate(side)] for side in pair) for pair in pairs]
    n, m = (max(len(pair[side]) for pair in pairs) for side in (1, 0))
    weights = torch.tensor([[[rng.random() for _ in range(m)] for _ in range(n + 1)] for _ in pairs])
    source_words, target_words = (pad([pair[side] for pair in pairs], NO_WORD) for side in (0, 1))
    looked = word_weights(weights, source_words, target_words, step=step)
    for row, (sources, targets), whole in zip(weights.tolist(), pairs, looked, strict=True):
        table = by_loops(row, sources, targets, step)
        height, width = len(table), max(sources) + 1
        assert torch.allclose(whole[:height, :width], torch.tensor(table).reshape(height, width), atol=1e-5)
        assert not whole[height:].any() and not whole[:, width:].any()


def test_what_falls_on_no_word_is_left_out():
    weights = torch.tensor([[[0.3, 0.2, 0.4, 0.1], [0.0, 0.0, 0.1, 0.9], [0.0, 0.0, 0.0, 1.0]]])
    source_words = torch.tensor([[0, 0, 1, NO_WORD]])
    target_words = torch.tensor([[0, 1]])
    looked = word_weights(weights, source_words, target_words)
    assert torch.allclose(looked, torch.tensor([[[0.5, 0.4], [0.0, 0.1]]]))
    looked = word_weights(weights, source_words, target_words, step=READ)
    assert torch.allclose(looked, torch.tensor([[[0.0, 0.1], [0.0, 0.0]]]))
    assert word_weights(weights[:, :1], source_words, target_words[:, :0]).shape == (1, 0, 2)
    with pytest.raises(NlpcliError, match="unknown step 'write'"):
        word_weights(weights, source_words, target_words, step="write")


def test_pieces_are_counted_to_words_by_their_beginnings_and_by_their_places():
    tokenizer = SimpleNamespace(word_starts=lambda ids: [id_ in (1, 3) for id_ in ids])
    assert words_of_tokens(tokenizer, [2, 1, 2, 3, 4]) == [NO_WORD, 0, 0, 1, 1]
    text = "  ein Haus\u00a0hier"
    assert words_of_spans(text, [(2, 4), (4, 5), (6, 10), (10, 10), (11, 15)]) == [0, 0, 1, NO_WORD, 2]
    assert words_of_spans("", []) == []


def test_links_are_written_in_pharaoh_format():
    assert pharaoh(((0, 0), (0, 1), (2, 0))) == "0-0 0-1 2-0"
    assert pharaoh(()) == ""
