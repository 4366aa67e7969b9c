"""The perplexity of a text under a model that is finished."""

from __future__ import annotations

import math

import pytest
import torch
from model_settings import of_family

from nlpcli.commands.score.perplexity import PerplexitySettings, perplexity_of
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_model, save_model
from nlpcli.text import train_tokenizer

TEXT = "the cat sat on the mat\nthe dog sat on the cat\na mat, a cat, a dog\n"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("chars", [TEXT], vocab_size=None, byte_fallback=False, seed=1)


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return str(tmp_path / "text.txt")


@pytest.fixture
def write(tmp_path, tokenizer):
    def it(kind="decoder", task="language-model", info=None, **shape):
        torch.manual_seed(1)
        sizes = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 1, "max_length": 32}
        config = of_family({"kind": kind, **sizes, "positions": "learned", **shape})
        model = build_model(config, tokenizer.vocab_size)
        if hasattr(model, "output_weight"):
            model.output_weight.data.mul_(3)
        path = tmp_path / "model"
        info = {"task": task, "context": 16, "document_end": False} | (info or {})
        save_model(path, weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)
        return path

    return it


def scores_of(path, text, **reading):
    [scores] = perplexity_of(path, [text], PerplexitySettings(device="cpu", **reading), notify=print).values()
    return {score.name: score for score in scores}


def token_nats(model, ids, context, stride):
    """-log p of every token but the first, each in the first window that has it."""
    nats, start, done = [], 0, 1
    while done < len(ids):
        window = ids[start : start + context + 1]
        with torch.no_grad():
            logprobs = model(torch.tensor([window[:-1]]))[0].double().log_softmax(-1)
        nats += [-float(logprobs[place - start - 1, ids[place]]) for place in range(done, start + len(window))]
        done, start = start + len(window), start + stride
    return nats


@pytest.mark.parametrize(("context", "stride"), [(None, None), (16, 5), (8, 8), (32, 1)])
def test_every_token_but_the_first_is_predicted_once(write, text, tokenizer, context, stride):
    path = write()
    found = scores_of(path, text, context=context, stride=stride)
    ids = tokenizer.encode([TEXT])[0]
    nats = sum(token_nats(load_model(path).model, ids, context or 16, stride or context or 16))
    assert found["loss"].value == pytest.approx(nats / (len(ids) - 1), rel=1e-5)
    assert found["perplexity"].value == pytest.approx(math.exp(nats / (len(ids) - 1)), rel=1e-4)
    assert found["word_perplexity"].value == pytest.approx(math.exp(nats / len(TEXT.split())), rel=1e-4)
    assert found["bits_per_byte"].value == pytest.approx(nats / len(TEXT) / math.log(2), rel=1e-5)
    assert f"|window:{context or 16}|stride:{stride or context or 16}|tok:chars-" in found["perplexity"].signature


@pytest.mark.parametrize(("context", "stride"), [(None, None), (16, 5)])
def test_a_text_begins_with_what_every_text_of_the_model_begins_with(write, text, tokenizer, context, stride):
    path = write(info={"text_start": [2, 1]})
    model, [ids] = load_model(path).model, tokenizer.encode([TEXT])
    expected = token_nats(model, [2, 1, *ids], context or 16, stride or context or 16)
    scores = scores_of(path, text, context=context, stride=stride)
    assert scores["loss"].value == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    assert len(expected) == len(ids) + 1  # the second of the two is predicted as well


def test_lines_as_documents_end_where_the_model_learnt_that_they_do(write, text, tokenizer):
    path = write(info={"document_end": True})
    found = scores_of(path, text, documents="lines")
    ids = [id_ for line in tokenizer.encode(TEXT.splitlines()) for id_ in [*line, tokenizer.special.eos]]
    nats = token_nats(load_model(path).model, ids, 16, 16)
    assert found["loss"].value == pytest.approx(sum(nats) / len(nats), rel=1e-5)


def test_a_model_with_memory_reads_segment_after_segment(write, text, tokenizer):
    path = write(family="transformer-xl", memory_length=6)
    model, ids = load_model(path).model, tokenizer.encode([TEXT])[0]
    nats, memory = 0.0, None
    for start in range(0, len(ids) - 1, 16):
        read, goal = torch.tensor([ids[start : start + 16]]), torch.tensor(ids[start + 1 : start + 17])
        with torch.no_grad():
            hidden, memory = model.hidden(read, memory)
            logprobs = model.logits(hidden)[0, : len(goal)].double().log_softmax(-1)
        nats -= float(logprobs.gather(1, goal[:, None]).sum())
    found = scores_of(path, text)
    assert found["loss"].value == pytest.approx(nats / (len(ids) - 1), rel=1e-5)
    assert "|memory:6|" in found["loss"].signature
    assert "|memory:" not in scores_of(path, text, memory_length=0, stride=4)["loss"].signature


def test_a_text_shorter_than_the_context_is_one_window(write, text, tokenizer, tmp_path):
    (tmp_path / "short.txt").write_text("the cat")
    path = write()
    nats = token_nats(load_model(path).model, tokenizer.encode(["the cat"])[0], 16, 16)
    found = scores_of(path, str(tmp_path / "short.txt"))
    assert found["loss"].value == pytest.approx(sum(nats) / 6, rel=1e-5)


def test_of_a_masked_language_model_every_token_is_hidden_in_turn(write, text, tokenizer):
    path = write("encoder", "encoder", mlm_head=True)
    model, special, nats = load_model(path).model, tokenizer.special, 0.0
    lines = tokenizer.encode(TEXT.splitlines())
    with torch.no_grad():
        for line in lines:
            for start in range(0, len(line), 14):
                piece = [special.cls, *line[start : start + 14], special.sep]
                for place in range(1, len(piece) - 1):
                    hidden = [*piece[:place], special.mask, *piece[place + 1 :]]
                    logits = model.logits(model.mlm_hidden(model(torch.tensor([hidden]))))
                    nats -= float(logits[0, place].double().log_softmax(-1)[piece[place]])
    found = scores_of(path, text, documents="lines")
    assert found["pseudo_perplexity"].value == pytest.approx(math.exp(nats / sum(map(len, lines))), rel=1e-4)
    assert found["pseudo_perplexity"].signature.startswith("pseudo_perplexity|level:token|window:sentence|")


@pytest.mark.parametrize(
    ("shape", "reading", "message"),
    [
        ({}, {"memory_length": 3}, "has no memory"),
        ({}, {"context": 33}, "only 32 positions"),
        ({}, {"stride": 17}, "tokens would be skipped"),
        ({"family": "transformer-xl", "memory_length": 6}, {"stride": 3}, "reads each token once"),
        ({"kind": "encoder", "task": "encoder"}, {}, "can't predict tokens"),
        ({"kind": "encoder", "task": "encoder", "mlm_head": True}, {"stride": 3}, "--stride has no effect on a masked"),
        ({"kind": "encoder-decoder", "task": "translation"}, {}, "is a translation model"),
    ],
)
def test_what_a_model_cannot_do_is_said(write, text, shape, reading, message):
    with pytest.raises(NlpcliError, match=message):
        scores_of(write(**shape), text, **reading)


def test_a_text_of_one_token_has_no_perplexity(write, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(NlpcliError, match=r"a\.txt: the text has fewer than 2 tokens"):
        scores_of(write(), str(tmp_path / "a.txt"))
