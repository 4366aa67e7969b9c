"""The packed decoder beside the model that it was made of: the same logits, and the same texts in every search."""

from __future__ import annotations

import math

import pytest
import torch

from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.decoding.constraints import Constraints
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.models.build import build_model
from nlpcli.models.packed_decoder import PackedDecoder, packed
from nlpcli.models.packed_encoder import PackedEncoder
from nlpcli.models.packed_layers import attention_by_products

SIZES = {"d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 2, "decoder_layers": 3, "max_length": 80}
VOCABULARY = 29
FITTING = [
    {},
    {"norm_position": "pre"},
    {"norm": "rmsnorm", "norm_position": "pre", "activation": "swiglu"},
    {"attention_bias": True, "activation": "gelu", "output_bias": True, "tie": "none"},
    {"positions": "learned", "position_offset": 2, "embedding_norm": True, "attention_bias": True},
    {"positions": "rotary"},
    {"positions": "none", "score": "dot", "scale_output": True, "norm_position": "pre"},
    {"norm_position": "pre", "first_norm": False, "norm_bias": False, "feed_forward_bias": False},
]
OF_DECODERS = [
    {"positions": "rotary", "rope_share": 0.5, "kv_heads": 1, "norm_position": "pre"},
    {"positions": "rotary", "qk_norm": True, "kv_heads": 1},
    {"qk_norm": True},
]
OTHERS = [
    {"positions": "relative"},
    {"positions": "alibi"},
    {"attention": ["window:4"]},
    {"attention": ["full", "linear"]},
    {"d_key": 4},
    {"score": "additive"},
    {"head_aggregation": "concat"},
]


def made(kind, changes):
    torch.manual_seed(3)
    model = build_model({**SIZES, "kind": kind, **changes}, VOCABULARY).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases, too
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def source():
    ids = torch.randint(VOCABULARY, (3, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] * 5 + [False]])
    return ids, mask


def started(model, kind):
    return model.init_state(3) if kind == "decoder" else model.init_state(model.encode(*source()))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [(kind, changes) for kind in ("encoder-decoder", "decoder") for changes in FITTING]
    + [("decoder", changes) for changes in OF_DECODERS],
    ids=str,
)
@torch.inference_mode()
def test_logits_are_the_model_s_after_prefixes_single_tokens_and_other_rows(kind, changes):
    model = made(kind, changes)
    fast = packed(model)
    assert isinstance(fast, PackedDecoder)
    states = [started(model, kind), started(fast, kind)]
    draw = torch.Generator().manual_seed(2)
    index, width = torch.tensor([0, 0, 1, 1, 2, 2]), 2
    for n in (3, 1, 1, 4, *[1] * 40):  # beyond the room that a cache has at first
        tokens = torch.randint(VOCABULARY, (len(index) if n == 1 and width == 1 else 3, n), generator=draw)
        if len(tokens) == 3 and width == 1:
            tokens = tokens.repeat_interleave(2, dim=0)
        found = []
        for place, one in enumerate((model, fast)):
            logits, states[place] = one.step(tokens, states[place])
            found.append(logits)
        assert torch.allclose(*found, atol=1e-5)
        if width == 2:
            states = [one.reorder(state, index, 2) for one, state in zip((model, fast), states, strict=True)]
            index, width = torch.tensor([1, 0, 3, 2, 5, 4]), 1


@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder"])
@pytest.mark.parametrize("changes", FITTING[:3], ids=str)
def test_every_search_finds_the_same_texts(kind, changes):
    model = made(kind, changes)
    fast, prefixes = packed(model), [[2], [2, 7], [2]]
    settings = BeamSettings(beam_size=4, n_best=2)
    pairs = []
    for one in (model, fast):
        with torch.inference_mode():
            greedy = greedy_search(one, started(one, kind), prefixes, StopConditions(eos=3, max_length=[20, 9, 14]))
            beams = beam_search(one, started(one, kind), prefixes, eos=3, max_length=20, settings=settings)
        pairs.append([[(h.ids, round(h.logprob, 3)) for h in found] for found in (*greedy, *beams)])
    assert pairs[0] == pairs[1]


@pytest.mark.parametrize("changes", OTHERS, ids=str)
def test_a_model_with_something_else_is_decoded_as_it_is(changes):
    model = made("decoder", changes)
    assert packed(model) is model


@pytest.mark.parametrize("changes", OF_DECODERS, ids=str)
def test_attention_to_a_source_has_no_norms_or_shared_heads_here(changes):
    model = made("encoder-decoder", changes)
    assert packed(model) is model


def test_states_of_one_decoder_do_not_disturb_each_other():
    model = made("decoder", {})
    fast = packed(model)
    first, second = fast.init_state(1), fast.init_state(1)
    alone, _ = fast.step(torch.tensor([[4, 5, 6]]), fast.init_state(1))
    _, first = fast.step(torch.tensor([[4, 5]]), first)
    _, second = fast.step(torch.tensor([[9, 9]]), second)
    logits, _ = fast.step(torch.tensor([[6]]), first)
    assert torch.allclose(logits, alone, atol=1e-5)


@pytest.mark.parametrize("changes", FITTING, ids=str)
@torch.inference_mode()
def test_the_encoder_gives_the_model_s_states_with_and_without_padding(changes):
    model = made("encoder-decoder", changes)
    fast = packed(model)
    assert isinstance(fast._encode, PackedEncoder)
    ids, mask = source()
    for given in (mask, None, torch.ones_like(mask)):
        expected, found = model.encode(ids, given), fast.encode(ids, given)
        present = torch.ones_like(mask) if given is None else given
        assert torch.allclose(expected.states[present], found.states[present], atol=1e-5)
        assert (found.mask is None) == (expected.mask is None)


def test_an_encoder_with_something_else_is_the_model_s_own():
    model = made("encoder-decoder", {"attention": ["window:4"], "decoder_attention": ["full"]})
    fast = packed(model)
    assert isinstance(fast, PackedDecoder)
    assert not isinstance(fast._encode, PackedEncoder)


@pytest.mark.parametrize("changes", FITTING, ids=str)
@torch.inference_mode()
def test_a_single_source_gives_the_model_s_logits(changes):
    model = made("encoder-decoder", changes)
    fast, ids = packed(model), source()[0][:1]
    states = [one.init_state(one.encode(ids)) for one in (model, fast)]
    assert states[1].sources.folded is not None
    for tokens in (torch.tensor([[2]]), torch.tensor([[5], [7], [2]]), torch.tensor([[9], [9], [1]])):
        found = []
        for place, one in enumerate((model, fast)):
            logits, states[place] = one.step(tokens, states[place])
            found.append(logits)
            states[place] = one.reorder(states[place], torch.tensor([0, 0, 0]) if len(tokens) == 1 else
                                        torch.tensor([2, 0, 0]), 3)  # fmt: skip
        assert torch.allclose(*found, atol=1e-5)


@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder"])
@torch.inference_mode()
def test_rows_that_were_dropped_do_not_show(kind):
    model = made(kind, {})
    fast = packed(model)
    states = [started(model, kind), started(fast, kind)]
    drops, late = iter([[1, 2], [0, 1], [1]]), False
    rows = 3
    for step in range(12):
        tokens = torch.full((rows, 1), 4 + step)
        found = []
        for place, one in enumerate((model, fast)):
            logits, states[place] = one.step(tokens, states[place])
            found.append(logits)
        assert torch.allclose(*found, atol=1e-5)
        late = late or states[1].places is not None
        if step % 4 == 1:
            index = torch.tensor(next(drops))
            states = [one.reorder(state, index) for one, state in zip((model, fast), states, strict=True)]
            rows = len(index)
    assert late


@torch.inference_mode()
def test_few_queries_attend_as_by_pytorch_s_kernel():
    draw = torch.Generator().manual_seed(4)
    query, key, value = (torch.randn(5, 2, n, 8, generator=draw) for n in (3, 20, 20))
    padding = torch.zeros(5, 1, 1, 20).masked_fill(torch.rand(5, 1, 1, 20, generator=draw) > 0.7, -torch.inf)
    padding[..., 0] = 0
    for mask, scale in ((None, None), (padding, None), (padding, 1.0)):
        found = attention_by_products(query, key, value, mask, scale)
        kernel = torch.nn.functional.scaled_dot_product_attention
        assert torch.allclose(found, kernel(query, key, value, attn_mask=mask, scale=scale), atol=1e-6)


def test_greedy_search_finds_the_same_texts_without_scores():
    model = made("encoder-decoder", {})
    fast, prefixes, conditions = packed(model), [[2], [2, 7], [2]], StopConditions(eos=3, max_length=[20, 9, 14])
    pairs = []
    for one, scores in ((model, True), (model, False), (fast, False)):
        with torch.inference_mode():
            found = greedy_search(one, started(one, "encoder-decoder"), prefixes, conditions, scores=scores,
                                  constraints=Constraints(suppress=(0, 1)))  # fmt: skip
        assert all(math.isnan(h.logprob) != scores for [h] in found)
        pairs.append([h.ids for [h] in found])
    assert pairs[0] == pairs[1] == pairs[2]
