"""Our encoder-decoder against BART's, PEGASUS's and T5's in `transformers`: logits, and what is generated."""

from __future__ import annotations

import math

import pytest
import torch

from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.decoding.constraints import Constraints
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.length_penalty import Ranking
from nlpcli.decoding.stop_conditions import StopConditions

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, PAD, EOS, LIMIT = 60, 0, 1, 30
BART = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "dropout": 0.0,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "bos_token_id": 2,
    "decoder_start_token_id": PAD,
    "forced_eos_token_id": None,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 14,
    "dropout_rate": 0.0,
    "decoder_start_token_id": PAD,
}


def t5(**changes):
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**(T5 | changes)))


def t5_with_its_own_output():
    model = t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 32))
    return model


MODELS = {
    "bart": lambda: transformers.BartForConditionalGeneration(transformers.BartConfig(**BART)),
    "bart-scaled": lambda: transformers.BartForConditionalGeneration(
        transformers.BartConfig(**BART, scale_embedding=True, activation_function="relu")
    ),
    "pegasus": lambda: transformers.PegasusForConditionalGeneration(
        transformers.PegasusConfig(**BART, scale_embedding=True, activation_function="relu")
    ),
    "t5": t5,
    "t5-v1.1": lambda: t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "t5-v1.1-own-output": t5_with_its_own_output,
    "t5-silu": lambda: t5(feed_forward_proj="gated-silu"),
}


SCALES = {"t5-v1.1": 0.22, "t5-v1.1-own-output": 0.22}


@pytest.fixture(scope="module", params=MODELS)
def theirs(request, scattered):
    model = MODELS[request.param]()
    model = scattered(model, 11, SCALES.get(request.param, 0.25))
    if "bart" in request.param:  # or it would say the same again and again
        model.model.decoder.embed_positions.weight.data *= 3
        for layer in model.model.decoder.layers:
            layer.encoder_attn.q_proj.weight.data *= 8
            layer.self_attn.q_proj.weight.data *= 8
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.copy_(torch.randn(1, VOCABULARY) * (0.3 if "bart" in request.param else 1.0))
    return model


@pytest.fixture(scope="module")
def ours(theirs, read):
    return read(theirs)


def batch(seed=0, rows=8, longest=20):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, longest + 1, (rows,), generator=generator)
    lengths[0] = longest
    source = torch.randint(2, VOCABULARY, (rows, longest), generator=generator)
    mask = torch.arange(longest) < lengths[:, None]
    source = source.masked_fill(~mask, PAD)
    source[torch.arange(rows), lengths - 1] = EOS
    target = torch.randint(2, VOCABULARY, (rows, 18), generator=generator)
    target[:, 0] = PAD
    return source, mask, target


@torch.inference_mode()
def test_logits_are_theirs_for_padded_batches(theirs, ours):
    source, mask, target = batch()
    expected = theirs(input_ids=source, attention_mask=mask.long(), decoder_input_ids=target).logits
    assert float(expected.std()) > 0.2
    assert torch.allclose(ours.model(source, mask, target), expected, atol=1e-4)
    assert ours.left_out == []


@torch.inference_mode()
def test_the_model_has_as_many_parameters_as_theirs(theirs, ours):
    # theirs counts its sinusoids, and keeps what is added to the logits as a buffer
    extra = [p.numel() for name, p in theirs.named_parameters() if "embed_positions" in name]
    extra = [] if ours.config["positions"] == "learned" else extra
    bias = VOCABULARY if ours.config["output_bias"] else 0
    count = sum(p.numel() for p in theirs.parameters()) - sum(extra)
    assert sum(p.numel() for p in ours.model.parameters()) == count + bias


def generate(theirs, source, mask, end, **settings):
    return theirs.generate(
        input_ids=source,
        attention_mask=mask.long(),
        do_sample=False,
        max_new_tokens=LIMIT,
        eos_token_id=end,
        suppress_tokens=[PAD],
        output_scores=True,
        return_dict_in_generate=True,
        **settings,
    )


@pytest.fixture(scope="module")
def end(theirs):
    """A token that ends many outputs, after different lengths: random weights have no better end."""
    source, mask, _ = batch(4, rows=16)
    rows = generate(theirs, source, mask, None, num_beams=1).sequences[:, 1:].tolist()
    return max(range(2, VOCABULARY), key=lambda token: len({row.index(token) for row in rows if token in row}))


def cut(row, end):
    """What stands between the start and the first end."""
    ids = row.tolist()[1:]
    return tuple(ids[: ids.index(end)] if end in ids else [token for token in ids if token != PAD])


def search(ours, source, mask, function, *conditions, **settings):
    state = ours.model.init_state(ours.model.encode(source, mask))
    return function(ours.model, state, [[PAD]] * len(source), *conditions, **settings)


@torch.inference_mode()
def test_greedy_output_is_theirs(theirs, ours, end):
    source, mask, _ = batch(2, rows=16)
    expected = [cut(row, end) for row in generate(theirs, source, mask, end, num_beams=1).sequences]
    found = search(
        ours, source, mask, greedy_search, StopConditions(end, LIMIT), constraints=Constraints(suppress=(PAD,))
    )
    assert [row[0].ids for row in found] == expected
    assert len(set(expected)) > 3


@pytest.mark.parametrize("theirs", ["bart", "pegasus", "t5", "t5-v1.1"], indirect=True)
@pytest.mark.parametrize(("early_stopping", "patience"), [(True, 1.0), ("never", math.inf)])
@torch.inference_mode()
def test_beams_are_theirs_where_the_conventions_agree(theirs, ours, end, early_stopping, patience):
    # see test_marian.py for what the two beam searches agree on
    source, mask, _ = batch(3, rows=32)
    beams = {"num_beams": 3, "num_return_sequences": 3, "early_stopping": early_stopping, "length_penalty": 0.6}
    generated = generate(theirs, source, mask, end, **beams)
    ranking, constraints = Ranking(0.6, normalization="average"), Constraints(suppress=(PAD,))
    settings = BeamSettings(beam_size=3, n_best=3, patience=patience, ranking=ranking, constraints=constraints)
    compared = 0
    for i, row in enumerate(search(ours, source, mask, beam_search, eos=end, max_length=LIMIT, settings=settings)):
        mine = slice(3 * i, 3 * i + 3)
        ended = (generated.sequences[mine] == end).any(1)
        if bool(ended.all()) and all(hypothesis.ended for hypothesis in row):
            compared += 1
            assert [h.ids for h in row] == [cut(ids, end) for ids in generated.sequences[mine]]
            assert [h.score for h in row] == pytest.approx(generated.sequences_scores[mine].tolist(), abs=1e-4)
    assert compared >= 4
