"""Similarity as a task: which objective, which loss, which predictions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_settings import of_family

from nlpcli.data.examples import Columns, Example
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.tasks.similarity import MEASURES, Similarity, contrastive_losses, ranking_losses
from nlpcli.tasks.supervised import Supervised, predict_items
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


# --- which objective ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "objective"),
    [
        (["0.0", "2.5", "5", "3"], "cosine"),
        (["1", "0", "1"], "contrastive"),
        (["yes", "no", "no"], "contrastive"),
        (["entailment", "not_entailment"], "contrastive"),
        (["entailment", "neutral", "contradiction"], "softmax"),
        (["cats", "dogs"], "softmax"),
        ([None, None], "multiple-negatives"),
    ],
)
def test_the_labels_say_which_objective_fits(labels, objective):
    task = Similarity.create(examples(labels), context())
    assert task.objective == objective
    assert ("classes" in task.head()) == (objective == "softmax")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["1.5", "x", "2"], {"objective": "cosine"}, r"train\.tsv:2: the score 'x' is not a number"),
        (["1.5", None, "2"], {}, r"train\.tsv:2: the label is missing"),
        (["1", "nan", "2"], {"objective": "cosine"}, r"train\.tsv:2: the score 'nan' is not a number"),
        (["1", "6", "2"], {"maximum": 5.0}, r"train\.tsv:2: the score 6 is outside"),
        (["2", "2", "2"], {"objective": "cosine"}, "all training examples have the same score 2"),
        (["1", "1"], {}, "needs two labels, but all training examples have the label '1'"),
        (["yes", "no", "maybe"], {"objective": "contrastive"}, r"train\.tsv:3: .* not 'maybe'"),
        (["cats", "dogs"], {"objective": "contrastive"}, "contrastive needs the labels 1"),
        (["same", "same"], {"objective": "softmax"}, "all training examples have the same label 'same'"),
        (
            ["yes", "no"],
            {"objective": "multiple-negatives"},
            r"train\.tsv:2: .* has 'no' and the first one 'yes'",
        ),
        (["yes", "no"], {"objective": "cosin"}, "unknown objective of similarity 'cosin'"),
    ],
)
def test_labels_that_do_not_fit_are_named_with_their_place(labels, options, message):
    with pytest.raises(NlpcliError, match=message):
        Similarity.create(examples(labels), context(), **options)


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


@given(st.lists(st.tuples(st.booleans(), st.lists(st.floats(-2, 2), min_size=6, max_size=6)), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_contrastive_pulls_the_alike_together_and_strangers_a_margin_apart(rows):
    vectors = torch.tensor([[x + 0.1 for x in values] for _, values in rows], dtype=torch.float64)
    alike = torch.tensor([int(y) for y, _ in rows])
    found = contrastive_losses(vectors[:, :3], vectors[:, 3:], alike, 0.5)
    for row, y, loss in zip(vectors.tolist(), alike.tolist(), found.tolist(), strict=True):
        distance = 1 - cosine(row[:3], row[3:])
        assert loss == pytest.approx(0.5 * (distance**2 if y else max(0.0, 0.5 - distance) ** 2), abs=1e-9)


def plain_ranking(vectors, counts, scale):
    """The definition: of each example, the cross-entropy of its second text among all that are not first."""
    starts = [sum(counts[:i]) for i in range(len(counts))]
    seconds = [i for i in range(sum(counts)) if i not in starts]
    losses = []
    for start in starts:
        powers = {j: math.exp(scale * cosine(vectors[start], vectors[j])) for j in seconds}
        losses.append(-math.log(powers[start + 1] / sum(powers.values())))
    return losses


@given(st.lists(st.integers(2, 4), min_size=1, max_size=5), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_multiple_negatives_is_a_softmax_over_the_other_texts_of_the_batch(counts, seed):
    vectors = torch.randn(sum(counts), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = ranking_losses(vectors, counts, torch.arange(sum(counts)), 5.0)
    assert found.tolist() == pytest.approx(plain_ranking(vectors.tolist(), counts, 5.0))


def test_a_text_that_belongs_to_a_first_text_is_no_negative_of_it():
    generator = torch.Generator().manual_seed(1)
    a, b, c, d, e, f = torch.randn(6, 4, dtype=torch.float64, generator=generator)

    def losses(*texts, counts=None):
        names = [text for text, _ in texts]
        vectors = torch.stack([vector for _, vector in texts])
        keys = torch.tensor([names.index(name) for name in names])
        return ranking_losses(vectors, counts or [2] * (len(texts) // 2), keys, 3.0).tolist()

    alone = losses(("a", a), ("b", b), ("c", c), ("d", d))
    same_second = losses(("a", a), ("b", b), ("c", c), ("d", d), ("e", e), ("b", b))
    assert same_second[0] == pytest.approx(alone[0])
    same_first = losses(("a", a), ("b", b), ("c", c), ("d", d), ("a", a), ("f", f))
    assert same_first[0] == pytest.approx(alone[0])
    its_own = losses(("a", a), ("b", b), ("c", c), ("d", d), ("e", e), ("a", a))
    assert its_own[0] == pytest.approx(alone[0])
    its_negative = losses(("a", a), ("b", b), ("c", c), ("e", e), ("d", d), ("a", a), ("f", f), counts=[3, 2, 2])
    expected = losses(("a", a), ("f", f), ("c", c), ("e", e), ("d", d), counts=[3, 2])
    assert its_negative[2] == pytest.approx(expected[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("labels", [["0.5", "1", "2", "3"], ["1", "0"] * 2, ["a", "b", "c", "a"], [None] * 4])
def test_every_model_learns_with_every_objective(shape, labels):
    given = examples(labels)
    task = Similarity.create(given, context(shape))
    model = model_for(task).train()
    learnable = Supervised(task, [items[0] for items in task.encode(given)], batch_size=4)
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
    told = Context(TOKENIZER, context().model, {"pooling": "first"}, 40)
    assert Similarity.create(examples([None] * 2), told).head()["pooling"] == "first"
    assert Similarity.create(examples([None] * 2), told, pooling="max").head()["pooling"] == "max"


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
