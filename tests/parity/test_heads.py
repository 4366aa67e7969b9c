"""Heads of fine-tuned models against the classes of `transformers` that have them, both ways."""

from __future__ import annotations

import json

import pytest
import torch
from model_settings import of_family

from nlpcli.commands.convert import Conversion, convert
from nlpcli.convert.folder_files import ORIGINAL_WEIGHTS
from nlpcli.convert.sentence_transformers_in import sentence_settings
from nlpcli.data.examples import Example
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_model, save_model
from nlpcli.models.padded_batch import Row, Rows, stack
from nlpcli.presets import load
from nlpcli.runs.embedder import Embedder, EmbedderSettings
from nlpcli.runs.init_from_model import body_config
from nlpcli.runs.task_model import open_task
from nlpcli.tasks import TASKS
from nlpcli.tasks.task import Context
from nlpcli.text import train_tokenizer

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, LENGTH, PAD, END = 50, 20, 1, 2
BERT = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 24, "pad_token_id": PAD, "type_vocab_size": 2,
}  # fmt: skip
DISTILBERT = {"vocab_size": VOCABULARY, "dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 40,
              "max_position_embeddings": 24, "pad_token_id": PAD}  # fmt: skip
MODERNBERT = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "norm_bias": True,
    "intermediate_size": 40, "max_position_embeddings": 24, "pad_token_id": PAD, "local_attention": 6,
    "bos_token_id": 0, "eos_token_id": END, "cls_token_id": 0, "sep_token_id": END,
}  # fmt: skip
GPT = {
    "vocab_size": VOCABULARY, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 24, "pad_token_id": PAD,
    "bos_token_id": 0, "eos_token_id": END,
}  # fmt: skip
BART = {
    "vocab_size": VOCABULARY, "d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": 24,
    "pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": 2, "bos_token_id": 0,
}  # fmt: skip
NEOX = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 24, "pad_token_id": PAD, "rotary_pct": 1.0,
    "use_parallel_residual": False,
}  # fmt: skip
QWEN = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 6,
    "num_key_value_heads": 4, "intermediate_size": 40, "max_position_embeddings": 24, "pad_token_id": PAD,
}  # fmt: skip
LONGFORMER = {**BERT, "attention_window": [4, 8], "sep_token_id": END}
BIG_BIRD = {**BERT, "block_size": 4, "num_random_blocks": 1, "sep_token_id": END}
XLNET = {"vocab_size": VOCABULARY, "d_model": 24, "n_layer": 2, "n_head": 4, "d_inner": 40, "pad_token_id": PAD}
CONFIGS = {
    "Bert": ("BertConfig", BERT),
    "Roberta": ("RobertaConfig", BERT),
    "XLMRoberta": ("XLMRobertaConfig", BERT),
    "MPNet": ("MPNetConfig", {key: value for key, value in BERT.items() if key != "type_vocab_size"}),
    "ModernBert": ("ModernBertConfig", MODERNBERT),
    "Longformer": ("LongformerConfig", LONGFORMER),
    "BigBird": ("BigBirdConfig", BIG_BIRD),
    "Electra": ("ElectraConfig", {**BERT, "embedding_size": 12}),
    "DistilBert": ("DistilBertConfig", DISTILBERT),
    "GPT2": ("GPT2Config", GPT),
    "OpenAIGPT": ("OpenAIGPTConfig", GPT),
    "Bart": ("BartConfig", BART),
    "XLNet": ("XLNetConfig", XLNET),
    "GPTNeoX": ("GPTNeoXConfig", NEOX),
    "Qwen3": ("Qwen3Config", QWEN),
    "Llama": ("LlamaConfig", {**QWEN, "num_key_value_heads": 2}),
    "Mistral": ("MistralConfig", {**QWEN, "num_key_value_heads": 1, "sliding_window": 5}),
}
BERTS = ("Bert", "Roberta", "XLMRoberta", "MPNet", "Electra", "DistilBert", "Longformer")
CLASSES = [
    *((name, "ForSequenceClassification", {"num_labels": 3}) for name in CONFIGS),
    *(
        (name, "ForTokenClassification", {"num_labels": 5})
        for name in (
            "Bert",
            "Roberta",
            "Electra",
            "DistilBert",
            "Longformer",
            "BigBird",
            "GPT2",
            "XLNet",
            "GPTNeoX",
            "Qwen3",
            "Llama",
            "Mistral",
        )
    ),
    *((name, "ForQuestionAnswering", {}) for name in (*BERTS, "GPT2", "Bart", "GPTNeoX")),
    ("XLNet", "ForQuestionAnsweringSimple", {}),
    *((name, "ForMultipleChoice", {}) for name in (*BERTS, "BigBird", "XLNet")),
    ("BigBird", "ForSequenceClassification", {"num_labels": 2, "hidden_act": "relu"}),
    ("Bert", "ForSequenceClassification", {"num_labels": 1}),
    ("ModernBert", "ForTokenClassification", {"num_labels": 5}),
    ("ModernBert", "ForQuestionAnswering", {}),
    (
        "ModernBert",
        "ForSequenceClassification",
        {"num_labels": 4, "classifier_pooling": "mean", "classifier_bias": True},
    ),
    ("Roberta", "ForSequenceClassification", {"num_labels": 4, "problem_type": "multi_label_classification"}),
]


@pytest.fixture(scope="module", params=CLASSES, ids=lambda one: f"{one[0]}{one[1]}{one[2].get('num_labels', '')}")
def theirs(request, scattered):
    name, suffix, more = request.param
    kind, settings = CONFIGS[name]
    config = getattr(transformers, kind)(**settings, **more)
    return scattered(getattr(transformers, name + suffix)(config), 4)


def rows(segments: bool) -> Rows:
    """Padded rows, each of which ends with the only END in it."""
    draw = torch.Generator().manual_seed(2)
    made = []
    for length in (LENGTH, 13, 6, 1):
        ids = torch.randint(3, VOCABULARY, (length - 1,), generator=draw).tolist()
        kinds = torch.randint(0, 2, (length,), generator=draw).tolist() if segments else [0] * length
        made.append(Row([*ids, END], kinds))
    return stack(made, PAD, segments=segments)


def logits(model, batch: Rows) -> torch.Tensor:
    """Theirs, at our places: (rows, outputs) or (rows, n, outputs)."""
    name = type(model).__name__
    mask = torch.ones_like(batch.ids, dtype=torch.bool) if batch.mask is None else batch.mask
    fields = {"input_ids": batch.ids, "attention_mask": mask.long()}
    if batch.segments is not None and not name.startswith(("Bart", "GPT", "OpenAI", "Qwen", "Llama", "Mistral")):
        fields["token_type_ids"] = batch.segments
    if name.startswith("Longformer"):
        fields["global_attention_mask"] = first_token(batch.ids)
    left = name.startswith("XLNet")
    if left:
        fields = {key: turned(value, batch.ends) for key, value in fields.items()}
    if "MultipleChoice" in name:
        fields = {key: value[None] for key, value in fields.items()}
    output = model(**fields)
    if "QuestionAnswering" in name:
        found = torch.stack((output.start_logits, output.end_logits), dim=-1)
    else:
        found = output.logits
    if "MultipleChoice" in name:
        return found.T
    return turned(found, batch.ends, back=True) if left and found.ndim == 3 else found


def first_token(ids: torch.Tensor) -> torch.Tensor:
    """The global tokens of a Longformer of ours, which `transformers` chooses otherwise by default."""
    return (torch.arange(ids.size(1)) < 1).long().expand_as(ids)


def turned(tensor: torch.Tensor, ends: torch.Tensor, back: bool = False) -> torch.Tensor:
    """Padding from the right side to the left."""
    lengths = (ends + 1 if back else tensor.size(1) - ends - 1).tolist()
    if back:
        return torch.stack([row.roll(length, 0) for row, length in zip(tensor, lengths, strict=True)])
    return torch.stack([row.roll(length, 0) for row, length in zip(tensor, lengths, strict=True)])


def same(found: torch.Tensor, expected: torch.Tensor, batch: Rows) -> bool:
    if found.ndim == 3 and batch.mask is not None:
        found, expected = found[batch.mask], expected[batch.mask]
    return found.shape == expected.shape and torch.allclose(found, expected, atol=1e-4)


@torch.inference_mode()
def test_logits_are_theirs(theirs, read):
    ours = read(theirs)
    batch = rows(ours.config.get("segments", 2) > 1)
    expected = logits(theirs, batch)
    assert float(expected.std()) > 0.1
    assert same(ours.model(batch), expected, batch)
    assert ours.left_out == []


# --- ours, written -------------------------------------------------------------------------------------------------

SMALL = {"d_model": 24, "heads": 4, "d_ff": 96, "encoder_layers": 2, "decoder_layers": 2, "max_length": 60}
TEXTS = ["the film is good", "a bad film, and long", "it is", "good", "a long story about a bad day in the rain"]
MODELS = {  # preset, what is known of the folder it began with, tokenizer
    "Bert": ("bert-tiny", {}, "wordpiece"),
    "Roberta": ("roberta-base", {"read_from": "roberta"}, "byte-bpe"),
    "XLMRoberta": ("roberta-base", {"read_from": "xlm-roberta"}, "unigram"),
    "MPNet": ("roberta-base", {"read_from": "mpnet"}, "wordpiece"),
    "Electra": ("bert-tiny", {}, "wordpiece"),
    "ModernBert": ("bert-tiny", {}, "wordpiece"),
    "Longformer": ("roberta-base", {"read_from": "longformer"}, "byte-bpe"),
    "BigBird": ("bigbird-base", {}, "unigram"),
    "DistilBert": ("bert-tiny", {"read_from": "distilbert"}, "wordpiece"),
    "GPT2": ("gpt2", {}, "byte-bpe"),
    "OpenAIGPT": ("gpt", {}, "bpe"),
    "Bart": ("bart-base", {}, "byte-bpe"),
    "XLNet": ("xlnet-base", {}, "unigram"),
    "GPTNeoX": ("gpt-mini", {}, "byte-bpe"),
    "Qwen3": ("modern-decoder", {}, "byte-bpe"),
}
CHANGES = {  # of the preset
    "DistilBert": {"segments": 0},
    "Electra": {"d_embedding": 16},
    "MPNet": {"segments": 0, "relative_bias": True},
    "Longformer": {"attention": ["longformer:8", "longformer:16"]},
    "BigBird": {"attention": ["bigbird:8:2"]},
    "ModernBert": {
        "segments": 0, "norm_position": "pre", "first_norm": False, "positions": "rotary", "activation": "geglu",
        "norm_bias": False, "attention": ["full", "window:4"], "rope_local_theta": 50.0, "mlm_head_bias": False,
    },
}  # fmt: skip
PAIRS = [Example((text, TEXTS[i - 1])) for i, text in enumerate(TEXTS)]
SINGLE = [Example((text,)) for text in TEXTS]


def labelled(examples, labels):
    return [Example(e.texts, labels[i % len(labels)], place=f"x:{i}") for i, e in enumerate(examples)]


TRAINED = {
    "classify": labelled(SINGLE, ["good", "bad", "so so"]),
    "multi-label": labelled(SINGLE, [("a",), ("a", "b"), ()]),
    "regress": labelled(PAIRS, ["1", "5", "2.5"]),
    "tag": labelled([Example(tuple(text.split())) for text in TEXTS], [None]),
    "span": [],
    "choice": labelled([Example((text, "yes", "no")) for text in TEXTS], ["yes", "no"]),
    "similarity": labelled(PAIRS, ["0.1", "0.5", "0.9"]),
}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, scattered):
    """`tuned(family, task, **options)`: a model of ours as fine-tuning leaves it, every number random."""

    def make(family, task, **options):
        preset, info, kind = MODELS[family]
        lines = [*TEXTS, *(f"{a} {b}" for a in TEXTS for b in TEXTS)] * 3
        size = {"byte-bpe": 290, "wordpiece": 60, "bpe": 295, "unigram": 290}[kind]
        tokenizer = train_tokenizer(kind, lines, vocab_size=size)
        config = body_config(of_family(load(preset)["model"] | SMALL | CHANGES.get(family, {})))
        examples = TRAINED[task]
        if task == "tag":
            examples = [Example(e.texts, tuple("OBI"[i % 3] + "-X" * (i % 3 > 0) for i, _ in enumerate(e.texts)))
                        for e in examples]  # fmt: skip
        if task == "span":
            from nlpcli.data.examples import Answer

            examples = [Example(("what?", text), (Answer(text[:2], 0),), place="x") for text in TEXTS]
        problem = TASKS.load(task).create(examples, Context(tokenizer, config, info, 60), **options)
        torch.manual_seed(5)
        model = build_model(config, tokenizer.vocab_size, problem.head())
        scattered(model, 3, 0.2)
        folder = tmp_path_factory.mktemp(f"{family}-{task}") / "run"
        info = {**info, "task": task, "problem": problem.describe(), "head": problem.head(), "max_length": 60}
        save_model(folder, weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)
        return folder

    return make


def exported(run):
    out = run.with_name("huggingface")
    return out, convert(Conversion(run, out, "huggingface")).model


def read_by_transformers(folder, name):
    """The model as transformers has it, none of whose weights may be new or left over, and the tokenizer."""
    model, report = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def same_model(run, out):
    """Whether what comes back is the model that went, to the bit."""
    back = run.with_name("back")
    convert(Conversion(out, back))
    before, after = (load_model(folder).model.state_dict() for folder in (run, back))
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("family", "task"),
    [
        *((family, task) for family in MODELS if family != "Qwen3" for task in ("classify", "regress")),
        ("Bert", "multi-label"),
    ],
)
@torch.inference_mode()
def test_predictions_for_texts_and_pairs_are_the_same_there(tuned, family, task):
    run = tuned(family, task)
    out, name = exported(run)
    assert name == f"{family}ForSequenceClassification"
    model, tokenizer = read_by_transformers(out, "AutoModelForSequenceClassification")
    assert type(model).__name__ == name
    for folder in (run, out):
        applied = open_task(folder, device="cpu")
        for examples in (SINGLE, PAIRS):
            texts = zip(*(example.texts for example in examples), strict=True)
            fields = tokenizer(*map(list, texts), padding=True, return_tensors="pt")
            found = model(**fields).logits
            ours = applied.predict(examples)
            if task == "regress":
                low, high = 1.0, 5.0
                assert [p["score"] for p in ours] == pytest.approx(found[:, 0].clamp(low, high).tolist(), abs=1e-4)
                continue
            chances = found.softmax(-1) if task == "classify" else found.sigmoid()
            for row, prediction in zip(chances.tolist(), ours, strict=True):
                named = {model.config.id2label[i]: value for i, value in enumerate(row)}
                assert prediction["probabilities"] == pytest.approx(named, abs=1e-4)
    assert same_model(run, out)


@pytest.mark.parametrize("family", [*BERTS, "BigBird", "ModernBert", "GPT2", "XLNet", "Qwen3"])
@torch.inference_mode()
def test_tags_of_words_are_the_same_there(tuned, family):
    run = tuned(family, "tag")
    out, name = exported(run)
    assert name == f"{family}ForTokenClassification"
    model, tokenizer = read_by_transformers(out, "AutoModelForTokenClassification")
    assert list(model.config.id2label.values()) == ["O", "B-X", "I-X"]
    _same_logits(run, model, tokenizer, SINGLE)
    assert same_model(run, out)


@pytest.mark.parametrize("family", [*BERTS, "ModernBert", "GPT2", "Bart", "XLNet"])
@torch.inference_mode()
def test_starts_and_ends_of_answers_are_the_same_there(tuned, family):
    run = tuned(family, "span")
    out, _ = exported(run)
    model, tokenizer = read_by_transformers(out, "AutoModelForQuestionAnswering")
    _same_logits(run, model, tokenizer, PAIRS)
    assert same_model(run, out)


def _global_tokens(model, ids):
    return {"global_attention_mask": first_token(ids)} if type(model).__name__.startswith("Longformer") else {}


def _same_logits(run, model, tokenizer, examples):
    from nlpcli.tasks.text_batches import TextReader

    loaded = load_model(run)
    reader = TextReader(Context(loaded.tokenizer, loaded.config, loaded.info, 60))
    for example in examples:
        (row,) = reader.rows([example])[0]
        fields = tokenizer(*example.texts, return_tensors="pt")
        assert fields["input_ids"][0].tolist() == list(row.ids)
        found = model(**fields, **_global_tokens(model, fields["input_ids"]))
        theirs = found.logits if hasattr(found, "logits") else torch.stack((found.start_logits, found.end_logits), -1)
        ours = loaded.model(stack([row], loaded.tokenizer.special.pad, segments=reader.segments))
        assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("family", [*BERTS, "BigBird", "XLNet"])
@torch.inference_mode()
def test_choices_are_the_same_there(tuned, family):
    run = tuned(family, "choice")
    out, _ = exported(run)
    model, tokenizer = read_by_transformers(out, "AutoModelForMultipleChoice")
    examples = [Example((text, *TEXTS[:3])) for text in TEXTS]
    for example, prediction in zip(examples, open_task(out, device="cpu").predict(examples), strict=True):
        pairs = tokenizer([example.texts[0]] * 3, list(example.texts[1:]), padding=True, return_tensors="pt")
        pairs |= _global_tokens(model, pairs["input_ids"])
        found = model(**{key: value[None] for key, value in pairs.items()}).logits[0]
        assert prediction["probabilities"] == pytest.approx(found.softmax(-1).tolist(), abs=1e-4)
    assert same_model(run, out)


@pytest.mark.parametrize(
    ("family", "pooling"), [("Bert", "mean"), ("Roberta", "first"), ("GPT2", "last"), ("Bert", "max")]
)
@torch.inference_mode()
def test_vectors_of_texts_are_pooled_states_there(tuned, family, pooling):
    run = tuned(family, "similarity", pooling=pooling)
    out, _ = exported(run)
    assert [module["path"] for module in json.loads((out / "modules.json").read_text())] == ["", "1_Pooling"]
    assert sentence_settings(out).pooling == pooling
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    model = transformers.AutoModel.from_pretrained(out).eval()
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    mask = batch["attention_mask"].bool()
    states = model(**batch).last_hidden_state
    expected = {
        "mean": (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True),
        "max": states.masked_fill(~mask[..., None], -torch.inf).amax(1),
        "first": states[:, 0],
        "last": states[range(len(TEXTS)), mask.sum(1) - 1],
    }[pooling]
    for folder in (run, out):
        found = Embedder(EmbedderSettings(folder, device="cpu"), notify=print).vectors(TEXTS)
        assert torch.allclose(torch.from_numpy(found), expected, atol=1e-4)
    assert open_task(out, device="cpu").predict(PAIRS[:1])[0]["score"] <= 1
    assert same_model(run, out)


# --- what can't go, and what comes from elsewhere -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "task", "options", "message"),
    [
        ("Bert", "classify", {"pooling": "mean"}, "BertForSequenceClassification does not support head.pooling 'mean'"),
        ("Bert", "classify", {"layers": "concat:2"}, "does not support head.layers 'concat:2'"),
        ("Bert", "classify", {"dense": False}, "does not support head.dense false"),
        ("GPT2", "regress", {"both_orders": True}, "does not support head.both_orders true"),
        ("Roberta", "tag", {"recurrent": 8}, "RobertaForTokenClassification does not support head.recurrent 8"),
        ("OpenAIGPT", "tag", {}, "transformers has no GPT class for the task 'tag'"),
        ("Qwen3", "classify", {}, "has no bias in its output layer, but this model needs one"),
        ("GPT2", "choice", {}, "transformers has no GPT-2 class for the task 'choice'"),
        ("Bert", "similarity", {"layers": "mean:2"}, "sentence-transformers does not support head.layers 'mean:2'"),
        ("Bart", "similarity", {}, "does not support the encoder of an encoder-decoder model"),
    ],
)
def test_heads_that_no_class_can_express_are_refused_by_name(tuned, family, task, options, message):
    run = tuned(family, task, **options)
    with pytest.raises(NlpcliError, match=message):
        exported(run)
    assert not run.with_name("huggingface").exists()


@torch.inference_mode()
def test_a_classifier_that_was_tuned_further_there_is_not_what_was_kept(tuned):
    run = tuned("GPT2", "regress")
    out, _ = exported(run)
    assert (out / ORIGINAL_WEIGHTS).exists()
    model, tokenizer = read_by_transformers(out, "AutoModelForSequenceClassification")
    model.score.weight.mul_(1.5)
    model.save_pretrained(out)
    found = model(**tokenizer(TEXTS[:1], return_tensors="pt")).logits.clamp(1, 5).item()
    assert open_task(out, device="cpu").predict(SINGLE[:1])[0]["score"] == pytest.approx(found, abs=1e-4)


def test_an_encoder_of_ours_that_was_tuned_there_has_the_task_it_was_tuned_for(tuned):
    run = tuned("Bert", "classify")
    out, _ = exported(run)
    settings = json.loads((out / "config.json").read_text())
    settings |= {"id2label": {"0": "x", "1": "y", "2": "z"}, "problem_type": "multi_label_classification"}
    (out / "config.json").write_text(json.dumps(settings))
    applied = open_task(out, device="cpu")
    assert applied.task.name == "multi-label"
    assert applied.task.labels == ["x", "y", "z"]
