"""What the rest of the program needs to know of a task stands on its class, and nowhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import ClassVar

import pytest

import nlpcli
from nlpcli import presets
from nlpcli.config.loading import merge, parse
from nlpcli.config.schema import RunConfig
from nlpcli.config.task_settings import HeadConfig
from nlpcli.data.sample_data import sample_file
from nlpcli.runs.finetuning.finetune import default_preset, defaults, finetune, use_of
from nlpcli.runs.training_request import Request
from nlpcli.tasks import TASKS
from nlpcli.tasks.classification import Classification
from nlpcli.tasks.task import Task

ROOT = Path(nlpcli.__file__).parent
LABELED = [name for name in TASKS if not TASKS.load(name).parallel_text]


class Quiet:
    def __getattr__(self, name):
        return lambda *_, **__: None


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_it_is_trained_with(name):
    kind = TASKS.load(name)
    assert default_preset(name) == kind.default_preset in presets.names()
    assert default_preset(name, sample=True) in presets.names()
    settings = merge(presets.load(kind.default_preset), defaults(name, init=None))
    assert parse(RunConfig, settings, "x").model.kind in getattr(kind, "kinds", ("encoder-decoder",))
    for path in (*kind.sample_data.train, *kind.sample_data.dev) if kind.sample_data else ():
        assert Path(sample_file(path)).is_file()
    assert kind.use.startswith("nlpcli ") and "{run}" in kind.use


@pytest.mark.parametrize("name", LABELED)
def test_a_task_has_its_name_and_settings_that_a_configuration_has(name):
    kind = TASKS.load(name)
    assert issubclass(kind, Task) and not kind.__abstractmethods__ and kind.name == name
    assert kind.options <= set(HeadConfig.model_fields) and kind.possible_measures


@pytest.mark.parametrize("name", TASKS)
def test_no_code_outside_the_tasks_compares_the_name_of_a_task(name):
    """Suites and Hugging Face heads are tables of other people's tasks; a column of a file is no task."""
    packages = ("api", "cli", "commands", "config", "evaluation", "models", "runs", "training")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(rf"""(task|kind|name|chosen)[\w.\]"]* (==|!=|(not )?in) [("'{{\[]*["']{name}["']""", line)
        and "suite_predictions" not in path.name
    ]
    assert not found


class Shouting(Classification):
    """Classification whose text is read in capitals: a task as a stranger adds it, in one file."""

    name: ClassVar[str] = "shout"
    default_preset: ClassVar[str] = "bert-nano"

    @staticmethod
    def read(path, columns, *, labelled=True):
        from dataclasses import replace

        for example in Classification.read(path, columns, labelled=labelled):
            yield replace(example, texts=tuple(text.upper() for text in example.texts))


def test_a_new_task_takes_its_file_and_one_line_in_the_table(tmp_path, monkeypatch):
    """It trains, shows samples, leaves outputs to measure again, predicts, and is evaluated with a confusion matrix."""
    from nlpcli.commands.evaluate import evaluate
    from nlpcli.runs.task_evaluation import EvaluateRequest
    from nlpcli.runs.task_model import open_task

    monkeypatch.setitem(TASKS._entries, "shout", f"{__name__}:Shouting")
    monkeypatch.chdir(tmp_path)
    rows = [("red cat", "cat"), ("red dog", "dog"), ("blue cat", "cat"), ("blue dog", "dog")] * 6
    Path("x.tsv").write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    tiny = {"d_model": 16, "heads": 2, "d_ff": 32, "encoder_layers": 1}
    settings = {
        "task": "shout", "model": tiny, "tokenizer": {"type": "words"}, "data": {"train": ["x.tsv"], "dev": ["x.tsv"]},
        "training": {"max_steps": 2, "device": "cpu", "precision": "float32", "samples": 2},
    }  # fmt: skip
    request = Request(default=default_preset("shout"), base=defaults("shout", init=None), settings=settings)
    run, outcome = finetune(request, Quiet())
    assert {"accuracy", "macro_f1", "f1", "mcc", "loss"} <= outcome.metrics.keys()
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert "RED" in json.dumps(samples) or "BLUE" in json.dumps(samples)
    head = json.loads((run / "outputs.jsonl").read_text().splitlines()[0])
    assert head["measures"].keys() == {"accuracy", "macro_f1", "f1", "mcc"}
    assert open_task(str(run)).task.name == "shout" and use_of(run).startswith("nlpcli predict")
    found = evaluate(
        EvaluateRequest(model=str(run), data=["x.tsv"], confusion=True, worst=3, device="cpu"), notify=print, warn=print
    )
    assert sum(map(sum, found.confusion[1])) == len(rows) and found.scores["accuracy"].value <= 100


def test_a_task_that_lacks_a_method_can_not_be_made():
    class Half(Task):
        name = "half"

    with pytest.raises(TypeError, match="abstract"):
        Half()
