"""Our encoder–decoder against Marian's in `transformers`, random weights, no download.

Marian is the paper's post-norm Transformer with two turns of its own: its sinusoids are sines, then cosines; and its
attention has biases.
"""

from __future__ import annotations

import math

import pytest
import torch

from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.length_penalty import Ranking
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.layers.positions import sinusoids

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, WIDTH, PAD, EOS = 60, 32, 59, 0


@pytest.fixture(scope="module")
def marian():
    config = transformers.MarianConfig(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        activation_function="relu",
        scale_embedding=True,
        static_position_embeddings=True,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=PAD,
        forced_eos_token_id=None,
    )
    torch.manual_seed(11)
    model = transformers.MarianMTModel(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_positions" not in name:
                weight.copy_(torch.randn_like(weight) * 0.25 + (weight.ndim == 1 and "norm.weight" in name))
        model.final_logits_bias.copy_(torch.randn(1, VOCABULARY))
        model.final_logits_bias[0, EOS] += 2.5
        model.final_logits_bias[0, PAD] = -1e4  # never written, as Marian's own models never write it
    model.tie_weights()
    return model


@pytest.fixture(scope="module")
def read_back(marian, read):
    return read(marian)


@pytest.fixture(scope="module")
def ours(read_back):
    return read_back.model


def batch(seed=0, rows=8, longest=12):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, longest + 1, (rows,), generator=generator)
    lengths[0] = longest
    source = torch.randint(1, VOCABULARY - 1, (rows, longest), generator=generator)
    mask = torch.arange(longest) < lengths[:, None]
    source = source.masked_fill(~mask, PAD)
    source[torch.arange(rows), lengths - 1] = EOS
    target = torch.randint(1, VOCABULARY - 1, (rows, 9), generator=generator)
    target[:, 0] = PAD
    return source, mask, target


def test_its_sinusoids_are_ours(marian):
    table = marian.model.encoder.embed_positions.weight.float()  # float64 after the first reading
    assert torch.allclose(table, sinusoids(64, WIDTH, halves=True), atol=1e-6)


@torch.inference_mode()
def test_logits_are_marians_for_padded_batches(marian, ours):
    source, mask, target = batch()
    theirs = marian(input_ids=source, attention_mask=mask.long(), decoder_input_ids=target).logits
    assert float(theirs.std()) > 0.5
    assert torch.allclose(ours(source, mask, target), theirs, atol=1e-4)


def test_every_weight_of_marian_has_its_place(read_back):
    assert read_back.left_out == []
    assert read_back.config["positions"] == "sinusoidal-halves"
    assert read_back.config["output_bias"]


def test_gradients_of_the_loss_are_marians(marian, ours):
    source, mask, target = batch(1)
    marian.zero_grad()
    ours.zero_grad()
    logits = marian(input_ids=source, attention_mask=mask.long(), decoder_input_ids=target[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten()).backward()
    torch.nn.functional.cross_entropy(
        ours(source, mask, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten()
    ).backward()
    theirs = marian.model.encoder.layers[0].fc1.weight.grad
    assert float(theirs.abs().max()) > 1e-4
    assert torch.allclose(ours.encoder.layers[0].feed_forward.inner.weight.grad, theirs, atol=1e-5)
    shared = marian.model.shared.weight.grad
    used = torch.arange(VOCABULARY) != PAD  # Marian's embedding learns nothing from its padding index
    assert torch.allclose(ours.output_weight.grad[used], shared[used], atol=1e-5)


@pytest.fixture
def restless(marian, ours):
    """Both decoders with loud random positions: they don't repeat themselves and end after different lengths."""
    theirs = marian.model.decoder.embed_positions.weight
    kept, table = theirs.detach().clone(), ours.decoder_embedding.positions.table
    changed = kept + 3 * torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(8))
    for place in (theirs.data, table[:64]):
        place.copy_(changed)
    yield
    for place in (theirs.data, table[:64]):
        place.copy_(kept)


def cut(row):
    """What stands between the start and the first end."""
    ids = row.tolist()[1:]
    return tuple(ids[: ids.index(EOS)] if EOS in ids else [token for token in ids if token != PAD])


def greedy_translations(model, source, mask):
    state = model.init_state(model.encode(source, mask))
    found = greedy_search(model, state, [[PAD]] * len(source), StopConditions(EOS, 30))
    return [[hypothesis.ids for hypothesis in row] for row in found]


@torch.inference_mode()
def test_greedy_translations_are_marians(marian, ours, restless):
    source, mask, _ = batch(2, rows=16)
    generated = marian.generate(
        input_ids=source, attention_mask=mask.long(), num_beams=1, do_sample=False, max_new_tokens=30
    )
    found = greedy_translations(ours, source, mask)
    assert [row[0] for row in found] == [cut(row) for row in generated]
    assert len({row[0] for row in found}) > 4


@pytest.mark.parametrize("beam_size", [2, 4])
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(("early_stopping", "patience"), [(True, 1.0), ("never", math.inf)])
@torch.inference_mode()
def test_beams_are_marians_where_the_conventions_agree(
    marian, ours, restless, beam_size, length_penalty, early_stopping, patience
):
    # Agreed: score = log p / |Y|^α with the end counted, 2 · beam candidates a step, an end counts when it is among the
    # first `beam`; `early_stopping=True` ends a sentence with `beam` ends, as patience 1 does, and "never" when nothing
    # better can come, as endless patience does. Apart: `transformers`
    # divides by |Y|^α alone (ours ranks so on request, Wu et al.'s quotient is the default), and files what the length
    # limit cuts beside what ended (ours only where too few ended), so sentences cut there are left out.
    source, mask, _ = batch(3, rows=24)
    limit = 60
    generated = marian.generate(
        input_ids=source,
        attention_mask=mask.long(),
        num_beams=beam_size,
        num_return_sequences=beam_size,
        do_sample=False,
        early_stopping=early_stopping,
        length_penalty=length_penalty,
        max_new_tokens=limit,
        output_scores=True,
        return_dict_in_generate=True,
    )
    ranking = Ranking(length_penalty, normalization="average")
    settings = BeamSettings(beam_size=beam_size, n_best=beam_size, patience=patience, ranking=ranking)
    state = ours.init_state(ours.encode(source, mask))
    found = beam_search(ours, state, [[PAD]] * len(source), eos=EOS, max_length=limit, settings=settings)
    theirs = [cut(row) for row in generated.sequences]
    scores = generated.sequences_scores.tolist()
    rounded = {"rel": limit * 2**-23, "abs": 1e-6}  # a float32 sum of as many log-probabilities
    lengths = []
    for i, row in enumerate(found):
        ended = (generated.sequences[beam_size * i : beam_size * (i + 1)] == EOS).any(1)
        if bool(ended.all()) and all(hypothesis.ended for hypothesis in row):
            lengths += [len(hypothesis.ids) for hypothesis in row]
            assert [h.ids for h in row] == theirs[beam_size * i : beam_size * (i + 1)]
            assert [h.score for h in row] == pytest.approx(scores[beam_size * i : beam_size * (i + 1)], **rounded)
    assert len(lengths) >= 10 * beam_size
    assert len(set(lengths)) >= 5
