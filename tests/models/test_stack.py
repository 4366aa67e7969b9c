"""Windows and relative positions in a stack: against dense masks, a published table, and token-by-token decoding."""

from __future__ import annotations

import pytest
import torch

from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.patterns import Window
from nlpcli.layers.positions import RelativeBias
from nlpcli.models.build import build_model

SMALL = {"kind": "decoder", "d_model": 16, "heads": 2, "d_ff": 32, "decoder_layers": 3, "positions": "none"}
VOCABULARY = 23


def decoder(**changes):
    torch.manual_seed(5)
    return build_model({**SMALL, **changes}, VOCABULARY).double().eval()


def tokens(length, rows=2):
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(length))


def test_a_window_as_wide_as_the_text_equals_full_attention():
    text = tokens(11)
    assert torch.allclose(decoder(attention=["window:11"])(text), decoder()(text), atol=1e-10)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_window_is_the_dense_mask_of_the_nearest_keys(window):
    near = torch.tensor([[abs(i - j) < window for j in range(9)] for i in range(9)])
    assert torch.equal(Window(window).dense(9), near)
    assert torch.equal(Window(window).dense(2, 9), near[-2:])
    text = tokens(9)
    banded, masked = decoder(attention=[f"window:{window}"]), decoder()
    assert torch.allclose(
        banded(text), masked.logits(masked.hidden(text, AttentionMask(permutation=near[None]))), atol=1e-6
    )


def test_patterns_take_turns_layer_by_layer():
    model = decoder(attention=["full", "window:3"])
    patterns = [str(layer.self_attention.pattern) for layer in model.decoder.layers]
    assert patterns == ["causal", "causal & window:3", "causal"]


@pytest.mark.parametrize(
    "changes", [{"attention": ["full", "window:3"]}, {"positions": "relative"}, {"positions": "rotary"}], ids=str
)
def test_decoding_token_by_token_gives_the_logits_of_the_whole(changes):
    model, text = decoder(**changes), tokens(9)
    whole, state = model(text), model.init_state(2)
    for place in range(text.size(1)):
        logits, state = model.step(text[:, place : place + 1], state)
        assert torch.allclose(logits, whole[:, place], atol=1e-5)


def test_relative_positions_do_not_depend_on_where_a_text_begins():
    model, text = decoder(positions="relative"), tokens(8)
    bias = model.decoder.positions(8, 8)
    assert bias.shape == (1, 2, 8, 8)
    for shift in range(1, 4):
        assert torch.equal(bias[..., shift:, shift:], bias[..., :-shift, :-shift])
    assert model(text).isfinite().all()


def test_buckets_hold_one_distance_each_up_to_half_and_ever_more_beyond():
    both, past = RelativeBias(1), RelativeBias(1, causal=True)
    distance = torch.arange(300)
    assert both.bucket(-distance[:8]).tolist() == list(range(8))
    assert both.bucket(distance[1:8]).tolist() == list(range(17, 24))
    assert past.bucket(-distance[:16]).tolist() == list(range(16))
    assert past.bucket(distance).unique().tolist() == [0]
    for table, last in ((both, 15), (past, 31)):
        buckets = table.bucket(-distance)
        assert (buckets.diff() >= 0).all()
        assert buckets[128:].unique().tolist() == [last]


def test_segments_change_what_is_read_and_default_to_the_first():
    model = build_model({**SMALL, "kind": "encoder", "encoder_layers": 1, "segments": 2}, VOCABULARY).eval()
    text = tokens(6)
    first = torch.zeros_like(text)
    assert torch.equal(model(text), model(text, segments=first))
    assert not torch.allclose(model(text), model(text, segments=first + 1))


def test_t5s_first_weights_follow_the_fan_in_of_each_matrix():
    model = build_model(
        {"d_model": 256, "d_ff": 512, "heads": 4, "encoder_layers": 2, "decoder_layers": 2, "positions": "relative",
         "score": "dot", "initialization": "t5"}, 2000,
    )  # fmt: skip
    layer = model.encoder.layers[0]
    assert layer.self_attention.query.weight.std().item() == pytest.approx((256 * 64) ** -0.5, rel=0.05)
    assert layer.self_attention.key.weight.std().item() == pytest.approx(256**-0.5, rel=0.05)
    assert layer.feed_forward.outer.weight.std().item() == pytest.approx(512**-0.5, rel=0.05)
    assert model.encoder.positions.weight.std().item() == pytest.approx(256**-0.5, rel=0.3)
    assert model.encoder_embedding.tokens.weight.std().item() == pytest.approx(1.0, rel=0.05)


def test_berts_first_weights_are_cut_off_at_twice_their_deviation():
    model = build_model({**SMALL, "kind": "encoder", "d_model": 64, "initialization": "bert"}, 500)
    weight = model.encoder_embedding.tokens.weight
    assert weight.abs().max().item() <= 0.04
    assert weight.std().item() == pytest.approx(0.02 * 0.88, rel=0.05)


# --- global tokens -----------------------------------------------------------------------------------------------

ENCODER = {"kind": "encoder", "d_model": 16, "heads": 2, "d_ff": 32, "encoder_layers": 3, "max_length": 24}


def encoder(**changes):
    torch.manual_seed(5)
    return build_model({**ENCODER, **changes}, VOCABULARY).double().eval()


@pytest.mark.parametrize("attention", ["full", "window:3+global:2", "linear", "linformer:4", "longformer:4:2"])
def test_global_tokens_are_tokens_before_the_text_whose_states_are_left_out(attention):
    model = encoder(attention=[attention], global_tokens=2)
    stack, text = model.encoder, tokens(9)
    x = model.encoder_embedding(text)
    found = stack(x)
    learned, stack.global_tokens = stack.global_tokens, None
    assert learned.shape == (2, 16) and learned.std() > 0
    by_hand = stack(torch.cat([learned.expand(2, -1, -1), x], dim=1))
    assert torch.allclose(found, by_hand[:, 2:], atol=1e-12)


def test_global_tokens_connect_what_windows_do_not():
    @torch.no_grad()
    def moved(model):
        first, second = tokens(20, rows=1), tokens(20, rows=1)
        second[0, -1] = (second[0, -1] + 1) % VOCABULARY
        return float((model(first) - model(second))[0, 0].abs().max())

    assert moved(encoder(attention=["window:2"])) == 0
    assert moved(encoder(attention=["window:2+global:1"], global_tokens=1)) > 1e-4


@pytest.mark.parametrize("attention", ["full", "window:3+global:2", "linear", "linformer:4"])
def test_padding_changes_nothing_beside_global_tokens(attention):
    model, text = encoder(attention=[attention], global_tokens=2), tokens(9)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[:, 9:] = False
    padded = model(torch.nn.functional.pad(text, (0, 3), value=1), mask)
    assert torch.allclose(padded[:, :9], model(text), atol=1e-6)


def test_the_states_of_all_layers_are_those_of_the_text_alone():
    model, kept = encoder(attention=["window:3+global:2"], global_tokens=2), []
    last = model(tokens(9), hidden_states=kept)
    assert [state.shape for state in kept] == [(2, 9, 16)] * 4 and torch.equal(kept[-1], last)


def test_all_weights_beside_global_tokens_and_they_themselves_get_gradients():
    model = encoder(attention=["window:3+global:2"], global_tokens=2)
    model(tokens(9)).square().sum().backward()
    assert model.encoder.global_tokens.grad.abs().min(dim=1).values.gt(0).all()


def test_global_tokens_of_a_decoder_are_refused():
    with pytest.raises(ValueError, match="global_tokens needs a model of kind encoder"):
        decoder(global_tokens=2)
