"""Text to text: how a task is put, what is learnt of it, and what is written."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.schema import DecodingConfig
from nlpcli.data.examples import Columns, Example
from nlpcli.errors import NlpcliError
from nlpcli.layers.vocabulary_loss import LossSettings
from nlpcli.models.build import build_model
from nlpcli.runs.finetuning.task_generator import BeamGenerator
from nlpcli.tasks.supervised_objective import SupervisedObjective, predict_items
from nlpcli.tasks.task import Context
from nlpcli.tasks.text_to_text import MEASURES, TextToText, TextToTextSettings, references
from nlpcli.text import train_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .:;,>{}ABCDTLR"
SHAPE = {"d_model": 24, "heads": 2, "d_ff": 48, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("chars", [LETTERS], byte_fallback=False)


@pytest.fixture
def context(tokenizer):
    return Context(tokenizer, ModelConfig.model_validate(SHAPE), {}, 64)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(1)
    return build_model(SHAPE, tokenizer.vocab_size).eval()


def example(text="ab", label="b", place="train.tsv:2", second=None):
    return Example((text,) if second is None else (text, second), label, place)


def text(task, ids):
    return task.tokenizer.decode([list(ids)])[0]


def test_a_source_is_its_prefix_and_its_text(context):
    task = TextToText.create([example()], context, prefix="copy: ")
    [[item]] = task.encode([example("some text", "target")])
    assert text(task, item.source) == "copy: some text"
    assert text(task, item.target) == "target"


def test_a_prefix_with_places_is_the_whole_source():
    wording = TextToTextSettings("one {text} two {text2} end")
    assert wording.source(("{text2}", "b")) == "one {text2} two b end"
    assert wording.pairs and not TextToTextSettings("copy {text}").pairs


def test_without_a_place_a_pair_is_one_text_after_the_other():
    assert TextToTextSettings("same: ").source(("a b", "c")) == "same: a b c"


def test_a_pair_that_is_only_one_text_is_refused_with_its_place(context):
    with pytest.raises(NlpcliError, match=r"train\.tsv:2: the second text is missing"):
        TextToText.create([example()], context, prefix="{text} and {text2}")
    with pytest.raises(NlpcliError, match=r"train\.tsv:2: the second text is missing"):
        TextToText(context, TextToTextSettings("{text} and {text2}")).encode([example(label=None)])


def test_a_prefix_with_a_place_for_the_second_text_alone_is_refused():
    with pytest.raises(NlpcliError, match=r"contains {text2} but not {text}$"):
        TextToTextSettings("a {text2}")


def test_a_line_is_a_pair_only_where_the_prefix_has_two_places(context):
    pair = TextToText(context, TextToTextSettings("{text} / {text2}"))
    assert pair.parse("a\tb").texts == ("a", "b")
    assert TextToText(context, TextToTextSettings()).parse("a\tb").texts == ("a\tb",)


def test_of_several_references_the_first_is_learnt(context):
    task = TextToText.create([example(label=("one", "two"))], context)
    [[item]] = task.encode([example(label=("one", "two"))])
    assert text(task, item.target) == "one"
    assert references(example(label=("one", "two"))) == ("one", "two")


def test_a_blank_reference_beside_others_is_missing_and_not_learnt(context):
    first, none = example(label=("", "two", " ")), example(label=("", " "))
    assert references(first) == ("two",) and references(none) == ("",)
    task = TextToText.create([first, none], context)
    [[item], [empty]] = task.encode([first, none])
    assert text(task, item.target) == "two" and empty.target == ()


@pytest.mark.parametrize("label", [None, (), (3.0,)])
def test_an_example_without_text_to_learn_is_refused_with_its_place(context, label):
    with pytest.raises(NlpcliError, match=r"train\.tsv:2: the target text is missing"):
        TextToText.create([example(label=label)], context)


def test_an_unknown_label_is_nothing_to_learn_and_no_hindrance_to_predict(context):
    task = TextToText(context, TextToTextSettings())
    [[item]] = task.encode([example(label=None)])
    assert item.target == ()


def test_long_sides_are_cut_and_counted(tokenizer):
    task = TextToText(Context(tokenizer, ModelConfig.model_validate(SHAPE), {}, 10), TextToTextSettings(max_target=4))
    groups = task.encode([example("a" * 9, "b" * 4), example("a" * 10, "b" * 5), example("a", "b")])
    assert [(len(item.source), len(item.target)) for [item] in groups] == [(9, 4), (9, 4), (1, 1)]
    assert (task.cut_sources, task.cut_targets) == (1, 1)
    assert [note.split(" was ")[0] for note in task.notes] == ["1 source", "1 target"]
    assert [item.size for [item] in groups] == [10, 10, 2]


@given(st.text("ab ", max_size=40), st.text("cd ", max_size=40), st.integers(16, 60))
def test_words_of_the_prefix_stay_when_texts_are_cut(tokenizer, first, second, length):
    task = TextToText(
        Context(tokenizer, ModelConfig.model_validate(SHAPE), {}, length),
        TextToTextSettings("1: {text} 2: {text2} end", 4),
    )
    [[item]] = task.encode([example(first, second=second)])
    found = text(task, item.source)
    assert len(item.source) <= length - 1 and found.endswith("end") and found.startswith("1:") and "2:" in found
    if len(task.wording.source((first, second))) < length:
        assert len(item.source) == len(tokenizer.encode([task.wording.source((first, second))])[0])


def test_no_target_is_longer_than_a_model_can_read(tokenizer):
    task = TextToText(Context(tokenizer, ModelConfig.model_validate(SHAPE), {}, 8), TextToTextSettings(max_target=100))
    [[item]] = task.encode([example("a", "b" * 50)])
    batch = task.collate([item])
    assert batch.target.size(1) == 8


def test_a_model_read_from_bart_keeps_its_starts(tokenizer):
    special = tokenizer.special
    info = {"read_from": "bart", "source_start": [special.bos], "target_start": [special.eos, special.bos]}
    task = TextToText(Context(tokenizer, ModelConfig.model_validate(SHAPE), info, 64), TextToTextSettings())
    [[item]] = task.encode([example("a", "b")])
    batch = task.collate([item])
    assert batch.source[0, 0] == special.bos and batch.source[0, -1] == special.eos
    assert batch.target[0, :2].tolist() == [special.eos, special.bos]
    assert batch.labels.tolist() == [*item.target, special.eos]


def test_the_loss_is_the_cross_entropy_of_target_and_end(context, model):
    task = TextToText(context, TextToTextSettings())
    [[item]] = task.encode([example("ab", "ba")])
    loss = task.loss(model, task.collate([item]))
    special = task.tokenizer.special
    with torch.no_grad():
        logits = model(
            torch.tensor([[*item.source, special.eos]]), None, torch.tensor([[special.bos, *item.target]])
        ).log_softmax(-1)[0]
    expected = -sum(logits[i, id_] for i, id_ in enumerate([*item.target, special.eos]))
    assert float(loss.nll) == pytest.approx(float(expected), rel=1e-5)
    assert loss.count == 3


def test_smoothing_counts_in_training_only(context, model):
    plain, smooth = (
        TextToText(context, TextToTextSettings()),
        TextToText(replace(context, loss_settings=LossSettings(0.2)), TextToTextSettings()),
    )
    batch = plain.collate(plain.encode([example("ab", "ba")])[0])
    assert smooth.loss(model, batch).total.item() == pytest.approx(plain.loss(model, batch).total.item())
    model.train()
    assert smooth.loss(model, batch).total.item() != pytest.approx(plain.loss(model, batch).total.item())


def test_what_is_described_is_restored(context):
    task = TextToText(context, TextToTextSettings("a: ", 5, "accuracy"))
    again = TextToText.restore(json.loads(json.dumps(task.describe())), context)
    assert again.wording == task.wording and again.measures == ("accuracy",)


def test_a_measure_that_is_none_is_refused():
    with pytest.raises(NlpcliError, match="measure"):
        TextToTextSettings(measure="rogue")


@pytest.mark.parametrize("measure", MEASURES)
def test_the_first_of_the_measures_decides(context, measure):
    task = TextToText.create([example()], context, measure=measure)
    assert task.measures == MEASURES[measure]


def test_line_breaks_count_as_spaces(context):
    task = TextToText(context, TextToTextSettings())
    assert task.line({"text": "one\n two\r\nthree\tfour"}) == "one two three four"
    [[broken], [whole]] = task.encode([example("a\nb", "c\r\n d"), example("a b", "c d")])
    assert broken == whole


def test_references_are_read_from_several_columns(tmp_path, context):
    path = tmp_path / "test.jsonl.gz"
    record = {"fname": "t0", "dialogue": "a: b\nc: d", "summary1": "one", "summary2": "two"}
    path.write_bytes(gzip.compress(json.dumps(record).encode()))
    [found] = TextToText.read(str(path), Columns(text="dialogue", label="summary1,summary2"))
    assert found.texts == ("a: b\nc: d",) and found.label == ("one", "two")


def learnt(task, model, examples, *, steps):
    """Trains until the few examples are known by heart."""
    items = [item for group in task.encode(examples) for item in group]
    learnable = SupervisedObjective(task, items, batch_size=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for step in range(steps):
        for chosen in learnable.plan(step):
            batch = learnable.collate(chosen, None)
            loss, _ = learnable.loss(model, batch)
            optimizer.zero_grad()
            (loss.total / loss.count).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture
def four():
    return [example("ab", "ba"), example("cd", "dc"), example("abcd", "dcba"), example("d", "d")]


DECODER = {"kind": "decoder", "d_model": 24, "heads": 2, "d_ff": 48, "decoder_layers": 2, "dropout": 0.0}


@pytest.fixture
def decoder(tokenizer):
    torch.manual_seed(1)
    return build_model(DECODER, tokenizer.vocab_size).eval()


@pytest.fixture
def streamed(tokenizer):
    return Context(tokenizer, ModelConfig.model_validate(DECODER), {}, 64)


def test_a_decoder_predicts_what_follows_the_source_and_nothing_else(streamed, decoder):
    task = TextToText(streamed, TextToTextSettings("{text} TL;DR:"))
    items = [item for group in task.encode([example("ab", "ba"), example("a", "")]) for item in group]
    loss = task.loss(decoder, task.collate(items))
    special = task.tokenizer.special
    expected = 0.0
    for item in items:
        stream = [*item.source, *item.target]
        with torch.no_grad():
            logprobs = decoder(torch.tensor([stream])).log_softmax(-1)[0]
        goals = [*item.target, special.eos]
        expected -= sum(logprobs[len(item.source) - 1 + i, id_].item() for i, id_ in enumerate(goals))
    assert float(loss.nll) == pytest.approx(expected, rel=1e-5) and loss.count == 4
    assert items[0].source[0] == special.eos and text(task, items[0].source) == "ab TL;DR:"


def test_source_and_target_of_a_decoder_share_its_length(tokenizer):
    task = TextToText(
        Context(tokenizer, ModelConfig.model_validate(DECODER), {}, 20), TextToTextSettings("{text}>", max_target=6)
    )
    groups = task.encode([example("a" * 50, "b" * 50), example("a" * 50, "b")])
    assert [(len(item.source), len(item.target)) for [item] in groups] == [(13, 6), (13, 1)]
    assert all(item.source[-1] == tokenizer.encode([">"])[0][-1] for [item] in groups)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_decoder_writes_what_it_learnt_whatever_stands_beside(streamed, decoder, four, beam_size):
    task = TextToText.create(four, streamed, prefix="{text}: ", max_target=8)
    learnt(task, decoder, four, steps=200)
    task.generator = BeamGenerator(DecodingConfig(), task, beam_size=beam_size)
    items = [item for group in task.encode([Example(e.texts) for e in four]) for item in group]
    together = task.outputs(decoder, task.collate(items))
    alone = [task.outputs(decoder, task.collate([item]))[0] for item in items]
    assert together == alone
    assert [text(task, ids) for ids in together] == [e.label for e in four]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_what_was_learnt_is_written(context, model, four, beam_size):
    task = TextToText.create(four, context, prefix="turn: ", max_target=8)
    learnt(task, model, four, steps=120)
    task.generator = BeamGenerator(DecodingConfig(), task, beam_size=beam_size)
    items = [item for group in task.encode([Example(e.texts) for e in four]) for item in group]
    outputs = predict_items(task, model, items, torch.device("cpu"))
    written = [
        task.prediction(e, [item], [output])["text"] for e, item, output in zip(four, items, outputs, strict=True)
    ]
    assert written == [e.label for e in four]


def test_no_output_is_longer_than_the_wording_allows(context, model):
    task = TextToText(context, TextToTextSettings(max_target=3))
    task.generator = BeamGenerator(DecodingConfig(beam_size=2), task, min_length=10)
    [[item]] = task.encode([example("abc")])
    [ids] = task.outputs(model, task.collate([item]))
    assert len(ids) == 3


def test_no_ngram_is_written_twice_where_that_is_forbidden(context, model):
    task = TextToText(context, TextToTextSettings(max_target=30, no_repeat_ngram=1))
    task.generator = BeamGenerator(DecodingConfig(), task, beam_size=1, min_length=20)
    [[item]] = task.encode([example("abc")])
    [ids] = task.outputs(model, task.collate([item]))
    assert len(ids) == len(set(ids)) >= 20


@pytest.mark.parametrize(
    ("beam_size", "ngram", "expected"), [(1, 0, "beam:1|max:30"), (4, 3, "beam:4|lp:0.6|max:30|no-repeat:3")]
)
def test_the_signature_says_how_texts_were_written(context, beam_size, ngram, expected):
    task = TextToText(context, TextToTextSettings(max_target=30, no_repeat_ngram=ngram))
    decoding = DecodingConfig(beam_size=beam_size, length_penalty=0.6)
    assert BeamGenerator(decoding, task).signature == expected
