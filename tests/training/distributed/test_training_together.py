"""Training in several processes: the steps of one process, divided."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest
from safetensors.torch import load_file

from nlpcli.config.loading import merge
from nlpcli.errors import NlpcliError
from nlpcli.runs.finetuning.finetune import finetune
from nlpcli.runs.pretraining import default_preset
from nlpcli.runs.pretraining.pretrain import pretrain
from nlpcli.runs.request_from_options import finetuning_request
from nlpcli.runs.training_request import Request
from nlpcli.training.training_log import read_metrics

LINES = [
    f"{word} line has {' '.join(['one', 'two', 'three'][: i % 4])} words. It ends here, as number {i} does."
    for i, word in enumerate(["A", "The", "No"] * 20)
]
NANO = {
    "tokenizer": {"type": "chars"},
    "model": {"d_model": 16, "heads": 2, "d_ff": 32, "dropout": 0.0},
    "data": {"context": 16},
    "training": {
        "max_steps": 6, "lr": 0.01, "warmup_steps": 2, "batch_tokens": 112, "evaluate_every": 3, "log_every": 1,
        "samples": 1, "precision": "float32", "device": "cpu", "threads": 1, "schedule": "linear",
    },
}  # fmt: skip
DECODER = {"decoder_layers": 1}
CASES = {
    "seven rows": {"objective": "clm", "model": DECODER},
    "batches": {"objective": "clm", "model": DECODER, "training": {"accumulate": 4}},
    "memory": {"objective": "plm", "model": {"encoder_layers": 1, "memory_length": 8, "attention_dropout": 0.0}},
    "two losses": {
        "objective": "mlm+nsp", "data": {"documents": "lines", "context": 48}, "training": {"batch_tokens": 144},
        "model": {"encoder_layers": 1},
    },
}  # fmt: skip


class Listener:
    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def stepped(self, progress, *_):
        if progress.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def __getattr__(self, name):
        return lambda *_, **__: None


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(LINES) + "\n")
    return tmp_path


def request(text, out, settings, **more):
    chosen = merge(merge({}, NANO), settings)
    chosen["data"]["train"] = [str(text / "text.txt")]
    objective = settings.get("objective", "clm")
    return Request(default=default_preset(objective, None), out=text / out, settings=chosen, **more)


def trained(training_request):
    pretrain(training_request, Listener())


def curve(run, kind="train", name="loss"):
    return [line[name] for line in read_metrics(run) if line["kind"] == kind]


def assert_same_run(one, other):
    assert curve(one) == pytest.approx(curve(other), rel=2e-5)
    assert curve(one, name="grad_norm") == pytest.approx(curve(other, name="grad_norm"), rel=2e-4)
    assert curve(one, name="tokens") == curve(other, name="tokens")
    assert curve(one, "dev") == pytest.approx(curve(other, "dev"), rel=2e-5)
    weights, others = (load_file(run / "model.safetensors") for run in (one, other))
    for name, tensor in weights.items():
        assert (tensor - others[name]).abs().max() < 2e-4, name


@pytest.mark.parametrize(("name", "count"), [*((name, 2) for name in CASES), ("seven rows", 4), ("memory", 4)])
def test_several_processes_have_the_loss_curve_of_one(text, together, name, count):
    trained(request(text, "one", CASES[name]))
    together(count, trained, request(text, "several", CASES[name]))
    assert_same_run(text / "one", text / "several")


def sharded(settings):
    return {**settings, "training": {**settings.get("training", {}), "parallel": "fsdp"}}


@pytest.mark.parametrize("name", ["seven rows", "batches"])
def test_sharded_weights_have_the_loss_curve_of_one_process(text, together, name):
    trained(request(text, "one", CASES[name]))
    together(2, trained, request(text, "several", sharded(CASES[name])))
    assert_same_run(text / "one", text / "several")


def tuned(training_request):
    finetune(training_request, Listener())


def tuning_request(text, out):
    rows = [f"{line}\t{'cat' if i % 3 else 'dog'}" for i, line in enumerate(LINES)]
    (text / "rows.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    settings = {
        "model.d_model": 16, "model.heads": 2, "model.d_ff": 32, "model.encoder_layers": 1, "model.dropout": 0,
        "tokenizer.type": "chars", "head.dropout": 0, "training.threads": 1, "training.log_every": 1,
    }  # fmt: skip
    given = {
        "task": "classify", "train": [str(text / "rows.tsv")], "out": text / out, "model": "bert-nano", "batch_size": 7,
        "max_epochs": 1, "precision": "float32", "device": "cpu", "lr": 0.01,
        "overrides": [f"{name}={value}" for name, value in settings.items()],
    }  # fmt: skip
    return finetuning_request(given, command="", notify=lambda text: None)


def test_fine_tuning_in_several_processes_is_that_of_one(text, together):
    tuned(tuning_request(text, "one"))
    together(2, tuned, tuning_request(text, "several"))  # the last batch of the epoch is smaller than the others
    assert_same_run(text / "one", text / "several")
    measured = [[line for line in read_metrics(text / out) if line["kind"] == "dev"] for out in ("one", "several")]
    assert measured[0][-1]["accuracy"] == measured[1][-1]["accuracy"]


def interrupted(request_and_step):
    training_request, step = request_and_step
    with pytest.raises(KeyboardInterrupt):
        pretrain(training_request, Listener(stop_at=step))


def test_a_run_is_resumed_on_another_number_of_processes(text, together):
    trained(request(text, "one", CASES["memory"]))
    together(2, interrupted, (request(text, "several", CASES["memory"]), 2))  # only the first process hears the signal
    resumed = Request(default="", out=text / "several", resume=True)
    together(4, interrupted, (resumed, 4))
    assert read_metrics(text / "several")[-1]["step"] == 4
    trained(resumed)
    assert_same_run(text / "one", text / "several")


def test_chance_in_other_processes_is_a_function_of_the_step(text, together):
    dropout = {**CASES["seven rows"], "model": {**DECODER, "dropout": 0.3}}
    together(2, trained, request(text, "whole", dropout))
    together(2, interrupted, (request(text, "broken", dropout), 4))
    together(2, trained, Request(default="", out=text / "broken", resume=True))
    assert (text / "whole/model.safetensors").read_bytes() == (text / "broken/model.safetensors").read_bytes()


def refused(training_request):
    with pytest.raises(NlpcliError) as error:
        pretrain(training_request, Listener())
    return error.value.message


def test_a_loss_that_can_not_be_divided_is_refused_before_training(text, together):
    head_penalty = {**CASES["seven rows"], "training": {"head_penalty": 0.1}}
    for message in together(2, refused, request(text, "run", head_penalty)):
        assert "2 processes need at least 2 batches for each step, not 1" in message
    assert not (text / "run").exists()


def other_data(training_request):
    if os.environ["RANK"] == "1":
        training_request = replace(
            training_request,
            settings=merge(merge({}, training_request.settings), {"data": {"train": [f"{training_request.out}.txt"]}}),
        )
    return refused(training_request)


def test_processes_with_different_data_are_refused(text, together):
    (text / "run.txt").write_text("\n".join(LINES[1:]) + "\n")
    for message in together(2, other_data, request(text, "run", CASES["seven rows"])):
        assert message == "the processes do not read the same training data"


def test_a_sharded_run_is_resumed_sharded_and_in_one_process(text, together):
    settings = {"model": DECODER, "training": {"ema_decay": 0.5}}
    trained(request(text, "one", settings))
    together(2, interrupted, (request(text, "several", sharded(settings)), 2))
    resumed = Request(default="", out=text / "several", resume=True)
    together(2, interrupted, (resumed, 4))
    trained(resumed)
    assert_same_run(text / "one", text / "several")


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [("optimizer", "muon", "training.optimizer=muon"), ("compile", True, "training.compile=true")],
)
def test_settings_that_need_whole_weights_are_refused_with_sharded_ones(text, together, name, value, named):
    settings = {"model": DECODER, "training": {name: value}}
    for message in together(2, refused, request(text, "run", sharded(settings))):
        assert message == f"training.parallel=fsdp can't be used with {named}"


def test_activations_that_are_computed_again_change_nothing(text):
    settings = {"model": {**DECODER, "dropout": 0.3}}
    trained(request(text, "stored", settings))
    trained(request(text, "again", {**settings, "training": {"activation_checkpointing": True}}))
    assert (text / "stored/model.safetensors").read_bytes() == (text / "again/model.safetensors").read_bytes()
