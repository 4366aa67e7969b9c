"""Small models of every kind with the head of a task, and a few steps of training."""

from __future__ import annotations

import pytest
import torch
from model_settings import of_family

from nlpcli.models.build import build_model
from nlpcli.tasks.supervised_objective import SupervisedObjective, predict_items
from nlpcli.tasks.task import Context

SIZES = {"d_model": 32, "heads": 2, "d_ff": 64, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
SHAPES = {
    "encoder": {"kind": "encoder", "segments": 2},
    "decoder": {"kind": "decoder", "norm_position": "pre"},
    "encoder-decoder": {"kind": "encoder-decoder"},
    "xlnet": {"kind": "encoder", "family": "xlnet"},
    "transformer-xl": {"kind": "decoder", "family": "transformer-xl"},
    "hierarchical": {"kind": "encoder", "family": "hierarchical"},
}


@pytest.fixture(params=list(SHAPES))
def shape(request) -> str:
    """The name of each kind of body in turn."""
    return request.param


@pytest.fixture(scope="session")
def make_context():
    def make(shape, tokenizer, max_length=64, **info) -> Context:
        return Context(tokenizer, of_family(SIZES | SHAPES[shape]), info, max_length)

    return make


@pytest.fixture(scope="session")
def make_model():
    """A model for a task, with random weights."""

    def make(task, seed=1):
        torch.manual_seed(seed)
        return build_model(task.context.model, task.context.tokenizer.vocab_size, task.head()).eval()

    return make


@pytest.fixture(scope="session")
def learn():
    """Trains a model on examples, in place. Returns: the last loss for each prediction."""

    def run(task, model, examples, steps=60, lr=3e-3) -> float:
        items = [item for group in task.encode(examples) for item in group]
        learnable = SupervisedObjective(task, items, batch_size=16)
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        model.train()
        step, last = 0, 0.0
        while step < steps:
            for batch in learnable.plan(step):
                loss = task.loss(model, task.collate([items[i] for i in batch]))
                optimizer.zero_grad()
                (loss.total / loss.count).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                step, last = step + 1, float(loss.nll) / loss.count
                if step == steps:
                    break
        model.eval()
        return last

    return run


@pytest.fixture(scope="session")
def predict():
    """The predictions for examples."""

    def run(task, model, examples, batch_tokens=1024):
        groups = task.encode(examples)
        flat = [item for group in groups for item in group]
        outputs = iter(predict_items(task, model, flat, torch.device("cpu"), batch_tokens=batch_tokens))
        return [
            task.prediction(example, group, [next(outputs) for _ in group])
            for example, group in zip(examples, groups, strict=True)
        ]

    return run
