"""Multiple choice: which candidate a label names, and what is learnt."""

from __future__ import annotations

import json
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.examples import Columns, Example
from nlpcli.errors import NlpcliError
from nlpcli.tasks.choice import STYLES, Choice, place_of, style_of
from nlpcli.text import train_tokenizer

ANIMALS = ["cat", "dog", "horse", "cow"]
SOUNDS = ["meows", "barks", "neighs", "moos"]


def example(draw: random.Random, count: int | None = None) -> Example:
    """What an animal does, among the sounds of others."""
    right = draw.randrange(len(ANIMALS))
    others = [sound for sound in SOUNDS if sound != SOUNDS[right]]
    candidates = [SOUNDS[right], *draw.sample(others, (count or draw.randint(2, 4)) - 1)]
    draw.shuffle(candidates)
    return Example((f"the {ANIMALS[right]}", *candidates), str(candidates.index(SOUNDS[right])), "x.tsv:1")


DRAW = random.Random(2)
TRAIN = [example(DRAW) for _ in range(120)]
TEST = [example(DRAW) for _ in range(30)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("words", [" ".join(e.texts) for e in TRAIN])


@given(
    style=st.sampled_from(list(STYLES)),
    places=st.lists(st.integers(0, 2), max_size=6),
)
def test_how_labels_name_candidates_is_found_in_the_data(style, places):
    candidates = ("one way", "another", "a third")
    labels = [STYLES[style](place, candidates) for place in [*places, 0]]
    examples = [Example(("text", *candidates), label) for label in labels]
    assert style_of(examples) == style
    assert [place_of(label, candidates, style) for label in labels] == [*places, 0]


def test_candidates_that_are_numbers_are_meant_as_texts():
    assert style_of([Example(("2 + 1", "2", "3", "1"), "3")]) == "texts"


def test_numbers_that_never_are_0_count_from_1():
    assert style_of([Example(("a", "b", "c", "d"), "1"), Example(("a", "b", "c", "d"), "2")]) == "numbers from 1"
    assert style_of([Example(("a", "b", "c", "d"), "1"), Example(("a", "b", "c", "d"), "0")]) == "numbers from 0"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["A", "B", "E"], r"x:3: the label 'E' is not one of the 2 candidates"),
        (["0", "1", "2"], r"x:3: the label '2' is not one of the 2 candidates"),
        (["0", None], r"x:2: the label is missing"),
    ],
)
def test_a_label_that_names_no_candidate_is_refused_with_its_place(labels, message):
    examples = [Example(("text", "u", "v"), label, f"x:{n}") for n, label in enumerate(labels, 1)]
    with pytest.raises(NlpcliError, match=message):
        style_of(examples)


def test_a_label_that_names_none_at_evaluation_is_refused(make_context, tokenizer):
    task = Choice.create(TRAIN, make_context("encoder", tokenizer))
    task.check(TEST[0])
    with pytest.raises(NlpcliError, match=r"dev\.tsv:7: the label '9' is not one of the 2 candidates") as raised:
        task.check(Example(("a", "b", "c"), "9", "dev.tsv:7"))
    assert "counted from 0" in raised.value.hint


def test_each_candidate_is_read_beside_the_text(make_context, tokenizer):
    task = Choice.create(TRAIN, make_context("encoder", tokenizer))
    ((item,),) = task.encode([TEST[0]])
    special = tokenizer.special
    text, *candidates = tokenizer.encode(TEST[0].texts)
    assert [list(row.ids) for row in item.rows] == [
        [special.cls, *text, special.sep, *candidate, special.sep] for candidate in candidates
    ]
    assert item.target == int(TEST[0].label)


def test_the_loss_is_cross_entropy_over_an_examples_own_candidates(make_context, make_model, tokenizer):
    task = Choice.create(TRAIN, make_context("encoder", tokenizer))
    model = make_model(task)
    items = [item for (item,) in task.encode(TEST[:6])]
    assert len({len(item.rows) for item in items}) > 1
    loss = task.loss(model, task.collate(items))
    expected = 0.0
    for item in items:
        batch = task.collate([item])
        expected -= model(batch.rows)[:, 0].log_softmax(dim=0)[item.target].item()
    assert loss.count == 6
    assert loss.total.item() == pytest.approx(expected, rel=1e-4)
    loss.total.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)


def test_every_body_learns_to_choose(make_context, make_model, learn, predict, tokenizer, shape):
    task = Choice.create(TRAIN, make_context(shape, tokenizer))
    model = make_model(task)
    learn(task, model, TRAIN, steps=60)
    predictions = predict(task, model, TEST)
    right = [p["choice"] == task.choice_in(e) for p, e in zip(predictions, TEST, strict=True)]
    assert sum(right) / len(right) > 0.9
    assert all(sum(p["probabilities"]) == pytest.approx(1) for p in predictions)
    for prediction, alone in zip(predictions, (predict(task, model, [e])[0] for e in TEST), strict=True):
        assert prediction["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-4)


def test_a_prediction_is_written_as_the_data_has_it(make_context, tokenizer):
    examples = [Example(("the cat", "barks", "meows"), "B"), Example(("the cat", "meows", "barks"), "A")]
    task = Choice.create(examples, make_context("encoder", tokenizer))
    prediction = task.prediction(examples[0], task.encode(examples)[0], [torch.tensor([0.25, 0.75])])
    assert prediction["label"] == "B" and prediction["choice"] == "meows"
    assert task.line(prediction) == "B\t0.7500"
    assert task.line(prediction, top=2) == "B\t0.7500\tA\t0.2500"
    json.dumps(prediction)


def test_a_line_holds_the_text_and_its_candidates(make_context, tokenizer):
    task = Choice.create(TRAIN, make_context("encoder", tokenizer))
    assert task.parse("the cat\tmeows\tbarks") == Example(("the cat", "meows", "barks"))
    with pytest.raises(NlpcliError, match=r"has 1 candidate$"):
        task.parse("the cat\tmeows")


def test_a_task_is_restored_from_its_description(make_context, tokenizer):
    context = make_context("encoder", tokenizer)
    task = Choice.create(TRAIN, context, truncate="first")
    again = Choice.restore(task.describe(), context)
    assert again.describe() == task.describe()
    assert again.encode(TEST[:1]) == task.encode(TEST[:1])


def test_examples_are_read_from_tables(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("text\tchoice1\tchoice2\tlabel\nthe cat\tmeows\tbarks\t0\n")
    (found,) = Choice.read(str(path), Columns())
    assert (found.texts, found.label) == (("the cat", "meows", "barks"), "0")
