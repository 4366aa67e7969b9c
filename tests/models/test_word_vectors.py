"""A vector for each word, what predicts a word, and what the rest of the program asks of such a model."""

from __future__ import annotations

import pytest
import torch
from model_settings import of_family

from nlpcli.config.model_settings import ModelConfig
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.model_with_head import WithHead
from nlpcli.models.padded_batch import Row, stack

SETTINGS = {"family": "word-vectors", "d_model": 6}


def model_of(**settings):
    torch.manual_seed(1)
    model = build_model(of_family({**SETTINGS, **settings}), 10)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.eval()


def test_the_state_of_a_word_is_its_vector_whatever_stands_around_it():
    model = model_of()
    rows = stack([Row([3, 4, 5], [0] * 3), Row([5, 3], [0] * 2)], 0)
    states = model.states(rows)
    assert torch.equal(states[0], model.token_embedding.weight[[3, 4, 5]])
    assert torch.equal(states[1, :2], model.token_embedding.weight[[5, 3]])


def test_what_predicts_a_word_is_what_the_architecture_says():
    contexts, mask = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[True, False, True, True]])
    paragraph = torch.randn(1, 6)
    near = model_of().token_embedding.weight[[3, 5, 6]]
    expected = {
        "skip-gram": model_of().token_embedding.weight[[3, 4, 5, 6]],
        "cbow": near.mean(dim=0, keepdim=True),
        "pv-dm": (near.sum(dim=0, keepdim=True) + paragraph) / 4,
        "pv-dbow": paragraph,
    }
    for architecture, predictors in expected.items():
        model = model_of(architecture=architecture)
        given = paragraph if architecture.startswith("pv") else None
        torch.testing.assert_close(model.predictors(contexts, mask, given)[0], predictors)


def test_words_that_never_occur_get_zeros_and_the_others_their_share():
    model = model_of()
    model.set_frequencies(torch.tensor([0, 0, 3, 1, 0, 0, 0, 4, 0, 2]))
    torch.testing.assert_close(model.token_frequencies[[2, 3, 7, 9]], torch.tensor([0.3, 0.1, 0.4, 0.2]))
    zero = ~model.token_embedding.weight.any(dim=1)
    assert zero.tolist() == [True, True, False, False, True, True, True, False, True, False]
    assert model_of().token_frequencies is None


@pytest.mark.parametrize(
    ("settings", "names"),
    [({}, {"output"}), ({"output_vectors": False}, set()), ({"documents": 4}, {"output"}),
     ({"architecture": "pv-dm", "documents": 4, "output_vectors": False}, {"output", "documents"})],
)  # fmt: skip
def test_a_model_has_the_matrices_that_its_settings_ask_for(settings, names):
    found = model_of(**settings).state_dict()
    assert found.keys() == {"embedding.tokens.weight", "frequencies", *names}


def test_a_body_has_neither_what_only_predicts_nor_the_documents_of_the_training_text():
    config = of_family({**SETTINGS, "architecture": "pv-dbow", "documents": 7}).without_pretraining_heads()
    assert (config.documents, config.output_vectors) == (0, False)
    assert isinstance(config, type(of_family(SETTINGS)))


def test_a_head_takes_the_vectors_as_layers_of_which_there_is_only_one():
    model = WithHead(model_of(), width=6, kind="vector", pooling="mean", layers="mean:1")
    rows = stack([Row([3, 4], [0] * 2)], 0)
    torch.testing.assert_close(model(rows)[0], model.body.token_embedding.weight[[3, 4]].mean(dim=0))
    with pytest.raises(NlpcliError, match="the number must be from 1 to 1"):
        WithHead(model_of(), width=6, kind="vector", pooling="mean", layers="mean:2")


def test_heads_of_masked_language_models_are_refused():
    with pytest.raises(NlpcliError, match="word-vectors can't be pretrained with masked tokens"):
        of_family(SETTINGS).with_pretraining_heads(mlm=True, pairs=False, segments=0)


@pytest.mark.parametrize(
    "change",
    [{"architecture": "cbow"}, {"d_model": 7}, {"documents": 3}, {"output_vectors": False}, {"dropout": 0.5},
     {"initialization": "xavier"}, {"init_std": 0.1}],
)  # fmt: skip
def test_a_setting_changes_the_model(change):
    """The architecture what predicts, the others weights or states in training."""
    base = {**SETTINGS, "architecture": "pv-dm", "output_vectors": True, "documents": 2}
    if "output_vectors" in change:
        base["architecture"] = "skip-gram"
    found = []
    for settings in (base, {**base, **change}):
        torch.manual_seed(1)
        model = build_model(ModelConfig.model_validate(settings), 10).train()
        ids = torch.arange(8)[None]
        predictors = model.predictors(ids, torch.ones(1, 8, dtype=torch.bool))
        found.append([*model.state_dict().values(), predictors])
    assert len(found[0]) != len(found[1]) or any(
        one.shape != other.shape or not torch.equal(one, other) for one, other in zip(*found, strict=True)
    )
