"""Permutation language modelling: what is predicted, from what, and what must stay hidden."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.config.xlnet_settings import XLNetConfig
from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError
from nlpcli.models.initialization import initialize
from nlpcli.models.xlnet import XLNet
from nlpcli.objectives.batching import Batching
from nlpcli.objectives.plm import PermutationLanguageModelling, target_spans
from nlpcli.text import train_tokenizer

CONTEXT = 24
TEXT = ["a bad cab fed", "dab a bee", "abba and a bee", "cede a deed", "a deed", "bede fed a cafe", "fade"] * 12


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
    shape = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 2, "activation": "gelu", "norm_eps": 1e-12}
    model = XLNet(XLNetConfig(**shape, memory_length=10), tokenizer.vocab_size).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def objective(shards, tokenizer, **options):
    return PermutationLanguageModelling(
        shards, shards, tokenizer, batching=Batching(**{"context": CONTEXT, "batch_tokens": 96, **options})
    )


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=40), one_of=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_kth_of_the_tokens_is_predicted_and_special_ones_never(lengths, one_of, seed):
    starts = np.concatenate([[True] + [False] * (length - 1) for length in lengths])
    rng = np.random.default_rng(seed)
    ordinary = rng.random(len(starts)) < 0.8
    places = target_spans(starts, ordinary, one_of, rng)
    assert len(places) == min(max(len(starts) // one_of, 1), ordinary.sum())
    assert ordinary[places].all() and (np.diff(places) > 0).all()


def test_spans_of_words_have_the_lengths_of_the_authors_and_lie_anywhere():
    rng = np.random.default_rng(1)
    n, counts = 2048, np.zeros(6)
    where = np.zeros(n)
    starts = np.ones(n, dtype=bool)
    for _ in range(300):
        places = target_spans(starts, np.ones(n, dtype=bool), 6, rng)
        where[places] += 1
        runs = np.diff(np.flatnonzero(np.diff(places, prepend=-9, append=n + 9) > 1))
        counts += np.bincount(np.minimum(runs, 6), minlength=7)[:6]
    share = counts[1:] / counts[1:].sum()
    wanted = (1 / np.arange(1, 6)) / (1 / np.arange(1, 6)).sum()
    assert np.abs(share - wanted).max() < 0.03  # spans that touch make longer ones
    quarters = where.reshape(4, -1).mean(1) / 300
    assert np.abs(quarters - 1 / 6).max() < 0.01


def test_without_spaces_tokens_count_as_words():
    where = np.zeros(120)
    for seed in range(300):
        starts, ordinary = np.arange(120) == 0, np.ones(120, dtype=bool)
        where[target_spans(starts, ordinary, 6, np.random.default_rng(seed))] += 1
    assert (where > 0).all() and where.max() < 3 * where.mean()


def test_in_a_script_without_spaces_each_token_is_a_word(tmp_path):
    text = "我们在北京大学 读书看报写字 " * 40
    path = tmp_path / "text.txt"
    path.write_text(text + "\n")
    tokenizer = train_tokenizer("chars", [text])
    shards = build_shards([path], tokenizer, out=tmp_path / "shards", documents="lines", workers=1)
    task = objective(shards, tokenizer, context=120)
    batch = task._batch(task.train.stream.windows([0] * 50, 120), np.random.default_rng(1))
    runs = [np.diff(np.flatnonzero(np.diff(np.flatnonzero(rank), prepend=-9, append=999) > 1)) for rank in batch.rank]
    assert 1.5 < np.concatenate(runs).mean() < 3.5  # spans of 1 to 5 words, mean 2.2, and some that touch


def test_whole_words_are_predicted():
    starts = np.tile([True, False, False], 40)
    whole = total = 0
    for seed in range(50):
        places = set(target_spans(starts, np.ones(120, dtype=bool), 6, np.random.default_rng(seed)).tolist())
        found = [len(places & {word, word + 1, word + 2}) for word in range(0, 120, 3)]
        whole, total = whole + found.count(3), total + sum(count > 0 for count in found)
    assert whole / total > 0.8  # but for the one that is cut, so that their number is right


def test_batches_read_on_and_the_same_generator_gives_the_same_order(shards, tokenizer):
    task = objective(shards, tokenizer)
    plan = task.plan(0)
    assert (np.diff(plan, axis=0) == CONTEXT).all() and plan.shape[1] == 4
    stream = task.train.stream
    for item in plan[:3]:
        batch, again = (task.collate(item, np.random.default_rng(5)) for _ in range(2))
        assert batch.ids.tolist() == [stream.read(start, start + CONTEXT).tolist() for start in item]
        assert torch.equal(batch.rank, again.rank) and torch.equal(batch.targets, again.targets)
        assert batch.count == 4 * (CONTEXT // 6) and batch.tokens == 4 * CONTEXT
        assert not torch.isin(batch.labels, torch.tensor(sorted(tokenizer.special.all()))).any()
        assert torch.equal(batch.rank.gather(1, batch.targets), torch.arange(1, 5).expand(4, -1))
    assert not torch.equal(batch.rank, task.collate(item, np.random.default_rng(6)).rank)


def test_the_loss_is_cross_entropy_of_the_targets_and_the_memory_goes_on(shards, tokenizer, model):
    task, carry = objective(shards, tokenizer), None
    for number, item in enumerate(task.plan(0)[:3]):
        batch = task.collate(item, np.random.default_rng(number))
        states, memory = model.permutation_hidden(batch.ids, batch.visible, batch.targets, carry)
        wanted = F.cross_entropy(
            model.logits(states).flatten(0, 1), batch.ids.gather(1, batch.targets).flatten(), reduction="sum"
        )
        fresh = float(task.loss(model, batch, None)[0].nll)
        loss, carry = task.loss(model, batch, carry)
        assert torch.allclose(loss.total, wanted, rtol=1e-5) and loss.count == batch.count
        assert (float(loss.nll) == fresh) == (number == 0)
        for left, right in zip(carry, memory, strict=True):
            assert left.shape == (4, 10, 16) and torch.equal(left, right)
    smaller = task.collate(item[:2], np.random.default_rng(0))
    assert task.loss(model, smaller, carry)[0].count == smaller.count


def test_a_target_depends_on_no_token_that_is_not_earlier_in_the_order(shards, tokenizer, model):
    task, read = objective(shards, tokenizer), []
    model = model.double()
    model.embedding.register_forward_hook(lambda module, ids, x: read.append(x) or x)
    batch = task.collate(task.plan(0)[0], np.random.default_rng(1))
    carry = [torch.randn(4, 10, 16, dtype=torch.float64) for _ in range(2)]
    states, _ = model.permutation_hidden(batch.ids, batch.visible, batch.targets, carry)
    losses = F.cross_entropy(model.logits(states).flatten(0, 1), batch.labels, reduction="none").view_as(batch.targets)
    for row, places in enumerate(batch.targets.tolist()):
        for i, place in enumerate(places):
            [slope] = torch.autograd.grad(losses[row, i], read[0], retain_graph=True)
            earlier = batch.rank[row] < batch.rank[row, place]
            assert torch.equal(slope[row].abs().sum(-1) > 0, earlier) and not earlier[place]
            assert not slope[torch.arange(4) != row].any()


@torch.inference_mode()
def test_evaluation_repeats_itself_and_counts_what_is_right(shards, tokenizer, model):
    task = objective(shards, tokenizer)
    first, second = (list(task.evaluate(model, torch.device("cpu"))) for _ in range(2))
    assert [float(loss.nll) for loss in first] == [float(loss.nll) for loss in second]
    starts = np.sort(np.concatenate(list(task._held_out(CONTEXT))))
    assert starts.tolist() == list(range(0, len(task.dev) - CONTEXT + 1, CONTEXT))
    assert sum(loss.count for loss in first) == len(starts) * (CONTEXT // 6)
    for loss in first:
        for name in ("accuracy", "baseline"):
            right, count = loss.tallies[name]
            assert count == loss.count and 0 <= int(right) <= count
    baseline = sum(int(loss.tallies["baseline"][0]) for loss in first) / sum(loss.count for loss in first)
    ids = task.dev.read(0, len(task.dev))
    ordinary = ids[~task.symbols.is_special[ids]]
    assert baseline == pytest.approx(np.bincount(ordinary).max() / len(ordinary), abs=0.08)


@torch.inference_mode()
def test_a_held_out_text_shorter_than_the_context_is_one_window(shards, tokenizer, model, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("a bad cab\n")
    short = build_shards([path], tokenizer, out=tmp_path / "short", documents="lines", workers=1)
    task = PermutationLanguageModelling(shards, short, tokenizer, batching=Batching(CONTEXT, 96))
    [loss] = task.evaluate(model, torch.device("cpu"))
    assert loss.count == 1


def test_it_learns(tokenizer, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abc def " * 150 + "\n")
    shards = build_shards([path], tokenizer, out=tmp_path / "shards", documents="lines", workers=1)
    torch.manual_seed(2)
    shape = {"d_model": 32, "heads": 2, "d_ff": 64, "encoder_layers": 1, "activation": "gelu", "dropout": 0.0}
    model = XLNet(XLNetConfig(**shape, memory_length=12), tokenizer.vocab_size)
    initialize(model, scheme="normal", std=0.1)
    task = objective(shards, tokenizer, batch_tokens=192)
    optimizer, rng = torch.optim.Adam(model.parameters(), lr=1e-2), np.random.default_rng(0)
    for epoch in range(20):
        carry = None
        for item in task.plan(epoch):
            loss, carry = task.loss(model, task.collate(item, rng), carry)
            (loss.total / loss.count).backward()
            optimizer.step()
            optimizer.zero_grad()
    with torch.inference_mode():
        parts = list(task.evaluate(model.eval(), torch.device("cpu")))
    accuracy, baseline = (
        sum(float(part.tallies[name][0]) for part in parts) / sum(part.count for part in parts)
        for name in ("accuracy", "baseline")
    )
    assert accuracy > 0.8 and baseline < 0.5


def test_a_sample_shows_what_is_hidden_and_in_which_order_it_is_predicted(shards, tokenizer):
    mask = tokenizer.special.mask
    for sample in objective(shards, tokenizer).samples(4, np.random.default_rng(0)):
        hidden = [token for token, seen in zip(sample.original, sample.corrupted, strict=True) if seen == mask]
        assert len(hidden) == CONTEXT // 6 and sorted(hidden) == sorted(sample.target)


def test_a_context_too_short_to_predict_one_token_of_is_refused(shards, tokenizer):
    with pytest.raises(NlpcliError, match=r"one of 6 tokens .* the context must be at least 6 tokens, not 5"):
        objective(shards, tokenizer, context=5)
