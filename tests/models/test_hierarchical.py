"""Hierarchical attention networks equal plain layers on each sentence alone; padding and other texts change nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.config.model_settings import ModelConfig
from nlpcli.models.backbone import SENTENCES, WORDS
from nlpcli.models.build import build_model
from nlpcli.models.hierarchical import Groups
from nlpcli.models.padded_batch import Row, stack
from nlpcli.visualization.capture import capture

CLS, SEP, PAD, VOCABULARY, WIDTH = 4, 5, 0, 30, 6
DOCUMENTS = [[[7, 8, 9], [10, 11]], [[12]], [[13, 14, 15, 16], [17], [18, 19]]]
ROUNDED = 64 * 2**-23


def model(**changes):
    torch.manual_seed(3)
    sizes = {"d_model": WIDTH, "d_embedding": 5, "d_attention": 4, "dropout": 0.0}
    return build_model(ModelConfig.model_validate({"family": "hierarchical", **sizes, **changes}), VOCABULARY).eval()


def row(sentences):
    ids, numbers = [CLS], [-1]
    for number, sentence in enumerate(sentences):
        ids += [*sentence, SEP]
        numbers += [number] * len(sentence) + [-1]
    return Row(ids, [0] * len(ids), numbers)


def read(network, documents):
    return network.states(stack([row(sentences) for sentences in documents], PAD))


def level(part, x, aggregation):
    """The states and the vector of one sequence (n, d), by torch's own layers and the paper's equations."""
    states = x[None]
    for layer in part.encoder.layers:
        states = layer(states)[0]
    states = states[0]
    if aggregation == "mean":
        return states, states.mean(0)
    if aggregation == "max":
        return states, states.amax(0)
    hidden = torch.tanh(states @ part.attention.project.weight.T + part.attention.project.bias)
    weights = torch.softmax(hidden @ part.attention.query.weight[0], dim=0)
    return states, (weights[:, None] * states).sum(0)


@pytest.mark.parametrize("aggregation", ["attention", "mean", "max"])
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("layers", [1, 2])
def test_states_are_those_of_the_papers_equations_on_each_sentence_alone(aggregation, cell, layers):
    network = model(aggregation=aggregation, rnn_type=cell, word_layers=layers, sentence_layers=layers)
    found = read(network, DOCUMENTS)
    for number, sentences in enumerate(DOCUMENTS):
        vectors, place = [], 1
        ends = []
        for sentence in sentences:
            states, vector = level(network.words, network.embedding(torch.tensor([sentence]))[0], aggregation)
            assert torch.allclose(found[number, place : place + len(sentence)], states, atol=ROUNDED)
            place += len(sentence)
            ends.append(place)
            place += 1
            vectors.append(vector)
        states, document = level(network.sentences, torch.stack(vectors), aggregation)
        assert torch.allclose(found[number, ends], states, atol=ROUNDED)
        assert torch.allclose(found[number, 0], document, atol=ROUNDED)
        assert not found[number, place:].any()


sentences = st.lists(st.lists(st.integers(6, VOCABULARY - 1), min_size=1, max_size=5), min_size=1, max_size=4)


@given(st.lists(sentences, min_size=1, max_size=4))
def test_a_document_has_the_states_it_has_alone_and_padding_has_no_gradient(documents):
    network = model()
    rows = stack([row(each) for each in documents], PAD)
    found = network.states(rows)
    for number, each in enumerate(documents):
        alone = read(network, [each])[0]
        assert torch.allclose(found[number, : len(alone)], alone, atol=ROUNDED)
    rows.ids[rows.sentences < 0] = VOCABULARY - 1  # neither padding nor special tokens are read
    assert torch.equal(network.states(rows), found)


def test_one_padded_document_is_the_document_without_padding():
    network = model()
    ids, numbers = torch.tensor([row(DOCUMENTS[0]).ids]), torch.tensor([row(DOCUMENTS[0]).sentences])
    plain = network(ids, numbers)
    padded = network(torch.nn.functional.pad(ids, (0, 3)), torch.nn.functional.pad(numbers, (0, 3), value=-1))
    assert torch.equal(padded[:, : ids.size(1)], plain) and not padded[:, ids.size(1) :].any()


def test_sentences_of_other_documents_get_no_gradient():
    network = model()
    first, *_ = read(network, DOCUMENTS)
    first.square().sum().backward()
    touched = network.embedding.tokens.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == sorted(token for sentence in DOCUMENTS[0] for token in sentence)


def test_without_sentences_all_tokens_behind_the_first_are_one():
    network = model()
    ids = torch.tensor([[CLS, 7, 8, 9]])
    assert torch.allclose(network(ids), network(ids, torch.tensor([[-1, 0, 0, 0]])), atol=ROUNDED)
    assert not network(ids[:, :1]).any()


@pytest.mark.parametrize("documents", [[[]], [[], [[7, 8]]]])
def test_a_text_without_words_has_states_of_zeros_beside_others(documents):
    network = model()
    found = read(network, documents)
    assert not found[0].any()
    if len(documents) > 1:
        assert torch.allclose(found[1, :4], read(network, documents[1:])[0], atol=ROUNDED)


def test_the_weights_of_words_and_of_sentences_are_recorded_and_sum_to_one():
    network = model()
    with capture(network) as recorded:
        read(network, DOCUMENTS)
    [[words]], [[above]] = recorded[WORDS], recorded[SENTENCES]
    lengths = [len(sentence) for document in DOCUMENTS for sentence in document]
    assert words.shape == (6, 1, 1, 4) and above.shape == (3, 1, 1, 3)
    for weights, sizes in ((words, lengths), (above, [len(document) for document in DOCUMENTS])):
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-6)
        assert [int((own > 0).sum()) for own in weights] == sizes
    assert not model(aggregation="max").attention_sites()


def test_every_parameter_of_the_model_has_a_layer_group():
    network = model(word_layers=2)
    grouped = {id(p) for _, part in network.layer_groups() for p in part.parameters()}
    assert {id(p) for p in network.parameters()} == grouped
    names = list(dict.fromkeys(name for name, _ in network.layer_groups()))
    assert names == ["embeddings", "words.0", "words.1", "sentences.0"]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_groups_put_items_into_a_grid_and_take_them_out(sizes):
    groups = Groups(torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)))
    items = torch.arange(1, sum(sizes) + 1)
    grid = groups.grid(items)
    assert groups.mask.sum(1).tolist() == sizes and torch.equal(grid > 0, groups.mask)
    assert torch.equal(groups.items(grid), items) and grid[groups.mask].tolist() == items.tolist()


def test_an_odd_width_is_refused_by_name():
    with pytest.raises(ValueError, match="even d_model, not 7"):
        model(d_model=7)
