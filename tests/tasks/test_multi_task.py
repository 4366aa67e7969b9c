"""Several tasks at once: how often each is drawn, and what their losses add up to."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.multi_task import load_mixture
from nlpcli.data.examples import Example
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.runs.finetuning.multi_task_training import kind_of
from nlpcli.tasks.classification import Classification
from nlpcli.tasks.multi_task import Mixture, Part, mixing_rates
from nlpcli.tasks.task import Context
from nlpcli.tasks.text_to_text import TextToText, TextToTextSettings
from nlpcli.text import train_tokenizer

SHAPE = {"d_model": 16, "heads": 2, "d_ff": 32, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
sizes = st.lists(st.integers(1, 10**6), min_size=1, max_size=5)


@given(sizes, st.floats(0.5, 50), st.one_of(st.none(), st.integers(1, 10**6)))
def test_rates_add_up_and_keep_the_order_of_sizes(sizes, temperature, limit):
    rates = mixing_rates(sizes, temperature, limit)
    assert rates.sum() == pytest.approx(1) and (rates > 0).all()
    assert (np.diff(rates[np.argsort(sizes)]) >= -1e-12).all()


def test_rates_are_those_of_the_paper():
    assert mixing_rates([100, 300]) == pytest.approx([0.25, 0.75])
    assert mixing_rates([100, 300], limit=200) == pytest.approx([1 / 3, 2 / 3])
    assert mixing_rates([100, 400], 2.0) == pytest.approx([1 / 3, 2 / 3])
    assert mixing_rates([1, 10, 10**6], float("inf")) == pytest.approx([1 / 3] * 3)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("chars", ["abcdefgh :"], byte_fallback=False)


@pytest.fixture
def context(tokenizer):
    return Context(tokenizer, ModelConfig.model_validate(SHAPE), {}, 32)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(3)
    return build_model(SHAPE, tokenizer.vocab_size)


def part(context, name, count, *, weight=1.0, prefix=""):
    task = TextToText(context, TextToTextSettings(prefix))
    examples = [Example(("abcdefgh"[i % 8] * (1 + i % 5),), "hgfedcba"[i % 8]) for i in range(count)]
    return Part(name, task, [item for group in task.encode(examples) for item in group], weight)


def classes(context, name, count, *, weight=1.0):
    examples = [Example(("abcdefgh"[i % 8] * (1 + i % 5),), "xy"[i % 2], f"train:{i + 1}") for i in range(count)]
    task = Classification.create(examples, context)
    return Part(name, task, [item for group in task.encode(examples) for item in group], weight)


def of_part(mixture, places):
    return Counter(np.searchsorted(mixture._starts, places, side="right") - 1)


def test_an_epoch_draws_tasks_by_their_rates_and_depends_on_the_seed_alone(context):
    parts = [part(context, "a", 30), part(context, "b", 300)]
    mixture = Mixture(parts, np.array([0.5, 0.5]), batch_size=8, seed=4)
    first, again, next_one = (np.concatenate(mixture.plan(epoch)) for epoch in (0, 0, 1))
    assert len(first) == 330 and first.tolist() == again.tolist() != next_one.tolist()
    assert abs(of_part(mixture, first)[0] - 165) < 40
    other = np.concatenate(Mixture(parts, np.array([0.5, 0.5]), batch_size=8, seed=5).plan(0))
    assert other.tolist() != first.tolist()


@given(st.floats(0.01, 0.99), st.integers(0, 100))
def test_no_example_of_a_task_comes_again_before_all_its_others_came(rate, epoch):
    mixture = Mixture.__new__(Mixture)
    mixture.parts = [Part("a", None, range(7)), Part("b", None, range(50))]
    mixture.items, mixture.rates, mixture._starts = list(range(57)), np.array([rate, 1 - rate]), np.array([0, 7, 57])
    order = mixture.order(epoch, np.random.default_rng(epoch))
    assert len(order) == 57
    counts = np.bincount(order, minlength=57)
    assert np.ptp(counts[:7]) <= 1 and np.ptp(counts[7:]) <= 1


def test_a_batch_of_text_tasks_of_equal_weight_is_one_batch(context, model):
    parts = [part(context, "a", 6, prefix="a: "), part(context, "b", 6, prefix="b: ")]
    mixture = Mixture(parts, np.array([0.5, 0.5]))
    batch = mixture.collate(np.array([0, 7, 3, 11]), None)
    together = parts[0].task.collate([mixture.items[i] for i in (0, 7, 3, 11)])
    loss, carry = mixture.loss(model, batch)
    assert carry is None and batch.count == together.count == loss.count
    assert loss.total.item() == pytest.approx(parts[0].task.loss(model, together).total.item())


def test_the_weight_of_a_task_multiplies_its_loss(context, model):
    parts = [part(context, "a", 6), part(context, "b", 6, weight=3.0)]
    mixture = Mixture(parts, np.array([0.5, 0.5]))
    places = np.array([0, 1, 2, 8])
    loss, _ = mixture.loss(model, mixture.collate(places, None))
    alone = [parts[k].task.loss(model, parts[k].task.collate(chosen)) for k, chosen in
             ((0, mixture.items[:3]), (1, [mixture.items[8]]))]  # fmt: skip
    means = [own.total.item() / own.count for own in alone]
    assert loss.count == 4
    assert loss.total.item() / loss.count == pytest.approx(3 / 4 * means[0] + 3.0 * 1 / 4 * means[1], rel=1e-5)


def test_tasks_with_heads_share_the_body_and_nothing_else(context, tokenizer):
    parts = [classes(context, "a", 8), classes(context, "b", 8, weight=0.5), part(context, "c", 8)]
    torch.manual_seed(3)
    heads = {p.name: p.task.head() for p in parts if p.task.head()}
    model = build_model(SHAPE, tokenizer.vocab_size, {"heads": heads}).eval()
    assert model.of("a").body is model.of("b").body is model.of("c") is model.body
    mixture = Mixture(parts, np.full(3, 1 / 3))
    batch = mixture.collate(np.array([0, 1, 8, 16]), None)
    loss, _ = mixture.loss(model, batch)
    loss.total.backward()
    assert model.tasks["a"].head.output.weight.grad is not None
    assert batch.count == loss.count == 4 and batch.tokens > 0
    own = [p.task.loss(model.of(p.name), p.task.collate(mixture.items[i:j])) for p, i, j in
           zip(parts, (0, 8, 16), (2, 9, 17), strict=True)]  # fmt: skip
    means = [own_loss.total.item() / own_loss.count for own_loss in own]
    assert loss.total.item() == pytest.approx(2 * means[0] + 0.5 * means[1] + means[2], rel=1e-5)


def test_a_task_that_is_not_in_a_batch_learns_nothing_from_it(context, tokenizer):
    parts = [classes(context, "a", 8), classes(context, "b", 8)]
    model = build_model(SHAPE, tokenizer.vocab_size, {"heads": {p.name: p.task.head() for p in parts}})
    mixture = Mixture(parts, np.array([0.5, 0.5]))
    mixture.loss(model, mixture.collate(np.array([0, 1]), None))[0].total.backward()
    assert all(parameter.grad is None for parameter in model.tasks["b"].head.parameters())


def test_a_task_without_examples_is_refused(context):
    with pytest.raises(NlpcliError, match="'b' has no training examples"):
        Mixture([part(context, "a", 2), part(context, "b", 0)], np.array([0.5, 0.5]))


def test_a_mixture_is_read_from_its_file(tmp_path):
    path = tmp_path / "mix.yaml"
    path.write_text(
        "mixing: temperature:2.0\nlimit: 1000\ntasks:\n"
        "  language: {train: a.tsv, dev: [b.tsv], text: 1, label: label, prefix: 'language: ', measure: accuracy}\n"
        "  kind: {task: classify, train: [a.tsv], dev: [b.tsv], head: {dropout: 0.2}, weight: 0.5}\n"
    )
    mixture = load_mixture(path)
    assert mixture.temperature == 2.0 and mixture.limit == 1000
    assert mixture.tasks["language"].train == ["a.tsv"] and mixture.tasks["language"].text == "1"
    assert mixture.tasks["kind"].head.dropout == 0.2
    assert mixture.files == ["a.tsv", "b.tsv", "a.tsv", "b.tsv"]


@pytest.mark.parametrize(("mixing", "expected"), [("proportional", 1.0), ("equal", float("inf"))])
def test_mixing_is_a_temperature(tmp_path, mixing, expected):
    path = tmp_path / "mix.yaml"
    path.write_text(f"mixing: {mixing}\ntasks: {{a: {{train: x, dev: y}}}}\n")
    assert load_mixture(path).temperature == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixing: even\ntasks: {a: {train: x, dev: y}}", "temperature:2"),
        ("mixing: temperature:0\ntasks: {a: {train: x, dev: y}}", "temperature:2"),
        ("tasks: {}", "tasks"),
        ("tasks: {a.b: {train: x, dev: y}}", "can't be the name of a task"),
        ("tasks: {a: {train: x}}", "'tasks.a.dev' is missing"),
        ("tasks: {a: {train: x, dev: y, prefx: z}}", "unknown key"),
        ("tasks: {a: {train: x, dev: y, weight: 0}}", "weight"),
    ],
)
def test_a_mistake_in_the_file_of_a_mixture_is_named(tmp_path, text, message):
    path = tmp_path / "mix.yaml"
    path.write_text(text)
    with pytest.raises(NlpcliError, match=r"mix\.yaml") as caught:
        load_mixture(path)
    assert message in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("task: classify, prefix: z", "'prefix' is a setting of tasks that generate text, but this task is 'classify'"),
        ("head: {dropout: 0.1}", "the task text-to-text has no section 'head'"),
        ("task: similarity", "the task similarity can't be trained together with others"),
        ("task: translation", "the task translation can't be trained together with others"),
        ("task: clasify", "unknown task 'clasify'"),
    ],
)
def test_a_task_that_a_mixture_can_not_have_is_named_with_its_place(tmp_path, settings, message):
    path = tmp_path / "mix.yaml"
    path.write_text(f"tasks: {{a: {{train: x, dev: y, {settings}}}}}")
    with pytest.raises(NlpcliError, match=r"^mix\.yaml: tasks\.a: ") as caught:
        kind_of("mix.yaml: tasks.a", load_mixture(path).tasks["a"])
    assert message in caught.value.message
