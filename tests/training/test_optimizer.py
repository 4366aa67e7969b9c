"""Which parameters an optimiser takes, how it moves them, and that its state survives a checkpoint."""

from __future__ import annotations

from hashlib import sha256

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.schema import TrainingConfig
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.training.checkpoint import checkpoints
from nlpcli.training.optimizer import OptimizerGroup, hidden_matrices, make_optimizer, set_rate

MUON = TrainingConfig(optimizer="muon", lr=0.01, weight_decay=0.1)


def model(tie="all", **settings):
    torch.manual_seed(0)
    config = {"kind": "decoder", "d_model": 16, "heads": 2, "d_ff": 32, "decoder_layers": 2, "tie": tie, **settings}
    return build_model(ModelConfig.model_validate(config), 40)


def backward(model, seed=1):
    ids = torch.randint(40, (3, 9), generator=torch.Generator().manual_seed(seed))
    nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()


def ids_of(group):
    return {id(parameter) for parameter in group["params"]}


@pytest.mark.parametrize("tie", ["all", "none"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_muon_takes_the_matrices_of_the_layers_and_adamw_the_rest(tie, positions):
    net = model(tie, positions=positions)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    muon, *adamw = make_optimizer(net, MUON).param_groups
    assert {names[id_].split(".")[-2] for id_ in ids_of(muon)} == {
        "query", "key", "value", "output", "inner", "outer"
    }  # fmt: skip
    assert len(muon["params"]) == 2 * 6
    rest = set().union(*map(ids_of, adamw))
    assert rest | ids_of(muon) == set(names) and rest.isdisjoint(ids_of(muon))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_vectors_do_not_decay(optimizer):
    groups = make_optimizer(model(), MUON.model_copy(update={"optimizer": optimizer})).param_groups
    for group in groups:
        assert {parameter.dim() < 2 for parameter in group["params"]} == {group["weight_decay"] == 0.0}


def test_a_muon_step_is_as_large_as_one_of_adamw_and_nearly_orthogonal():
    net = model()
    before = {id(matrix): matrix.detach().clone() for matrix in hidden_matrices(net)}
    optimizer = make_optimizer(net, MUON.model_copy(update={"weight_decay": 0.0}))
    backward(net)
    optimizer.step()
    for matrix in hidden_matrices(net):
        step = (matrix.detach() - before[id(matrix)]) / MUON.lr
        assert 0.1 < step.square().mean().sqrt() < 0.3  # AdamW's are about 0.2 (Liu et al. 2025)
        singular = torch.linalg.svdvals(step) / (0.2 * max(step.shape) ** 0.5)
        assert singular.max() < 1.4 and singular.median() > 0.5


def test_one_learning_rate_rules_both_parts():
    net = model()
    optimizer = make_optimizer(net, MUON)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    backward(net)
    optimizer.step()
    assert all(torch.equal(before[name], parameter) for name, parameter in net.named_parameters())
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("scaled", [False, True], ids=["one rate", "rates by layer"])
def test_adamw_beside_muon_learns_at_its_own_factor_of_the_rate(scaled):
    net = model()
    scales = {p: 0.5 if p.dim() == 1 else 2.0 for p in net.parameters()} if scaled else None
    optimizer = make_optimizer(net, MUON.model_copy(update={"adamw_lr_factor": 0.25, "weight_decay": 0.0}), scales)
    set_rate(optimizer, 0.01)
    hidden = {id(matrix) for matrix in hidden_matrices(net)}
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    backward(net)
    optimizer.step()
    for name, parameter in net.named_parameters():
        rate = 0.01 * (1.0 if scales is None else scales[parameter]) * (1.0 if id(parameter) in hidden else 0.25)
        assert rates[id(parameter)] == pytest.approx(rate)
        if id(parameter) not in hidden:  # the first step of Adam is as large as the rate
            moved = (parameter - before[name]).abs()[parameter.grad != 0]
            assert moved.max().item() == pytest.approx(rate, rel=1e-3)


def test_an_adaptive_softmax_is_left_to_adamw():
    layers = nn.Sequential(nn.Linear(16, 16), nn.AdaptiveLogSoftmaxWithLoss(16, 9, [3, 6]))
    assert hidden_matrices(layers) == [layers[0].weight]


def test_a_model_without_hidden_matrices_is_left_to_adamw():
    assert isinstance(make_optimizer(nn.Embedding(3, 2), MUON), torch.optim.AdamW)


def test_the_state_numbers_all_parameters_and_loads_into_a_new_one():
    net = model()
    optimizer = make_optimizer(net, MUON)
    backward(net)
    optimizer.step()
    saved = optimizer.state_dict()
    assert sorted(saved["state"]) == list(range(len(list(net.parameters()))))
    assert [index for group in saved["param_groups"] for index in group["params"]] == sorted(saved["state"])
    other = make_optimizer(net, MUON)
    other.load_state_dict(saved)
    assert isinstance(other, OptimizerGroup)
    again = other.state_dict()
    for index, values in saved["state"].items():
        assert all(torch.equal(value, again["state"][index][name]) for name, value in values.items())


@pytest.mark.parametrize(
    "settings",
    [(), ("training.ema_decay=0.9",), ("training.adamw_lr_factor=0.25",)],
    ids=["plain", "running average", "two rates"],
)
def test_a_run_with_muon_that_is_resumed_ends_with_the_same_bits(run_clm, quiet, settings):
    settings = ("training.optimizer=muon", "training.weight_decay=0.1", *settings)
    whole, _ = run_clm("whole", None, *settings)
    with pytest.raises(KeyboardInterrupt):
        run_clm("broken", quiet(interrupt_at=23), *settings)
    broken, outcome = run_clm("broken", None, resume=True)
    assert outcome.progress.step == 40
    left, right = (load_file(run / "model.safetensors") for run in (whole, broken))
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize(
    "change",
    [
        lambda state, name: state.update({f"{name.split('.')[0]}.x": state.pop(name)}),
        lambda state, name: state.update({name: torch.zeros(3, 2)}),
        lambda state, name: state.update({name: state[name].to(torch.complex64)}),
        lambda state, name: state.update({f"999{name}": state[name].clone()}),
        lambda state, name: state.update({f"x{name}": state[name].clone()}),
    ],
    ids=["another name", "another shape", "another type", "another parameter", "no parameter"],
)
def test_a_state_that_is_not_the_optimizers_is_refused(run_clm, kind, change):
    """The kernels would read and write beyond its end."""
    run, _ = run_clm("run", None, f"training.optimizer={kind}", "training.max_steps=2", "training.evaluate_every=2")
    [folder] = checkpoints(run)
    state = load_file(folder / "optimizer.safetensors")
    change(state, next(name for name in state if not name.endswith("step")))
    save_file(state, folder / "optimizer.safetensors")
    described = folder / "state.yaml"
    content = yaml.safe_load(described.read_text())
    content["sha256"]["optimizer"] = sha256((folder / "optimizer.safetensors").read_bytes()).hexdigest()
    described.write_text(yaml.safe_dump(content))
    with pytest.raises(NlpcliError, match="the checkpoint does not fit this run"):
        run_clm("run", None, "training.max_steps=3", resume=True)


def test_a_resumed_run_keeps_its_optimizer(run_clm):
    run_clm("run", None, "training.max_steps=2", "training.evaluate_every=2")
    with pytest.raises(NlpcliError, match=r"training\.optimizer of a resumed run can't be changed from adamw to muon"):
        run_clm("run", None, "training.optimizer=muon", resume=True)


def test_a_tasks_head_is_left_to_adamw():
    net = nn.Module()
    net.body, net.head = model(), nn.Linear(16, 3)
    assert len(hidden_matrices(net)) == 2 * 6
    assert all(matrix is not net.head.weight for matrix in hidden_matrices(net))
