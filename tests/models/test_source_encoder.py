"""A new source encoder under a pretrained encoder-decoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nlpcli.config.model_settings import ModelConfig
from nlpcli.decoding.beam import BeamSettings
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.models.build import build_model
from nlpcli.models.layer_groups import depth_groups
from nlpcli.models.model_folder import load_weights, unshared
from nlpcli.models.source_encoder import add_source_encoder, first_stage
from nlpcli.objectives.source_target_batches import PairBatch
from nlpcli.objectives.source_target_loss import pair_loss
from nlpcli.training.checkpoint import Progress
from nlpcli.training.freezing import make_plan

SMALL = {"d_model": 8, "heads": 2, "d_ff": 16, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
MODELS = {
    "bart": {"positions": "learned", "max_length": 32, "position_offset": 2, "embedding_norm": True,
             "scale_embeddings": False, "output_bias": True},
    "transformer": {"positions": "sinusoidal", "scale_embeddings": True},
    "t5": {"positions": "relative", "norm_position": "pre", "scale_embeddings": False, "tie": "none"},
}  # fmt: skip
SOURCE = torch.tensor([[29, 3, 11, 25], [24, 8, 0, 0]])
MASK = torch.tensor([[True] * 4, [True, True, False, False]])
TARGET = torch.tensor([[2, 5, 7], [2, 6, 1]])


def made(name, layers=1, vocab_size=30):
    torch.manual_seed(4)
    config = ModelConfig.model_validate(SMALL | MODELS[name])
    model = build_model(config, 12)
    if layers:
        add_source_encoder(model, config, layers=layers, vocab_size=vocab_size)
    return model.double().eval()


class Same(nn.Module):
    """The pretrained token embeddings themselves, in the new encoder's place."""

    def __init__(self, embedding):
        super().__init__()
        self.tokens, self.scale = embedding.tokens, embedding.scale

    def forward(self, source, allowed=None):
        return self.tokens(source) * self.scale


@pytest.mark.parametrize("name", MODELS)
def test_an_encoder_that_gives_the_embeddings_themselves_changes_nothing(name):
    model, source = made(name, layers=0), SOURCE % 12
    before = model(source, MASK, TARGET)
    model.source_encoder = Same(model.encoder_embedding)
    assert torch.allclose(model(source, MASK, TARGET), before, atol=1e-6)
    assert torch.equal(model.encode(source, MASK).mask, MASK)


@pytest.mark.parametrize("name", MODELS)
def test_it_reads_ids_of_its_own_vocabulary_and_no_padding(name):
    model = made(name)
    logits = model(SOURCE, MASK, TARGET)
    assert logits.shape == (2, 3, 12)
    other = SOURCE.clone()
    other[1, 2:] = 17
    assert torch.allclose(model(other, MASK, TARGET), logits, atol=1e-6)
    other[1, 1] = 17
    assert not torch.allclose(model(other, MASK, TARGET)[1], logits[1], atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_it_is_decoded_as_any_encoder_decoder(name):
    model = made(name)
    state = model.init_state(model.encode(SOURCE, MASK))
    found = greedy_search(model, state, [[2], [2]], StopConditions(1, [5, 5]), constraints=BeamSettings().constraints)
    for row, ((best,), source, mask) in enumerate(zip(found, SOURCE, MASK, strict=True)):
        target = torch.tensor([[2, *best.ids]])
        alone = model(source[mask][None], None, target)[0].argmax(-1).tolist()
        assert alone[: len(best.ids)] == list(best.ids), row


@pytest.mark.parametrize("name", MODELS)
def test_weights_come_back_with_each_matrix_once(name):
    model, other = made(name), made(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    saved = unshared(model.state_dict())
    assert len(saved) == len(list(model.parameters()))
    load_weights(other, saved, "here")
    assert torch.equal(other(SOURCE, MASK, TARGET), model(SOURCE, MASK, TARGET))


@pytest.mark.parametrize("name", MODELS)
def test_the_pretrained_part_keeps_its_weights(name):
    plain, model = made(name, layers=0), made(name)
    for path, tensor in plain.state_dict().items():
        if path != "encoder_embedding.tokens.weight" or name != "t5":
            assert torch.equal(model.state_dict()[path], tensor), path


@pytest.mark.parametrize("name", MODELS)
def test_at_first_only_it_the_positions_and_the_first_projection_learn_and_then_everything(name):
    model = made(name)
    plan = make_plan(model, "stages", first=first_stage(model), first_steps=5)
    batch = PairBatch(SOURCE, MASK, TARGET, TARGET.flatten(), torch.arange(6), 12)
    learnt = []
    for step in (0, 4, 5):
        model.train()
        plan.begin_step(Progress(step=step))
        pair_loss(model, batch).total.backward()
        learnt.append({path for path, parameter in model.named_parameters() if parameter.grad is not None})
        model.zero_grad()
    first, again, everything = learnt
    assert first == again and everything == {path for path, _ in model.named_parameters()}
    new = {path for path in everything if path.startswith("source_encoder.")}
    projections = {f"encoder.layers.0.self_attention.{part}.weight" for part in ("query", "key", "value")}
    positions = {path for path in first if "positions" in path} - new
    assert first == new | projections | positions and new
    assert len(positions) == (0 if name == "transformer" else 2)


def test_it_learns_at_the_full_rate_as_all_that_is_new():
    model = made("bart")
    head = depth_groups(model)[-1]
    assert head.name == "head"
    assert {id(parameter) for parameter in model.source_encoder.parameters()} <= {id(p) for p in head.parameters}
