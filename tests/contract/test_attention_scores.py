"""Every score function in multi-head attention equals a loop in float64, and keeps the laws of attention."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.attention import score_functions
from nlpcli.attention.core import for_heads
from nlpcli.attention.kinds import KINDS, parse_attention
from nlpcli.attention.masks import AttentionMask
from nlpcli.attention.multi_head import AttentionSettings, MultiHeadAttention
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.build import build_model

SCORES = ["dot", "scaled-dot", "general", "additive", "concat", "cosine", "gaussian"]
AGGREGATIONS = {"projection": 3, "concat": 3, "mean": 6}  # and the size of a head's values
D_MODEL, HEADS, D_KEY = 6, 2, 3
PATTERNS = ["full", "window:3", "window:4+global:2", "prefix:3"]
every_score = pytest.mark.parametrize("score", SCORES)


def attention(score, *, aggregation="projection", pattern="full", causal=False, kind=torch.float64, **more):
    torch.manual_seed(4)
    entry = parse_attention(pattern)
    values = AGGREGATIONS[aggregation]
    own = AttentionSettings(HEADS, d_key=D_KEY, d_value=values, score=score, aggregation=aggregation, bias=True)
    layer = MultiHeadAttention(D_MODEL, own, pattern=entry.pattern_of(causal=causal), **more)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return layer.to(kind)


def texts(n, rows=2, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, n, D_MODEL, dtype=torch.float64, generator=generator)


def score_of(name, layer, head, q, k):
    """The score of one query and one key, as the paper has it."""
    if name in ("dot", "scaled-dot"):
        return q @ k / (math.sqrt(D_KEY) if name == "scaled-dot" else 1)
    own = layer.score
    if name == "general":
        return k @ own.weight[head] @ q
    if name == "cosine":
        return q @ k / (q.norm() * k.norm()) / own.log_temperature[head, 0, 0].exp()
    if name == "gaussian":
        return -(q - k).square().sum() / (2 * (2 * own.log_bandwidth[head, 0, 0]).exp())
    if name == "additive":
        return torch.tanh(q @ own.query_weight[head] + k @ own.key_weight[head]) @ own.vector[head, :, 0]
    return torch.tanh(torch.cat((q, k)) @ own.weight[head]) @ own.vector[head, :, 0]


def by_a_loop(name, layer, x, visible):
    """The output of the layer, a query, a head and a key at a time. visible (n, n): what may be seen."""
    rows = []
    for text in x:
        queries, keys, values = (
            part(text).unflatten(-1, (HEADS, -1)) for part in (layer.query, layer.key, layer.value)
        )
        outputs = []
        for i in range(len(text)):
            heads = []
            for head in range(HEADS):
                seen = [j for j in range(len(text)) if visible[i, j]]
                found = torch.stack([score_of(name, layer, head, queries[i, head], keys[j, head]) for j in seen])
                weights = found.exp() / found.exp().sum()
                heads.append(sum(a * values[j, head] for a, j in zip(weights, seen, strict=True)))
            merged = torch.cat(heads) if layer.output is not None or not layer.averages else sum(heads) / HEADS
            outputs.append(merged if layer.output is None else layer.output(merged))
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


@every_score
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("causal", [False, True])
def test_output_and_gradients_are_those_of_a_loop(score, aggregation, causal):
    layer, x = attention(score, aggregation=aggregation, causal=causal), texts(4)
    visible = torch.ones(4, 4).tril() if causal else torch.ones(4, 4)
    found, expected = layer(x), by_a_loop(score, layer, x, visible)
    assert torch.allclose(found, expected, atol=1e-12)
    parameters = list(layer.parameters())
    ours, theirs = (torch.autograd.grad(y.square().sum(), parameters, allow_unused=True) for y in (found, expected))
    for mine, right, (name, _) in zip(ours, theirs, layer.named_parameters(), strict=True):
        assert torch.allclose(mine, right, atol=1e-10), name


@every_score
def test_scores_in_blocks_are_those_of_one_block(score, monkeypatch):
    layer, x = attention(score), texts(9)
    whole = layer(x)
    slopes = torch.autograd.grad(whole.square().sum(), list(layer.parameters()))
    monkeypatch.setattr(score_functions, "_BLOCK", 1)
    parts = layer(x)
    assert torch.allclose(parts, whole, atol=1e-12)
    for mine, right in zip(torch.autograd.grad(parts.square().sum(), list(layer.parameters())), slopes, strict=True):
        assert torch.allclose(mine, right, atol=1e-10)


@every_score
@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=8)
@given(n=st.integers(1, 14), cuts=st.sets(st.integers(1, 13)))
def test_every_cut_of_a_text_into_steps_gives_what_the_whole_gives(score, pattern, n, cuts):
    layer, x = attention(score, pattern=pattern, causal=True, rotary=None), texts(n)
    with torch.no_grad():
        state, found, start = layer.start(), [], 0
        for stop in [*sorted(cut for cut in cuts if cut < n), n]:
            part, state = layer.step(x[:, start:stop], state.select(torch.tensor([0, 1])))
            found.append(part)
            start = stop
        assert torch.allclose(torch.cat(found, dim=1), layer(x), atol=1e-8)


@every_score
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_causal_position_knows_nothing_of_what_comes_later(score, pattern):
    layer, x = attention(score, pattern=pattern, causal=True), texts(9).requires_grad_()
    found = layer(x)
    [slope] = torch.autograd.grad(found[:, :5].square().sum(), [x])
    assert not slope[:, 5:].any()
    changed = torch.cat((x[:, :5], 9 * x[:, 5:]), dim=1)
    assert torch.allclose(layer(changed)[:, :5], found[:, :5], atol=1e-12)


@every_score
@pytest.mark.parametrize("pattern", PATTERNS)
def test_padding_and_other_documents_change_nothing(score, pattern):
    layer, x = attention(score, pattern=pattern), texts(8).requires_grad_()
    keys = torch.arange(8) < torch.tensor([8, 5])[:, None]
    found = layer(x, AttentionMask(keys=keys))
    [slope] = torch.autograd.grad(found[keys].square().sum(), [x], retain_graph=True)
    assert not slope[~keys].any() and slope.isfinite().all()
    assert torch.allclose(found[1:, :5], layer(x[1:, :5]), atol=1e-10)
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]] * 2)
    [slope] = torch.autograd.grad(layer(x, AttentionMask(documents=documents))[:, :3].sum(), [x])
    assert not slope[:, 3:].any()


@every_score
def test_recorded_weights_times_values_are_the_context(score):
    layer, x = attention(score, aggregation="concat"), texts(6)
    silent = layer(x)
    for gradients in (False, True):
        from nlpcli.attention.hooks import recording

        with recording(layer, gradients=gradients) as [recorder]:
            output = layer(x)
        value = layer.project_memory(x).value
        again = (recorder[0] @ for_heads(value, HEADS)).transpose(1, 2).flatten(2)
        assert torch.allclose(output, silent, atol=1e-10) and torch.allclose(again, silent, atol=1e-10)
        assert torch.allclose(recorder[0].sum(-1), torch.ones(()).double(), atol=1e-10)


@every_score
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_row_that_may_see_nothing_gives_zeros_and_finite_gradients(score, kind):
    layer, x = attention(score, aggregation="concat", kind=kind), texts(5).to(kind)
    keys = torch.tensor([[True] * 5, [False] * 5])
    found = layer(x, AttentionMask(keys=keys))
    assert found.dtype == kind and not found[1].any()
    slopes = torch.autograd.grad(found.float().square().sum(), list(layer.parameters()))
    assert all(bool(slope.isfinite().all()) for slope in slopes)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_one_head_is_the_same_however_heads_are_aggregated(aggregation):
    """Without a projection; with one whose matrix is the identity."""
    torch.manual_seed(1)
    plain = MultiHeadAttention(D_MODEL, AttentionSettings(1, aggregation="concat"))
    other = MultiHeadAttention(D_MODEL, AttentionSettings(1, aggregation=aggregation))
    other.load_state_dict(plain.state_dict(), strict=False)
    if other.output is not None:
        torch.nn.init.eye_(other.output.weight)
    x = texts(5).float()
    assert torch.allclose(other(x), plain(x), atol=1e-6)


# --- settings ----------------------------------------------------------------------------------------------------

SHAPE = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 2, "dropout": 0.0}


@every_score
@pytest.mark.parametrize("changes", [
    {"kind": "decoder", "positions": "rotary"},
    {"kind": "decoder", "positions": "relative", "attention": ["window:3"]},
    {"kind": "decoder", "head_aggregation": "mean", "qk_norm": True},
])  # fmt: skip
@torch.inference_mode()
def test_a_decoder_gives_in_steps_what_it_gives_for_the_whole_text(score, changes):
    torch.manual_seed(2)
    model = build_model({**SHAPE, **changes, "score": score}, 20).eval()
    ids = torch.randint(20, (3, 12))
    state, parts = model.init_state(3), []
    for start, stop in ((0, 4), (4, 5), (5, 12)):
        hidden, state = model.advance(ids[:, start:stop], model.reorder(state, torch.arange(3)))
        parts.append(hidden)
    assert torch.allclose(model.logits(torch.cat(parts, dim=1)), model(ids), atol=1e-5)


@every_score
def test_an_encoder_decoder_learns_with_it(score):
    torch.manual_seed(2)
    model = build_model({**SHAPE, "score": score, "norm_position": "pre"}, 20)
    ids = torch.randint(20, (4, 7))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        logits = model(ids, None, ids[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("score", SCORES[2:])
def test_a_kind_that_takes_no_other_scores_is_refused_in_words(name, score):
    entry = ":".join([name, *["4"] * KINDS[name].form.count(":")])
    stack = "encoder" if KINDS[name].bidirectional else "decoder"
    if KINDS[name].scores:
        assert TransformerConfig(kind=stack, attention=[entry], score=score).score == score
        return
    with pytest.raises(ValueError, match=rf"{name} does not support other scores.*model.score.*softmax"):
        TransformerConfig(kind=stack, attention=[entry], score=score)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"score": "general", "kv_heads": 2}, "the score 'general' can't be used with kv_heads"),
        ({"head_aggregation": "mean", "d_value": 64}, "'mean' gives 64 numbers, but d_model is 512; leave out d_value"),
        ({"head_aggregation": "concat", "d_value": 32}, "'concat' gives 256 numbers, but d_model is 512"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_a_remedy(changes, reason):
    with pytest.raises(ValueError, match=reason):
        TransformerConfig(**changes)
