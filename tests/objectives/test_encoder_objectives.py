"""What encoders learn, against logits and sums written out."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nlpcli.data.shards import build_shards
from nlpcli.errors import NlpcliError
from nlpcli.layers.vocabulary_loss import LossSettings
from nlpcli.models.build import build_model
from nlpcli.objectives.encoder_objectives import EncoderBatching, EncoderPretraining
from nlpcli.objectives.masking import UNITS, Masking
from nlpcli.text import TOKENIZERS, train_tokenizer

CONTEXT = 24
SIZES = {"unigram": 330, "bpe": 330, "wordpiece": 90, "byte-bpe": 310, "words": 150}
ALL_MASKED = Masking(mask_share=1.0, random_share=0.0)
COMBINATIONS = [
    ({"mlm": 1.0}, "full-sentences"),
    ({"mlm": 1.0}, "doc-sentences"),
    ({"mlm": 1.0}, "segment-pair"),
    ({"mlm": 1.0, "nsp": 0.5}, "segment-pair"),
    ({"sop": 2.0, "mlm": 0.5}, "sentence-pair"),
    ({"nsp": 1.5}, "sentence-pair"),
]


def documents(count, seed):
    draw = random.Random(seed)
    words = ["".join(draw.choices("aeiounrstlmdc", k=draw.randint(1, 7))) for _ in range(200)] + ["日本語", "東京"]
    sentence = lambda: " ".join(draw.choices(words, k=draw.randint(2, 9))).capitalize() + "."  # noqa: E731
    return "\n\n".join("\n".join(sentence() for _ in range(draw.randint(1, 8))) for _ in range(count)) + "\n"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    for name, count in (("train", 60), ("dev", 20)):
        (folder / name).write_text(documents(count, count), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tokenizers(texts):
    lines = (texts / "train").read_text(encoding="utf-8").split("\n")
    return {kind: train_tokenizer(kind, lines, vocab_size=SIZES.get(kind), sentinels=2) for kind in TOKENIZERS}


@pytest.fixture(scope="module")
def sets(texts, tokenizers):
    return {
        (kind, name): build_shards(
            texts / name, tokenizer, out=texts / f"{kind}-{name}", documents="paragraphs", sentences="lines", workers=1
        )
        for kind, tokenizer in tokenizers.items()
        for name in ("train", "dev")
    }


@pytest.fixture
def make(sets, tokenizers):
    def made(weights=None, format="auto", *, kind="wordpiece", **options):
        own = {name: options.pop(name) for name in ("masking", "loss_settings") if name in options}
        own["batching"] = EncoderBatching(
            **{"format": format, "context": CONTEXT, "batch_tokens": 6 * CONTEXT, "seed": 3, **options}
        )
        train, dev = sets[kind, "train"], sets[kind, "dev"]
        return EncoderPretraining(train, dev, tokenizers[kind], weights=weights, **own)

    return made


@pytest.fixture
def model(tokenizers):
    torch.manual_seed(1)
    shape = {
        "d_model": 16,
        "heads": 2,
        "d_ff": 16,
        "encoder_layers": 2,
        "dropout": 0.0,
        "segments": 2,
        "max_length": 64,
    }
    heads = {"mlm_head": True, "pooler": True, "pair_head": True}
    return build_model({"kind": "encoder", **shape, **heads}, tokenizers["wordpiece"].vocab_size).eval()


def batches(task, epoch=0, seed=0):
    rng = np.random.default_rng(seed)
    return [task.collate(item, rng) for item in task.plan(epoch)]


def same(one, other):
    if one is None or isinstance(one, int):
        return one == other
    return torch.equal(one, other)


@pytest.mark.parametrize(("weights", "format"), COMBINATIONS)
def test_the_same_seed_gives_the_same_batches(make, weights, format):
    runs = [batches(make(weights, format), epoch, seed) for epoch, seed in ((0, 0), (0, 0), (0, 1), (1, 0))]
    for one, other in zip(runs[0], runs[1], strict=True):
        assert all(same(getattr(one, name), getattr(other, name)) for name in vars(one))
    content = [[batch.ids.tolist() for batch in run] for run in runs]
    assert content[0] != content[3] and (content[0] != content[2] or "mlm" not in weights)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_nothing_special_is_ever_hidden_and_goals_restore_the_text(make, tokenizers, kind, unit):
    task = make({"mlm": 1.0, "sop": 1.0}, kind=kind, masking=Masking(unit=unit))
    special = sorted(tokenizers[kind].special.all())
    plain = tokenizers[kind].special
    for item in task.plan(0)[:30]:
        batch = task.collate(item, np.random.default_rng(5))
        original = batch.ids.flatten().clone()
        original[batch.places] = batch.targets
        original = original.view_as(batch.ids)
        assert not np.isin(batch.targets, special).any()
        there = torch.ones_like(batch.ids, dtype=torch.bool) if batch.mask is None else batch.mask
        assert torch.equal(there, original != plain.pad) and batch.tokens == int(there.sum())
        assert torch.all(original[:, 0] == plain.cls) and torch.all((original == plain.sep).sum(1) == 2)
        changed = batch.ids != original
        assert np.isin(batch.ids[changed & (batch.ids != plain.mask)], special).sum() == 0
        assert not (original == plain.mask).any()
        ends = (original == plain.sep).cumsum(1) - (original == plain.sep).long()
        assert torch.equal(batch.segments[there], (ends > 0).long()[there]) and not batch.segments[~there].any()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_about_fifteen_per_cent_are_hidden_whatever_the_tokenizer(make, tokenizers, kind):
    special = torch.tensor(sorted(tokenizers[kind].special.all()))
    hidden = ordinary = 0
    for unit in UNITS:
        for batch in batches(make(kind=kind, context=512, masking=Masking(unit=unit))):
            hidden += batch.count
            original = batch.ids.flatten().clone()
            original[batch.places] = batch.targets
            ordinary += int((~torch.isin(original, special)).sum())
    assert hidden / ordinary == pytest.approx(0.15, abs=0.02)


def test_full_sentences_need_neither_sentences_nor_segments(tmp_path, texts, tokenizers):
    tokenizer = tokenizers["wordpiece"]
    plain = build_shards(texts / "train", tokenizer, out=tmp_path / "plain", documents="paragraphs", workers=1)
    task = EncoderPretraining(plain, None, tokenizer, batching=EncoderBatching(CONTEXT))
    for batch in batches(task):
        assert batch.segments is None and batch.labels is None and batch.count == len(batch.targets)
        assert batch.ids.size(1) <= CONTEXT


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("weights", "format"), COMBINATIONS)
def test_the_loss_is_the_weighted_sum_of_cross_entropies(make, model, weights, format, smoothing):
    task = make(weights, format, loss_settings=LossSettings(smoothing))
    batch = batches(task)[0]
    states = model(batch.ids, batch.mask, batch.segments)
    for training in (True, False):
        model.train(training)
        wanted, nll, count = 0.0, None, None
        if "mlm" in weights:
            logits = F.linear(model.mlm_hidden(states), model.output_weight, model.output_bias).flatten(0, 1)[
                batch.places
            ]
            nll, count = F.cross_entropy(logits, batch.targets, reduction="sum"), len(batch.targets)
            smooth = F.cross_entropy(logits, batch.targets, label_smoothing=smoothing if training else 0.0)
            wanted = weights["mlm"] * smooth
        if task.pair:
            pair = F.cross_entropy(model.pair_logits(states), batch.labels)
            wanted = wanted + weights[task.pair] * pair
            nll, count = (pair * len(batch.ids), len(batch.ids)) if nll is None else (nll, count)
        loss, carry = task.loss(model, batch, None)
        assert carry is None and loss.count == batch.count == count and loss.tallies == {}
        assert torch.allclose(loss.total, count * wanted, rtol=1e-5)
        assert torch.allclose(loss.nll, nll, rtol=1e-5)


def test_every_part_of_the_sum_reaches_its_head(make, model):
    task = make({"mlm": 1.0, "nsp": 0.5})
    loss, _ = task.loss(model.train(), batches(task)[0])
    loss.total.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_padding_does_not_change_what_is_predicted(make, model):
    task = make({"mlm": 1.0, "nsp": 1.0}, "sentence-pair")
    batch = next(batch for batch in batches(task) if batch.mask is not None)
    states = model(batch.ids, batch.mask, batch.segments)
    for row, there in enumerate(batch.mask):
        alone = model(batch.ids[row : row + 1, there], None, batch.segments[row : row + 1, there])
        assert torch.allclose(states[row, there], alone[0], atol=1e-5)


def test_a_hidden_token_leaves_no_trace_in_what_is_read(make, tokenizers):
    task = make(masking=ALL_MASKED)
    for item in task.plan(0)[:5]:
        for example in task.train.examples(item, [np.random.default_rng(0)] * len(item.numbers)):
            masked = task._hide(example.ids, np.random.default_rng(1))
            other = example.ids.copy()
            other[masked.places] = tokenizers["wordpiece"].vocab_size - 1
            assert np.array_equal(task._hide(other, np.random.default_rng(1)).corrupted, masked.corrupted)


def test_the_loss_has_no_gradient_at_the_embeddings_of_tokens_that_are_hidden(make, tokenizers):
    torch.manual_seed(1)
    shape = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "mlm_head": True, "tie": "none"}
    model = build_model({"kind": "encoder", **shape}, tokenizers["wordpiece"].vocab_size)
    batch = batches(make(masking=ALL_MASKED))[0]
    hidden = sorted(set(batch.targets.tolist()) - set(batch.ids.flatten().tolist()))
    make(masking=ALL_MASKED).loss(model, batch)[0].total.backward()
    slopes = model.encoder_embedding.tokens.weight.grad.abs().sum(1)
    read = [id_ for id_ in batch.ids.unique().tolist() if id_ != tokenizers["wordpiece"].special.pad]
    assert len(hidden) > 2 and not slopes[hidden].any() and slopes[read].all()


@pytest.mark.parametrize(("weights", "format"), COMBINATIONS)
def test_evaluation_reads_every_held_out_example_once_in_the_same_way(make, model, weights, format):
    tasks = [make(weights, format, seed=seed, batch_tokens=tokens) for seed, tokens in ((3, 144), (4, 144), (3, 40))]
    results = []
    with torch.inference_mode():
        for task in tasks:
            parts = list(task.evaluate(model, torch.device("cpu")))
            sums = {name: [float(sum(p.tallies[name][i] for p in parts)) for i in (0, 1)] for name in parts[0].tallies}
            results.append((sum(float(part.nll) for part in parts), sum(part.count for part in parts), sums))
    for nll, count, sums in results[1:]:
        assert nll == pytest.approx(results[0][0], rel=1e-4) and count == results[0][1]
        assert sums.keys() == results[0][2].keys()
        assert all(sums[name] == pytest.approx(results[0][2][name], rel=1e-4) for name in sums)
    names = {f"{part}_{measure}" for part in weights for measure in ("accuracy", "baseline")}
    losses = {f"{part}_loss" for part in weights} if len(weights) > 1 else set()
    assert sums.keys() == names | losses and all(0 <= sums[name][0] <= sums[name][1] for name in names)
    if losses:
        assert sums["mlm_loss"] == pytest.approx(list(results[0][:2]), rel=1e-4)
    pairs = [sums[name] for name in sums if name.endswith("_baseline") and name != "mlm_baseline"]
    assert all(right / number >= 0.5 for right, number in pairs)


def test_accuracies_are_those_of_the_most_probable_answers(make, model, sets, tokenizers):
    task = make({"mlm": 1.0, "nsp": 1.0})
    train = sets["wordpiece", "train"].read(0, sets["wordpiece", "train"].tokens)
    train = train[~np.isin(train, sorted(tokenizers["wordpiece"].special.all()))]
    frequent = np.bincount(train).argmax()
    with torch.inference_mode():
        found = next(iter(task.evaluate(model, torch.device("cpu")))).tallies
        batch = task._batch(*task._read(task.dev, task.dev.plan(0)[0]))
        states = model(batch.ids, batch.mask, batch.segments)
        logits = F.linear(model.mlm_hidden(states), model.output_weight, model.output_bias).flatten(0, 1)[batch.places]
        right = (logits.argmax(-1) == batch.targets).sum()
        nsp_right = (model.pair_logits(states).argmax(-1) == batch.labels).sum()
    assert found["mlm_accuracy"] == (right, len(batch.targets)) and found["nsp_accuracy"] == (
        nsp_right,
        len(batch.labels),
    )
    assert found["mlm_baseline"] == ((batch.targets == frequent).sum(), len(batch.targets))


def test_static_noise_comes_back_after_as_many_epochs_as_there_are_copies(make):
    def content(task, epoch, seed):
        rows = []
        for batch in batches(task, epoch, seed):
            where = batch.places.tolist()
            width = batch.ids.size(1)
            hidden = {row: [] for row in range(len(batch.ids))}
            for place, goal in zip(where, batch.targets.tolist(), strict=True):
                hidden[place // width].append((place % width, goal))
            rows += [(tuple(ids[ids != 0].tolist()), tuple(hidden[row])) for row, ids in enumerate(batch.ids)]
        return sorted(rows)

    for weights in ({"mlm": 1.0}, {"mlm": 1.0, "nsp": 1.0}):
        static, dynamic = make(weights, copies=3), make(weights)
        epochs = [content(static, epoch, seed=epoch) for epoch in range(4)]
        assert epochs[0] == epochs[3] and epochs[0] != epochs[1] != epochs[2] != epochs[0]
        assert content(dynamic, 0, 0) != content(dynamic, 3, 3)


def test_examples_can_be_looked_at(make):
    for weights in ({"mlm": 1.0}, {"mlm": 1.0, "sop": 1.0}, {"nsp": 1.0}):
        task = make(weights)
        shown = list(task.samples(5, np.random.default_rng(1)))
        assert len(shown) == 5 and shown == list(task.samples(5, np.random.default_rng(1)))
        for sample in shown:
            assert len(sample.original) == len(sample.corrupted)
            assert bool(sample.target) == ("mlm" in weights)


def test_learning_beats_the_trivial_guesses(tokenizers, tmp_path):
    """Sentences of a document repeat its own word: a hidden one and a stranger can both be predicted."""
    draw = random.Random(4)
    names = [f"{one}{two}" for one in "bdfgklmnp" for two in "aeiou"]
    text = "\n\n".join("\n".join([f"{name} {name} {name}"] * 8) for name in draw.choices(names, k=300))
    (tmp_path / "text").write_text(text)
    tokenizer = train_tokenizer("words", text.split("\n"))
    shards = build_shards(tmp_path / "text", tokenizer, documents="paragraphs", sentences="lines", workers=1)
    task = EncoderPretraining(
        *shards.split(0.2), tokenizer, weights={"mlm": 1.0, "nsp": 1.0}, batching=EncoderBatching(20, 640)
    )
    torch.manual_seed(0)
    shape = {
        "d_model": 32,
        "heads": 2,
        "d_ff": 64,
        "encoder_layers": 2,
        "dropout": 0.0,
        "segments": 2,
        "max_length": 64,
    }
    heads = {"mlm_head": True, "pooler": True, "pair_head": True, "norm_position": "pre"}
    model = build_model({"kind": "encoder", **shape, **heads}, tokenizer.vocab_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for epoch in range(9):
        for batch in batches(task, epoch, epoch):
            loss, _ = task.loss(model, batch)
            (loss.total / loss.count).backward()
            optimizer.step()
            optimizer.zero_grad()
    with torch.inference_mode():
        parts = list(task.evaluate(model.eval(), torch.device("cpu")))
    share = {
        n: float(sum(p.tallies[n][0] for p in parts)) / sum(p.tallies[n][1] for p in parts) for n in parts[0].tallies
    }
    assert share["mlm_accuracy"] > 0.75 > 0.2 > share["mlm_baseline"]
    assert share["nsp_accuracy"] > 0.75 > 0.6 > share["nsp_baseline"]


def test_what_does_not_go_together_is_refused(make, sets, tokenizers, texts, tmp_path):
    for weights, format, message in (
        ({"nsp": 1.0, "sop": 1.0}, "auto", "can't be used together"),
        ({"mlm": 1.0, "nsp": 0.0}, "auto", "weight of nsp must be a positive number, not 0"),
        ({"clm": 1.0}, "auto", "'clm'"),
        (
            {"nsp": 1.0},
            "full-sentences",
            "nsp needs pairs of segments, but the input format 'full-sentences' has no pairs",
        ),
        ({"mlm": 1.0}, "full-sentence", "'full-sentence'"),
    ):
        with pytest.raises(NlpcliError, match=message):
            make(weights, format)
