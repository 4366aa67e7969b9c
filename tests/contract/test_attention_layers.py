"""The self-attention of every kind keeps the laws as a layer, with its projections: kinds that are cores, and kinds
that are layers of their own.

No leak, every length, the recorded weights, dropout, nothing kept on modules.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.attention import softmax, tiles
from nlpcli.attention.hooks import recording
from nlpcli.attention.kinds import KINDS, parse_attention
from nlpcli.attention.masks import AttentionMask
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.stack import self_attention_of
from nlpcli.runs.model_cost import operations

D_MODEL = 12


def named(name, number="4"):
    """The entries of a kind, with small numbers: all, and only those that must be given."""
    form = KINDS[name].form
    required = form.count(":") - form.count("[")
    return list(dict.fromkeys(":".join([name, *[number] * count]) for count in (form.count(":"), required)))


ENTRIES = [entry for name, kind in KINDS.items() if kind.bidirectional for entry in named(name)]
ENTRIES += [f"{entry} & window:3" for entry in ENTRIES if KINDS[parse_attention(entry).name].patterns]


@pytest.fixture(autouse=True)
def tiles_for_short_texts(monkeypatch):
    """Texts of a dozen tokens are long enough for tiles, so that both ways of computing are tried."""
    for module in (softmax, tiles):
        monkeypatch.setattr(module, "LEAST", 8)
    monkeypatch.setattr(tiles, "_BLOCK", 4)
    monkeypatch.setattr(tiles, "_NEAR", 1)
    tiles.tiling.cache_clear()
    yield
    tiles.tiling.cache_clear()


def layer_of(text, **changes):
    torch.manual_seed(5)
    shape = {"kind": "encoder", "d_model": D_MODEL, "heads": 2, "attention": [text], "attention_bias": True}
    config = TransformerConfig(**shape, **changes)
    layer = self_attention_of(
        config, parse_attention(text), layer=0, length=config.max_length, causal=False, rotary=None
    )
    return layer.double().eval()


def states(n, *, rows=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, n, D_MODEL, generator=generator, dtype=torch.float64).requires_grad_()


def padding(n, lengths):
    return torch.arange(n) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("text", ENTRIES)
@settings(max_examples=20)
@given(n=st.integers(1, 24), rows=st.integers(1, 3), data=st.data())
def test_padding_changes_nothing(text, n, rows, data):
    lengths = data.draw(st.lists(st.integers(1, n), min_size=rows, max_size=rows))
    keys, layer, x = padding(n, lengths), layer_of(text), states(n, rows=rows)
    found = layer(x, AttentionMask(keys=keys))
    changed = x.detach().where(keys[..., None], torch.full_like(x, 9.0))
    assert torch.equal(layer(changed, AttentionMask(keys=keys))[keys], found[keys])
    (gradient,) = torch.autograd.grad(found[keys].square().sum(), x)
    assert gradient.isfinite().all() and not gradient[~keys].any()
    for row, length in enumerate(lengths):  # as if it were alone
        assert torch.allclose(found[row, :length], layer(x[row : row + 1, :length])[0], atol=1e-6)


@pytest.mark.parametrize("text", ENTRIES)
@settings(max_examples=20)
@given(n=st.integers(1, 24), padded=st.booleans())
def test_the_output_is_made_of_the_weights_that_are_recorded_at_every_length(text, n, padded):
    mask = AttentionMask(keys=padding(n, [n, max(1, n // 2)]) if padded else None)
    layer, x = layer_of(text), states(n)
    plain = layer(x, mask)
    with recording(layer) as [seen]:
        assert torch.equal(layer(x, mask), plain)
    with recording(layer, gradients=True) as [weights]:
        again = layer(x, mask)
    assert torch.allclose(again, plain, atol=1e-6)
    assert seen[0].shape == (2, 2, n, n) and torch.allclose(seen[0], weights[0], atol=1e-9)
    if not KINDS[parse_attention(text).name].mixes:
        sums = seen[0].sum(-1)  # a position that is padding may see nothing
        tokens = sums if mask.keys is None else sums.transpose(1, 2)[mask.keys]
        assert torch.allclose(tokens, torch.ones_like(tokens), atol=1e-6)
    if padded:
        assert not seen[0].transpose(2, 3)[~mask.keys[:, None].expand(2, 2, n)].any()
    ours, theirs = (
        torch.autograd.grad(y.square().sum(), [x, *layer.parameters()], materialize_grads=True) for y in (again, plain)
    )
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("text", ENTRIES)
def test_every_number_of_a_layer_has_a_part_in_it_and_nothing_is_kept(text):
    layer, x = layer_of(text).train(), states(23)
    before = {name: id(value) for name, value in [*vars(layer).items(), *vars(layer.core).items()]}
    layer(x, AttentionMask(keys=padding(23, [23, 11]))).square().sum().backward()
    assert {name: id(value) for name, value in [*vars(layer).items(), *vars(layer.core).items()]} == before
    # a bias of keys adds the same to all scores of a row
    unused = [n for n, p in layer.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(name.endswith("key.bias") for name in unused), unused


@pytest.mark.parametrize("text", [text for text in ENTRIES if KINDS[parse_attention(text).name].dropout])
def test_dropout_is_that_of_the_weights_in_training_only(text):
    layer, x = layer_of(text, attention_dropout=0.5), states(15)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))
    with recording(layer, gradients=True) as [weights]:
        assert not torch.equal(layer(x), layer(x))
    assert torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("text", [text for text in ENTRIES if KINDS[parse_attention(text).name].groups])
def test_heads_may_share_keys_and_values(text):
    layer, x = layer_of(text, kv_heads=1), states(19)
    assert layer(x).isfinite().all() and layer.value.out_features * 2 == D_MODEL
    layer(x).sum().backward()


@pytest.mark.parametrize("text", ENTRIES)
def test_a_model_with_it_runs_and_its_operations_can_be_counted_without_numbers(text):
    shape = {"kind": "encoder", "d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 1, "attention": [text]}
    model = build_model(shape, 20)
    found = operations(TransformerConfig(**shape), 20, length=20)
    assert 0 < found.forward < found.training and found.decoding is None
    assert model(torch.randint(20, (2, 9))).shape == (2, 9, 16)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.layer])
def test_a_kind_that_is_a_layer_refuses_what_its_flags_deny(name):
    kind, [text, *_] = KINDS[name], named(name)
    layer, x = layer_of(text), states(9)
    if not kind.causal:
        with pytest.raises(NotImplementedError):
            layer.start()
        with pytest.raises(NotImplementedError):
            layer.step(x, None)
    if not kind.documents:
        with pytest.raises(ValueError, match="document"):
            layer(x, AttentionMask(documents=torch.zeros(2, 9, dtype=torch.long)))
    if not kind.bias:
        with pytest.raises(ValueError, match="relative positions"):
            layer(x, bias=object())


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.even])
def test_an_odd_number_is_refused_in_words_where_it_must_be_even(name):
    with pytest.raises(NlpcliError, match="is 5, but must be even"):
        parse_attention(named(name, "5")[0])
