"""Similarity as a task: which objective, which loss, which predictions."""

from __future__ import annotations

import math

import pytest
import torch
from model_settings import of_family

from nlpcli.data.examples import Columns, Example
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.tasks.similarity import MEASURES, Similarity
from nlpcli.tasks.supervised_objective import SupervisedObjective, predict_items
from nlpcli.tasks.task import Context
from nlpcli.text import train_tokenizer

WORDS = ["a man plays", "a dog runs", "the sun", "rain falls on the sea", "two dogs", "a woman sings a song"]
TOKENIZER = train_tokenizer("chars", WORDS, vocab_size=None, byte_fallback=False, seed=1)
SHAPES = {
    "encoder": {"kind": "encoder"},
    "decoder": {"kind": "decoder"},
    "encoder-decoder": {"kind": "encoder-decoder"},
    "xlnet": {"kind": "encoder", "family": "xlnet"},
}


def context(shape="encoder"):
    sizes = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
    return Context(TOKENIZER, of_family({**sizes, **SHAPES[shape]}), {}, 40)


def examples(labels, texts=2):
    count = len(labels)
    return [
        Example(tuple(WORDS[(i + 2 * k) % len(WORDS)] for k in range(texts)), label, f"train.tsv:{i + 1}")
        for i, label in zip(range(count), labels, strict=True)
    ]


def model_for(task, seed=3):
    torch.manual_seed(seed)
    return build_model(task.context.model, TOKENIZER.vocab_size, task.head()).eval()


def batch_of(task, given):
    return task.collate([item for items in task.encode(given) for item in items])


@pytest.mark.parametrize(("labels", "classes"), [(["cats", "dogs", "cats"], 2), (["0", "2.5", "5"], None)])
def test_only_softmax_has_classes(labels, classes):
    assert Similarity.create(examples(labels), context()).head().get("classes") == classes


def test_one_text_alone_is_refused():
    with pytest.raises(NlpcliError, match=r"train\.tsv:1: the second text is missing"):
        Similarity.create([Example(("a",), None, "train.tsv:1")], context())
    task = Similarity.create(examples([None] * 2), context())
    with pytest.raises(NlpcliError, match="the second text is missing"):
        task.parse("no tab in here")
    assert task.parse("a\tb").texts == ("a", "b")


def test_unknown_labels_are_refused_and_scores_are_taken_by_all():
    named = Similarity.create(examples(["neutral", "entailment", "contradiction"]), context())
    named.check(Example(("a", "b"), "2.5"))
    with pytest.raises(NlpcliError, match=r"dev\.tsv:9: the model was not trained with the label 'neutrl'"):
        named.check(Example(("a", "b"), "neutrl", "dev.tsv:9"))
    with pytest.raises(NlpcliError, match=r"dev\.tsv:9: the score 'x' is not a number"):
        Similarity.create(examples(["1", "2", "3"]), context()).check(Example(("a", "b"), "x", "dev.tsv:9"))


# --- losses ------------------------------------------------------------------------------------------------------


def cosine(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True)) / math.sqrt(sum(a * a for a in u) * sum(b * b for b in v))


def test_cosine_is_the_squared_distance_from_the_score_brought_to_one():
    given = examples(["0", "1", "4"])
    task = Similarity.create(given, context())
    model = model_for(task)
    loss = task.loss(model, batch_of(task, given))
    vectors = [output[0].tolist() for output in task.outputs(model, batch_of(task, given))]
    expected = sum((cosine(*pair) - y) ** 2 for pair, y in zip(vectors, (0, 0.25, 1), strict=True))
    assert loss.count == 3
    assert loss.total.item() == pytest.approx(expected, abs=1e-5)


def test_softmax_compares_both_vectors_and_their_difference():
    given = examples(["neutral", "entailment", "contradiction", "neutral"])
    task = Similarity.create(given, context())
    assert task.labels == ["contradiction", "entailment", "neutral"]
    model = model_for(task)
    weight, bias = model.head.classes.weight, model.head.classes.bias
    expected = 0.0
    for example in given:
        u, v = (model(batch_of(task, [Example((text, text))]).rows)[0] for text in example.texts)
        logits = weight @ torch.cat([u, v, (u - v).abs()]) + bias
        expected -= logits.log_softmax(0)[task.labels.index(example.label)].item()
    assert task.loss(model, batch_of(task, given)).total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("labels", [["0.5", "1", "2", "3"], ["1", "0"] * 2, ["a", "b", "c", "a"], [None] * 4])
def test_every_model_learns_with_every_objective(shape, labels):
    given = examples(labels)
    task = Similarity.create(given, context(shape))
    model = model_for(task).train()
    learnable = SupervisedObjective(task, [items[0] for items in task.encode(given)], batch_size=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for epoch in range(12):
        (batch,) = [task.collate([learnable.items[i] for i in plan]) for plan in learnable.plan(epoch)]
        loss, _ = learnable.loss(model, batch)
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
        losses.append(float(loss.nll))
    assert losses[-1] < losses[0]


# --- predictions -------------------------------------------------------------------------------------------------


def test_a_prediction_is_the_cosine_of_the_two_vectors_however_they_are_batched():
    given = examples(["0", "1", "2", "5", "3"])
    task = Similarity.create(given, context())
    model = model_for(task)
    encoded = task.encode(given)
    outputs = predict_items(task, model, [items[0] for items in encoded], torch.device("cpu"), batch_tokens=64)
    for example, items, output in zip(given, encoded, outputs, strict=True):
        found = task.prediction(example, items, [output])
        one, two = (model(batch_of(task, [Example((text, text))]).rows)[0].tolist() for text in example.texts)
        assert set(found) == {"score"}
        assert found["score"] == pytest.approx(cosine(one, two), abs=1e-5)
        assert task.line(found) == f"{found['score']:.4f}"
        assert found.vectors.shape == (2, 16)


def test_softmax_predicts_labels_beside_the_cosine():
    given = examples(["neutral", "entailment", "contradiction", "neutral"])
    task = Similarity.create(given, context())
    encoded = task.encode(given)
    outputs = predict_items(task, model_for(task), [items[0] for items in encoded], torch.device("cpu"))
    found = task.prediction(given[0], encoded[0], outputs[:1])
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    assert found["label"] == next(iter(found["probabilities"]))
    assert len(task.line(found, top=2).split("\t")) == 5


def test_of_more_than_two_texts_each_is_compared_with_the_first():
    given = examples([None] * 3, texts=3)
    task = Similarity.create(given, context())
    encoded = task.encode(given)
    outputs = predict_items(task, model_for(task), [items[0] for items in encoded], torch.device("cpu"))
    found = task.prediction(given[0], encoded[0], outputs[:1])
    assert len(found["scores"]) == 2 and found["score"] == found["scores"][0]


def test_what_is_held_out_may_be_labelled_otherwise_than_what_was_learnt_from():
    kinds = {"cosine": ["0", "2", "4"], "softmax": ["a", "b", "c"], "contrastive": ["yes", "no"], "none": [None] * 2}
    for objective, labels in kinds.items():
        task = Similarity.create(examples(labels), context())
        model = model_for(task)
        for other in kinds.values():
            judged = task.judged(examples(other))
            alike = (objective, judged) in (("cosine", "scores"), ("softmax", "labels"))
            assert (MEASURES[judged] == task.measures) == (other == labels or alike)
            assert task.loss(model, batch_of(task, examples([None] * 2))).count == (2 if objective == "none" else 0)
    task = Similarity.create(examples(["0", "2", "4"]), context())
    assert [task.score_in(example) for example in examples(["0", "2", "4", None])] == [0, 0.5, 1, 1]
    task = Similarity.create(examples(["yes", "no"]), context())
    assert [task.score_in(example) for example in examples(["yes", "no", "0.5"])] == [1, 0, 0.5]
    with pytest.raises(NlpcliError, match=r"train\.tsv:1: the score 'maybe' is not a number"):
        task.score_in(examples(["maybe"])[0])


def test_a_task_is_restored_from_its_description():
    for labels in (["0", "1", "4"], ["1", "0"], ["a", "b", "c"], [None] * 2):
        task = Similarity.create(examples(labels), context(), margin=0.3, scale=7.0)
        again = Similarity.restore(task.describe(), context())
        assert again.describe() == task.describe()
        assert again.measures == task.measures


def test_pooling_goes_by_the_folder_then_by_the_mean():
    assert Similarity.create(examples([None] * 2), context()).head()["pooling"] == "mean"
    first = Context(TOKENIZER, context().model, {"pooling": "first"}, 40)
    assert Similarity.create(examples([None] * 2), first).head()["pooling"] == "first"
    assert Similarity.create(examples([None] * 2), first, pooling="max").head()["pooling"] == "max"


def test_labels_are_read_where_there_are_any(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tscore\na\tb\t0.5\nc\td\t1\n", "utf-8")
    assert [(e.texts, e.label) for e in Similarity.read(str(path), Columns())] == [
        (("a", "b"), "0.5"),
        (("c", "d"), "1"),
    ]
    path.write_text("a\tb\nc\td\n", "utf-8")
    assert [(e.texts, e.label) for e in Similarity.read(str(path), Columns())] == [
        (("a", "b"), None),
        (("c", "d"), None),
    ]
    with pytest.raises(NlpcliError, match=r"pairs\.tsv"):
        list(Similarity.read(str(path), Columns(label="score")))
    path.write_text("anchor\tpositive\tnegative\na\tb\tc\n", "utf-8")
    triple = Columns(text="anchor", choices=("positive", "negative"))
    assert [e.texts for e in Similarity.read(str(path), triple)] == [("a", "b", "c")]
    pair = Columns(text="anchor", text2="negative", choices=("positive", "negative"))
    assert [e.texts for e in Similarity.read(str(path), pair)] == [("a", "c")]
