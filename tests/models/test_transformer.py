"""The Transformer against the paper's equations in float64, and what must not leak or change."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.models.build import build_model

VOCABULARY, WIDTH, HEADS = 11, 8, 2
SHAPE = {"d_model": WIDTH, "heads": HEADS, "d_ff": 12, "encoder_layers": 2, "decoder_layers": 2, "max_length": 16}
POSITIONS = ["sinusoidal", "learned", "rotary", "alibi", "none"]
ACTIVATIONS = {
    "relu": torch.relu,
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * torch.sigmoid(x),
}
GATED = {"swiglu": ACTIVATIONS["silu"], "geglu": ACTIVATIONS["gelu"]}


def build(seed=0, **config):
    """A model all of whose numbers are random, biases and norms too."""
    model = build_model(SHAPE | config, VOCABULARY)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4 + 0.7 * (weight.ndim == 1))
    return model.eval()


class Paper:
    """The equations, in float64, from a model's configuration and its weights by name."""

    def __init__(self, model, config):
        self.w = {name: weight.double() for name, weight in model.state_dict().items()}
        self.c = SHAPE | {"norm": "layernorm", "norm_position": "post", "activation": "relu"} | config
        self.c.setdefault("positions", "sinusoidal")

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0.0)

    def norm(self, name, x):
        gain, offset = self.w[f"{name}.weight"], self.w.get(f"{name}.bias", 0.0)
        if self.c["norm"] == "layernorm":
            x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain + offset

    def rotated(self, x):
        half = x.size(-1) // 2
        angle = torch.arange(x.size(2)).double()[:, None] * 10000.0 ** (-torch.arange(half).double() / half)
        turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat((turned.real, turned.imag), -1)

    def attention(self, name, x, memory, allowed):
        query, key, value = (
            self.linear(f"{name}.{part}", y).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part, y in (("query", x), ("key", memory), ("value", memory))
        )
        if self.c.get("qk_norm"):
            query = query / (query.square().mean(-1, keepdim=True) + 1e-5).sqrt() * self.w[f"{name}.query_norm.weight"]
            key = key / (key.square().mean(-1, keepdim=True) + 1e-5).sqrt() * self.w[f"{name}.key_norm.weight"]
        if self.c["positions"] == "rotary" and "cross" not in name:
            query, key = self.rotated(query), self.rotated(key)
        scores = query @ key.mT / math.sqrt(query.size(-1))
        if self.c["positions"] == "alibi" and "cross" not in name:
            slopes = 2.0 ** (-8 * torch.arange(1, HEADS + 1).double() / HEADS)  # HEADS is a power of two
            place = torch.arange(query.size(2)).double()
            scores = scores - slopes[:, None, None] * (place[:, None] - place).abs()
        scores = scores.masked_fill(~allowed, -torch.inf)
        context = torch.softmax(scores, -1) @ value
        return self.linear(f"{name}.output", context.transpose(1, 2).flatten(2))

    def feed_forward(self, name, x):
        inner, kind = self.linear(f"{name}.inner", x), self.c["activation"]
        if kind in GATED:
            return self.linear(f"{name}.outer", GATED[kind](self.linear(f"{name}.gate", x)) * inner)
        return self.linear(f"{name}.outer", ACTIVATIONS[kind](inner))

    def sublayer(self, name, x, function):
        if self.c["norm_position"] == "pre":
            return x + function(self.norm(f"{name}_norm", x))
        return self.norm(f"{name}_norm", x + function(x))

    def embed(self, side, ids):
        x = self.w[f"{side}_embedding.tokens.weight"][ids] * math.sqrt(WIDTH)
        if self.c["positions"] == "learned":
            x = x + self.w[f"{side}_embedding.positions.weight"][: ids.size(1)]
        if self.c["positions"] == "sinusoidal":
            rate = 10000.0 ** (torch.arange(0, WIDTH, 2).double() / WIDTH)
            angle = torch.arange(ids.size(1)).double()[:, None] / rate
            x = x + torch.stack((angle.sin(), angle.cos()), -1).flatten(1)
        return self.norm(f"{side}_embedding.norm", x) if self.c.get("embedding_norm") else x

    def stack(self, side, x, allowed, memory=None, memory_allowed=None):
        for i in range(self.c[f"{side}_layers"]):
            name = f"{side}.layers.{i}"
            x = self.sublayer(
                f"{name}.self_attention",
                x,
                lambda y, name=name: self.attention(f"{name}.self_attention", y, y, allowed),
            )
            if memory is not None:
                x = self.sublayer(
                    f"{name}.cross_attention",
                    x,
                    lambda y, name=name: self.attention(f"{name}.cross_attention", y, memory, memory_allowed),
                )
            x = self.sublayer(
                f"{name}.feed_forward", x, lambda y, name=name: self.feed_forward(f"{name}.feed_forward", y)
            )
        return self.norm(f"{side}.norm", x) if self.c["norm_position"] == "pre" else x

    def logits(self, x):
        return x @ self.w["output_weight_owner.weight"].T + self.w.get("output_bias", 0.0)

    def translate(self, source, mask, target):
        memory = self.stack("encoder", self.embed("encoder", source), mask[:, None, None])
        causal = torch.ones(target.size(1), target.size(1), dtype=torch.bool).tril()
        x = self.stack("decoder", self.embed("decoder", target), causal, memory, mask[:, None, None])
        return self.logits(x)

    def continue_(self, tokens):
        causal = torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool).tril()
        return self.logits(self.stack("decoder", self.embed("decoder", tokens), causal))


def pairs(seed=1, batch=3, m=6, n=5):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(1, VOCABULARY, (batch, m), generator=generator)
    target = torch.randint(1, VOCABULARY, (batch, n), generator=generator)
    lengths = torch.tensor([m - 2 * i if m > 2 * i else 1 for i in range(batch)])
    return source, torch.arange(m) < lengths[:, None], target


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize(("d_key", "d_value"), [(None, None), (6, 3)])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("activation", [*ACTIVATIONS, *GATED])
@pytest.mark.parametrize(("norm", "norm_position"), list(itertools.product(["layernorm", "rmsnorm"], ["post", "pre"])))
@torch.inference_mode()
def test_it_is_the_papers_equations(norm, norm_position, activation, positions, d_key, d_value, qk_norm):
    config = {
        "norm": norm,
        "norm_position": norm_position,
        "activation": activation,
        "positions": positions,
        "d_key": d_key,
        "d_value": d_value,
        "qk_norm": qk_norm,
        "encoder_layers": 1,
        "decoder_layers": 1,
    }
    model = build(**config).double()
    source, mask, target = pairs()
    assert torch.allclose(model(source, mask, target), Paper(model, config).translate(source, mask, target), atol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(
    "config",
    [
        {"tie": "none", "output_bias": True},
        {"tie": "source-target", "attention_bias": True},
        {"tie": "target-output", "embedding_norm": True, "feed_forward_bias": False},
        {"norm_position": "pre", "norm_bias": False},
    ],
    ids=str,
)
@torch.inference_mode()
def test_the_remaining_settings_are_the_equations_too(config, positions):
    config = config | {"positions": positions}
    source, mask, target = pairs()
    model = build(**config).double()
    assert torch.allclose(model(source, mask, target), Paper(model, config).translate(source, mask, target), atol=1e-5)
    model = build(kind="decoder", **config).double()
    assert torch.allclose(model(target), Paper(model, config).continue_(target), atol=1e-5)
    model = build(kind="encoder", **config).double()
    paper = Paper(model, config)
    expected = paper.stack("encoder", paper.embed("encoder", source), mask[:, None, None])
    assert torch.allclose(model(source, mask), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_no_position_learns_from_a_later_one(kind, positions, norm_position):
    model = build(kind=kind, positions=positions, norm_position=norm_position, qk_norm=norm_position == "pre")
    read = []
    model.decoder_embedding.register_forward_hook(lambda module, ids, x: read.append(x) or x)
    source, mask, target = pairs(n=6)
    logits = model(target) if kind == "decoder" else model(source, mask, target)
    for i in range(target.size(1)):
        [slope] = torch.autograd.grad(logits[:, i].square().sum(), read[-1], retain_graph=True)
        seen = slope.abs().sum((0, 2))
        assert torch.equal(seen[i + 1 :], torch.zeros(target.size(1) - i - 1))
        assert bool((seen[: i + 1] > 0).all())


def test_an_encoder_looks_both_ways_and_a_decoder_at_the_whole_source():
    model = build()
    read = []
    model.encoder_embedding.register_forward_hook(lambda module, ids, x: read.append(x) or x)
    source, _, target = pairs()
    states = model.encode(source).states
    [slope] = torch.autograd.grad(states[:, 2].square().sum(), read[-1])
    assert bool((slope.abs().sum((0, 2)) > 0).all())
    logits = model(source, None, target)
    [slope] = torch.autograd.grad(logits[:, 0].square().sum(), read[-1])
    assert bool((slope.abs().sum((0, 2)) > 0).all())


@pytest.mark.parametrize("positions", POSITIONS)
@torch.inference_mode()
def test_what_stands_in_the_padding_changes_no_bit(positions):
    model = build(positions=positions)
    source, mask, target = pairs()
    other = torch.where(mask, source, (source + 5) % VOCABULARY)
    assert not torch.equal(source, other)
    assert torch.equal(model(source, mask, target), model(other, mask, target))
    encoder = build(kind="encoder", positions=positions)
    assert torch.equal(encoder(source, mask)[mask], encoder(other, mask)[mask])


@pytest.mark.parametrize("positions", POSITIONS)
@torch.inference_mode()
def test_neighbours_and_padding_do_not_change_a_sentence(positions):
    model = build(positions=positions).double()
    source, mask, target = pairs()
    together = model(source, mask, target)
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = model(source[row : row + 1, :length], None, target[row : row + 1])
        assert torch.allclose(together[row], alone[0], atol=1e-10)


def test_a_mask_without_padding_is_the_same_as_none():
    model = build().double()
    source, mask, target = pairs()
    masked, plain = model(source, torch.ones_like(mask), target), model(source, None, target)
    assert torch.allclose(masked, plain, atol=1e-10)


@pytest.mark.parametrize("config", [{"dropout": 0.5}, {"attention_dropout": 0.5}, {"activation_dropout": 0.5}], ids=str)
def test_each_dropout_acts_in_training_and_rests_in_evaluation(config):
    model = build(**({"dropout": 0.0} | config))
    source, mask, target = pairs()
    assert torch.equal(model(source, mask, target), model(source, mask, target))
    assert torch.equal(model(source, mask, target), build(dropout=0.0)(source, mask, target))
    model.train()
    assert not torch.allclose(model(source, mask, target), model(source, mask, target))


class Reading:
    """A state and beside it, for each row, which source it has and what it has read."""

    def __init__(self, model, source, mask):
        self.model, self.source, self.mask, self.width = model, source, mask, 1
        if source is None:
            self.state = model.init_state(mask)
            self.sources = list(range(mask))
        else:
            self.state = model.init_state(model.encode(source, mask))
            self.sources = list(range(len(source)))
        self.texts = [[] for _ in self.sources]

    def step(self, tokens):
        logits, self.state = self.model.step(tokens, self.state)
        self.texts = [text + row for text, row in zip(self.texts, tokens.tolist(), strict=True)]
        assert self.state.length == len(self.texts[0])
        assert torch.allclose(logits, self.expected(), atol=1e-6)

    def expected(self):
        texts = torch.tensor(self.texts)
        if self.source is None:
            return self.model(texts)[:, -1]
        return self.model(self.source[self.sources], self.mask[self.sources], texts)[:, -1]

    def reorder(self, groups, width):
        """`groups`: for each group kept its number and the `width` places inside it that go on."""
        index = [group * self.width + place for group, places in groups for place in places]
        self.state = self.model.reorder(self.state, torch.tensor(index), width)
        self.texts = [list(self.texts[i]) for i in index]
        self.sources = [self.sources[i] for i in index]
        self.width = width


def wander(reading, chance):
    """Steps of 1 to 3 tokens, and between them selections: some sources stay, each with `width` of its rows."""
    while reading.state.length < 13:
        n = chance.randint(1, 3)
        reading.step(torch.tensor([chance.choices(range(1, VOCABULARY), k=n) for _ in reading.texts]))
        if chance.random() < 0.6:
            groups, width = range(len(reading.texts) // reading.width), chance.randint(1, 3)
            kept = groups if chance.random() < 0.5 else sorted(chance.sample(groups, chance.randint(1, len(groups))))
            reading.reorder([(group, chance.choices(range(reading.width), k=width)) for group in kept], width)


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
@pytest.mark.parametrize("positions", POSITIONS)
@settings(max_examples=12)
@given(seed=st.integers(0, 10_000))
@torch.inference_mode()
def test_step_by_step_with_any_selection_of_rows_equals_reading_all_at_once(kind, positions, seed):
    model = build(kind=kind, positions=positions, norm_position="pre", qk_norm=True).double()
    source, mask, _ = pairs()
    wander(Reading(model, None, 3) if kind == "decoder" else Reading(model, source, mask), random.Random(seed))


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
@torch.inference_mode()
def test_positions_without_end_go_on_beyond_the_first_table(positions):
    model = build(kind="decoder", positions=positions).double()
    assert model.max_length is None
    tokens = torch.randint(0, VOCABULARY, (1, 300), generator=torch.Generator().manual_seed(1))
    state = model.init_state(1)
    for start in (0, 150, 299):
        logits, state = model.step(tokens[:, start : {0: 150, 150: 299, 299: 300}[start]], state)
    assert torch.allclose(logits, model(tokens)[:, -1], atol=1e-6)


def test_learned_positions_end_and_say_so():
    model = build(kind="decoder", positions="learned")
    assert model.max_length == 16
    with pytest.raises(ValueError, match="17 tokens is longer than the 16 positions"):
        model(torch.zeros(1, 17, dtype=torch.long))
    _, state = model.step(torch.zeros(1, 16, dtype=torch.long), model.init_state(1))
    with pytest.raises(ValueError, match="17 tokens"):
        model.step(torch.zeros(1, 1, dtype=torch.long), state)


@torch.inference_mode()
def test_every_matrix_of_a_source_is_projected_once_a_sentence():
    model = build()
    source, mask, _ = pairs()
    calls = []
    for layer in model.decoder.layers:
        layer.cross_attention.key.register_forward_hook(lambda *_: calls.append(1))
    state = model.init_state(model.encode(source, mask))
    for _ in range(4):
        _, state = model.step(torch.ones(3, 1, dtype=torch.long), state)
    assert len(calls) == 2
