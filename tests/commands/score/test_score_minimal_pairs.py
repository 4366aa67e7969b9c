"""Minimal pairs under models of ours: what is summed, for each kind of model, and whether grammar is found."""

from __future__ import annotations

import random

import pytest
import torch
from model_settings import of_family

import nlpcli
from nlpcli.commands.score.score_minimal_pairs import PairsRequest, score_minimal_pairs, scored_pairs
from nlpcli.errors import NlpcliError
from nlpcli.evaluation.score import Resampling
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_model, save_model
from nlpcli.text import train_tokenizer

PAIRS = [("the cat sat on the mat", "the cat on sat the mat"), ("a dog", "a dog the cat"), ("dog", "the")]
TEXT = "".join(f"{good}\n{bad}\n" for good, bad in PAIRS)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("chars", [TEXT], vocab_size=None, byte_fallback=False, seed=1)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "pairs.tsv").write_text("".join(f"{good}\t{bad}\n" for good, bad in PAIRS))
    return str(tmp_path / "pairs.tsv")


@pytest.fixture
def write(tmp_path, tokenizer):
    def it(kind="decoder", task="language-model", info=None, **shape):
        torch.manual_seed(1)
        sizes = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 1}
        if shape.get("family") == "recurrent-lm":
            sizes = {"d_model": 16, "decoder_layers": 1}
        config = of_family({"kind": kind, **sizes, **shape})
        model = build_model(config, tokenizer.vocab_size)
        if hasattr(model, "output_weight"):
            model.output_weight.data.mul_(3)
        path = tmp_path / "model"
        info = {"task": task, "context": 32} | (info or {})
        save_model(path, weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)
        return path

    return it


def left_to_right(model, start, ids):
    tokens = torch.tensor([[*start, *ids]])
    with torch.no_grad():
        found = model(tokens)
        logits = found if isinstance(found, torch.Tensor) else found[0]
    logprobs = logits[0].double().log_softmax(-1)
    return sum(float(logprobs[len(start) - 1 + i, id_]) for i, id_ in enumerate(ids))


SHAPES = [
    {"positions": "learned", "max_length": 32},
    {"family": "transformer-xl", "memory_length": 32},
    {"family": "recurrent-lm"},
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.get("family", "transformer"))
@pytest.mark.parametrize("starts", ["document end", "line end", "text start"])
def test_all_tokens_of_a_sentence_are_summed_after_what_texts_begin_with(write, data, tokenizer, shape, starts):
    info = {"document end": {}, "line end": {"document_end": False}, "text start": {"text_start": [2, 1]}}[starts]
    path = write(info=info, **shape)
    model, special = load_model(path).model, tokenizer.special
    line_end = tokenizer.encode(["\n"])[0] or [special.bos]
    start = {"document end": [special.eos], "line end": line_end, "text start": [2, 1]}[starts]
    found = list(scored_pairs(PairsRequest((data,), path, device="cpu"), notify=print))
    for scored, (good, bad) in zip(found, PAIRS, strict=True):
        wanted = [left_to_right(model, start, ids) for ids in tokenizer.encode([good, bad])]
        assert [scored.good, scored.bad] == pytest.approx(wanted, abs=1e-4)
    report = score_minimal_pairs(PairsRequest((data,), path, device="cpu"), notify=print)
    correct = sum(scored.good > scored.bad for scored in found)
    assert report.scores.mean.value == pytest.approx(100 * correct / 3)
    assert list(report.scores.paradigms) == ["pairs"] and "|logprob:sum|start:" in report.scores.mean.signature


def test_the_batch_does_not_change_a_sum(write, data):
    path = write(positions="rotary")
    found = [
        [
            (scored.good, scored.bad)
            for scored in scored_pairs(PairsRequest((data,), path, batch_tokens=size), notify=print)
        ]
        for size in (1, 4096)
    ]
    assert found[0] == [pytest.approx(pair, abs=1e-5) for pair in found[1]]


@pytest.mark.parametrize(
    ("shape", "more", "message"),
    [
        ({"positions": "learned", "max_length": 20}, {}, r"pairs.tsv:1: the acceptable sentence has 22 tokens.* 20"),
        ({}, {"pll": "word-l2r"}, "--pll has no effect on"),
        ({}, {"pll": "word"}, "unknown pseudo-log-likelihood 'word'"),
        ({"kind": "encoder", "task": "encoder"}, {}, "can't predict tokens"),
        ({"kind": "encoder-decoder", "task": "translation"}, {}, "is a translation model"),
    ],
)
def test_what_a_model_cannot_score_is_said(write, data, shape, more, message):
    path = write(**shape)
    with pytest.raises(NlpcliError, match=message):
        score_minimal_pairs(PairsRequest((data,), path, **more), notify=print)


NOUNS, VERBS = ["cat", "dog", "bird", "farmer", "child"], ["sleep", "run", "sing", "wait"]


def sentence(draw, *, agrees=True):
    """`the cats near the farmer sleep`: the verb agrees with the first noun."""
    plural = draw.random() < 0.5
    noun, verb, other = draw.choice(NOUNS) + "s" * plural, draw.choice(VERBS), draw.choice(NOUNS)
    return f"the {noun} near the {other} {verb}" + "s" * (plural is not agrees)


@pytest.mark.parametrize("objective", ["clm", "mlm"])
def test_a_model_that_learnt_a_grammar_finds_agreement_and_is_at_chance_on_swapped_pairs(
    tmp_path, monkeypatch, objective
):
    monkeypatch.chdir(tmp_path)
    draw = random.Random(4)
    text = [sentence(draw) for _ in range(1500)]
    (tmp_path / "train.txt").write_text("".join(f"{line}\n\n" for line in text[:-100]))
    (tmp_path / "dev.txt").write_text("".join(f"{line}\n\n" for line in text[-100:]))
    layers = {"decoder_layers": 2} if objective == "clm" else {"encoder_layers": 2}
    run = nlpcli.pretrain(
        objective, data="train.txt", dev="dev.txt", out="lm", max_steps=80 if objective == "clm" else 160,
        preset="modern-decoder" if objective == "clm" else "modern-encoder",
        settings={
            "model.d_model": 32, "model.heads": 2, "model.d_ff": 64, "tokenizer.type": "words", "data.context": 16,
            "data.documents": "paragraphs", "training.batch_tokens": 1024, "training.lr": 0.01, "training.threads": 1,
            "training.warmup_steps": 5, "training.precision": "float32", "training.evaluate_every": 1000,
            **{f"model.{name}": value for name, value in layers.items()},
        },
    )  # fmt: skip
    pairs = []
    for _ in range(400):
        good = sentence(draw)
        pairs.append((good, good[:-1] if good.endswith("s") else f"{good}s"))
    (tmp_path / "agreement.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    swapped = [pair if draw.random() < 0.5 else pair[::-1] for pair in pairs]
    (tmp_path / "swapped.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in swapped))
    request = PairsRequest(("agreement.tsv", "swapped.tsv"), run.path, resampling=Resampling())
    found = score_minimal_pairs(request, notify=print).scores.paradigms
    assert found["agreement"].value > 95
    assert found["swapped"].low < 50 < found["swapped"].high
