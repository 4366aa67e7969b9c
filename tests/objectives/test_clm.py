"""Causal language modelling against logits and loops written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nlpcli.attention.masks import AttentionMask
from nlpcli.config.transformer_xl_settings import TransformerXLConfig
from nlpcli.data.packing import PackedWindows, StreamedWindows, TokenStream, VariableWindows
from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError
from nlpcli.layers.vocabulary_loss import LossSettings
from nlpcli.models.build import build_model
from nlpcli.models.transformer_xl import TransformerXL
from nlpcli.objectives import token_loss
from nlpcli.objectives.clm import CausalLanguageModelling, EvaluationReading, document_numbers
from nlpcli.text import train_tokenizer

CONTEXT = 8
TEXT = ["a bad cab", "dab", "abba and a bee", "cede", "a deed", "bede fed a cafe", "fade"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("chars", TEXT, vocab_size=None)


@pytest.fixture
def shards(tmp_path, tokenizer):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXT) + "\n")
    return build_shards([path], tokenizer, out=tmp_path / "shards", documents="lines", workers=1)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(1)
    shape = {"d_model": 16, "heads": 2, "d_ff": 16, "decoder_layers": 2, "dropout": 0.0, "output_bias": True}
    return build_model({"kind": "decoder", **shape}, tokenizer.vocab_size).eval()


def objective(shards, tokenizer, *, stride=None, batch_tokens=24, label_smoothing=0.0, seed=3):
    eos = tokenizer.special.eos
    windows = PackedWindows(shards, CONTEXT, eos=eos, batch_size=3, seed=seed)
    return CausalLanguageModelling(
        windows,
        TokenStream(shards, eos=eos),
        context=CONTEXT,
        reading=EvaluationReading(stride),
        batch_tokens=batch_tokens,
        loss_settings=LossSettings(label_smoothing),
    )


def test_a_batch_is_the_windows_of_the_plan_and_counts_what_is_predicted(shards, tokenizer):
    task = objective(shards, tokenizer)
    stream = TokenStream(shards, eos=tokenizer.special.eos)
    whole = stream.read(0, len(stream))
    for starts in task.plan(0):
        batch = task.collate(starts, np.random.default_rng(0))
        assert batch.ids.tolist() == [whole[start : start + CONTEXT + 1].tolist() for start in starts]
        assert batch.count == batch.tokens == 3 * CONTEXT


def test_the_plan_is_a_function_of_seed_and_epoch(shards, tokenizer):
    plans = [objective(shards, tokenizer, seed=seed).plan(epoch) for seed in (3, 3, 4) for epoch in (0, 1)]
    assert np.array_equal(plans[0], plans[2]) and np.array_equal(plans[1], plans[3])
    assert not np.array_equal(plans[0], plans[1]) and not np.array_equal(plans[0], plans[4])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_cross_entropy_of_each_token_given_those_before_it(shards, tokenizer, model, smoothing):
    task = objective(shards, tokenizer, label_smoothing=smoothing)
    batch = task.collate(task.plan(0)[0], np.random.default_rng(0))
    goal = batch.ids[:, 1:].flatten()
    logits = model(batch.ids[:, :-1]).flatten(0, 1)
    for training in (True, False):
        model.train(training)
        loss, carry = task.loss(model, batch, None)
        wanted = F.cross_entropy(logits, goal, reduction="sum", label_smoothing=smoothing if training else 0.0)
        assert carry is None and loss.count == len(goal)
        assert torch.allclose(loss.total, wanted, rtol=1e-5)
        assert torch.allclose(loss.nll, F.cross_entropy(logits, goal, reduction="sum"), rtol=1e-5)


@pytest.mark.parametrize("stride", [None, 1, 3, 5, 8])
@pytest.mark.parametrize("batch_tokens", [1, 24, 1000])
def test_evaluation_scores_each_token_once_from_the_context_its_window_gives(
    shards, tokenizer, model, stride, batch_tokens
):
    task = objective(shards, tokenizer, stride=stride, batch_tokens=batch_tokens, label_smoothing=0.1)
    stream = TokenStream(shards, eos=tokenizer.special.eos)
    ids = torch.from_numpy(stream.read(0, len(stream)))
    with torch.inference_mode():
        parts = list(task.evaluate(model, torch.device("cpu")))
        start, nats, counts = 0, [0.0], [0]
        for place in range(1, len(ids)):  # a window moves on when it can't reach the place any more
            if place > start + CONTEXT:
                nats.append(0.0)
                counts.append(0)
            while place > start + CONTEXT:
                start += stride or CONTEXT
            nats[-1] -= float(model(ids[None, start:place])[0, -1].log_softmax(-1)[ids[place]])
            counts[-1] += 1
    assert [part.count for part in parts] == counts
    assert [float(part.nll) for part in parts] == pytest.approx(nats, rel=1e-4)


def test_evaluation_goes_through_the_vocabulary_once_for_a_batch_of_windows(shards, tokenizer, model, monkeypatch):
    task, sizes = objective(shards, tokenizer, batch_tokens=10_000), []
    plain = token_loss.vocabulary_nll
    monkeypatch.setattr(
        token_loss,
        "vocabulary_nll",
        lambda hidden, *rest, **more: (sizes.append(len(hidden)), plain(hidden, *rest, **more))[1],
    )
    parts = list(task.evaluate(model, torch.device("cpu")))
    assert len(parts) > 1 and sizes == [sum(part.count for part in parts)]


def test_a_stride_beyond_the_context_is_refused_at_once(shards, tokenizer):
    with pytest.raises(NlpcliError, match="the stride must be between 1 and the context of 8 tokens, not 9"):
        objective(shards, tokenizer, stride=9)


def with_memory(shards, tokenizer, *, rows=3, seed=3, **options):
    eos = tokenizer.special.eos
    windows = StreamedWindows(shards, CONTEXT, eos=eos, batch_size=rows, seed=seed)
    return CausalLanguageModelling(windows, TokenStream(shards, eos=eos), context=CONTEXT, **options)


@pytest.fixture
def xl(tokenizer):
    torch.manual_seed(1)
    settings = TransformerXLConfig(d_model=16, heads=2, d_ff=16, decoder_layers=2, memory_length=1000)
    return TransformerXL(settings, tokenizer.vocab_size).eval()


def test_a_model_with_memory_reads_batch_after_batch_as_one_text(shards, tokenizer, xl):
    task, carry, nats = with_memory(shards, tokenizer), None, 0.0
    for starts in task.plan(0):
        loss, carry = task.loss(xl, task.collate(starts, np.random.default_rng(0)), carry)
        nats += float(loss.nll)
    plan = task.plan(0)
    length = len(plan) * CONTEXT
    whole = torch.from_numpy(task.train.stream.windows(plan[0], length + 1))
    wanted = F.cross_entropy(xl(whole[:, :-1]).flatten(0, 1), whole[:, 1:].flatten(), reduction="sum")
    assert carry[0].shape == (3, length, 16) and nats == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
@torch.inference_mode()
def test_evaluation_with_a_memory_scores_each_token_once_from_all_before_it(shards, tokenizer, xl, rows):
    task = with_memory(shards, tokenizer, rows=rows)
    ids = torch.from_numpy(task.dev.read(0, len(task.dev)))
    parts = list(task.evaluate(xl, torch.device("cpu")))
    wanted = F.cross_entropy(xl(ids[None, :-1])[0], ids[1:], reduction="sum")
    assert sum(part.count for part in parts) == len(ids) - 1
    assert sum(float(part.nll) for part in parts) == pytest.approx(float(wanted), rel=1e-5)
    xl.memory_length = 0
    alone = sum(float(part.nll) for part in task.evaluate(xl, torch.device("cpu")))
    assert alone == pytest.approx(
        sum(float(part.nll) for part in objective(shards, tokenizer).evaluate(xl, torch.device("cpu"))), rel=1e-5
    )


@pytest.fixture
def recurrent(tokenizer):
    torch.manual_seed(1)
    settings = {"family": "recurrent-lm", "d_model": 16, "past_states": 2, "dropout": 0.5}
    regularized = {"activation_regularization": 2.0, "temporal_activation_regularization": 1.0}
    return build_model({**settings, **regularized}, tokenizer.vocab_size).eval()


@pytest.mark.parametrize("streams", [1, 2, 3, 5, 100])
@torch.inference_mode()
def test_streams_are_read_side_by_side_each_from_its_beginning(shards, tokenizer, recurrent, streams):
    task = with_memory(shards, tokenizer, reading=EvaluationReading(streams=streams))
    ids = torch.from_numpy(task.dev.read(0, len(task.dev)))
    starts, longest = task.stream_starts()
    assert len(starts) == {100: 21}.get(streams, streams)  # 185 tokens have room for 20 streams of 9 and a shorter one
    wanted = 0.0
    for start in starts.tolist():
        part = ids[start : start + longest + 1]
        wanted += float(F.cross_entropy(recurrent(part[None, :-1])[0], part[1:], reduction="sum"))
    parts = list(task.evaluate(recurrent, torch.device("cpu")))
    assert sum(part.count for part in parts) == len(ids) - 1
    assert sum(float(part.nll) for part in parts) == pytest.approx(wanted, rel=1e-5)


def test_the_penalty_of_activations_is_in_the_training_loss_alone(shards, tokenizer, recurrent):
    task = with_memory(shards, tokenizer)
    batch = task.collate(task.plan(0)[0], np.random.default_rng(0))
    found, _ = task.loss(recurrent, batch, None)
    assert torch.equal(found.total, found.nll)
    recurrent.train()
    torch.manual_seed(4)
    found, _ = task.loss(recurrent, batch, None)
    torch.manual_seed(4)
    _, _, penalty = recurrent.regularized(batch.ids[:, :-1])
    assert penalty.item() > 0
    assert found.total.item() == pytest.approx(found.nll.item() + found.count * penalty.item(), rel=1e-5)


def test_a_batch_of_another_length_learns_at_a_rate_in_proportion(shards, tokenizer, recurrent):
    eos = tokenizer.special.eos
    windows = VariableWindows(shards, CONTEXT, eos=eos, batch_size=2, seed=3)
    task = CausalLanguageModelling(windows, None, context=CONTEXT)
    plan, carry = task.plan(0), None
    for item in plan:
        batch = task.collate(item, np.random.default_rng(0))
        loss, carry = task.loss(recurrent, batch, carry)
        assert loss.rate == item[-1] / CONTEXT and loss.count == 2 * item[-1]
    assert len(set(plan[:, -1].tolist())) > 1


def test_an_adaptive_softmax_takes_the_place_of_the_vocabularys_matrix(shards, tokenizer):
    shape = {"d_model": 16, "heads": 2, "d_ff": 16, "decoder_layers": 1, "memory_length": 4, "dropout": 0.0}
    model = TransformerXL(TransformerXLConfig(**shape, adaptive_cutoffs=[5]), tokenizer.vocab_size)
    task = with_memory(shards, tokenizer)
    batch = task.collate(task.plan(0)[0], np.random.default_rng(0))
    loss, _ = task.loss(model, batch, None)
    logs = model(batch.ids[:, :-1]).flatten(0, 1)
    assert torch.allclose(loss.nll, F.nll_loss(logs, batch.ids[:, 1:].flatten(), reduction="sum"), rtol=1e-5)
    loss.total.backward()
    with pytest.raises(NlpcliError, match="does not support label smoothing"):
        with_memory(shards, tokenizer, loss_settings=LossSettings(0.1)).loss(model, batch, None)


@pytest.mark.parametrize("positions", ["rotary", "none", "sinusoidal", "learned"])
def test_with_a_document_mask_no_loss_depends_on_another_document(shards, tokenizer, positions):
    """Each document is read from the eos before it on; what a window begins with counts as one."""
    torch.manual_seed(1)
    shape = {"d_model": 16, "heads": 2, "d_ff": 16, "decoder_layers": 2, "dropout": 0.0, "positions": positions}
    model = build_model({"kind": "decoder", "max_length": 40, **shape}, tokenizer.vocab_size).double().eval()
    eos, read = tokenizer.special.eos, []
    model.decoder_embedding.register_forward_hook(lambda module, ids, x: read.append(x) or x)
    ids = torch.tensor([[5, 6, 7, eos, 8, 9, eos, 10, 11, 6, 5]])
    document = (ids[0, :-1] == eos).cumsum(0)
    hidden = model.hidden(ids[:, :-1], AttentionMask(documents=document_numbers(ids[:, :-1], eos)))
    losses = F.cross_entropy(model.logits(hidden)[0], ids[0, 1:], reduction="none")
    for i, loss in enumerate(losses):
        [slope] = torch.autograd.grad(loss, read[0], retain_graph=True)
        wanted = (document == document[i]) & (torch.arange(len(document)) <= i)
        assert torch.equal(slope[0].abs().sum(-1) > 0, wanted)
    if positions in ("rotary", "none"):
        alone = [model(ids[:, :-1][:, document == d])[0] for d in range(3)]
        assert torch.allclose(torch.cat(alone), model.logits(hidden)[0], atol=1e-6)


def test_the_document_mask_is_what_training_and_evaluation_use(shards, tokenizer, model):
    eos = tokenizer.special.eos
    for masked in (True, False):
        windows = PackedWindows(shards, 30, eos=eos, batch_size=2, seed=1)
        task = CausalLanguageModelling(windows, TokenStream(shards, eos=eos), context=30, document_mask=masked)
        batch = task.collate(task.plan(0)[0], np.random.default_rng(0))
        mask = AttentionMask(documents=document_numbers(batch.ids[:, :-1], eos)) if masked else None
        logits = model.logits(model.hidden(batch.ids[:, :-1], mask)).flatten(0, 1)
        wanted = F.cross_entropy(logits, batch.ids[:, 1:].flatten(), reduction="sum")
        assert torch.allclose(task.loss(model, batch, None)[0].nll, wanted, rtol=1e-5)
        found = sum(float(part.nll) for part in task.evaluate(model, torch.device("cpu")))
        if masked:
            first = found
    assert first != pytest.approx(found, rel=1e-4)


def test_settings_that_contradict_a_memory_or_a_document_mask_are_refused_at_once(shards, tokenizer):
    with pytest.raises(NlpcliError, match="reads each token once"):
        with_memory(shards, tokenizer, reading=EvaluationReading(4))
    with pytest.raises(NlpcliError, match="attends across documents"):
        with_memory(shards, tokenizer, document_mask=True)
    windows = PackedWindows(shards, CONTEXT, eos=None, batch_size=3)
    with pytest.raises(NlpcliError, match="but this text is read as one document"):
        CausalLanguageModelling(windows, None, context=CONTEXT, document_mask=True)


def test_a_sample_is_a_window_and_what_follows_each_of_its_tokens(shards, tokenizer):
    samples = list(objective(shards, tokenizer).samples(3, np.random.default_rng(0)))
    assert len(samples) == 3
    for sample in samples:
        assert sample.corrupted + sample.target[-1:] == sample.original == sample.corrupted[:1] + sample.target
