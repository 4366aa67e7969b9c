"""Our XLNet against that of `transformers`, random weights, no download."""

from __future__ import annotations

import pytest
import torch

from nlpcli.config.xlnet_settings import XLNetConfig
from nlpcli.models.build import count_parameters
from nlpcli.models.model_folder import load_weights
from nlpcli.models.xlnet import XLNet

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, WIDTH, HEADS, LAYERS, LENGTH, ROWS = 50, 24, 4, 3, 11, 3
D_KEY = WIDTH // HEADS


def from_huggingface(theirs, layers, width):
    """The weights of an XLNetLMHeadModel under our names. Their projections are (d_model, heads, d_key)."""
    ours = {
        "embedding.tokens.weight": theirs["transformer.word_embedding.weight"],
        "query_embedding": theirs["transformer.mask_emb"].flatten(),
        "output_bias": theirs["lm_loss.bias"],
    }
    same = {
        "attention.content_bias": "rel_attn.r_w_bias",
        "attention.position_bias": "rel_attn.r_r_bias",
        "attention.segment_bias": "rel_attn.r_s_bias",
        "attention.segment_keys": "rel_attn.seg_embed",
        "attention_norm.weight": "rel_attn.layer_norm.weight",
        "attention_norm.bias": "rel_attn.layer_norm.bias",
        "feed_forward.inner.weight": "ff.layer_1.weight",
        "feed_forward.inner.bias": "ff.layer_1.bias",
        "feed_forward.outer.weight": "ff.layer_2.weight",
        "feed_forward.outer.bias": "ff.layer_2.bias",
        "feed_forward_norm.weight": "ff.layer_norm.weight",
        "feed_forward_norm.bias": "ff.layer_norm.bias",
    }
    projections = {"query": "q", "key": "k", "value": "v", "position": "r"}
    for i in range(layers):
        prefix, source = f"layers.{i}.", f"transformer.layer.{i}."
        ours |= {prefix + mine: theirs[source + name] for mine, name in same.items()}
        for mine, name in projections.items():
            ours[f"{prefix}attention.{mine}.weight"] = theirs[f"{source}rel_attn.{name}"].reshape(width, -1).T
        ours[f"{prefix}attention.output.weight"] = theirs[f"{source}rel_attn.o"].reshape(width, -1)
    return ours


@pytest.fixture(scope="module", params=[-1, 4], ids=["unclamped", "clamped"])
def pair(request):
    config = transformers.XLNetConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, n_layer=LAYERS, n_head=HEADS, d_inner=40, dropout=0.0, mem_len=9,
        clamp_len=request.param, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(4)
    theirs = transformers.XLNetLMHeadModel(config).eval()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            weight.copy_(torch.randn_like(weight) * 0.3 + name.endswith("layer_norm.weight"))
    settings = XLNetConfig(
        d_model=WIDTH, heads=HEADS, d_ff=40, encoder_layers=LAYERS, memory_length=9, activation="gelu",
        norm_eps=1e-12, dropout=0.0, clamp_length=max(request.param, 0),
    )  # fmt: skip
    ours = XLNet(settings, VOCABULARY).eval()
    load_weights(ours, from_huggingface(theirs.state_dict(), LAYERS, WIDTH), "theirs")
    return theirs, ours


def draw(seed=0, high=VOCABULARY, shape=(ROWS, LENGTH)):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def padding():
    return torch.arange(LENGTH) < torch.tensor([LENGTH, 7, 2])[:, None]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("pairs", [False, True])
@torch.inference_mode()
def test_logits_of_padded_pairs_are_theirs(pair, padded, pairs):
    theirs, ours = pair
    mask, segments = padding() if padded else None, draw(1, 2) if pairs else None
    wanted = theirs(
        input_ids=draw(), attention_mask=None if mask is None else mask.float(), token_type_ids=segments
    ).logits
    assert float(wanted.std()) > 0.5
    assert torch.allclose(ours.logits(ours(draw(), mask, segments)), wanted, atol=1e-4)


@pytest.mark.parametrize("pairs", [False, True])
@torch.inference_mode()
def test_three_segments_with_their_memory_are_theirs(pair, pairs):
    theirs, ours = pair
    memory = mems = None
    for seed in range(3):
        tokens, segments = draw(seed), draw(seed + 9, 2) if pairs else None
        wanted = theirs(input_ids=tokens, mems=mems, token_type_ids=segments, use_mems=True)
        mems = wanted.mems
        states, memory = ours.hidden(tokens, memory, segments=segments)
        assert torch.allclose(ours.logits(states), wanted.logits, atol=1e-4)
        for mine, states in zip(memory, mems, strict=True):
            assert mine.shape == (ROWS, 9, WIDTH)
            assert torch.allclose(mine, states.transpose(0, 1), atol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("pairs", [False, True])
@torch.inference_mode()
def test_the_two_streams_of_an_order_of_factorisation_are_theirs(pair, padded, pairs):
    """In theirs, a target that may see nothing sees everything instead; those are left out."""
    theirs, ours = pair
    memory = mems = None
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        tokens, segments = draw(seed), draw(seed + 9, 2) if pairs else None
        mask = padding() if padded else torch.ones(ROWS, LENGTH, dtype=torch.bool)
        rank = torch.stack([torch.randperm(LENGTH, generator=generator) for _ in range(ROWS)])
        targets = torch.stack([torch.randperm(LENGTH, generator=generator)[:4] for _ in range(ROWS)])
        visible = rank[:, None, :] < rank[:, :, None]
        wanted = theirs(
            input_ids=tokens, perm_mask=(~visible).float(), attention_mask=mask.float(), token_type_ids=segments,
            target_mapping=torch.nn.functional.one_hot(targets, LENGTH).float(), mems=mems, use_mems=True,
        )  # fmt: skip
        hidden, memory = ours.permutation_hidden(tokens, visible, targets, memory, mask=mask, segments=segments)
        sees = (visible & mask[:, None]).any(-1).gather(1, targets) | (mems is not None)
        assert int(sees.sum()) >= 6
        assert torch.allclose(ours.logits(hidden)[sees], wanted.logits[sees], atol=1e-4)
        mems = wanted.mems
        for mine, states in zip(memory, mems, strict=True):
            assert torch.allclose(mine, states.transpose(0, 1), atol=1e-4)


def test_base_has_the_parameters_of_theirs():
    with torch.device("meta"):
        model = XLNet(XLNetConfig(d_model=768, heads=12, d_ff=3072, encoder_layers=12), 32_000)
    assert count_parameters(model) == 116_750_336
