from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nlpcli.decoding.attention import (
    Attending,
    choose_layer,
    cross_attentions,
    pharaoh,
    piece_alignments,
    recording,
    word_alignment,
)
from nlpcli.errors import NlpcliError


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
    with pytest.raises(NlpcliError, match="shows no attention"):
        cross_attentions(transformer(kind="decoder"))


def test_recording_ends_with_its_block(transformer):
    layer = choose_layer(transformer(), None)
    with pytest.raises(ValueError, match="stop"), recording(layer):
        assert layer.recorder == []
        raise ValueError("stop")
    assert layer.recorder is None


@torch.inference_mode()
def test_attention_shown_by_steps_sums_to_the_tokens_read_and_follows_its_rows(transformer):
    model = transformer(decoder_layers=2)
    attending = Attending(model)
    source = torch.tensor([[8, 9, 10, 3], [11, 3, 0, 0]])
    mask = source > 0
    state = model.init_state(model.encode(source, mask))
    _, state, weights = attending.step_with_attention(torch.tensor([[2, 9], [2, 10]]), state)
    assert weights.shape == (2, 4)
    assert torch.allclose(weights.sum(1), torch.tensor(2.0))
    assert torch.equal(weights[1, 2:], torch.zeros(2))
    state = model.reorder(state, torch.tensor([0, 0, 0, 1, 1, 1]), 3)
    tokens = torch.tensor([[4], [5], [6], [4], [5], [6]])
    _, _, weights = attending.step_with_attention(tokens, state)
    with recording(attending.attention) as recorded:
        for row, ids in enumerate([[2, 9, 4], [2, 9, 5], [2, 9, 6], [2, 10, 4], [2, 10, 5], [2, 10, 6]]):
            model(source[row // 3][None], mask[row // 3][None], torch.tensor([ids]))
    expected = torch.stack([item.mean(1)[0, -1] for item in recorded])
    assert torch.allclose(weights, expected, atol=1e-5)


def test_a_piece_is_aligned_where_the_step_that_predicts_it_looks():
    class Diagonal(torch.nn.Module):
        """Predicting target piece j it looks at source j, and more at the end and the padding."""

        def __init__(self):
            super().__init__()
            self.cross_attention = torch.nn.Module()
            self.cross_attention.recorder = None

        def forward(self, source, mask, target):
            weights = torch.zeros(len(source), 2, target.shape[1], source.shape[1])
            for j in range(target.shape[1]):
                weights[:, :, j, min(j, source.shape[1] - 1)] = 0.4
            weights[:, :, :, -1] += 0.6
            self.cross_attention.recorder.append(weights)

    source = torch.tensor([[8, 9, 10, 3], [8, 9, 3, 0]])
    places = piece_alignments(Diagonal(), source, source > 0, [[2, 5, 6, 7], [2, 5]], layer=None, pad=0)
    assert places == [[0, 1, 2], [0]]


def test_pieces_are_merged_to_words():
    starts = {1: True, 2: False, 3: True, 4: False, 5: True, 3000: True}
    tokenizer = SimpleNamespace(word_starts=lambda ids: [starts[i] for i in ids])
    # source: [1 2] [3] [5], target: [3 4] [1]
    assert word_alignment(tokenizer, [1, 2, 3, 5, 3000], [3, 4, 1], [0, 3, 1]) == ((0, 0), (0, 1), (2, 0))
    assert pharaoh(((0, 0), (0, 1), (2, 0))) == "0-0 0-1 2-0"
    assert word_alignment(tokenizer, [1], [], []) == ()
