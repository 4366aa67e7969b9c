"""What is trained at which step, that the rest stays as it is to the bit, and that an interrupt changes none of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nlpcli.config.schema import TrainingConfig
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.errors import NlpcliError
from nlpcli.layers.lora import add_lora
from nlpcli.models.build import build_model
from nlpcli.models.layer_groups import depth_groups, layer_scales
from nlpcli.objectives.objective import Loss
from nlpcli.training.checkpoint import Progress, checkpoints
from nlpcli.training.device import prepare
from nlpcli.training.freezing import freeze, make_plan
from nlpcli.training.metric_direction import higher_is_better
from nlpcli.training.training_log import read_metrics
from nlpcli.training.training_loop import Trainer
from nlpcli.training.training_loop_types import Evaluation, ModelToTrain

ENCODER = TransformerConfig(
    kind="encoder", d_model=8, heads=2, d_ff=12, encoder_layers=3, dropout=0.2, pooler=True, mlm_head=True
)
STEPS_AN_EPOCH = 4


class Headed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = build_model(ENCODER, 20)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, ids):
        return self.head(self.body.pooled(self.body(ids)))


@dataclass
class Examples:
    ids: torch.Tensor
    labels: torch.Tensor

    @property
    def count(self):
        return len(self.labels)

    @property
    def tokens(self):
        return self.ids.numel()

    def to(self, device):
        return replace(self, ids=self.ids.to(device), labels=self.labels.to(device))


class Classes:
    """Random texts whose class is their first token's."""

    def plan(self, epoch):
        return list(range(STEPS_AN_EPOCH))

    def collate(self, item, rng):
        ids = torch.from_numpy(rng.integers(0, 20, size=(6, 5)))
        return Examples(ids, ids[:, 0] % 3)

    def loss(self, model, batch, carry=None):
        total = nn.functional.cross_entropy(model(batch.ids), batch.labels, reduction="sum")
        return Loss(total, total, batch.count), None


class Uneven(Classes):
    """The same with texts of another length in each batch, of which a token costs more or less."""

    def collate(self, item, rng):
        ids = torch.from_numpy(rng.integers(0, 20, size=(6, int(rng.integers(3, 30)))))
        return Examples(ids, ids[:, 0] % 3)


@pytest.fixture
def trainer(tmp_path, quiet):
    """trainer(name, interrupt_at, prepare_model, plan, decay, **settings) -> a trainer of a small classifier."""

    def make(name="run", interrupt_at=None, change=lambda model: None, plan=lambda model: None, decay=None, **settings):
        torch.manual_seed(3)
        model = Headed()
        change(model)
        common = {"max_steps": 10, "evaluate_every": 5, "log_every": 1, "warmup_steps": 0, "lr": 0.02,
                  "schedule": "constant", "weight_decay": 0.1, "precision": "float32", "device": "cpu"}  # fmt: skip
        kept = {}

        def keep(weights, metrics, progress):
            kept.clear()
            kept.update({name: tensor.clone() for name, tensor in weights.items()})

        def evaluate(model):
            batch = Classes().collate(0, np.random.default_rng(9))
            return {"loss": float(nn.functional.cross_entropy(model(batch.ids), batch.labels))}

        made = Trainer(
            ModelToTrain(model, 8, None if decay is None else layer_scales(model, decay), plan(model)),
            Classes(), TrainingConfig(**{**common, **settings}), Evaluation(evaluate, keep),
            machine=prepare("cpu", "float32", None), run=tmp_path / name, observer=quiet(interrupt_at),
        )  # fmt: skip
        made.kept = kept
        return made

    return make


def weights(trainer):
    return {name: tensor.detach().clone() for name, tensor in trainer.model.named_parameters()}


def changed(trainer, run):
    before = weights(trainer)
    run()
    return {name for name, tensor in weights(trainer).items() if not torch.equal(tensor, before[name])}


def used(names):
    """The parameters that the classifier makes use of."""
    return {name for name in names if "mlm_head" not in name and "output_bias" not in name}


def adapters(model):
    add_lora(model, rank=2, alpha=4, dropout=0.1)


WAYS = {
    "head": {"plan": lambda model: make_plan(model, "head")},
    "gradual by epochs": {"plan": lambda model: make_plan(model, "gradual")},
    "stages": {"plan": lambda model: make_plan(model, "stages", first=["head", r"layers\.0"], first_steps=6)},
    "decay with muon": {"decay": 0.6, "optimizer": "muon"},
    "gradual with muon": {"plan": lambda model: make_plan(model, "gradual", every=3), "optimizer": "muon"},
    "adapters, averaged": {"change": adapters, "ema_decay": 0.8},
    "gradual, averaged": {"plan": lambda model: make_plan(model, "gradual"), "ema_decay": 0.8, "average_last": 2},
}


@pytest.mark.parametrize(("way", "at"), [*((way, 5) for way in WAYS), ("gradual by epochs", 8), ("stages", 6)])
def test_a_resumed_run_ends_with_the_very_bits_of_an_uninterrupted_one(trainer, way, at):
    whole = trainer("whole", **WAYS[way])
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        trainer("broken", at, **WAYS[way]).fit()
    resumed = trainer("broken", **WAYS[way])
    resumed.fit(resume=True)
    left, right = weights(whole), weights(resumed)
    assert all(torch.equal(left[name], right[name]) for name in left)
    for part in ("optimizer", *["average"] * ("averaged" in way)):
        left, right = (load_file(checkpoints(one.run)[-1] / f"{part}.safetensors") for one in (whole, resumed))
        assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def operations_of_a_token(trainer):
    """Step -> what a token cost in it, by the log."""
    lines = [{"step": 0, "flops": 0.0, "tokens": 0}, *read_metrics(trainer.run)]
    lines = [line for line in lines if "flops" in line]
    return {
        line["step"]: (line["flops"] - before["flops"]) / (line["tokens"] - before["tokens"])
        for before, line in pairwise(lines)
    }


def test_operations_are_counted_anew_whenever_more_of_the_model_learns(trainer):
    one = trainer(plan=lambda model: make_plan(model, "gradual"), max_steps=24, evaluate_every=24)
    one.fit()
    cost = operations_of_a_token(one)
    by_stage = [[cost[step] for step in range(first, first + STEPS_AN_EPOCH)] for first in range(1, 24, STEPS_AN_EPOCH)]
    assert all(own == pytest.approx([own[0]] * STEPS_AN_EPOCH) for own in by_stage)
    head, *layers, everything, last = (own[0] for own in by_stage)
    assert head < layers[0] < layers[1] < layers[2] <= everything == pytest.approx(last)
    whole = trainer("whole", max_steps=1)
    whole.fit()
    assert operations_of_a_token(whole)[1] == pytest.approx(last)


@pytest.mark.parametrize("way", ["gradual by epochs", "stages", "decay with muon"])
@pytest.mark.parametrize("at", [4, 6])
def test_a_resumed_run_has_counted_the_operations_of_an_uninterrupted_one(trainer, way, at):
    folders = {"whole": "whole", "broken": "broken", "again": "broken"}
    ways = {name: trainer(run, at if name == "broken" else None, **WAYS[way]) for name, run in folders.items()}
    for one in ways.values():
        one.task = Uneven()
    ways["whole"].fit()
    with pytest.raises(KeyboardInterrupt):
        ways["broken"].fit()
    ways["again"].fit(resume=True)
    whole, again = ways["whole"].progress, ways["again"].progress
    assert (again.flops, again.flops_per_token) == (whole.flops, whole.flops_per_token)
    assert operations_of_a_token(ways["again"]) == operations_of_a_token(ways["whole"])


def test_with_the_head_alone_the_body_stays_to_the_bit_and_gets_neither_gradient_nor_memory(trainer):
    one = trainer(plan=lambda model: make_plan(model, "head"))
    assert changed(one, one.fit) == {name for name in weights(one) if name.startswith("head.")}
    assert all(parameter.grad is None for parameter in one.model.body.parameters())
    assert len(one.state.optimizer.state_dict()["state"]) == 4


def test_with_the_head_alone_the_body_works_without_dropout_and_the_head_with_it(trainer):
    one = trainer(plan=lambda model: make_plan(model, "head"))
    one.model.train()
    one.training_step.plan.begin_step(Progress())
    assert not any(module.training for module in one.model.body.modules())
    assert all(module.training for module in one.model.head.modules()) and one.model.training
    batch = Classes().collate(0, np.random.default_rng(1))
    states = one.model.body(batch.ids)
    assert not states.requires_grad and torch.equal(states, one.model.body(batch.ids))


@pytest.mark.parametrize("every", [None, 3])
def test_gradual_unfreezing_adds_a_group_from_the_top_at_a_time(trainer, every):
    one = trainer(plan=lambda model: make_plan(model, "gradual", every=every))
    groups = [list(group.parameters) for group in depth_groups(one.model)]
    assert len(groups) == 6  # embeddings, three layers, pooler and the like, head
    groups[-2:] = [groups[-2] + groups[-1]]
    for step in range(40):
        progress = Progress(step=step, epoch=step // STEPS_AN_EPOCH)
        one.model.train()
        one.training_step.plan.begin_step(progress)
        open_ = 1 + (step // every if every else progress.epoch)
        for place, group in enumerate(reversed(groups)):
            assert all(parameter.requires_grad == (place < open_) for parameter in group), (step, place)


def test_gradual_unfreezing_changes_only_what_was_reached(trainer):
    one = trainer(plan=lambda model: make_plan(model, "gradual"), max_steps=6, evaluate_every=6)
    found = changed(one, one.fit)
    assert {name.split(".")[0] for name in found} == {"head", "body"}
    assert {name for name in found if "layers" in name} == {name for name in weights(one) if "layers.2." in name}
    assert not any("embedding" in name for name in found)


def test_what_is_trained_is_reported_whenever_it_changes(trainer):
    one = trainer(plan=lambda model: make_plan(model, "gradual"))
    one.fit()
    total = sum(parameter.numel() for parameter in one.model.parameters())
    messages = [note.split(":")[0] for note in one.observer.notes]
    assert messages[:3] == [
        "training head from step 1",
        "training head, encoder.2 from step 5",
        "training head, encoder.2, encoder.1 from step 9",
    ]
    assert all(note.endswith(f"of {total:,} parameters") for note in one.observer.notes)


def test_in_stages_what_is_named_is_trained_first_and_then_everything(trainer):
    def plan(model):
        return make_plan(model, "stages", first=["head", r"body\.encoder\.layers\.0\.self_attention"], first_steps=6)

    short = trainer("short", plan=plan, max_steps=6, evaluate_every=6)
    expected = {name for name in weights(short) if name.startswith("head.") or "layers.0.self_attention." in name}
    assert changed(short, short.fit) == expected
    long = trainer("long", plan=plan, max_steps=7, evaluate_every=7)
    assert changed(long, long.fit) == used(weights(long))


def test_what_is_frozen_for_good_stays_in_every_way(trainer):
    def change(model):
        assert freeze(model, ["encoder_embedding.tokens", "pooler"]) == [
            "body.encoder_embedding.tokens.weight", "body.pooler.dense.weight", "body.pooler.dense.bias",
        ]  # fmt: skip

    one = trainer(change=change, plan=lambda model: make_plan(model, "gradual", every=1))
    found = changed(one, one.fit)
    assert found == {name for name in used(weights(one)) if "tokens" not in name and "pooler" not in name}
    assert one.training_step.plan.stages[-1].name == "all parameters"


def test_a_shared_matrix_is_frozen_under_any_of_its_names():
    model = build_model(TransformerConfig(d_model=8, heads=2, d_ff=8, encoder_layers=1, decoder_layers=1), 10)
    assert freeze(model, ["output_weight_owner"]) == ["output_weight_owner.weight"]
    assert not model.encoder_embedding.tokens.weight.requires_grad


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_group_learns_at_its_own_rate_exactly(trainer, optimizer):
    one = trainer(decay=0.5, optimizer=optimizer, schedule="linear", min_lr=0.001)
    one.fit()
    rates = {}
    for group in one.state.optimizer.param_groups:
        rates.update({id(parameter): group["lr"] for parameter in group["params"]})
    groups = depth_groups(one.model)
    for below, group in enumerate(reversed(groups)):
        assert {rates[id(parameter)] for parameter in group.parameters} == {one.state.sums.lr * 0.5**below}


def test_a_decay_of_one_gives_what_no_decay_gives(trainer):
    plain, scaled = trainer("plain"), trainer("scaled", decay=1.0)
    plain.fit()
    scaled.fit()
    assert all(torch.equal(tensor, weights(scaled)[name]) for name, tensor in weights(plain).items())


def test_with_a_steep_decay_the_embeddings_hardly_move(trainer):
    one = trainer(decay=0.01)
    before = weights(one)
    one.fit()
    moved = {name: float((tensor - before[name]).abs().max()) for name, tensor in weights(one).items()}
    assert moved["body.encoder_embedding.tokens.weight"] < 1e-9 < 1e-3 < moved["head.3.weight"]


def test_adapters_are_merged_in_what_is_kept_and_apart_in_checkpoints(trainer):
    one = trainer(change=adapters, max_steps=5)
    base = Headed().state_dict().keys()
    found = changed(one, one.fit)
    assert found == {name for name in weights(one) if "lora" in name or name.startswith("head.")}
    assert one.kept.keys() == base
    checkpoint = load_file(checkpoints(one.run)[-1] / "model.safetensors")
    assert checkpoint.keys() > {name for name in found if "lora" in name}
    plain = Headed()
    plain.load_state_dict(one.kept)
    ids = torch.arange(10).view(2, 5)
    torch.testing.assert_close(plain.eval()(ids), one.model.eval()(ids), atol=1e-5, rtol=1e-5)


def test_a_plan_keeps_adapters_base_frozen(trainer):
    one = trainer(change=adapters, plan=lambda model: make_plan(model, "gradual", every=2))
    found = changed(one, one.fit)
    assert found == {name for name in weights(one) if "lora" in name or name.startswith("head.")}


def test_a_model_without_a_head_has_nothing_to_train_in_its_head():
    body = build_model(ENCODER.model_copy(update={"mlm_head": False, "pooler": False}), 20)
    with pytest.raises(
        NlpcliError, match="only the head can't be trained, because none of its parameters is trainable"
    ):
        make_plan(body, "head")


def test_a_model_without_a_head_is_unfrozen_from_its_last_layer():
    config = TransformerConfig(d_model=8, heads=2, d_ff=8, encoder_layers=2, decoder_layers=2, norm_position="pre")
    plan = make_plan(build_model(config, 10), "gradual")
    assert [stage.name for stage in plan.stages] == [
        "decoder.1", "decoder.1, decoder.0", "decoder.1, decoder.0, encoder.1",
        "decoder.1, decoder.0, encoder.1, encoder.0", "all parameters",
    ]  # fmt: skip


def test_an_unknown_way_is_refused():
    with pytest.raises(NlpcliError, match="unknown tuning mode 'graduall'") as caught:
        make_plan(Headed(), "graduall")
    assert "gradual" in caught.value.hint
    with pytest.raises(NlpcliError, match="this model has no parameter that matches 'bodi'"):
        make_plan(Headed(), "stages", first=["bodi"], first_steps=3)


@pytest.mark.parametrize("metric", [
    "bleu", "chrf", "accuracy", "mlm_accuracy", "f1", "entity_f1", "macro_f1", "mcc",
    "pearson", "spearman", "exact_match", "rouge1", "rougeL", "rouge_lsum", "map", "mrr", "mrr@10", "ndcg@10", "recall",
    "recall@100", "precision",
])  # fmt: skip
def test_what_is_better_when_higher(metric):
    assert higher_is_better(metric)


@pytest.mark.parametrize("metric", ["loss", "perplexity", "wer", "ter", "mse"])
def test_what_is_better_when_lower(metric):
    assert not higher_is_better(metric)


def test_the_weights_best_by_other_metrics_are_kept_beside(trainer):
    one = trainer(max_steps=3, evaluate_every=1, metric="accuracy")
    given = iter([
        {"accuracy": 0.5, "macro_f1": 0.6, "mcc": 0.1, "loss": 1.0, "perplexity": 3.0},
        {"accuracy": 0.6, "macro_f1": 0.5, "mcc": 0.2, "loss": 1.1, "perplexity": 2.0},
        {"accuracy": 0.4, "macro_f1": 0.7, "mcc": 0.3, "loss": 1.2, "perplexity": 1.0},
    ])  # fmt: skip
    seen = []

    def evaluate(model):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return next(given)

    one.evaluator.evaluation = replace(one.evaluator.evaluation, evaluate=evaluate)
    outcome = one.fit()
    assert outcome.kept == "step 2" and torch.equal(one.kept["head.3.weight"], seen[1]["head.3.weight"])
    files = {path.name for path in (one.run / "checkpoints").glob("best-*")}
    assert files == {"best-macro_f1.safetensors", "best-mcc.safetensors", "best-loss.safetensors"}
    for name, place in (("macro_f1", 2), ("mcc", 2), ("loss", 0)):
        best = load_file(one.run / "checkpoints" / f"best-{name}.safetensors")
        assert all(torch.equal(tensor, seen[place][path]) for path, tensor in best.items()), name
