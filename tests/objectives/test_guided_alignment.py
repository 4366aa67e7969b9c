"""Guided alignment: links of words become targets of one attention head, and its loss is added to the translation's."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from nlpcli.attention.hooks import recording
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.patterns import Full
from nlpcli.errors import NlpcliError
from nlpcli.layers.vocabulary_loss import LossSettings
from nlpcli.models.alignment_head import AlignmentHead, choose_layer, whole_target_weights
from nlpcli.models.build import build_model
from nlpcli.objectives.guided_alignment import GuidedAlignment, guided_loss, target_mask, token_links, with_links
from nlpcli.objectives.source_target_batches import pair_batch
from nlpcli.objectives.source_target_loss import pair_loss
from nlpcli.text import SpecialTokens

SPECIAL = SpecialTokens(pad=0, unk=1, bos=2, eos=3)
PAIRS = [([5, 6, 7], [8, 9]), ([10], [11, 12, 13, 14]), ([5, 8], [6])]
LINKS = [
    np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]], dtype=np.float32),
    np.array([[1.0], [0.0], [1.0], [0.0]], dtype=np.float32),
    np.zeros((1, 2), dtype=np.float32),
]
SMOOTH = LossSettings(label_smoothing=0.1)


def model(**changes):
    torch.manual_seed(3)
    shape = {"d_model": 16, "heads": 4, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 3, "dropout": 0.0}
    return build_model({**shape, **changes}, 20).train()


def batch(step, start=(2,)):
    found = pair_batch(PAIRS, SPECIAL, start)
    return with_links(found, LINKS, source_start=0, target_start=len(start), step=step)


# --- links of tokens


def test_a_token_is_linked_with_all_tokens_of_the_words_of_its_word_in_equal_shares():
    # source words: aa|bb → tokens a+a b b+b; target words: x, yy, z → tokens x y+y z
    links = np.array([[0, 0], [1, 1], [0, 1]])
    found = token_links(links, [0, 0, 1, 1], [0, 1, 1, 2])
    assert found.tolist() == [[0.5, 0.5, 0, 0], [0.25] * 4, [0.25] * 4, [0, 0, 0, 0]]


def test_tokens_of_no_word_and_words_without_tokens_have_no_links():
    found = token_links(np.array([[0, 0], [2, 1], [3, 0]]), [-1, 0, 1], [0, -1, 1])
    assert found.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]  # the source words 2 and 3 were cut off
    assert token_links(np.zeros((0, 2), dtype=np.int32), [0], [0, 1]).tolist() == [[0], [0]]


@pytest.mark.parametrize(("step", "first"), [("predict", 1), ("read", 2)])
def test_links_stand_at_the_position_that_aligns_a_token_behind_what_starts_a_text(step, first):
    found = pair_batch([([4, *x], y) for x, y in PAIRS], SPECIAL, [2, 4])
    links = with_links(found, LINKS, source_start=1, target_start=2, step=step).links
    assert links.shape == (3, found.target.size(1), found.source.size(1))
    assert np.array_equal(links[0, first : first + 2, 1:4].numpy(), LINKS[0])
    assert np.array_equal(links[1, first : first + 4, 1:2].numpy(), LINKS[1])
    assert links.sum() == 2 + 2  # nothing else is linked


def test_a_part_of_a_batch_has_its_links():
    whole = batch("read")
    assert torch.equal(whole.part(1, 3).links, whole.links[1:])


# --- the pass that sees the whole target


def test_the_pass_with_the_whole_target_is_that_of_a_decoder_without_a_causal_mask():
    for changes in ({}, {"positions": "rotary"}, {"norm_position": "pre"}):
        causal, free = model(**changes).eval(), model(**changes).eval()
        for layer in free.decoder.layers:
            layer.self_attention.pattern, layer.self_attention._mask = Full(), AttentionMask()
        for source, target in PAIRS:
            source, target = torch.tensor([[*source, 3]]), torch.tensor([[2, *target]])
            expected = free.target_hidden(target, free.encode(source))
            found = causal.whole_target_hidden(target, torch.ones_like(target, dtype=torch.bool), causal.encode(source))
            assert torch.allclose(found, expected, atol=1e-6)
            differs = not torch.allclose(causal.target_hidden(target, causal.encode(source)), expected, atol=1e-3)
            assert differs == (target.size(1) > 1)


def test_padding_changes_nothing_in_the_pass_with_the_whole_target():
    net, together = model().eval(), batch("read")
    mask = target_mask(together)
    assert mask.sum(dim=1).tolist() == [3, 5, 2]
    head = AlignmentHead(2, 3)
    weights = whole_target_weights(net, net.encode(together.source, together.source_mask), together.target, mask, head)
    for row, (source, target) in enumerate(PAIRS):
        n, m = len(target) + 1, len(source) + 1
        alone = torch.tensor([[2, *target]])
        memory = net.encode(torch.tensor([[*source, 3]]))
        [expected] = whole_target_weights(net, memory, alone, torch.ones_like(alone, dtype=torch.bool), head)
        assert torch.allclose(weights[row, :n, :m], expected, atol=1e-6)


# --- the loss


@pytest.mark.parametrize("context", ["full", "causal"])
@pytest.mark.parametrize("step", ["predict", "read"])
def test_the_loss_is_that_of_translation_and_the_cross_entropy_of_the_links_by_brute_force(context, step):
    net, guided = model(), GuidedAlignment(AlignmentHead(2, 3, context, step), weight=0.3)
    found = guided_loss(net, batch(step), SMOOTH, guided)
    translation = pair_loss(net, batch(step), SMOOTH)
    expected, linked = 0.0, 0
    for (source, target), links in zip(PAIRS, LINKS, strict=True):
        source, target = torch.tensor([[*source, 3]]), torch.tensor([[2, *target]])
        with recording(choose_layer(net, 2)) as [recorded]:
            if context == "full":
                net.whole_target_hidden(target, torch.ones_like(target, dtype=torch.bool), net.encode(source))
            else:
                net.hidden(source, None, target)
        weights = recorded[0][0, 2]
        for t, row in enumerate(links):
            position = t + 1 if step == "read" else t
            expected -= sum(float(g) * math.log(weights[position, s]) for s, g in enumerate(row) if g)
            linked += bool(row.any())
    total, count = found.logged["alignment_loss"]
    assert count == linked == 4 and float(total) == pytest.approx(expected, rel=1e-5)
    assert float(found.nll) == pytest.approx(float(translation.nll), rel=1e-6) and found.count == translation.count
    assert float(found.total.detach()) == pytest.approx(float(translation.total.detach()) + 0.3 * expected, rel=1e-5)


def test_the_loss_of_a_batch_is_the_sum_of_those_of_its_rows():
    net, guided = model(), GuidedAlignment(AlignmentHead(), weight=0.5)
    whole = guided_loss(net, batch("read"), SMOOTH, guided).total
    parts = [guided_loss(net, batch("read").part(i, i + 1), SMOOTH, guided).total for i in range(3)]
    assert float(whole.detach()) == pytest.approx(float(sum(parts).detach()), rel=1e-5)


def test_only_the_guided_head_and_what_is_below_it_get_a_gradient_of_the_links():
    net = model()
    guided = GuidedAlignment(AlignmentHead(2, 3), weight=1.0)
    without = guided_loss(net, batch("read"), SMOOTH, replace(guided, weight=0.0)).total
    (guided_loss(net, batch("read"), SMOOTH, guided).total - without).backward()
    by_head = net.decoder.layers[1].cross_attention.query.weight.grad.view(4, 4, 16).abs().sum(dim=(1, 2))
    assert (by_head > 1e-6).tolist() == [False, False, True, False]
    assert net.decoder.layers[0].self_attention.query.weight.grad.abs().sum() > 1e-6
    assert net.decoder.layers[2].cross_attention.query.weight.grad.abs().sum() < 1e-6


def test_a_head_that_a_model_does_not_have_is_refused():
    AlignmentHead(3, 4).check(model())
    with pytest.raises(NlpcliError, match="no decoder layer 4"):
        AlignmentHead(4).check(model())
    with pytest.raises(NlpcliError, match=r"alignment\.head is 5"):
        AlignmentHead(1, 5).check(model())
    with pytest.raises(NlpcliError, match="needs a Transformer"):
        AlignmentHead().check(build_model({"family": "recurrent", "d_model": 8}, 20))
