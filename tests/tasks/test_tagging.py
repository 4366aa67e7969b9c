"""Tagging: which tag is learnt where, and what is made of predictions."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.examples import Columns, Example
from nlpcli.errors import NlpcliError
from nlpcli.tasks.tag_set import Tags
from nlpcli.tasks.tagging import Tagging, windows
from nlpcli.text import TOKENIZERS, train_tokenizer

NAMES = ["anna", "berta", "carl", "dora", "emil", "frieda", "gustav"]
SURNAMES = ["maier", "schmidt", "vogel", "wolf"]
PLACES = ["aachen", "berlin", "chemnitz", "dresden", "erfurt"]
FILLERS = ["we", "saw", "the", "dog", "and", "a", "tree", "today"]
SIZES = {"unigram": 45, "bpe": 50, "wordpiece": 60, "byte-bpe": 290, "chars": None, "words": None}


def sentence(draw: random.Random, place: str = "") -> Example:
    """A name stands behind "mr", with or without a surname; a place behind "in"."""
    words: list[str] = []
    tags: list[str] = []
    for _ in range(draw.randint(1, 3)):
        for _ in range(draw.randint(0, 2)):
            words.append(draw.choice(FILLERS))
            tags.append("O")
        if draw.random() < 0.5:
            count = draw.randint(1, 2)
            words += ["mr", draw.choice(NAMES), draw.choice(SURNAMES)][: count + 1]
            tags += ["O", "B-PER", "I-PER"][: count + 1]
        else:
            words += ["in", draw.choice(PLACES)]
            tags += ["O", "B-LOC"]
    return Example(tuple(words), tuple(tags), place)


DRAW = random.Random(3)
TRAIN = [sentence(DRAW, f"train.conll:{10 * n + 1}") for n in range(160)]
TEST = [sentence(DRAW) for _ in range(40)]


@pytest.fixture(scope="module")
def tokenizers():
    lines = [" ".join(example.texts) for example in TRAIN]
    sizes = {kind: {} if size is None else {"vocab_size": size} for kind, size in SIZES.items()}
    return {kind: train_tokenizer(kind, lines, byte_fallback=False, **sizes[kind]) for kind in TOKENIZERS}


def examples_of(*sentences: str) -> list[Example]:
    """Each a sentence of word/tag."""
    made = []
    for number, text in enumerate(sentences, 1):
        words, tags = zip(*(pair.split("/") for pair in text.split()), strict=True)
        made.append(Example(words, tags, f"x.conll:{number}"))
    return made


# --- which tags there are ----------------------------------------------------------------------------------------


def test_tags_of_entities_are_all_that_their_types_can_have():
    tags, notes = Tags.found(examples_of("a/O b/B-PER c/I-PER", "d/B-LOC"))
    assert tags == Tags(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"], "BIO")
    assert notes == []


def test_iob1_is_learnt_as_bio_and_that_is_reported():
    examples = examples_of("a/O b/I-PER c/I-PER d/B-PER", "d/I-LOC e/O")
    tags, notes = Tags.found(examples)
    assert tags.scheme == "BIO"
    assert tags.of(examples[0]) == ["O", "B-PER", "I-PER", "B-PER"]
    assert notes == ["the tags use the scheme IOB1; the model uses BIO in training and in its output"]


def test_bioes_stays_as_it_is_and_can_be_requested():
    bioes = examples_of("a/S-PER b/O c/B-PER d/I-PER e/E-PER")
    assert Tags.found(bioes) == (Tags(["O", "B-PER", "I-PER", "E-PER", "S-PER"], "IOBES"), [])
    bio = examples_of("a/B-PER b/O c/B-PER d/I-PER e/I-PER")
    tags, notes = Tags.found(bio, "bioes")
    assert tags.of(bio[0]) == list(bioes[0].label)
    assert len(notes) == 1


def test_parts_of_speech_mark_no_entities():
    tags, notes = Tags.found(examples_of("I/PRON go/VERB", "B/NOUN O/O"))
    assert tags == Tags(["NOUN", "O", "PRON", "VERB"], None)
    assert notes == []
    assert Tags.found(examples_of("a/I b/O c/S"))[0].scheme is None


def test_tags_that_look_like_entities_can_be_taken_as_they_are():
    assert Tags.found(examples_of("a/O b/I-PER"), "none")[0] == Tags(["I-PER", "O"], None)


def test_invalid_bio_is_reported_with_its_place_and_read_as_conlleval_reads_it():
    examples = examples_of("a/B-PER b/I-PER", "a/O b/I-LOC c/O d/B-LOC", "a/O b/B-PER c/B-PER", "a/O b/I-PER c/I-PER")
    tags, notes = Tags.found(examples)
    assert tags.scheme == "BIO"
    assert tags.of(examples[1]) == ["O", "B-LOC", "O", "B-LOC"]
    (note,) = notes
    assert note.startswith("2 tags are not valid in the scheme BIO")
    assert "x.conll:2: word 2 has the tag 'I-LOC', but 'B-LOC' is expected" in note


@pytest.mark.parametrize(
    ("examples", "scheme", "message"),
    [
        ([Example(("a",), None, "x:1")], "auto", "x:1: the tags are missing"),
        ([Example(("a", "b"), ("O",), "x:1")], "auto", "x:1: the sentence has 2 words but 1 tag$"),
        (examples_of("a/O b/O"), "auto", "x.conll:1: all words of the training examples have the same tag 'O'"),
        (examples_of("a/B-X", "b/NOUN"), "bio", "x.conll:2: the tag 'NOUN' is not a tag of the scheme bio"),
    ],
)
def test_what_cannot_be_learnt_is_refused_with_its_place(examples, scheme, message):
    with pytest.raises(NlpcliError, match=message):
        Tags.found(examples, scheme)


def test_a_mistyped_tag_among_entities_is_named_with_its_place():
    many = examples_of(*["a/O b/B-PER c/I-PER d/O"] * 25)
    slip = Example(("a", "b"), ("O", "BPER"), "y.conll:7")
    with pytest.raises(NlpcliError, match=r"^'BPER' \(y.conll:7, word 2\) is not an entity tag") as raised:
        Tags.found([*many, slip])
    assert "did you mean 'B-PER'?" in raised.value.hint and "head.scheme=none" in raised.value.hint
    with pytest.raises(
        NlpcliError, match=r"'BPER' \(y.conll:7, word 2\), 'BPER' \(y.conll:7, word 2\) are not entity tags"
    ):
        Tags.found([*many, slip, slip])
    tags, _ = Tags.found([*many, slip], "none")
    assert tags == Tags(["B-PER", "BPER", "I-PER", "O"], None)


@given(others=st.integers(1, 40))
def test_tags_most_of_which_mark_entities_are_plain_only_where_many_do_not(others):
    examples = [*examples_of(*["a/O b/B-PER"] * 50), *examples_of(*["x/NOUN"] * others)]
    if others <= 5:
        with pytest.raises(NlpcliError, match=r"'NOUN' \(x.conll:1, word 1\)"):
            Tags.found(examples)
    else:
        assert Tags.found(examples)[0].scheme is None


def test_an_unknown_tag_is_named_with_its_place(make_context, tokenizers):
    task = Tagging.create(TRAIN, make_context("encoder", tokenizers["words"]))
    task.check(TEST[0])
    with pytest.raises(
        NlpcliError, match=r"x.conll:1, word 2: the model was not trained with the label 'B-ORG'"
    ) as raised:
        task.check(examples_of("we/O saw/B-ORG")[0])
    assert "B-LOC" in raised.value.hint or "B-PER" in raised.value.hint
    with pytest.raises(NlpcliError, match=r"x.conll:1: 'NOUN'"):
        task.check(examples_of("we/O saw/NOUN")[0])


# --- where tags are learnt ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(TOKENIZERS))
@pytest.mark.parametrize("max_length", [20, 200])
def test_every_word_is_tagged_once_at_its_first_piece(make_context, tokenizers, shape, kind, max_length):
    tokenizer = tokenizers[kind]
    task = Tagging.create(TRAIN, make_context(shape, tokenizer, max_length))
    long = Example(tuple(w for e in TEST[:5] for w in e.texts), tuple(t for e in TEST[:5] for t in e.label))
    last = shape in ("decoder", "transformer-xl")
    for example, items in zip([*TEST, long], task.encode([*TEST, long]), strict=True):
        assert [n for item in items for n in range(*item.words)] == list(range(len(example.texts)))
        assert [task.labels[target] for item in items for target in item.targets] == list(example.label)
        for item in items:
            assert item.size <= max_length
            assert (np.diff(item.positions) > 0).all()
            for word, place in zip(range(*item.words), item.positions, strict=True):
                (spelled,) = tokenizer.decode([[int(item.row.ids[place])]])
                spelled = spelled.strip().removeprefix("##")
                assert spelled
                text = example.texts[word]
                assert text.endswith(spelled) if last else text.startswith(spelled)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=60),
    room=st.integers(9, 40),
    causal=st.booleans(),
)
def test_windows_fit_and_tag_every_word_once_where_most_is_shown(sizes, room, causal):
    found = windows(sizes, room, causal=causal)
    assert [n for _, _, first, last in found for n in range(first, last)] == list(range(len(sizes)))

    def shown(start, end, word):
        before = sum(sizes[start:word]) if start else sum(sizes)
        after = sum(sizes[word + 1 : end]) if end < len(sizes) else sum(sizes)
        return before if causal else min(before, after)

    for start, end, first, last in found:
        assert start <= first < last <= end
        assert sum(sizes[start:end]) <= room
        assert end == len(sizes) or sum(sizes[start : end + 1]) > room
        for word in range(first, last):
            assert all(shown(start, end, word) >= shown(a, b, word) for a, b, _, _ in found if a <= word < b)


def test_a_word_with_more_pieces_than_fit_is_cut(make_context, tokenizers):
    task = Tagging.create(TRAIN, make_context("encoder", tokenizers["chars"], 12))
    items = task.encode([Example(("we", "a" * 50, "the"))])[0]
    assert [n for item in items for n in range(*item.words)] == [0, 1, 2]
    assert all(item.size <= 12 for item in items)


def test_an_empty_sentence_has_no_tags(make_context, make_model, predict, tokenizers):
    task = Tagging.create(TRAIN, make_context("encoder", tokenizers["wordpiece"]))
    empty, other = predict(task, make_model(task), [task.parse(""), task.parse(" we  saw ")])
    assert empty == {"words": [], "tags": [], "probabilities": [], "entities": []}
    assert task.line(empty) == ""
    assert len(other["tags"]) == 2


# --- loss and predictions ----------------------------------------------------------------------------------------


def test_the_loss_is_cross_entropy_of_labelled_words(make_context, make_model, tokenizers):
    task = Tagging.create(TRAIN, make_context("encoder", tokenizers["wordpiece"]))
    model = make_model(task)
    items = [items[0] for items in task.encode(TEST[:5])]
    batch = task.collate(items)
    loss = task.loss(model, batch)
    expected = 0.0
    for item in items:
        alone = task.collate([item])
        log_probs = model(alone.rows)[0].detach().log_softmax(dim=-1)
        expected -= sum(
            float(log_probs[place, target]) for place, target in zip(item.positions, item.targets, strict=True)
        )
    assert loss.count == sum(len(example.texts) for example in TEST[:5])
    assert loss.total.item() == pytest.approx(expected, rel=1e-4)


def test_a_tag_that_is_not_known_counts_in_no_loss(make_context, make_model, tokenizers):
    task = Tagging.create(TRAIN, make_context("encoder", tokenizers["words"]))
    items = task.encode(examples_of("we/O saw/B-ORG the/O"))[0]
    loss = task.loss(make_model(task), task.collate(items))
    assert loss.count == 2 and torch.isfinite(loss.total)


def test_a_models_predictions_do_not_depend_on_the_batch(make_context, make_model, predict, tokenizers, shape):
    task = Tagging.create(TRAIN, make_context(shape, tokenizers["bpe"], 24))
    model = make_model(task)
    together = predict(task, model, TEST)
    alone = [predict(task, model, [example])[0] for example in TEST]
    for some, other in zip(together, alone, strict=True):
        assert some["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)


def share_right(predictions) -> float:
    pairs = zip(predictions, TEST, strict=True)
    right = [tag == true for p, e in pairs for tag, true in zip(p["tags"], e.label, strict=True)]
    return sum(right) / len(right)


def test_every_body_learns_to_tag(make_context, make_model, learn, predict, tokenizers, shape):
    task = Tagging.create(TRAIN, make_context(shape, tokenizers["words"]))
    model = make_model(task)
    learn(task, model, TRAIN, steps=80)
    assert share_right(predict(task, model, TEST)) > 0.97


def test_an_lstm_on_frozen_states_learns_too(make_context, make_model, learn, predict, tokenizers):
    task = Tagging.create(TRAIN, make_context("encoder", tokenizers["words"]), recurrent=16, layers="concat:2")
    model = make_model(task)
    model.body.requires_grad_(False)
    learn(task, model, TRAIN, steps=60, lr=1e-2)
    assert share_right(predict(task, model, TEST)) > 0.97


def test_entities_are_given_with_their_characters(make_context, tokenizers):
    task = Tagging.create(TRAIN, make_context("encoder", tokenizers["words"]))
    example = Example(("saw", "mr", "anna", "dora", "in", "berlin"))
    tags = ["O", "O", "B-PER", "I-PER", "O", "B-LOC"]
    output = torch.full((6, 5), 0.01)
    output[range(6), [task.labels.index(tag) for tag in tags]] = 0.96
    prediction = task.prediction(example, task.encode([example])[0], [output])
    assert prediction["tags"] == tags
    assert prediction["probabilities"] == pytest.approx([0.96] * 6)
    assert prediction["entities"] == [
        {"type": "PER", "text": "anna dora", "start": 7, "end": 16},
        {"type": "LOC", "text": "berlin", "start": 20, "end": 26},
    ]
    assert task.line(prediction) == "O O B-PER I-PER O B-LOC"


def test_characters_of_entities_count_in_words_joined_by_single_spaces(make_context, tokenizers):
    task = Tagging.create(TRAIN, make_context("encoder", tokenizers["words"]))
    example = task.parse("  saw \t anna   dora")
    output = torch.full((3, 5), 0.01)
    output[range(3), [task.labels.index(tag) for tag in ("O", "B-PER", "I-PER")]] = 0.96
    prediction = task.prediction(example, task.encode([example])[0], [output])
    (entity,) = prediction["entities"]
    assert " ".join(prediction["words"])[entity["start"] : entity["end"]] == entity["text"] == "anna dora"


def test_a_task_is_restored_from_its_description(make_context, tokenizers):
    context = make_context("encoder", tokenizers["words"])
    task = Tagging.create(TRAIN, context)
    again = Tagging.restore(task.describe(), context)
    assert again.describe() == task.describe() == {"labels": task.labels, "scheme": "BIO"}
    assert again.measures == ("entity_f1", "accuracy")
    assert Tagging.create(TRAIN, context, scheme="none").measures == ("accuracy",)


def test_examples_are_read_from_conll_columns(tmp_path):
    path = tmp_path / "x.conll"
    path.write_text("we O\nsaw O\n\nanna B-PER\n")
    assert [example.label for example in Tagging.read(str(path), Columns())] == [("O", "O"), ("B-PER",)]
