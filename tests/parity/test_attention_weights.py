"""Captured weights against `output_attentions` of `transformers`, which computes them without fused kernels."""

from __future__ import annotations

import pytest
import torch

from nlpcli.models.backbone import OWN
from nlpcli.visualization.capture import capture

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, N, M = 60, 9, 7
SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
PAIR = {
    "vocab_size": VOCABULARY, "d_model": 24, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
}  # fmt: skip


def eager(config):
    config._attn_implementation = "eager"
    return config


def bert():
    return transformers.BertForMaskedLM(eager(transformers.BertConfig(vocab_size=VOCABULARY, **SIZES)))


def gpt2():
    sizes = {"vocab_size": VOCABULARY, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 16}
    return transformers.GPT2LMHeadModel(eager(transformers.GPT2Config(**sizes)))


def bart():
    sizes = {f"{side}_{name}": value for side in ("encoder", "decoder")
             for name, value in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 32))}  # fmt: skip
    config = transformers.BartConfig(**PAIR, **sizes, bos_token_id=2, max_position_embeddings=16)
    return transformers.BartForConditionalGeneration(eager(config))


def t5():
    config = transformers.T5Config(
        **PAIR, d_kv=6, d_ff=32, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
        relative_attention_max_distance=14, dropout_rate=0.0,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(eager(config))


def xlnet():
    config = transformers.XLNetConfig(
        vocab_size=VOCABULARY, d_model=24, n_layer=3, n_head=4, d_inner=40, dropout=0.0, mem_len=None
    )
    return transformers.XLNetLMHeadModel(config)


def ids(rows, columns, seed=1):
    return torch.randint(2, VOCABULARY, (rows, columns), generator=torch.Generator().manual_seed(seed))


def mask(rows, columns):
    return torch.arange(columns) < torch.tensor([columns, *range(columns - 1, columns - rows, -1)])[:, None]


def same(recorders, theirs, rows=None, *, call=0):
    assert len(recorders) == len(theirs)
    for recorder, expected in zip(recorders, theirs, strict=True):
        found = recorder[call].transpose(1, 2)  # (batch, n, heads, m)
        expected = expected.transpose(1, 2)
        kept = slice(None) if rows is None else rows
        assert float(expected.std()) > 0.01
        assert torch.allclose(found[kept], expected[kept], atol=1e-5)


@torch.no_grad()
def test_an_encoders_weights_are_berts_padding_and_all(scattered, read):
    theirs = scattered(bert(), 6)
    ours = read(theirs).model
    tokens, real = ids(3, N), mask(3, N)
    expected = theirs(input_ids=tokens, attention_mask=real.long(), output_attentions=True).attentions
    with capture(ours) as recorded:
        ours(tokens, real)
    assert list(recorded) == ["encoder"]
    same(recorded["encoder"], expected, real)


@torch.no_grad()
def test_a_decoders_weights_are_gpt2s(scattered, read):
    theirs = scattered(gpt2(), 3)
    ours = read(theirs).model
    expected = theirs(input_ids=ids(2, N), output_attentions=True).attentions
    with capture(ours) as recorded:
        ours(ids(2, N))
    assert list(recorded) == ["decoder"]
    same(recorded["decoder"], expected)


@pytest.mark.parametrize("make", [bart, t5])
@torch.no_grad()
def test_all_three_kinds_of_weights_are_those_of_encoder_decoders(scattered, read, make):
    theirs = scattered(make(), 7)
    ours = read(theirs).model
    source, real, target = ids(3, M), mask(3, M), ids(3, N, seed=2)
    expected = theirs(
        input_ids=source, attention_mask=real.long(), decoder_input_ids=target, output_attentions=True
    )  # fmt: skip
    with capture(ours) as recorded:
        ours(source, real, target)
    same(recorded["encoder"], expected.encoder_attentions, real)
    same(recorded["decoder"], expected.decoder_attentions)
    same(recorded["cross"], expected.cross_attentions)


@torch.no_grad()
def test_both_streams_weights_are_xlnets(scattered, read):
    theirs = scattered(xlnet(), 9)
    ours = read(theirs).model.float()
    theirs.float()  # its positions are float32 in any case
    tokens = ids(2, N)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(4))
    rank = torch.argsort(order).expand(2, N)
    hidden = (rank[:, None, :] >= rank[:, :, None]).float()  # theirs: 1 where i may not see j
    places = torch.eye(N)[None].expand(2, N, N)
    out = theirs(input_ids=tokens, perm_mask=hidden, target_mapping=places, output_attentions=True)
    visible = hidden == 0
    content, query = zip(*out.attentions, strict=True)
    with capture(ours) as recorded:
        ours.permutation_hidden(tokens, visible, torch.arange(N).expand(2, N))
    sees_any = rank > 0  # the first of the order sees nothing: zeros here, evenly spread there
    same(recorded[OWN], query, sees_any)
    assert [len(recorder) for recorder in recorded[OWN]] == [2, 2, 1]
    with capture(ours) as recorded:
        ours.hidden(tokens, visible=visible)
    same(recorded[OWN], content)
    with capture(ours) as recorded:
        ours(tokens)
    same(recorded[OWN], theirs(input_ids=tokens, output_attentions=True).attentions)
