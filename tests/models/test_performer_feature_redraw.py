"""New random features in training: when they come, that they are kept, and that a resumed run draws the same."""

from __future__ import annotations

import itertools

import pytest
import torch
from safetensors.torch import load_file

import nlpcli
from nlpcli.attention.performer import projection
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.performer_feature_redraw import redraws

SHAPE = {"kind": "decoder", "d_model": 16, "heads": 2, "d_ff": 16, "decoder_layers": 2, "dropout": 0.0}


def test_features_change_every_few_steps_and_with_them_what_the_model_computes():
    model = build_model({**SHAPE, "attention": ["performer:8"]}, 20)
    before_step, ids, found = redraws(model, 3), torch.randint(20, (2, 9)), []
    for step in range(7):
        before_step(step)
        found.append(model(ids))
    same = [torch.equal(a, b) for a, b in itertools.pairwise(found)]
    assert same == [True, True, False, True, True, False]
    before_step(1)
    assert torch.equal(model(ids), found[0])


def test_a_loaded_model_has_the_features_of_its_training():
    model = build_model({**SHAPE, "attention": ["performer-hyperbolic:8"]}, 20)
    redraws(model, 1)(5)
    again = build_model({**SHAPE, "attention": ["performer-hyperbolic:8"]}, 20)
    ids = torch.randint(20, (2, 9))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(ids), model(ids))


def test_draws_and_layers_differ_and_each_draw_is_orthogonal():
    draws = [projection(4, 4, layer, draw) for layer in range(3) for draw in range(3)]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])
    for draw in draws:
        products = draw @ draw.T
        assert torch.allclose(products, torch.diag(products.diagonal()), atol=1e-5)


def test_a_model_without_random_features_is_refused():
    with pytest.raises(NlpcliError, match="redraw_features needs random features"):
        redraws(build_model(SHAPE, 20), 3)


def test_a_run_redraws_and_resumes_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.txt").write_text("the red cat sat\nthe blue dog ran\n" * 30)
    settings = {
        "model.d_model": 16, "model.heads": 2, "model.d_ff": 16, "model.decoder_layers": 1, "tokenizer.type": "words",
        "model.attention": ["performer:8"], "training.redraw_features": 2, "training.schedule": "constant",
        "training.precision": "float32", "data.context": 16,
    }  # fmt: skip
    common = {"preset": "gpt-mini", "data": "x.txt", "device": "cpu", "settings": settings}
    nlpcli.pretrain("clm", out="whole", max_steps=5, **common)
    nlpcli.pretrain("clm", out="parts", max_steps=3, **common)
    nlpcli.pretrain(out="parts", resume=True, max_steps=5)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    [draw] = [value for name, value in whole.items() if name.endswith("draw")]
    assert int(draw) == 2
