"""Translation as a task: which pairs, in which layout, with which loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nlpcli.data.parallel_shards import ParallelShards
from nlpcli.errors import NlpcliError
from nlpcli.layers.vocabulary_loss import LossSettings
from nlpcli.models.build import build_model
from nlpcli.objectives.source_target_batches import pad
from nlpcli.tasks.translation import Translation, TranslationData, TranslationSides
from nlpcli.text import SpecialTokens, Tokenizer, train_tokenizer
from nlpcli.text.special_tokens import source_ids
from nlpcli.text.tokenizer import TokenizerSettings
from nlpcli.text.tokenizer_model import TrainingOptions
from nlpcli.text.word_tokenizer import WordModel

SOURCE = ["one two", "three", "", "four five six seven", "two", "five", "one", "six six", "seven " * 100, "three one"]
TARGET = ["eins zwei", "drei", "leer", "vier fünf sechs sieben", "zwei", "", "eins", "sechs sechs", "x", "drei eins"]
KEPT = [0, 1, 3, 4, 6, 7, 9]  # neither side is empty or too long


@pytest.fixture(scope="module", params=["chars", "bpe"])
def tokenizer(request):
    size = None if request.param == "chars" else 60
    return train_tokenizer(request.param, SOURCE + TARGET, vocab_size=size, byte_fallback=False)


@pytest.fixture
def shards(tmp_path, tokenizer):
    paths = [tmp_path / "text.en", tmp_path / "text.de"]
    for path, lines in zip(paths, (SOURCE, TARGET), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return ParallelShards.build(*paths, tokenizer, workers=1)


@pytest.fixture
def make(shards, tokenizer):
    def build(**settings):
        texts = list(zip(SOURCE, TARGET, strict=True)) if settings.get("sampling") else None
        data, sides = TranslationData(shards, shards, texts), TranslationSides(tokenizer, tokenizer)
        return Translation(data, sides, **{"batch_tokens": 50, "max_length": 40, "seed": 5} | settings)

    return build


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(2)
    shape = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
    return build_model({**shape, "output_bias": True}, tokenizer.vocab_size).eval()


def random():
    return np.random.default_rng(0)


def test_rows_are_filled_up_at_the_end():
    assert pad([[5, 6, 7], [8], []], 0).tolist() == [[5, 6, 7], [8, 0, 0], [0, 0, 0]]


def test_each_kept_pair_is_in_an_epoch_exactly_once_and_the_rest_never(make):
    task = make()
    assert len(task) == len(KEPT) and task.left_out == len(SOURCE) - len(KEPT)
    for epoch in range(3):
        assert sorted(int(i) for batch in task.plan(epoch) for i in batch) == KEPT


def test_the_plan_is_a_function_of_seed_and_epoch(make):
    def plan(seed, epoch):
        return [batch.tolist() for batch in make(seed=seed).plan(epoch)]

    assert plan(5, 1) == plan(5, 1)
    assert len({str(plan(seed, epoch)) for seed in (5, 6) for epoch in range(4)}) > 1


def test_a_length_counts_the_end_of_the_sentence(make, shards):
    longest = int(shards.lengths[3].max()) + 1
    assert 3 in make(max_length=longest).selected and 3 not in make(max_length=longest - 1).selected


def test_batches_hold_the_budget_on_either_side(make):
    for item in make(batch_tokens=50).plan(0):
        batch = make().collate(item, random())
        assert len(item) == 1 or max(batch.source.numel(), batch.target.numel()) <= 50


def test_source_ends_with_eos_and_the_target_is_read_from_bos_and_predicted_to_eos(make, tokenizer):
    special = tokenizer.special
    items = np.array([0, 3, 4])
    batch = make().collate(items, random())
    width = batch.target.size(1)
    for row, i in enumerate(items):
        source, target = tokenizer.encode([SOURCE[i], TARGET[i]])
        read, padding = source_ids(source, special), batch.source[row, len(source) + 1 :]
        assert read == [*source, special.eos]
        assert batch.source[row, : len(read)].tolist() == read and set(padding.tolist()) <= {special.pad}
        assert batch.source_mask[row].tolist() == [True] * len(read) + [False] * len(padding)
        assert batch.target[row, : len(target) + 1].tolist() == [special.bos, *target]
        mine = batch.places // width == row
        assert (batch.places[mine] % width).tolist() == list(range(len(target) + 1))
        assert batch.labels[mine].tolist() == [*target, special.eos]
    sizes = [len(ids) + 1 for i in items for ids in tokenizer.encode([SOURCE[i], TARGET[i]])]
    assert batch.tokens == sum(sizes) and batch.count == sum(sizes[1::2]) == len(batch.places)


def test_without_padding_there_is_no_mask(make):
    assert make().collate(np.array([4]), random()).source_mask is None


def test_moving_a_batch_keeps_everything(make):
    batch = make().collate(np.array([0, 3]), random())
    moved = batch.to(torch.device("cpu"))
    assert (moved.tokens, moved.count) == (batch.tokens, batch.count)
    for name in ("source", "source_mask", "target", "labels", "places"):
        assert torch.equal(getattr(moved, name), getattr(batch, name))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_cross_entropy_of_the_explicit_logits_of_each_pair(make, tokenizer, model, smoothing):
    special = tokenizer.special
    task, items = make(loss_settings=LossSettings(smoothing)), np.array([0, 3, 4, 9])
    batch = task.collate(items, random())
    for training in (True, False):
        model.train(training)
        total = nll = 0.0
        for i in items:  # one by one, without any padding
            source, target = tokenizer.encode([SOURCE[i], TARGET[i]])
            logits = model(torch.tensor([[*source, special.eos]]), None, torch.tensor([[special.bos, *target]]))[0]
            goal = torch.tensor([*target, special.eos])
            total += F.cross_entropy(logits, goal, reduction="sum", label_smoothing=smoothing if training else 0.0)
            nll += F.cross_entropy(logits, goal, reduction="sum")
        loss, carry = task.loss(model, batch)
        assert carry is None and loss.count == batch.count
        assert torch.allclose(loss.total, total, rtol=1e-5) and torch.allclose(loss.nll, nll, rtol=1e-5)


def test_evaluation_counts_every_target_token_and_end_once_also_of_the_pairs_training_leaves_out(
    make, model, tokenizer
):
    with torch.inference_mode():
        losses = list(make(loss_settings=LossSettings(0.1)).evaluate(model, torch.device("cpu")))
        one_by_one = list(make(batch_tokens=1).evaluate(model, torch.device("cpu")))
    assert sum(loss.count for loss in losses) == sum(len(ids) + 1 for ids in tokenizer.encode(TARGET))
    nats = sum(float(loss.nll) for loss in losses)
    assert nats == pytest.approx(sum(float(loss.nll) for loss in one_by_one), rel=1e-5)
    assert nats == pytest.approx(sum(float(loss.total) for loss in losses))  # no smoothing


# --- subword sampling --------------------------------------------------------------------------------------------


bpe = pytest.mark.parametrize("tokenizer", ["bpe"], indirect=True)
chars = pytest.mark.parametrize("tokenizer", ["chars"], indirect=True)


@bpe
def test_sampled_pieces_follow_from_the_random_numbers_handed_in_and_spell_the_same_text(make, tokenizer):
    task = make(sampling=0.5)
    items = np.array([3, 0, 9])

    def drawn(*place):
        return task.collate(items, np.random.default_rng(place))

    assert torch.equal(drawn(5, 0, 7).source, drawn(5, 0, 7).source)
    batches = [drawn(5, epoch, 7) for epoch in range(8)]
    assert len({str(batch.source.tolist()) for batch in batches}) > 1
    for batch in batches:
        assert tokenizer.decode(batch.source.tolist()) == [SOURCE[i] for i in items]
        assert tokenizer.decode(batch.target.tolist()) == [TARGET[i] for i in items]


@bpe
def test_a_pair_that_sampling_would_make_too_long_keeps_its_own_pieces(make, shards):
    longest = int(shards.lengths[3].max()) + 1
    task = make(sampling=0.9, max_length=longest)
    plain = make(max_length=longest)
    for seed in range(20):
        batch = task.collate(np.array([3]), np.random.default_rng(seed))
        assert max(batch.source.size(1), batch.target.size(1)) <= longest
    assert torch.equal(batch.source, plain.collate(np.array([3]), random()).source)


@chars
def test_sampling_from_a_tokenizer_with_one_segmentation_is_refused_at_once(make):
    with pytest.raises(NlpcliError, match="does not support subword sampling"):
        make(sampling=0.1)


@bpe
@pytest.mark.parametrize("sampling", [0.0, 0.3])
def test_sources_may_have_a_tokenizer_and_special_tokens_of_their_own(tmp_path, shards, tokenizer, sampling):
    special = SpecialTokens(*reversed(range(7)))
    words = sorted({word for line in SOURCE for word in line.split()})
    options = TrainingOptions(vocab_size=None, special=special)
    other = Tokenizer(TokenizerSettings(kind="words"), WordModel(words, options), special)
    other.model.sample = lambda texts, strength, rng: other.model.encode(texts)
    paths = [tmp_path / "text.en", tmp_path / "text.de"]
    both = ParallelShards.build(paths[0], paths[1], other, target_tokenizer=tokenizer, workers=1)
    texts = list(zip(SOURCE, TARGET, strict=True))
    sides = TranslationSides(other, tokenizer)
    task = Translation(TranslationData(both, both, texts), sides, max_length=99, sampling=sampling)
    batch = task.collate(np.array([0, 1]), random())
    one_two, three = other.encode(SOURCE[:2])
    assert batch.source.tolist() == [[*one_two, special.eos], [*three, special.eos, special.pad]]
    assert batch.target[:, 0].tolist() == [tokenizer.special.bos] * 2
    assert batch.labels[-1] == tokenizer.special.eos


def test_what_comes_before_sources_and_targets_counts_in_lengths_and_is_not_predicted(shards, tokenizer):
    eos = tokenizer.special.eos
    data, started = TranslationData(shards, shards), TranslationSides(tokenizer, tokenizer, (5, 6), (eos, 4, 7))
    task = Translation(data, started, max_length=99)
    plain = Translation(data, TranslationSides(tokenizer, tokenizer), max_length=99)
    assert (task.lengths - plain.lengths == 2).all()
    item = np.array([0, 1])
    batch, other = task.collate(item, random()), plain.collate(item, random())
    assert batch.source[:, :2].tolist() == [[5, 6]] * 2 and torch.equal(batch.source[:, 2:], other.source)
    assert batch.target[:, :3].tolist() == [[eos, 4, 7]] * 2 and torch.equal(batch.target[:, 3:], other.target[:, 1:])
    assert torch.equal(batch.labels, other.labels)
    longest = int(task.lengths.max())
    assert len(Translation(data, started, max_length=longest)) == len(task)
    assert len(Translation(data, started, max_length=longest - 1)) < len(task)
