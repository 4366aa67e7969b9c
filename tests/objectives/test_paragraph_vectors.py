"""Vectors of documents, and of new texts with the weights as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_settings import of_family

from nlpcli.data.shards import build_shards
from nlpcli.models.build import build_model
from nlpcli.objectives.paragraph_vectors import ParagraphInference, ParagraphVectors
from nlpcli.objectives.word_windows import WindowSettings
from nlpcli.text import train_tokenizer

SETTINGS = WindowSettings(window=3, subsample=0.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Documents of nine words of one topic each."""
    rng = np.random.default_rng(1)
    topics = [[f"{name}{i}" for i in range(12)] for name in "abcd"]
    lines = [" ".join(rng.choice(topics[i % 4], 9)) for i in range(240)]
    tokenizer = train_tokenizer("words", lines)
    folder = tmp_path_factory.mktemp("paragraphs")
    (folder / "text.txt").write_text("\n".join(lines) + "\n")
    shards = build_shards([folder / "text.txt"], tokenizer, out=folder / "shards", documents="lines", workers=1)
    return shards, tokenizer, lines


@pytest.fixture(scope="module", params=["pv-dm", "pv-dbow"])
def trained(request, corpus):
    shards, tokenizer, _ = corpus
    task = ParagraphVectors(shards, shards, tokenizer, architecture=request.param, settings=SETTINGS, batch_tokens=512)
    config = of_family(
        {"family": "word-vectors", "d_model": 12, "architecture": request.param, "documents": shards.documents}
    )
    torch.manual_seed(1)
    model = build_model(config, tokenizer.vocab_size)
    task.prime(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for epoch in range(20):
        for place, item in enumerate(task.plan(epoch)):
            loss, _ = task.loss(model, task.collate(item, np.random.default_rng([1, epoch, place])))
            (loss.total / loss.count).backward()
            optimizer.step()
            optimizer.zero_grad()
    return task, model.eval()


def topic_of(number):
    return "abcd"[number % 4]


def test_documents_of_the_same_topic_are_near_each_other(trained):
    units = torch.nn.functional.normalize(trained[1].documents.detach(), dim=1)
    nearest = (units @ units.T - 2 * torch.eye(len(units))).topk(5).indices.numpy()
    assert (nearest % 4 == np.arange(len(units))[:, None] % 4).mean() > 0.95


def test_a_new_text_is_near_the_documents_of_its_topic_and_leaves_the_weights(trained, corpus):
    task, model = trained
    tokenizer = corpus[1]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    texts = [f"{name}1 {name}5 {name}7 {name}2 {name}9" for name in "abcd"]
    vectors = ParagraphInference(model, SETTINGS)(tokenizer.encode(texts))
    assert not vectors.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    units = torch.nn.functional.normalize(model.documents.detach(), dim=1)
    nearest = (torch.nn.functional.normalize(vectors, dim=1) @ units.T).topk(10).indices
    for number, own in enumerate(nearest.tolist()):
        assert sum(topic_of(place) == topic_of(number) for place in own) >= 9
    shown = task.nearest_documents(model, 4)
    assert all(tokenizer.decode([one])[0][0] == tokenizer.decode([other])[0][0] for one, other in shown)


def test_a_vector_depends_on_its_text_alone(trained, corpus):
    tokenizer, lines = corpus[1], corpus[2]
    infer = ParagraphInference(trained[1], SETTINGS)
    ids = tokenizer.encode([*lines[:3], "a1", "unknown words", ""])
    together = infer(ids)
    for number, text in enumerate(ids):
        torch.testing.assert_close(infer([text])[0], together[number], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(infer(ids[::-1]), together.flip(0), atol=1e-5, rtol=1e-4)
    assert not together[4:].any() and together[:4].all()


def test_inference_lowers_the_loss_of_the_text(trained, corpus):
    task, model = trained
    with torch.inference_mode():
        losses = list(task.evaluate(model, torch.device("cpu")))
    found = sum(float(part.nll) for part in losses) / sum(part.count for part in losses)
    assert found < 0.8 * 6 * np.log(2)  # of vectors of zeros


@pytest.mark.parametrize("architecture", ["pv-dm", "pv-dbow"])
def test_a_step_of_inference_follows_the_gradient_that_autograd_finds(architecture):
    torch.manual_seed(2)
    config = of_family({"family": "word-vectors", "d_model": 4, "architecture": architecture})
    model = build_model(config, 12).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.set_frequencies(torch.arange(12.0))
    infer = ParagraphInference(model, SETTINGS, steps=1)
    batch = infer._sampled(np.array([3, 4, 5, 3, 9]))
    vectors = torch.randn(len(batch.targets), 4, dtype=torch.double, requires_grad=True)
    scores = model.scores(model.predictors(batch.contexts, batch.mask, vectors), batch.targets)
    signs = torch.tensor([-1.0] + [1.0] * 5, dtype=torch.double)
    loss = (torch.nn.functional.softplus(scores[:, 0] * signs) * batch.counted).sum()
    (expected,) = torch.autograd.grad(loss, vectors)
    found = infer._gradients(vectors.detach(), batch.contexts, batch.mask, batch.targets, batch.counted)
    torch.testing.assert_close(found, expected)
