"""Our Transformer-XL against numbers that the authors' published code gave.

`golden/transformer_xl.safetensors` was made once with kimiyoung/transformer-xl at commit 44781ed (its file
pytorch/mem_transformer.py) under torch 2.13, with `torch.version.cuda` set to "0.0", which its softmax reads, and
`Tensor.byte` to `Tensor.bool`, since masks are boolean now. MemTransformerLM(40, 3, 2, 16, 6, 24, 0.0, 0.0,
tie_weight=True, tgt_len=7, ext_len=0, mem_len=10), every parameter drawn from N(0, 0.3) and the gains of the norms
from N(1, 0.3), read three segments of 7 tokens in 3 rows one after the other, each with the memory of those before.
Stored are the tokens, the weights under their own names, and for "post" (as above), "pre" (pre_lnorm=True) and
"clamped" (clamp_len=5) the hidden states and the loss of each token of each segment, and the memory after the last;
and for "adaptive" (cutoffs=[10, 25], its own weights from N(0, 0.3)) the loss of the first segment's tokens, in their
order (keep_order=True).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nlpcli.config.transformer_xl_settings import TransformerXLConfig
from nlpcli.models.model_folder import load_weights
from nlpcli.models.transformer_xl import TransformerXL

LAYERS, LENGTH = 3, 7
VOCABULARY = 40
SHAPE = {"d_model": 16, "heads": 2, "d_key": 6, "d_ff": 24, "decoder_layers": LAYERS, "memory_length": 10}


@pytest.fixture(scope="module")
def golden():
    """In float64: what the authors' float32 rounded stays what it was, and ours adds nothing on any processor."""
    found = load_file(Path(__file__).parent / "golden" / "transformer_xl.safetensors")
    return {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def weights(golden):
    """The authors' weights under our names."""
    theirs = {name.removeprefix("weight."): tensor for name, tensor in golden.items() if name.startswith("weight.")}
    ours = {
        "embedding.tokens.weight": theirs["word_emb.emb_layers.0.weight"],
        "output_bias": theirs["crit.out_layers.0.bias"],
        "layers.0.attention.content_bias": theirs["r_w_bias"],
        "layers.0.attention.position_bias": theirs["r_r_bias"],
    }
    parts = {
        "attention.output.weight": "dec_attn.o_net.weight",
        "attention.position.weight": "dec_attn.r_net.weight",
        "attention_norm.weight": "dec_attn.layer_norm.weight",
        "attention_norm.bias": "dec_attn.layer_norm.bias",
        "feed_forward.inner.weight": "pos_ff.CoreNet.0.weight",
        "feed_forward.inner.bias": "pos_ff.CoreNet.0.bias",
        "feed_forward.outer.weight": "pos_ff.CoreNet.3.weight",
        "feed_forward.outer.bias": "pos_ff.CoreNet.3.bias",
        "feed_forward_norm.weight": "pos_ff.layer_norm.weight",
        "feed_forward_norm.bias": "pos_ff.layer_norm.bias",
    }
    for i in range(LAYERS):
        ours |= {f"layers.{i}.{mine}": theirs[f"layers.{i}.{name}"] for mine, name in parts.items()}
        together = theirs[f"layers.{i}.dec_attn.qkv_net.weight"].chunk(3)
        for name, matrix in zip(("query", "key", "value"), together, strict=True):
            ours[f"layers.{i}.attention.{name}.weight"] = matrix
    return ours


@pytest.mark.parametrize(
    ("kind", "settings"), [("post", {}), ("pre", {"norm_position": "pre"}), ("clamped", {"clamp_length": 5})]
)
@torch.inference_mode()
def test_states_losses_and_memories_of_three_segments_are_the_authors(golden, kind, settings):
    model = TransformerXL(TransformerXLConfig(**SHAPE, output_bias=True, **settings), VOCABULARY).double().eval()
    model.norm = None  # the authors' pre-norm has no last one
    load_weights(model, weights(golden), "the authors' weights")
    tokens, memory = golden["tokens"], None
    for segment in range(3):
        start = segment * LENGTH
        hidden, memory = model.hidden(tokens[:, start : start + LENGTH], memory)
        assert torch.allclose(hidden, golden[f"{kind}.{segment}.hidden"], atol=1e-5)
        goal = tokens[:, start + 1 : start + LENGTH + 1, None]
        nll = -model.logits(hidden).log_softmax(-1).gather(-1, goal)[..., 0]
        assert torch.allclose(nll, golden[f"{kind}.{segment}.nll"], atol=1e-4)
    for i, states in enumerate(memory):
        assert torch.allclose(states, golden[f"{kind}.memory.{i}"], atol=1e-5)


@torch.inference_mode()
def test_the_losses_of_an_adaptive_softmax_are_the_authors(golden):
    """Their groups take the head's last entries from the end on, ours from the front."""
    settings = TransformerXLConfig(**SHAPE, output_bias=True, adaptive_cutoffs=[10, 25])
    model = TransformerXL(settings, VOCABULARY).double().eval()
    groups = {
        "adaptive_softmax.group_weight": golden["weight.crit.cluster_weight"].flip(0),
        "adaptive_softmax.group_bias": golden["weight.crit.cluster_bias"].flip(0),
    }
    load_weights(model, weights(golden) | groups, "the authors' weights")
    tokens = golden["tokens"]
    hidden, _ = model.hidden(tokens[:, :LENGTH])
    nll = -model.logits(hidden).gather(-1, tokens[:, 1 : LENGTH + 1, None])[..., 0]
    assert torch.allclose(nll, golden["adaptive.0.nll"], atol=1e-4)
