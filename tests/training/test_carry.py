"""What a model with memory remembers of one batch reaches the next, also over an interrupt, and ends with the epoch."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from nlpcli.config.schema import TrainingConfig
from nlpcli.config.transformer_xl_settings import TransformerXLConfig
from nlpcli.data.packing import StreamedWindows, TokenStream
from nlpcli.data.shards import build_shards
from nlpcli.models.transformer_xl import TransformerXL
from nlpcli.objectives.clm import CausalLanguageModelling
from nlpcli.text import train_tokenizer
from nlpcli.training.checkpoint import checkpoints, load_checkpoint
from nlpcli.training.device import prepare
from nlpcli.training.optimizer import make_optimizer
from nlpcli.training.training_loop import Trainer
from nlpcli.training.training_loop_types import Evaluation, ModelToTrain

CONTEXT, ROWS = 16, 4


class Task(CausalLanguageModelling):
    """Notes the memory each batch is read with."""

    def loss(self, model, batch, carry=None):
        self.seen.append(None if carry is None else [states.clone() for states in carry])
        return super().loss(model, batch, carry)


@pytest.fixture
def trainer(tmp_path, corpus, quiet):
    """trainer(name, interrupt_at, **settings) -> a trainer of a tiny Transformer-XL, its task the above."""

    def make(name, interrupt_at=None, **settings):
        tokenizer = train_tokenizer("chars", corpus.read_text().splitlines(), vocab_size=None)
        shards = build_shards([corpus], tokenizer, out=tmp_path / "shards", documents="lines", workers=1)
        eos = tokenizer.special.eos
        windows = StreamedWindows(shards, CONTEXT, eos=eos, batch_size=ROWS, seed=1)
        task = Task(windows, TokenStream(shards, eos=eos), context=CONTEXT)
        task.seen = []
        torch.manual_seed(3)
        settings_ = TransformerXLConfig(d_model=16, heads=2, d_ff=24, decoder_layers=2, memory_length=20, dropout=0.1)
        model = TransformerXL(settings_, tokenizer.vocab_size)
        common = {"max_steps": 40, "evaluate_every": 20, "log_every": 1, "precision": "float32", "device": "cpu"}
        return Trainer(
            ModelToTrain(model, 16), task, TrainingConfig(**{**common, **settings}),
            Evaluation(lambda model: {"loss": 1.0}, lambda weights, metrics, progress: None),
            machine=prepare("cpu", "float32", None), run=tmp_path / name, observer=quiet(interrupt_at),
        )  # fmt: skip

    return make


def test_each_batch_is_read_with_the_memory_of_the_one_before(trainer):
    one = trainer("run", max_steps=5)
    one.fit()
    lengths = [0 if seen is None else seen[0].size(1) for seen in one.task.seen]
    assert lengths == [0, 16, 20, 20, 20]
    assert not any(states.requires_grad for seen in one.task.seen[1:] for states in seen)


def test_an_epoch_begins_without_memory(trainer):
    one = trainer("run", max_steps=None, max_epochs=2.0, evaluate_every=None)
    one.fit()
    empty = [place for place, seen in enumerate(one.task.seen) if seen is None]
    assert empty == [0, len(one.task.plan(0))]


@pytest.mark.parametrize("settings", [{}, {"accumulate": 3}], ids=["plain", "accumulated"])
def test_an_interrupted_run_goes_on_with_the_very_memory_and_ends_with_the_very_weights(trainer, settings):
    whole = trainer("whole", **settings)
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        trainer("broken", 27, **settings).fit()
    kept = checkpoints(whole.run.parent / "broken")[-1]
    assert load_file(kept / "carry.safetensors")["0"].shape == (ROWS, 20, 16)
    resumed = trainer("broken", **settings)
    resumed.fit(resume=True)
    for left, right in zip(resumed.task.seen[0], whole.task.seen[-len(resumed.task.seen)], strict=True):
        assert torch.equal(left, right)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_without_its_memory_a_resumed_run_would_be_another(trainer):
    whole = trainer("whole")
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        trainer("broken", 27).fit()
    resumed = trainer("broken")
    resumed.checkpoints.load()
    resumed.state.carry = None
    resumed.checkpoints.load = lambda: None
    resumed.fit(resume=True)
    assert not torch.equal(whole.model.output_weight, resumed.model.output_weight)


def test_batches_of_another_size_begin_with_an_empty_memory(trainer):
    one = trainer("run")
    one.fit()
    progress, carry = load_checkpoint(
        one.run, model=one.model, optimizer=make_optimizer(one.model, one.settings), average=None
    )
    assert progress.step == 40 and [states.size(0) for states in carry] == [ROWS, ROWS]
    batch = one.task.collate(one.task.plan(0)[0][:2], None)
    loss, new = one.task.loss(one.model.eval(), batch, carry)
    assert torch.equal(loss.nll, one.task.loss(one.model, batch, None)[0].nll) and new[0].size(0) == 2


def test_a_batch_in_parts_has_the_losses_and_the_memory_of_the_whole(trainer):
    whole, parts = trainer("whole", max_steps=5), trainer("parts", max_steps=5)
    for one in (whole, parts):
        for module in one.model.modules():
            if hasattr(module, "p"):
                module.p = 0.0
    parts.progress.parts = 3
    whole.fit()
    parts.fit()
    left, right = (load_file(checkpoints(one.run)[-1] / "carry.safetensors")["0"] for one in (whole, parts))
    assert left.shape == right.shape and torch.allclose(left, right, atol=1e-4)
    for name, tensor in whole.model.state_dict().items():
        assert torch.allclose(tensor, parts.model.state_dict()[name], atol=1e-4), name
