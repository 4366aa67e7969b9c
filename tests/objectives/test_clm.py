"""Causal language modelling against logits and loops written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nlpcli.data.packing import PackedWindows, TokenStream
from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.objectives.clm import CausalLanguageModelling
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
        stride=stride,
        batch_tokens=batch_tokens,
        label_smoothing=label_smoothing,
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
        start, nats = 0, 0.0
        for place in range(1, len(ids)):  # a window moves on when it can't reach the place any more
            while place > start + CONTEXT:
                start += stride or CONTEXT
            nats -= float(model(ids[None, start:place])[0, -1].log_softmax(-1)[ids[place]])
    assert sum(part.count for part in parts) == len(ids) - 1
    assert sum(float(part.nll) for part in parts) == pytest.approx(nats, rel=1e-5)


def test_a_stride_beyond_the_context_is_refused_at_once(shards, tokenizer):
    with pytest.raises(NlpcliError, match="stride 9 with context 8"):
        objective(shards, tokenizer, stride=9)
