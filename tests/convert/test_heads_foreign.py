"""Folders with a head that were made elsewhere: used as they are, with the task and the labels their settings name."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from nlpcli.commands.convert import Conversion, convert
from nlpcli.data.examples import Example
from nlpcli.errors import NlpcliError
from nlpcli.runs.find_model import locate_task
from nlpcli.runs.task_model import open_task

transformers = pytest.importorskip("transformers", reason="exchange is tested against the extra 'test'")

SINGLE = [Example((text,)) for text in ("The dogs are sleeping.", "in the kitchens", "reading")]
PAIRS = [Example((example.texts[0], "young men and others")) for example in SINGLE]
SIZES = {
    "bert": ("Bert", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}),
    "roberta": (
        "Roberta",
        {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
         "type_vocab_size": 1},
    ),
    "gpt2": ("GPT2", {"n_embd": 16, "n_layer": 1, "n_head": 2}),
    "openai-gpt": ("OpenAIGPT", {"n_embd": 16, "n_layer": 1, "n_head": 2}),
    "bart": (
        "Bart",
        {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
    ),
    "xlnet": ("XLNet", {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32}),
}  # fmt: skip


@pytest.fixture
def foreign(tokenizer_folders, tmp_path):
    """`foreign(kind, suffix, **settings)`: a folder with such a model, itself, and its tokenizer."""

    def make(kind, suffix="ForSequenceClassification", **settings):
        folder = tmp_path / f"{kind}{suffix}"
        shutil.copytree(tokenizer_folders[kind], folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        name, sizes = SIZES[kind]
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        ids = {"vocab_size": len(tokenizer), "pad_token_id": pad}
        for role in ("bos", "eos"):
            if getattr(tokenizer, f"{role}_token_id") is not None:
                ids[f"{role}_token_id"] = getattr(tokenizer, f"{role}_token_id")
        if kind == "bart":
            ids["decoder_start_token_id"] = tokenizer.eos_token_id
        torch.manual_seed(1)
        config = getattr(transformers, f"{name}Config")(**sizes, **ids, **settings)
        model = getattr(transformers, name + suffix)(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * 0.2)
        model.save_pretrained(folder)
        return folder, model, tokenizer

    return make


def logits(model, tokenizer, example):
    fields = tokenizer(*example.texts, return_token_type_ids=True, return_tensors="pt")
    return model(**{key: value for key, value in fields.items() if key in ("input_ids", "attention_mask")
                    or not type(model).__name__.startswith(("GPT2", "OpenAI", "Bart"))})  # fmt: skip


@pytest.mark.parametrize("kind", SIZES)
@torch.inference_mode()
def test_a_classifier_gives_its_own_probabilities_for_texts_and_pairs(foreign, kind, tmp_path):
    names = {0: "negative", 1: "neutral", 2: "positive"}
    folder, model, tokenizer = foreign(kind, id2label=names, label2id={name: i for i, name in names.items()})
    assert locate_task(folder, notify=print) == folder
    convert(Conversion(folder, tmp_path / "ours"))
    for place in (folder, tmp_path / "ours"):
        applied = open_task(place, device="cpu")
        for example in (*SINGLE, *PAIRS):
            (found,) = applied.predict([example])
            chances = logits(model, tokenizer, example).logits[0].softmax(-1).tolist()
            assert found["probabilities"] == pytest.approx(dict(zip(names.values(), chances, strict=True)), abs=1e-4)
        assert [found["label"] for found in applied.predict([*SINGLE, Example(("",))])]
    with pytest.raises(NlpcliError, match="the model was not trained with the label 'positiv'"):
        applied.task.check(Example(("x",), "positiv", place="dev.tsv:1"))


@torch.inference_mode()
def test_one_output_is_a_score_as_it_is(foreign):
    folder, model, tokenizer = foreign("bert", num_labels=1)
    applied = open_task(folder, device="cpu")
    for example, found in zip(PAIRS, applied.predict(PAIRS), strict=True):
        assert found["score"] == pytest.approx(logits(model, tokenizer, example).logits.item(), abs=1e-4)
    applied.task.check(Example(("a", "b"), "17.5"))
    (item,) = applied.task.encode([Example(("a", "b"), "17.5")])[0]
    assert item.target == 17.5


def test_labels_without_names_are_numbers_and_several_at_once_are_distinguished(foreign):
    folder, _, _ = foreign("roberta", problem_type="multi_label_classification")
    task = open_task(folder, device="cpu").task
    assert (task.name, task.labels) == ("multi-label", ["0", "1"])


@torch.inference_mode()
def test_tags_have_the_scheme_of_their_names(foreign):
    names = dict(enumerate(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]))
    folder, model, tokenizer = foreign("bert", "ForTokenClassification", id2label=names)
    applied = open_task(folder, device="cpu")
    assert applied.task.scheme == "BIO"
    words = ("The", "dogs", "sleeping", "in", "kitchens")
    fields = tokenizer(list(words), is_split_into_words=True, return_tensors="pt")
    best = model(**fields).logits[0].argmax(-1).tolist()
    where = fields.word_ids()
    expected = [names[best[where.index(number)]] for number in range(len(words))]
    assert applied.predict([Example(words)])[0]["tags"] == expected


@torch.inference_mode()
def test_questions_are_answered_from_its_starts_and_ends(foreign):
    folder, model, tokenizer = foreign("roberta", "ForQuestionAnswering")
    applied = open_task(folder, device="cpu")
    example = Example(("Who sleeps?", "The dogs of the housekeeper are sleeping in the kitchens."))
    (found,) = applied.predict([example])
    fields = tokenizer(*example.texts, return_tensors="pt", return_offsets_mapping=True)
    offsets = fields.pop("offset_mapping")[0].tolist()
    output = model(**fields)
    inside = [place for place, side in enumerate(fields.sequence_ids()) if side == 1]
    spans = {
        (first, last): (output.start_logits[0, first] + output.end_logits[0, last]).item()
        for first in inside for last in inside if first <= last < first + 30
    }  # fmt: skip
    first, last = max(spans, key=spans.__getitem__)
    assert found["score"] == pytest.approx(max(spans.values()), abs=1e-4)
    assert found["answer"].strip() == example.texts[1][offsets[first][0] : offsets[last][1]].strip()


def test_a_head_that_is_not_known_leaves_the_body(foreign):
    folder, _, _ = foreign("bert")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"architectures": ["BertForSomethingElse"]}))
    with pytest.raises(
        NlpcliError, match="is an encoder, but this command needs a model that was fine-tuned for a task"
    ):
        locate_task(folder, notify=print)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id2label": {"0": "a", "2": "b"}}, "'id2label' must map the numbers"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, r"the weight 'head\.output.* ha(s|ve) the wrong shape"),
        ({"problem_type": "regression"}, "for regression must have one output, but it has 2"),
    ],
)
def test_settings_that_do_not_go_with_the_head_are_named(foreign, change, message):
    folder, _, _ = foreign("bert")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | change))
    with pytest.raises(NlpcliError, match=message):
        open_task(folder, device="cpu")
