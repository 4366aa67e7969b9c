"""Vectors of texts out of vectors of words: SIF, and paragraph vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_settings import of_family

from nlpcli.commands.cluster import ClusterRequest, cluster
from nlpcli.commands.search import Search, SearchRequest
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.runs.embedder import Embedder, EmbedderSettings
from nlpcli.text import train_tokenizer

LINES = ["the cat sleeps on the mat", "a dog runs in the park", "the train leaves at nine", "we read an old book",
         "she sees the red house", "he writes a long letter", "the children play a game", "rain falls on the roof",
         "they eat bread and cheese", "the shop opens at ten", "an unknownword stands here", "the river is cold",
         "", "zzz"]  # fmt: skip
QUIET = {"notify": lambda text: None}


def write(path, architecture="skip-gram", **info):
    torch.manual_seed(1)
    tokenizer = train_tokenizer("words", [line.replace("unknownword ", "") for line in LINES[:12]])
    config = of_family({"family": "word-vectors", "d_model": 8, "architecture": architecture, "init_std": 0.5})
    model = build_model(config, tokenizer.vocab_size)
    counts = torch.zeros(tokenizer.vocab_size)
    for ids in tokenizer.encode(LINES[:12]):
        counts += torch.bincount(torch.tensor(ids), minlength=len(counts))
    counts[sorted(tokenizer.special.all())] = 0
    model.set_frequencies(counts)
    if model.output is not None:
        torch.nn.init.normal_(model.output)
    save_model(path, weights=model.state_dict(), config=config, tokenizer=tokenizer, info={"task": "encoder", **info})
    return path


def opened(path: Path, **settings) -> Embedder:
    return Embedder(EmbedderSettings(model=path, device="cpu", **settings), **QUIET)


def by_hand(embedder, weights, lines=LINES):
    """Sums over the known words of each line, divided by how many these are, in float64."""
    table = embedder.model.body.token_embedding.weight.detach().double().numpy()
    unk, found = embedder.tokenizer.special.unk, []
    for ids in embedder.tokenizer.encode(list(lines)):
        known = [id_ for id_ in ids if id_ != unk]
        found.append(sum((weights[id_] * table[id_] for id_ in known), np.zeros(8)) / max(len(known), 1))
    return np.stack(found)


def test_the_mean_is_that_of_the_known_words(tmp_path):
    embedder = opened(write(tmp_path / "m"))
    assert embedder.pooling == "mean"
    vectors = embedder.vectors(LINES)
    np.testing.assert_allclose(vectors, by_hand(embedder, np.ones(embedder.tokenizer.vocab_size)), atol=1e-6)
    assert not vectors[12:].any() and vectors[:12].any(axis=1).all()


def test_sif_is_the_published_algorithm(tmp_path):
    embedder = opened(write(tmp_path / "m"), pooling="sif", batch_tokens=16)
    embedder.fit(LINES)
    shares = embedder.model.body.token_frequencies.double().numpy()
    means = by_hand(embedder, 1e-3 / (1e-3 + shares))
    values, directions = np.linalg.eigh(means.T @ means)
    first = directions[:, values.argmax()]
    expected = means - np.outer(means @ first, first)
    np.testing.assert_allclose(embedder.vectors(LINES), expected, atol=1e-6)
    np.testing.assert_allclose(embedder.vectors(LINES[3:5]), expected[3:5], atol=1e-6)
    assert abs(embedder.vectors(LINES) @ first).max() < 1e-6


def test_padding_changes_nothing(tmp_path):
    path = write(tmp_path / "m")
    for pooling in ("mean", "sif"):
        embedder = opened(path, pooling=pooling)
        embedder.fit(LINES)
        together = embedder.vectors(LINES)
        alone = np.concatenate([embedder.vectors([line]) for line in LINES])
        np.testing.assert_allclose(together, alone, atol=1e-6)


def test_normalized_vectors_have_the_length_one_and_zeros_stay(tmp_path):
    embedder = opened(write(tmp_path / "m"), pooling="sif", normalize=True)
    embedder.fit(LINES)
    lengths = np.linalg.norm(embedder.vectors(LINES), axis=1)
    np.testing.assert_allclose(lengths, [1.0] * 12 + [0.0] * 2, atol=1e-6)


def test_too_few_lines_for_a_component_are_refused(tmp_path):
    embedder = opened(write(tmp_path / "m"), pooling="sif")
    with pytest.raises(NlpcliError, match="9 lines are too few for it"):
        embedder.fit(LINES[:9])


def test_a_corpus_is_searched_and_clustered_with_the_component_of_its_own_lines(tmp_path):
    model, corpus = write(tmp_path / "m"), tmp_path / "corpus.txt"
    corpus.write_text("\n".join(LINES[:12]) + "\n")
    settings = EmbedderSettings(model=model, pooling="sif", device="cpu")
    embedder = opened(model, pooling="sif")
    embedder.fit(LINES[:12])
    expected = embedder.vectors(LINES[:12])

    def found(**given):
        search = Search(SearchRequest(settings=settings, top=1, **given), warn=lambda text: None, **QUIET)
        np.testing.assert_allclose(np.asarray(search.vectors), expected, atol=1e-6)
        return [answer.hits[0].line for answers in search.answers(LINES[:12]) for answer in answers]

    assert found(corpus=[str(corpus)], save_index=tmp_path / "index") == list(range(1, 13))
    np.save(tmp_path / "v.npy", expected)
    assert found(vectors=tmp_path / "v.npy", texts=str(corpus)) == list(range(1, 13))
    assert found(vectors=tmp_path / "index") == list(range(1, 13))
    groups = cluster(ClusterRequest([str(corpus)], settings=settings, k=3), warn=lambda text: None, **QUIET)
    assert sum(groups.sizes) == 12


def test_paragraph_vectors_are_inferred_where_the_model_has_them(tmp_path):
    paragraphs = {"window": 2, "negatives": 3, "noise_power": 0.75, "subsample": 0.0}
    path = write(tmp_path / "m", "pv-dbow", paragraphs=paragraphs)
    embedder = opened(path)
    assert embedder.pooling == "paragraph" and "paragraph vector, inferred" in embedder.describe()
    together = embedder.vectors(LINES)
    np.testing.assert_allclose(np.concatenate([embedder.vectors([line]) for line in LINES]), together, atol=1e-4)
    np.testing.assert_array_equal(together, opened(path).vectors(LINES))
    assert not together[12:].any()
    assert opened(path, pooling="mean").vectors(LINES).shape == together.shape


@pytest.mark.parametrize(("pooling", "message"), [("sif", "needs the frequencies of words"),
                                                  ("paragraph", "needs a model of paragraph vectors")])  # fmt: skip
def test_poolings_that_a_model_cannot_do_are_refused(tmp_path, pooling, message):
    tokenizer = train_tokenizer("words", LINES)
    config = of_family({"family": "word-vectors", "d_model": 8})
    weights = build_model(config, tokenizer.vocab_size).state_dict()
    save_model(tmp_path / "m", weights=weights, config=config, tokenizer=tokenizer, info={"task": "encoder"})
    with pytest.raises(NlpcliError, match=message):
        opened(tmp_path / "m", pooling=pooling)
