"""Extractive question answering: where answers are learnt, and how windows are decoded."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.examples import Answer, Columns, Example
from nlpcli.errors import NlpcliError
from nlpcli.tasks.span import SpanExtraction, best_spans
from nlpcli.text import TOKENIZERS, train_tokenizer

COLOURS = ["red", "green", "blue", "black", "white"]
THINGS = ["house", "tree", "dog", "car", "sea"]
SIZES = {"unigram": 33, "bpe": 36, "wordpiece": 45, "byte-bpe": 275, "chars": None, "words": None}


def example(draw: random.Random, *, none: float = 0.0, things: int = 3) -> Example:
    """Which thing has a colour: the word behind the colour, which stands once in the context, or not at all."""
    colours = draw.sample(COLOURS, things)
    words = [f"{colour} {draw.choice(THINGS)}" for colour in colours]
    context = ", ".join(words) + "."
    if draw.random() < none:
        return Example((draw.choice([c for c in COLOURS if c not in colours]), context), (), "x.json")
    example = draw.randrange(things)
    text = words[example].split()[1]
    start = context.index(words[example]) + len(colours[example]) + 1
    return Example((colours[example], context), (Answer(text, start),), "x.json")


def examples(count: int, seed: int = 1, **settings) -> list[Example]:
    draw = random.Random(seed)
    return [example(draw, **settings) for _ in range(count)]


TRAIN = examples(300)
TEST = examples(40, 2)
SOME_WITHOUT = examples(60, 3, none=0.4)


@pytest.fixture(scope="module")
def tokenizers():
    lines = [" ".join(e.texts) for e in TRAIN]
    sizes = {kind: {} if size is None else {"vocab_size": size} for kind, size in SIZES.items()}
    return {kind: train_tokenizer(kind, lines, byte_fallback=False, **sizes[kind]) for kind in TOKENIZERS}


@pytest.fixture(scope="module")
def spaced():
    """A tokenizer whose words are cut from their punctuation."""
    words = sorted({word for e in TRAIN for word in re.findall(r"\w+", e.texts[1])})
    return train_tokenizer("wordpiece", [f"{word} , . " * 3 for word in words] * 3, vocab_size=60)


# --- where answers are learnt ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in TOKENIZERS if kind != "words"])
@pytest.mark.parametrize("max_length", [28, 200])
def test_the_places_learnt_spell_the_answer_for_every_tokenizer_and_body(
    make_context, tokenizers, shape, kind, max_length
):
    task = SpanExtraction.create(TRAIN, make_context(shape, tokenizers[kind], max_length), stride=9)
    for example, items in zip(TEST, task.encode(TEST), strict=True):
        targets = [item.target for item in items if item.target != (item.null, item.null)]
        assert targets or len(items) > 1
        for item in items:
            assert item.size <= max_length
            if item.target != (item.null, item.null):
                first, last = (item.positions.tolist().index(place) for place in item.target)
                span = example.texts[1][item.spans[first, 0] : item.spans[last, 1]]
                assert example.label[0].text in span
                if kind == "chars":
                    assert span == example.label[0].text


def test_an_answer_inside_a_word_is_found_to_the_character(make_context, tokenizers):
    context = "costs$30.5m東京都に"
    answers = [Answer("30.5", 6), Answer("京都", 12), Answer("m", 10)]
    given = [Example(("a", context), (answer,), "x") for answer in answers]
    task = SpanExtraction.create(given, make_context("encoder", tokenizers["byte-bpe"], 80))
    for one, (item,) in zip(given, task.encode(given), strict=True):
        first, last = (item.positions.tolist().index(place) for place in item.target)
        assert context[item.spans[first, 0] : item.spans[last, 1]] == one.label[0].text


@given(length=st.integers(0, 90), stride=st.integers(1, 40), max_length=st.integers(8, 40))
def test_windows_cover_the_context_and_share_the_stride(make_context, tokenizers, length, stride, max_length):
    given = Example(("ab", "x" * length))
    head = {"head": {}, "no_answer": False}
    task = SpanExtraction(make_context("encoder", tokenizers["chars"], max_length), stride=stride, **head)
    (items,) = task.encode([given])
    parts = [item.spans[:, 0].tolist() for item in items]
    assert sorted({place for part in parts for place in part}) == list(range(length))
    room = max_length - 3 - 2
    for some, following in pairwise(parts):
        assert len(some) == room
        assert len(set(some) & set(following)) == min(stride, room // 2)


def test_a_window_without_the_answer_points_to_the_summary(make_context, tokenizers, shape):
    task = SpanExtraction.create(TRAIN, make_context(shape, tokenizers["chars"], 24), stride=4)
    special = tokenizers["chars"].special
    items = [item for group in task.encode(TEST) for item in group]
    elsewhere = [item for item in items if item.target == (item.null, item.null)]
    assert elsewhere and len(elsewhere) < len(items)
    for item in items:
        expected = special.eos if shape == "encoder-decoder" else special.cls
        assert item.row.ids[item.null] == expected
        assert item.null not in item.positions


@pytest.mark.parametrize("read_from", ["", "roberta", "bart"])
def test_places_are_those_of_the_pieces_in_what_the_model_reads(make_context, tokenizers, shape, read_from):
    tokenizer = tokenizers["chars"]
    task = SpanExtraction.create(TRAIN, make_context(shape, tokenizer, 24, read_from=read_from), stride=4)
    for example, items in zip(TEST, task.encode(TEST), strict=True):
        for item in items:
            spelled = tokenizer.decode([[int(id_)] for id_ in item.row.ids[item.positions]])
            assert spelled == [example.texts[1][start:end] for start, end in item.spans]
            assert item.size == len(item.row.segments) <= 24


def test_a_long_question_is_cut(make_context, tokenizers):
    task = SpanExtraction.create(TRAIN, make_context("encoder", tokenizers["chars"], 200))
    ((item,),) = task.encode([Example(("q" * 100, "red tree"))])
    assert item.size == 64 + 3 + 8


# --- decoding ----------------------------------------------------------------------------------------------------

numbers = st.floats(-5, 5, width=32)


@given(
    logits=st.lists(st.tuples(numbers, numbers), max_size=12),
    longest=st.integers(1, 6),
    count=st.integers(1, 9),
)
def test_the_best_spans_are_those_of_a_search_through_all(logits, longest, count):
    k = len(logits)
    everything = [(logits[i][0] + logits[j][1], i, j) for i in range(k) for j in range(i, min(k, i + longest))]
    found = best_spans(np.array(logits, dtype=np.float64).reshape(-1, 2), longest, count)
    assert [score for score, _, _ in found] == pytest.approx(
        sorted((s for s, _, _ in everything), reverse=True)[:count]
    )
    for score, i, j in found:
        assert 0 <= i <= j < min(k, i + longest)
        assert score == pytest.approx(logits[i][0] + logits[j][1])


@given(data=st.data(), no_answer=st.booleans(), max_answer=st.integers(1, 6))
def test_the_prediction_is_the_best_of_all_windows(make_context, tokenizers, data, no_answer, max_answer):
    context = make_context("encoder", tokenizers["chars"], 14)
    task = SpanExtraction(context, head={}, no_answer=no_answer, stride=3, max_answer=max_answer)
    given = Example(("ab", "red  tree blue dog"))
    (items,) = task.encode([given])
    scores = [
        data.draw(st.lists(numbers, min_size=2 * len(i.positions) + 2, max_size=2 * len(i.positions) + 2))
        for i in items
    ]
    outputs = [np.array(values).reshape(-1, 2) for values in scores]
    best = max(
        (logits[1 + i, 0] + logits[1 + j, 1], int(item.spans[i, 0]), int(item.spans[j, 1]))
        for item, logits in zip(items, outputs, strict=True)
        for i in range(len(item.positions))
        for j in range(i, min(len(item.positions), i + max_answer))
    )
    null = min(logits[0].sum() for logits in outputs)
    prediction = task.prediction(given, items, outputs)
    json.dumps(prediction)
    total = sum(one["probability"] for one in prediction["nbest"])
    if no_answer and null > best[0] + 1e-9:
        assert prediction["answer"] == "" and prediction["start"] is None
        assert prediction["no_answer_probability"] > 0.5
    elif not no_answer or null < best[0] - 1e-9:
        start, end = prediction["start"], prediction["end"]
        assert prediction["answer"] == given.texts[1][start:end] == prediction["nbest"][0]["answer"]
        assert prediction["score"] == pytest.approx(best[0] - (null if no_answer else 0))
    if not no_answer:
        assert total == pytest.approx(1)
        assert "no_answer_probability" not in prediction


def test_the_threshold_says_how_sure_no_answer_must_be(make_context, tokenizers):
    context = make_context("encoder", tokenizers["chars"])
    given = Example(("ab", "x"))
    for threshold, answer in ((0.5, ""), (0.8, "x")):
        task = SpanExtraction(context, head={}, no_answer=True, threshold=threshold)
        prediction = task.prediction(given, task.encode([given])[0], [np.array([[0.5, 0.5], [0.0, 0.0]])])
        assert prediction["answer"] == answer
        assert prediction["no_answer_probability"] == pytest.approx(1 / (1 + np.exp(-1)))


def test_an_empty_context_has_no_answer(make_context, make_model, predict, tokenizers):
    for no_answer in (False, True):
        source = SOME_WITHOUT if no_answer else TRAIN
        task = SpanExtraction.create(source, make_context("encoder", tokenizers["chars"]))
        prediction = predict(task, make_model(task), [Example(("red", " "))])[0]
        assert prediction["answer"] == "" and prediction["start"] is None and prediction["nbest"] == []
        json.dumps(prediction)


# --- learning ----------------------------------------------------------------------------------------------------


def test_the_loss_is_cross_entropy_over_what_may_be_an_answer(make_context, make_model, tokenizers):
    task = SpanExtraction.create(SOME_WITHOUT, make_context("encoder", tokenizers["bpe"], 40), stride=5)
    model = make_model(task)
    items = [item for group in task.encode(SOME_WITHOUT[:6]) for item in group]
    loss = task.loss(model, task.collate(items))
    expected = 0.0
    for item in items:
        logits = model(task.collate([item]).rows)[0].detach()
        places = [item.null, *item.positions.tolist()]
        for side in (0, 1):
            expected -= logits[places, side].log_softmax(dim=0)[places.index(item.target[side])].item() / 2
    assert loss.count == len(items)
    assert loss.total.item() == pytest.approx(expected, rel=1e-4)
    loss.total.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)


def test_a_models_predictions_do_not_depend_on_the_batch(make_context, make_model, predict, tokenizers, shape):
    task = SpanExtraction.create(TRAIN, make_context(shape, tokenizers["bpe"], 30), stride=5)
    model = make_model(task)
    for together, example in zip(predict(task, model, TEST[:10]), TEST[:10], strict=True):
        (alone,) = predict(task, model, [example])
        assert together["answer"] == alone["answer"]
        assert together["score"] == pytest.approx(alone["score"], abs=1e-4)


def test_every_body_learns_where_answers_stand(make_context, make_model, learn, predict, spaced, shape):
    first = [Example(e.texts, (Answer(e.texts[1].split()[1][:-1], e.texts[1].index(" ") + 1),)) for e in TRAIN]
    task = SpanExtraction.create(first, make_context(shape, spaced, 40))
    model = make_model(task)
    learn(task, model, first, steps=80)
    wanted = [e.texts[1].split()[1][:-1] for e in TEST]
    right = [p["answer"] == answer for p, answer in zip(predict(task, model, TEST), wanted, strict=True)]
    assert sum(right) / len(right) > 0.9


def test_a_table_of_questions_can_be_asked_but_not_learnt_from(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("question\tcontext\nred\tred tree\n")
    (found,) = SpanExtraction.read(str(path), Columns(format="tsv"), labelled=False)
    assert found.texts == ("red", "red tree")
    with pytest.raises(NlpcliError, match="training needs the start of each answer"):
        SpanExtraction.read(str(path), Columns(format="tsv"))


# --- the data and the words around it ----------------------------------------------------------------------------


def test_an_answer_that_is_not_in_its_context_is_refused(make_context, tokenizers):
    bad = Example(("red", "red tree"), (Answer("tree", 3),), "x.json, question 7")
    with pytest.raises(NlpcliError, match="question 7: the context does not contain the answer 'tree' at character 3"):
        SpanExtraction.create([bad], make_context("encoder", tokenizers["chars"]))
    with pytest.raises(NlpcliError, match="none of the training questions has an answer"):
        SpanExtraction.create([Example(("red", "a"), (), "x")], make_context("encoder", tokenizers["chars"]))


def test_a_dev_question_whose_answer_is_nowhere_has_no_place_to_learn_and_no_fault(make_context, tokenizers):
    task = SpanExtraction.create(TRAIN, make_context("encoder", tokenizers["chars"]))
    nowhere = Example(("red", "red tree"), (Answer("house", None),), "x")
    second = Example(("red", "red tree"), (Answer("house", None), Answer("tree", 4)), "x")
    task.check(nowhere)
    ((none,), (found,)) = task.encode([nowhere, second])
    assert none.target == (none.null, none.null)
    assert found.spans[found.positions.tolist().index(found.target[0])].tolist() == [4, 5]
    with pytest.raises(NlpcliError, match="the start of the answer 'house' is missing"):
        SpanExtraction.create([nowhere], task.context)


def test_whether_there_may_be_no_answer_is_found_in_the_data(make_context, tokenizers):
    context = make_context("encoder", tokenizers["chars"])
    assert not SpanExtraction.create(TRAIN, context).no_answer
    assert SpanExtraction.create(SOME_WITHOUT, context).no_answer
    assert not SpanExtraction.create(SOME_WITHOUT, context, no_answer=False).no_answer
    task = SpanExtraction.create(SOME_WITHOUT, context, threshold=0.3, stride=7)
    assert SpanExtraction.restore(task.describe(), context).describe() == task.describe()


def test_bad_answers_can_be_left_out_and_counted(tmp_path):
    good, bad = (
        {"id": name, "question": "red", "answers": [{"text": "tree", "answer_start": s}]}
        for name, s in (("a", 4), ("b", 9))
    )
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "red tree", "qas": [good, bad]}]}]}))
    errors: list[NlpcliError] = []
    (found,) = SpanExtraction.read(str(path), Columns(), on_bad=errors.append)
    assert found.label == (Answer("tree", 4),)
    assert "question b" in str(errors[0])
    with pytest.raises(NlpcliError):
        list(SpanExtraction.read(str(path), Columns()))


def test_a_line_is_the_answer_alone_or_the_best_ones(make_context, tokenizers):
    task = SpanExtraction(make_context("encoder", tokenizers["chars"]), head={}, no_answer=False)
    prediction = {
        "answer": "a\tb\nc",
        "nbest": [{"answer": "a\tb\nc", "probability": 0.75}, {"answer": "d", "probability": 0.25}],
    }
    assert task.line(prediction) == "a b c"
    assert task.line(prediction, top=2) == "a b c\t0.7500\td\t0.2500"
    assert task.parse("red\tred tree") == Example(("red", "red tree"))
    with pytest.raises(NlpcliError, match="no context"):
        task.parse("red")
