"""Every kind of attention keeps the laws: a new entry of the table is tested unasked.

Any cut, no leak, every length, weights, true flags, the size of the state, nothing kept on modules.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.attention import chunking, gated_delta, key_value_cache, linear, softmax, tiles
from nlpcli.attention.kinds import KINDS, check_attention, parse_attention
from nlpcli.attention.masks import AttentionMask
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.runs.model_cost import operations

PATTERNS = [
    "full",
    "window:3",
    "window:4+global:2",
    "window:2+global@3,1",
    "dilated:3:2",
    "strided:3",
    "fixed:4",
    "prefix:3",
    "random:2",
    "blockwise:3",
    "blockwise:2(window:2+random:1)",
]
FEW_PATTERNS = ["window:3", "window:2+global@3,1", "random:2"]  # for kinds that leave patterns to the softmax's core
BY_LENGTH = ["global@0,-1", "blockwise:2(global@-1)", "global-random:2", "bigbird:2:1", "bigbird:1:0"]


def named(name):
    """An entry of the kind, its numbers small."""
    return ":".join([name, *["4"] * KINDS[name].form.count(":")])


def entries(ability, *, patterns=PATTERNS):
    """Of kinds that are cores; `test_attention_layers.py` runs over the layers of all kinds."""
    able = [name for name, kind in KINDS.items() if getattr(kind, ability) and not kind.layer]
    return [
        entry
        for name in able
        for entry in (
            [
                named(name),
                *(f"{named(name)} & ({pattern})" for pattern in (patterns if name == "softmax" else FEW_PATTERNS)),
            ]
            if KINDS[name].patterns
            else [named(name)]
        )
    ]


CAUSAL = entries("causal")
BOTH_WAYS = entries("bidirectional", patterns=[*PATTERNS, *BY_LENGTH])


@pytest.fixture(autouse=True)
def tiles_for_short_texts(monkeypatch):
    """Texts of a dozen tokens are long enough for tiles, so that both ways of computing are tried."""
    for module in (softmax, tiles):
        monkeypatch.setattr(module, "LEAST", 8)
    monkeypatch.setattr(key_value_cache, "_SHORT", 4)  # and so for caches that are written in place
    monkeypatch.setattr(tiles, "_BLOCK", 4)
    monkeypatch.setattr(tiles, "_NEAR", 1)
    monkeypatch.setattr(tiles, "_CLASS", 1)
    for module in (linear, gated_delta):
        monkeypatch.setattr(module, "_CHUNK", 4)
    monkeypatch.setattr(chunking, "CHUNK_LENGTH", 8)
    tiles.tiling.cache_clear()
    yield
    tiles.tiling.cache_clear()


def core_and_mask(text, *, causal, heads=2, d_key=6, length=64, **parts):
    entry = parse_attention(text)
    torch.manual_seed(7)
    core = entry.core(heads=heads, d_key=d_key, length=length)
    return core, AttentionMask(entry.pattern_of(causal=causal), **parts)


def gradients(x, leaves, **how):
    """Of the sum of squares; zeros of what has no part in it, such as the keys of a kind that has none."""
    return torch.autograd.grad(x.square().sum(), leaves, allow_unused=True, materialize_grads=True, **how)


def tensors(text, n, *, rows=2, seed=0, kind=torch.float64):
    """Queries, keys, with the gates of this entry's kind behind them, and values."""
    generator = torch.Generator().manual_seed(seed)
    widths = (6, 6 + parse_attention(text).kind.gates, 6)
    return [torch.randn(rows, 2, n, width, generator=generator, dtype=kind).requires_grad_() for width in widths]


def in_steps(core, mask, query, key, value, cuts):
    """The contexts of a text that is read in steps that end at `cuts`, and the state after it."""
    state, contexts, start = core.start(mask), [], 0
    for stop in cuts:
        part = slice(start, stop)
        context, state = core.step(query[:, :, part], key[:, :, part], value[:, :, part], state, mask)
        assert state.length == stop
        contexts.append(context)
        start = stop
    return torch.cat(contexts, dim=2), state


# --- any cut -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", CAUSAL)
@settings(max_examples=20)
@given(n=st.integers(1, 24), cuts=st.sets(st.integers(1, 23)), seed=st.integers(0, 99))
def test_every_cut_of_a_text_into_steps_gives_what_the_whole_gives(text, n, cuts, seed):
    core, mask = core_and_mask(text, causal=True)
    leaves = tensors(text, n, seed=seed)
    cuts = [*sorted(cut for cut in cuts if cut < n), n]
    whole = core.forward(*leaves, mask)
    with torch.inference_mode():
        found, _ = in_steps(core, mask, *leaves, cuts)
    assert torch.allclose(found, whole, atol=1e-6)
    recorded, _ = in_steps(core, mask, *leaves, cuts)  # where gradients are recorded
    ours, theirs = (gradients(x, leaves) for x in (recorded, whole))
    for mine, right in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, right, atol=1e-5)


@pytest.mark.parametrize("text", CAUSAL)
@torch.inference_mode()
def test_selecting_rows_and_stepping_may_change_places_and_no_step_changes_a_state(text):
    core, mask = core_and_mask(text, causal=True)
    query, key, value = tensors(text, 20, rows=3)
    index = torch.tensor([2, 0, 0, 1])
    _, state = in_steps(core, mask, query, key, value, [4, 9, 10])
    rest = (query[:, :, 10:], key[:, :, 10:], value[:, :, 10:])
    for stop in (1, 5, 10):
        part = [x[:, :, :stop] for x in rest]
        stepped, after = core.step(*part, state, mask)
        selected, later = core.step(*(x[index] for x in part), state.select(index), mask)
        assert torch.allclose(selected, stepped[index], atol=1e-6)
        others = core.step(*(torch.randn_like(x) for x in part), state, mask)  # another future of the same past
        assert others[1].length == after.length == later.length == 10 + stop
        again, _ = core.step(*part, state, mask)
        assert torch.allclose(again, stepped, atol=1e-6)
        more = [x[:, :, :1] for x in rest]
        assert torch.allclose(
            core.step(*more, after, mask)[0][index], core.step(*(x[index] for x in more), later, mask)[0]
        )


def model_of(text, kind, **changes):
    torch.manual_seed(3)
    own = "decoder_attention" if kind == "encoder-decoder" else "attention"
    shape = {"d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 1, "decoder_layers": 2, "dropout": 0.0}
    return build_model({"kind": kind, **shape, own: [text, "full"], **changes}, 20).eval()


@pytest.mark.parametrize("text", CAUSAL)
@torch.inference_mode()
def test_greedy_text_is_the_same_with_and_without_a_state(text):
    model = model_of(text, "decoder", positions="rotary")
    prefix, read = [4, 7, 9], [4, 7, 9]
    [[found]] = greedy_search(model, model.init_state(1), [prefix], StopConditions(None, 20))
    for _ in range(20):
        read.append(int(model(torch.tensor([read]))[0, -1].argmax()))
    assert list(found.ids) == read[3:]


@pytest.mark.parametrize("text", CAUSAL)
@torch.inference_mode()
def test_beams_are_as_probable_as_the_whole_pass_says(text):
    model = model_of(text, "encoder-decoder")
    source, mask = torch.randint(20, (2, 6)), torch.arange(6) < torch.tensor([6, 4])[:, None]
    state = model.init_state(model.encode(source, mask))
    found = beam_search(model, state, [[1], [1]], eos=None, max_length=14, settings=BeamSettings(3, n_best=3))
    for row, hypotheses in enumerate(found):
        for hypothesis in hypotheses:
            ids = torch.tensor([[1, *hypothesis.ids]])
            logprobs = model(source[row, mask[row]][None], None, ids[:, :-1]).log_softmax(-1)
            total = float(logprobs.gather(2, ids[:, 1:, None]).sum())
            assert hypothesis.logprob == pytest.approx(total, abs=1e-3)


# --- no leak -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", CAUSAL)
@given(n=st.integers(2, 24), data=st.data())
def test_a_causal_position_knows_nothing_of_what_comes_later(text, n, data):
    core, mask = core_and_mask(text, causal=True)
    place = data.draw(st.integers(1, n - 1))
    leaves = tensors(text, n)
    context = core.forward(*leaves, mask)
    changed = [x.detach().clone() for x in leaves]
    for x in changed:
        x[:, :, place:] = torch.randn_like(x[:, :, place:])
    assert torch.equal(core.forward(*changed, mask)[:, :, :place], context[:, :, :place])
    for gradient in gradients(context[:, :, :place], leaves):
        assert not gradient[:, :, place:].any()


@pytest.mark.parametrize("text", BOTH_WAYS)
@settings(max_examples=20)
@given(n=st.integers(2, 24), rows=st.integers(1, 3), data=st.data())
def test_padding_changes_nothing(text, n, rows, data):
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, n), min_size=rows, max_size=rows)))
    keys = torch.arange(n) < lengths[:, None]
    core, mask = core_and_mask(text, causal=False, keys=keys)
    leaves = tensors(text, n, rows=rows)
    context = core.forward(*leaves, mask)
    changed = [x.detach().where(keys[:, None, :, None], torch.full_like(x, 9.0)) for x in leaves]
    own = keys[:, None, :, None].expand_as(context)
    assert torch.equal(core.forward(*changed, mask)[own], context[own])
    for gradient in gradients(context[own], leaves):
        assert gradient.isfinite().all() and not gradient[~own].any()
    for row, length in enumerate(lengths.tolist()):  # as if it were alone
        alone = [x[row : row + 1, :, :length] for x in leaves]
        single = core.forward(*alone, AttentionMask(mask.pattern))
        assert torch.allclose(context[row : row + 1, :, :length], single, atol=1e-6)


@pytest.mark.parametrize("text", entries("documents"))
@pytest.mark.parametrize("causal", [False, True])
@given(n=st.integers(2, 24), seed=st.integers(0, 50))
def test_documents_of_one_row_know_nothing_of_each_other(text, causal, n, seed):
    documents = torch.randint(0, 4, (2, n), generator=torch.Generator().manual_seed(seed)).sort(1).values
    core, mask = core_and_mask(text, causal=causal, documents=documents)
    leaves = tensors(text, n)
    context = core.forward(*leaves, mask)
    for number in range(4):
        own = (documents == number)[:, None, :, None].expand_as(context)
        changed = [x.detach().where(own, torch.full_like(x, 9.0)) for x in leaves]
        assert torch.equal(core.forward(*changed, mask)[own], context[own])
        for gradient in gradients(context[own], leaves, retain_graph=True):
            assert not gradient[~own].any()


# --- heads that share keys and values ----------------------------------------------------------------------------


def shared(n, seed):
    """Queries of 6 heads, keys and values of 2, and these as each head of queries sees them."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(2, heads, n, 6, generator=generator, dtype=torch.float64).requires_grad_() for heads in (6, 2, 2)
    )
    return (query, key, value), (query, *(x.repeat_interleave(3, dim=1) for x in (key, value)))


@pytest.mark.parametrize("text", [text for text in entries("groups") if text in CAUSAL])
@settings(max_examples=10)
@given(n=st.integers(1, 24), cuts=st.sets(st.integers(1, 23)), padded=st.booleans(), seed=st.integers(0, 99))
def test_heads_that_share_keys_give_what_each_gives_with_a_copy_of_them(text, n, cuts, padded, seed):
    keys = torch.arange(n) < torch.tensor([n, max(1, n // 2)])[:, None] if padded else None
    core, mask = core_and_mask(text, causal=True, keys=keys)
    leaves, copies = shared(n, seed)
    found, expected = core.forward(*leaves, mask), core.forward(*copies, mask)
    assert torch.allclose(found, expected, atol=1e-6)
    ours, theirs = (gradients(x, leaves, retain_graph=True) for x in (found, expected))
    assert all(torch.allclose(mine, right, atol=1e-5) for mine, right in zip(ours, theirs, strict=True))
    weights = core.weights(*leaves[:2], mask)
    assert torch.allclose(weights, core.weights(*copies[:2], mask), atol=1e-6)
    if not padded:
        cuts = [*sorted(cut for cut in cuts if cut < n), n]
        with torch.inference_mode():
            assert torch.allclose(in_steps(core, mask, *leaves, cuts)[0], expected, atol=1e-6)


@pytest.mark.parametrize("text", [text for text in entries("groups") if text in CAUSAL])
@torch.inference_mode()
def test_a_model_whose_heads_share_keys_decodes_as_it_reads(text):
    ids, sizes = torch.randint(20, (3, 20)), []
    for kv_heads in (2, 4):
        model = model_of(text, "decoder", positions="rotary", heads=4, kv_heads=kv_heads)
        state, parts = model.init_state(3), []
        for start, stop in ((0, 5), (5, 6), (6, 20)):
            hidden, state = model.advance(ids[:, start:stop], model.reorder(state, torch.arange(3)))
            parts.append(hidden)
        assert torch.allclose(model.logits(torch.cat(parts, dim=1)), model(ids), atol=1e-5)
        sizes.append(state.bytes())
    if not KINDS[parse_attention(text).name].constant_state:
        assert sizes[0] * 2 == sizes[1]


# --- every length, weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "causal"), [(text, True) for text in CAUSAL] + [(text, False) for text in BOTH_WAYS])
@given(n=st.integers(1, 24), padded=st.booleans())
def test_weights_times_values_are_the_context_at_every_length(text, causal, n, padded):
    keys = torch.arange(n) < torch.tensor([n, max(1, n // 2)])[:, None] if padded and not causal else None
    core, mask = core_and_mask(text, causal=causal, keys=keys)
    query, key, value = tensors(text, n)
    context = core.forward(query, key, value, mask)
    weights = core.weights(query, key, mask)
    assert weights.shape == (2, 2, n, n) and weights.requires_grad
    sums = weights.sum(-1)
    if not KINDS[parse_attention(text).name].mixes:
        assert bool((((sums - 1).abs() < 1e-6) | (sums == 0)).all())
    assert torch.allclose(weights @ value, context, atol=1e-6)
    ours, theirs = (gradients(x, (query, key)) for x in (weights @ value, context))
    for mine, right in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, right, atol=1e-5)


@pytest.mark.parametrize("text", [text for text in CAUSAL if not KINDS[parse_attention(text).name].constant_state])
def test_the_weights_of_a_step_are_those_of_the_whole(text):
    core, mask = core_and_mask(text, causal=True)
    query, key, value = tensors(text, 20)
    _, state = in_steps(core, mask, query, key, value, [3, 13])
    found = core.weights(query[:, :, 13:], key[:, :, 13:], mask, state=state)
    assert torch.allclose(found, core.weights(query, key, mask)[:, :, 13:], atol=1e-6)


@pytest.mark.parametrize("text", BOTH_WAYS)
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_row_that_may_see_nothing_gives_zeros_and_finite_gradients(text, kind):
    keys = torch.zeros(2, 13, dtype=torch.bool)
    keys[0, :5] = True
    core, mask = core_and_mask(text, causal=False, keys=keys)
    leaves = tensors(text, 13, kind=kind)
    context = core.forward(*leaves, mask)
    assert context.dtype == kind and not context[1].any()
    for gradient in gradients(context.float(), leaves):
        assert bool(gradient.isfinite().all())


# --- flags -------------------------------------------------------------------------------------------------------


def settings_for(ability):
    """Settings of a model that ask for the ability, besides the attention."""
    return {
        "causal": {"kind": "decoder"},
        "bidirectional": {"kind": "encoder"},
        "bias": {"positions": "relative"},
        "distance": {"positions": "alibi"},
        "groups": {"kv_heads": 1},
        "dropout": {"attention_dropout": 0.2},
    }[ability]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("ability", ["causal", "bidirectional", "bias", "distance", "groups", "dropout"])
def test_an_ability_that_is_claimed_works_and_another_is_refused_when_settings_are_read(name, ability):
    kind = KINDS[name]
    ability, asked = "bias" if ability == "distance" else ability, settings_for(ability)
    stack = "decoder" if kind.causal else "encoder"
    config = {
        "kind": stack, "d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 1, "decoder_layers": 1,
        "attention": [named(name)], **asked,
    }  # fmt: skip
    if not getattr(kind, ability):
        with pytest.raises(ValueError, match=f"{name} does not support"):
            ModelConfig.model_validate(config)
        return
    torch.manual_seed(0)
    model, ids = build_model({"dropout": 0.0, **config}, 20).train(), torch.randint(20, (2, 9))
    first, second = model(ids), model(ids)
    assert torch.equal(first, second) == (ability != "dropout")
    first.square().sum().backward()
    if ability == "bias":
        assert all(p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "positions" in n)
        without = build_model({"dropout": 0.0, **config, "positions": "none"}, 20)
        without.load_state_dict({n: p for n, p in model.state_dict().items() if "positions" not in n})
        assert not torch.allclose(first, without(ids))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("ability", "suffix"), [("patterns", " & window:3"), ("documents", "")])
def test_patterns_and_documents_are_refused_by_kinds_that_can_not_keep_to_them(name, ability, suffix):
    def check():
        check_attention([named(name) + suffix], setting="model.attention", needs=["documents"] if not suffix else [])

    if getattr(KINDS[name], ability):
        check()
    else:
        with pytest.raises(NlpcliError, match="does not support") as caught:
            check()
        assert "softmax" in caught.value.hint and KINDS[name].why in caught.value.message


@pytest.mark.parametrize("text", BY_LENGTH)
def test_what_depends_on_the_length_of_a_text_is_refused_in_a_decoder(text):
    with pytest.raises(ValueError, match="depends on the length of the text"):
        TransformerConfig(kind="decoder", attention=[text])
    TransformerConfig(kind="encoder", attention=[text])


@pytest.mark.parametrize("text", CAUSAL)
def test_its_operations_can_be_counted_without_numbers(text):
    shape = {"d_model": 16, "heads": 2, "d_ff": 24, "decoder_layers": 1}
    found = operations(TransformerConfig(kind="decoder", attention=[text], **shape), 20, length=20)
    assert 0 < found.forward < found.training and found.decoding > 0


# --- state -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", CAUSAL)
@torch.inference_mode()
def test_a_state_that_is_declared_not_to_grow_does_not(text):
    kind = KINDS[parse_attention(text).name]
    core, mask = core_and_mask(text, causal=True, heads=1, d_key=2, length=1_040)
    bounded = kind.constant_state or mask.pattern.horizon.last is not None
    sizes = []
    for length in (500, 1_000) if kind.fixed_length else (1_000, 100_000 if bounded else 2_000):
        read = torch.randn(1, 1, length, 2 + kind.gates)
        _, state = core.step(read[..., :2], read, read[..., :2], core.start(mask), mask)
        most = 0
        for _ in range(40):
            one = torch.randn(1, 1, 1, 2 + kind.gates)
            _, state = core.step(one[..., :2], one, one[..., :2], state, mask)
            most = max(most, state.bytes())
        sizes.append(most)
    assert (sizes[0] == sizes[1] > 0) == bounded
    if kind.state is not None:  # what inspect says
        assert sizes[0] == 4 * kind.state(*parse_attention(text).numbers, 2, 2)


@pytest.mark.parametrize("text", CAUSAL)
@torch.inference_mode()
def test_nothing_is_kept_on_modules(text):
    model = model_of(text, "decoder", positions="none")
    attention = model.decoder.layers[0].self_attention
    before = {name: id(value) for name, value in [*vars(attention).items(), *vars(attention.core).items()]}
    model(torch.randint(20, (2, 9)))
    _, state = model.step(torch.randint(20, (2, 9)), model.init_state(2))
    model.step(torch.randint(20, (2, 1)), state)
    assert {name: id(value) for name, value in [*vars(attention).items(), *vars(attention.core).items()]} == before
