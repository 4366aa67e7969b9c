"""Denoising against logits, layouts and losses written out; and that no position sees what it has to predict."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nlpcli.data.document_sentences import SentenceDocuments
from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError
from nlpcli.layers.vocabulary_loss import CROSS_ENTROPY, LossSettings
from nlpcli.models.build import build_model
from nlpcli.objectives.batching import Batching
from nlpcli.objectives.denoise import Denoising
from nlpcli.objectives.gap_sentences import GapSentences
from nlpcli.objectives.noise import Noised, Text
from nlpcli.objectives.noise_parser import NOISES, parse_noise
from nlpcli.text import train_tokenizer

CONTEXT = 24
DOCUMENT = ["a bad cab", "dab it", "abba and a bee", "cede", "a deed", "bede fed a cafe", "fade", "a bead"]
TEXT = "\n\n".join("\n".join(DOCUMENT[i:] + DOCUMENT[:i]) for i in range(len(DOCUMENT))) + "\n"
SENTENCES = ["infill:0.3,permute", "permute", "gap-sentences", "gap-sentences:0.4:0.5"]
STREAM = ["infill:0.3", "mask:0.3,rotate", "delete", "spans", "spans:0.5:2", "iid:0.3", "prefix", "deshuffle"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("chars", [TEXT], byte_fallback=False, sentinels=20)


@pytest.fixture(scope="module")
def built(tmp_path_factory, tokenizer):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    options = {"documents": "paragraphs", "workers": 1}
    whole = build_shards([path], tokenizer, out=path.parent / "whole", **options)
    return whole, build_shards([path], tokenizer, out=path.parent / "sentences", sentences="lines", **options)


@pytest.fixture
def make(built, tokenizer):
    def build(noise, **settings):
        shards = built[parse_noise(noise).needs_sentences if isinstance(noise, str) else noise.needs_sentences]
        loss_settings = settings.pop("loss_settings", CROSS_ENTROPY)
        settings = {"context": CONTEXT, "batch_tokens": 4 * CONTEXT, "seed": 5} | settings
        return Denoising(
            shards, shards, tokenizer, noise=noise, batching=Batching(**settings), loss_settings=loss_settings
        )

    return build


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(2)
    shape = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 2, "dropout": 0.0}
    return build_model({**shape, "output_bias": True}, tokenizer.vocab_size).eval()


def random(*seed):
    return np.random.default_rng(seed or 0)


def rows_of(batch):
    """Each row without padding: what the encoder reads, what the decoder reads, what it predicts."""
    width = batch.target.size(1)
    for row in range(len(batch.source)):
        mask = slice(None) if batch.source_mask is None else batch.source_mask[row]
        mine = batch.places // width == row
        places = batch.places[mine] % width
        yield batch.source[row][mask], batch.target[row][places], batch.labels[mine]


@pytest.mark.parametrize("noise", [*SENTENCES, *STREAM])
def test_sources_end_with_eos_and_targets_are_read_from_bos_and_predicted_to_eos(make, tokenizer, noise):
    special, task = tokenizer.special, make(noise)
    for item in task.plan(0):
        batch = task.collate(item, random(1))
        rng = random(1)
        wanted = [task.noise(task.train.read(i), rng, task.symbols) for i in item]
        if any(max(len(noised.source), len(noised.target)) >= CONTEXT for noised in wanted):
            continue  # made shorter
        for (source, read, goal), noised in zip(rows_of(batch), wanted, strict=True):
            assert source.tolist() == [*noised.source, special.eos]
            assert read.tolist() == [special.bos, *noised.target] and goal.tolist() == [*noised.target, special.eos]


@pytest.mark.parametrize("noise", [*SENTENCES, *STREAM])
def test_no_side_is_longer_than_the_context_and_no_batch_than_its_budget(make, noise):
    task = make(noise)
    for epoch in range(3):
        for place, item in enumerate(task.plan(epoch)):
            batch = task.collate(item, random(epoch, place))
            assert max(batch.source.size(1), batch.target.size(1)) <= CONTEXT
            assert len(item) == 1 or max(batch.source.numel(), batch.target.numel()) <= 4 * CONTEXT


@pytest.mark.parametrize("noise", ["infill:0.3,permute", "gap-sentences:0.4:0.5", "mask:0.3,rotate", "spans:0.5:2"])
def test_batches_follow_from_the_generator_alone(make, noise):
    task, again = make(noise), make(noise)
    item = task.plan(1)[0]
    one, same, other = (t.collate(item, random(s)) for t, s in ((task, 1), (again, 1), (task, 2)))
    assert torch.equal(one.source, same.source) and torch.equal(one.labels, same.labels)
    assert one.source.shape != other.source.shape or not torch.equal(one.source, other.source)


def test_a_plan_is_a_function_of_seed_and_epoch(make):
    for noise in ("infill", "permute"):
        plans = [str([b.tolist() for b in make(noise, seed=s).plan(e)]) for s in (1, 1, 2) for e in (0, 1)]
        assert plans[:2] == plans[2:4] and len(set(plans)) == 4


@pytest.mark.parametrize("noise", ["infill:0.3,permute", "spans", "gap-sentences", "gap-sentences:0.4:0.5"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_cross_entropy_of_the_explicit_logits_of_each_text(make, model, noise, smoothing):
    task = make(noise, loss_settings=LossSettings(smoothing))
    batch = task.collate(task.plan(0)[0], random(3))
    for training in (True, False):
        model.train(training)
        epsilon = smoothing if training else 0.0
        total = nll = 0.0
        for source, read, goal in rows_of(batch):  # one by one, without any padding
            logits = model(source[None], None, read[None])[0]
            total += F.cross_entropy(logits, goal, reduction="sum", label_smoothing=epsilon)
            nll += F.cross_entropy(logits, goal, reduction="sum")
        if task.mlm:
            states = model.encode(batch.source, batch.source_mask).states.flatten(0, 1)[batch.hidden_places]
            mlm_loss = F.cross_entropy(model.logits(states), batch.hidden, label_smoothing=epsilon)
            total += 0.5 * mlm_loss * batch.count
        loss, carry = task.loss(model, batch)
        assert carry is None and loss.count == batch.count and loss.tallies == {}
        assert torch.allclose(loss.total, total, rtol=1e-5) and torch.allclose(loss.nll, nll, rtol=1e-5)


def test_with_mlm_what_is_predicted_stands_where_it_was_hidden(make, tokenizer):
    task = make("gap-sentences:0.4:1")
    hidden = 0
    for item in task.plan(0):
        batch = task.collate(item, random(4))
        plain = batch.source.flatten().clone()
        plain[batch.hidden_places] = batch.hidden
        for row, i in zip(plain.view_as(batch.source).tolist(), item, strict=True):
            text, rest = task.train.read(i).ids.tolist(), [id_ for id_ in row if id_ not in tokenizer.special.all()]
            remaining = iter(text)
            assert all(id_ in remaining for id_ in rest)
        hidden += len(batch.hidden)
    assert hidden > 20


@pytest.mark.parametrize("noise", [*SENTENCES, *STREAM])
def test_evaluation_is_the_same_every_time_and_counts_what_is_right(make, model, tokenizer, noise):
    task = make(noise, loss_settings=LossSettings(0.1))
    cpu = torch.device("cpu")
    with torch.inference_mode():
        parts, again = list(task.evaluate(model, cpu)), list(task.evaluate(model, cpu))
        one_by_one = list(make(noise, batch_tokens=1).evaluate(model, cpu))
    for name in ("accuracy", "baseline"):
        sums = [[int(value) for value in map(sum, zip(*(p.tallies[name] for p in run), strict=True))]
                for run in (parts, again, one_by_one)]  # fmt: skip
        assert sums[0] == sums[1] == sums[2] and sums[0][1] == sum(part.count for part in parts)
    nats = [sum(float(part.nll) for part in run) for run in (parts, again, one_by_one)]
    assert nats[0] == nats[1] == pytest.approx(nats[2], rel=1e-5)

    right = copied = kept = 0
    for index in np.concatenate(task.dev.in_order()):
        _, noised = task._disturbed(task.dev.read(index), np.random.default_rng([2020, int(index)]))
        source = torch.tensor([[*noised.source, tokenizer.special.eos]])
        goal = torch.tensor([*noised.target, tokenizer.special.eos])
        logits = model(source, None, torch.tensor([[tokenizer.special.bos, *noised.target]]))[0]
        right += int((logits.argmax(-1) == goal).sum())
        kept += sum(id_ not in tokenizer.special.all() for id_ in noised.source.tolist())
        copied += sum(a == b for a, b in zip(source[0].tolist(), goal.tolist(), strict=False))
    assert right == sum(int(part.tallies["accuracy"][0]) for part in parts)
    if task.noise.copies:
        assert copied == sum(part.tallies["baseline"][0] for part in parts)
        assert kept == sum(part.tallies["kept"][0] for part in parts) <= sum(part.count for part in parts)


def test_without_copying_the_baseline_is_the_most_frequent_target_token(make, model):
    task = make("spans")
    goals = torch.cat([task.collate(item, random(5)).labels for item in task.plan(0)])
    shares = torch.bincount(goals) / len(goals)
    parts = list(task.evaluate(model, torch.device("cpu")))
    share = sum(p.tallies["baseline"][0] for p in parts) / sum(p.count for p in parts)
    assert float(shares[task._most_frequent]) > float(shares.max()) - 0.03
    assert share == pytest.approx(float(shares.max()), abs=0.05)


def test_with_mlm_evaluation_reports_its_accuracy_too(make, model):
    parts = list(make("gap-sentences:0.4:1").evaluate(model, torch.device("cpu")))
    right, count = (sum(column) for column in zip(*(p.tallies["mlm_accuracy"] for p in parts), strict=True))
    assert 0 <= int(right) <= count and count > 20
    assert all(p.tallies["gap_loss"] == (p.nll, p.count) for p in parts)
    for part in parts:  # a batch's joint loss is that of its parts
        (gap, goals), (mlm, hidden) = part.tallies["gap_loss"], part.tallies["mlm_loss"]
        joint = float(gap) / goals + float(mlm) / hidden
        assert float(part.total.detach()) / part.count == pytest.approx(joint, rel=1e-5)


def test_a_model_learns_to_tell_spans(make, tokenizer):
    torch.manual_seed(3)
    shape = {"d_model": 32, "heads": 2, "d_ff": 64, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
    model = build_model({**shape, "norm_position": "pre"}, tokenizer.vocab_size)
    task = make("spans:0.3", batch_tokens=8 * CONTEXT)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(20):
        for place, item in enumerate(task.plan(epoch)):
            loss, _ = task.loss(model, task.collate(item, random(epoch, place)))
            (loss.total / loss.count).backward()
            optimizer.step()
            optimizer.zero_grad()
    parts = list(task.evaluate(model.eval(), torch.device("cpu")))
    right, trivial = (sum(float(p.tallies[name][0]) for p in parts) for name in ("accuracy", "baseline"))
    assert right > 2 * trivial


# --- no leak --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["infill:0.3", "spans", "prefix", "gap-sentences:0.4:1"])
def test_what_a_position_predicts_depends_on_no_later_input_of_the_decoder(make, model, noise):
    task = make(noise)
    batch = task.collate(task.plan(0)[0][:1], random(6))
    kept = {}
    model.decoder_embedding.register_forward_hook(lambda module, given, out: kept.update(x=out))
    length = batch.target.size(1)
    states, _ = task._states(model, batch)
    nll = F.cross_entropy(model.logits(states), batch.labels, reduction="none")
    for i in range(length):
        (gradient,) = torch.autograd.grad(nll[i], kept["x"], retain_graph=True)
        reached = gradient[0].abs().sum(dim=-1)
        assert (reached[i + 1 :] == 0).all() and (reached[: i + 1] > 0).all()


def test_the_encoder_of_a_prefix_model_never_sees_what_is_predicted(make, model, tokenizer):
    task = make("prefix")
    for place, item in enumerate(task.plan(0)):
        batch = task.collate(item, random(place))
        for i, (source, read, goal) in zip(item, rows_of(batch), strict=True):
            text = task.train.read(i).ids.tolist()
            assert [*source[:-1], *goal[:-1]] == text and len(source) > 1 and read[1:].tolist() == goal[:-1].tolist()
    kept = []
    model.encoder_embedding.register_forward_hook(lambda module, given, out: kept.append(given[0]))
    task.loss(model, batch)
    assert len(kept) == 1 and torch.equal(kept[0], batch.source)


def test_padding_does_not_change_a_loss(make, model):
    task = make("iid:0.3")
    item = task.plan(0)[0]
    noised = [task._disturbed(task.train.read(i), random(int(i)))[1] for i in item]
    together = task.loss(model, task._batch(noised))
    alone = [task.loss(model, task._batch([one])) for one in noised]
    assert float(together[0].nll) == pytest.approx(sum(float(loss.nll) for loss, _ in alone), rel=1e-5)


# --- what comes in, what is shown, what is refused --------------------------------------------------------------------


@pytest.mark.parametrize("noise", [*SENTENCES, *STREAM])
def test_samples_show_a_text_and_both_layouts(make, tokenizer, noise):
    eos = tokenizer.special.eos
    task = make(noise)
    samples = list(task.samples(5, random(7)))
    assert len(samples) == 5 and samples == list(task.samples(5, random(7)))
    for sample in samples:
        assert sample.corrupted[-1] == eos and sample.target[-1] == eos
        assert all(isinstance(id_, int) for id_ in [*sample.original, *sample.corrupted, *sample.target])
        if task.noise.copies:
            assert sample.target[:-1] == sample.original


def test_a_text_whose_noise_does_not_fit_is_shortened(make):
    class Longer:
        needs_sentences, least_sentences, copies, joined = False, 1, True, False

        def text_length(self, limit):
            return limit - 1

        def check(self, special, length):
            pass

        def __call__(self, text, rng, symbols):
            return Noised(np.repeat(text.ids, 2), text.ids)

    task = make(Longer())
    text, noised = task._disturbed(Text(np.arange(30, 30 + CONTEXT - 1)), random())
    assert len(noised.source) < CONTEXT and noised.target.tolist() == text.ids.tolist()
    assert len(text.ids) >= CONTEXT // 2 - 2


def test_documents_end_with_eos_for_bart_and_are_joined_for_t5(make, tokenizer):
    eos = tokenizer.special.eos

    def inner(noise):
        task = make(noise)
        return sum((task.train.read(i).ids == eos).sum() for item in task.train.in_order() for i in item)

    assert inner("infill") == len(DOCUMENT) and inner("spans") == inner("prefix") == 0


def test_shards_built_with_sentences_are_read_as_sentences(built, make, tokenizer):
    wrapped = Denoising(SentenceDocuments(built[1]), None, tokenizer, noise="permute", batching=Batching(CONTEXT))
    assert np.array_equal(wrapped.train.table, make("permute").train.table)
    spans = Denoising(built[1], None, tokenizer, noise="spans", batching=Batching(CONTEXT))
    assert spans.train.read(0).sentences is not None


@pytest.mark.parametrize("noise", ["permute", "infill,permute", "gap-sentences"])
def test_noises_that_need_sentences_ask_for_them(built, tokenizer, noise):
    with pytest.raises(NlpcliError, match="not split into sentences") as caught:
        Denoising(built[0], None, tokenizer, noise=noise, batching=Batching(CONTEXT))
    assert "data.sentences" in caught.value.hint


def test_a_tokenizer_with_too_few_sentinels_is_refused_at_once(built, tokenizer):
    with pytest.raises(NlpcliError, match="needs 29 sentinel tokens") as caught:
        Denoising(built[0], None, tokenizer, noise="spans", batching=Batching(512))
    assert "tokenizer.sentinels=100" in caught.value.hint


def test_a_context_without_room_is_refused(make):
    with pytest.raises(NlpcliError, match="the context must be at least 2 tokens"):
        make("infill", context=1)


def test_every_noise_makes_batches_even_with_the_least_context(make):
    for noise in NOISES:
        for context in (2, 3, 8):
            if noise == "gap-sentences" and context < 8:
                continue  # no two sentences fit
            task = make(GapSentences(mlm=1.0) if noise == "gap-sentences" else noise, context=max(context, 2))
            for item in task.plan(0)[:5]:
                batch = task.collate(item, random(8))
                assert max(batch.source.size(1), batch.target.size(1)) <= context
