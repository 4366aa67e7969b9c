"""Small runs of all that can be trained, out of the tables of objectives, families of models and tasks.

A new entry in one of them is a case of every contract here. A task is trained on the first examples of its sample data;
one that has none reads `ROWS`, a table, and what reads no tables either says so in its first test.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import pytest
import yaml

from nlpcli import presets
from nlpcli.config.loading import merge, parse
from nlpcli.config.model_settings import DEFAULT, FAMILIES
from nlpcli.config.multi_task import MIXTURE_TASK
from nlpcli.config.schema import RunConfig
from nlpcli.data.readers import read_documents, read_lines
from nlpcli.data.sample_data import sample_file
from nlpcli.errors import NlpcliError
from nlpcli.runs.finetuning import multi_task_training, task_training
from nlpcli.runs.finetuning.finetune import default_preset, defaults, finetune
from nlpcli.runs.pretraining import OBJECTIVES, spec_of, synonyms
from nlpcli.runs.pretraining import default_preset as preset_of
from nlpcli.runs.pretraining import parse as parse_objective
from nlpcli.runs.pretraining.pretrain import pretrain
from nlpcli.runs.resolve_settings import LIMITS
from nlpcli.runs.training_request import Request
from nlpcli.tasks import TASKS
from nlpcli.training.checkpoint import checkpoints
from nlpcli.training.training_log import read_metrics

STEPS = 6  # with an evaluation after every third
STOP = 4
EXAMPLES = 12  # of a task, in batches of 4: an epoch has 3 steps
DOCUMENTS = 40
ROWS = ["text\tleft\tright\tlabel", *(f"{word} cat\tcat\tdog\t{('cat', 'dog')[i % 2]}" for i, word in
                                      enumerate(["a", "the", "one", "no", "her", "his"] * 2))]  # fmt: skip
SIZES = {"d_model": 16, "d_ff": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "layers": 1,
         "memory_length": 8, "dropout": 0.1}  # fmt: skip
TINY = {
    "tokenizer": {"type": "chars"},
    "training": {"lr": 0.01, "batch_size": 4, "batch_tokens": 1024, "evaluate_every": 3, "log_every": 1, "samples": 2,
                 "precision": "float32", "device": "cpu", "threads": 1},
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Something to be trained: an objective or a task, and the settings of its run; its data come later."""

    name: str
    settings: dict[str, Any]
    parts: tuple[str, ...] = ()  # of several tasks at once

    @property
    def task(self) -> str | None:
        return self.settings.get("task")

    @property
    def family(self) -> str:
        return self.settings["model"].get("family", DEFAULT)


def _case(name: str, preset: str, chosen: dict[str, Any], parts: tuple[str, ...] = ()) -> Case:
    """The settings of a preset, made tiny, with those that are chosen laid over them."""
    settings = merge(merge(presets.load(preset), TINY), chosen)
    return Case(name, {**settings, "model": _tiny(chosen.get("model") or settings["model"])}, parts)


def _tiny(model: dict[str, Any]) -> dict[str, Any]:
    own = FAMILIES.load(model.get("family", DEFAULT)).model_fields
    return {**model, **{name: size for name, size in SIZES.items() if name in own}}


def _objective_cases() -> Iterator[Case]:
    """Each objective with each family that can learn it, each noise that has a name, and each sum of two."""
    alone = [(name, None) for name in OBJECTIVES]
    sums = [("+".join(pair), None) for pair in combinations(OBJECTIVES, 2)]
    for objective, noise in dict.fromkeys([*alone, *synonyms().values(), *sums]):
        chosen = {"objective": objective, **({"noise": {"kinds": noise}} if noise else {})}
        preset = preset_of(objective, noise)
        name = f"{objective} {noise}" if noise else objective
        usual = _case(f"{name} {preset}", preset, chosen)
        if not _fits(usual):  # a sum that is none
            continue
        yield usual
        if (objective, noise) not in alone:  # the usual family is enough
            continue
        for family in sorted(set(FAMILIES) - {DEFAULT, usual.family}):
            models = ({"family": family, "kind": kind} for kind in ("encoder", "decoder", "encoder-decoder"))
            others = [_case(f"{name} {family}", preset, {**chosen, "model": m}) for m in models]
            yield from [case for case in others if _fits(case)][:1]


def _fits(case: Case) -> bool:
    """Whether the model can learn the objective."""
    objective = case.settings["objective"]
    try:
        spec_of(objective).check(parse(RunConfig, case.settings, case.name), parse_objective(objective))
    except NlpcliError:
        return False
    return True


def _task_cases() -> Iterator[Case]:
    """Each task alone, one with each other family, all that can be learnt together, and those that write text."""
    for name in TASKS:
        yield _case(name, default_preset(name), {"task": name})
    for family in sorted(set(FAMILIES) - {DEFAULT}):
        chosen = {"task": "classify", "model": {"family": family}}
        yield _case(f"classify {family}", default_preset("classify"), chosen)
    preset = default_preset(MIXTURE_TASK)
    kind = presets.load(preset)["model"]["kind"]
    mixing = [name for name in TASKS if TASKS.load(name).mixes and kind in TASKS.load(name).kinds]
    for name, parts in {"all tasks": mixing, "texts": [MIXTURE_TASK, MIXTURE_TASK]}.items():
        yield _case(f"mixture of {name}", preset, {"task": MIXTURE_TASK}, tuple(parts))


@cache
def _cases() -> list[Case]:
    return [*_objective_cases(), *_task_cases()]


def _few() -> list[Case]:
    return [next(case for case in _cases() if case.task is None), next(case for case in _cases() if case.task)]


def _of_each_kind() -> list[Case]:
    """The first that computes its loss and is measured in its way, with each family."""
    kinds: dict[Any, Case] = {}
    for case in reversed(_cases()):
        if case.task is None:
            kinds[spec_of(case.settings["objective"]).prepare, case.family] = case
        else:
            task = TASKS.load(case.task)
            kinds[task.parallel_text, task.generates, case.parts] = case
    return list(reversed(kinds.values()))


def _with_heads() -> list[Case]:
    """The mixture of all tasks, which are those with heads, and those that are learnt alone."""
    cases = [case for case in _cases() if case.task and case.family == DEFAULT]
    alone = [case for case in cases if not case.parts and not TASKS.load(case.task or "").generates]
    mixed = [case for case in cases if case.parts and len(set(case.parts)) > 1]
    return mixed + [case for case in alone if case.task not in mixed[0].parts]


_SELECTED = {
    "with heads": _with_heads,
    "all": _cases,
    "few": _few,
    "of each kind": _of_each_kind,
    "with memory": lambda: [c for c in _cases() if c.task is None and c.settings["model"].get("memory_length")],
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"cases(which): {', '.join(_SELECTED)}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("cases")
        chosen = _SELECTED[marker.args[0] if marker else "all"]()
        metafunc.parametrize("case", chosen, ids=[case.name for case in chosen])


@pytest.fixture
def cases() -> list[Case]:
    return _cases()


class Listener:
    """Hears nothing, and has the run interrupted after a step."""

    def __init__(self, stop_at: int | None) -> None:
        self.stop_at = stop_at

    def stepped(self, progress: Any, *_: Any) -> None:
        if progress.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with little of the sample data: documents, parallel lines, and a table for tasks that have none."""
    folder = tmp_path_factory.mktemp("samples")
    text = islice(read_documents([sample_file("tinyshakespeare.txt.gz")], format="paragraphs"), DOCUMENTS)
    (folder / "text.txt").write_text("\n\n".join(text), encoding="utf-8")
    (folder / "rows.tsv").write_text("\n".join(ROWS) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def train(samples: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """train(case, out, stop_at=…, resume=…): a run in this process, interrupted after a step. Returns: its folder."""
    for module in (task_training, multi_task_training):
        read = module.read_labelled
        monkeypatch.setattr(module, "read_labelled", lambda *of, read=read, **how: islice(read(*of, **how), EXAMPLES))

    def run(case: Case, out: Path, *, stop_at: int | None = None, resume: bool = False) -> Path:
        request = Request(default="", out=out, resume=True) if resume else _request(case, samples, out)
        command = pretrain if case.task is None else finetune
        if stop_at is None:
            command(request, Listener(None))
        else:
            with pytest.raises(KeyboardInterrupt):
                command(request, Listener(stop_at))
        return out

    return run


def _request(case: Case, samples: Path, out: Path) -> Request:
    settings = merge({}, case.settings)
    settings["training"] |= dict.fromkeys(LIMITS) | {"max_steps": STEPS}
    if case.task is None:
        settings["data"] = {"train": [str(samples / "text.txt")], "documents": "paragraphs", "context": 64}
    elif case.parts:
        parts = {f"part-{number}": _mixed(name, samples) for number, name in enumerate(case.parts)}
        settings["data"] = {"mixture": _yaml(samples, {"tasks": parts})}
        settings["training"]["metric"] = "auto"
    else:
        files, settings["examples"] = _files(case.task, samples)
        settings["data"] = {**files, "max_length": 64}
    base = None if case.task is None else defaults(case.task, init=None)
    return Request(default="", base=base, config=Path(_yaml(samples, settings)), out=out)


def _yaml(folder: Path, content: dict[str, Any]) -> str:
    """The path of a file with this content."""
    text = yaml.safe_dump(content)
    path = folder / f"{sha256(text.encode()).hexdigest()}.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def _files(task: str, samples: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The files of a task's examples, and where in them these stand."""
    kind = TASKS.load(task)
    if kind.sample_data is None:
        columns = {"choices": ["left", "right"]} if "choices" in kind.columns else {}
        return {"train": [str(samples / "rows.tsv")], "dev": [str(samples / "rows.tsv")]}, columns
    files = {"train": kind.sample_data.train, "dev": kind.sample_data.dev}
    if not kind.parallel_text:
        return {side: [str(sample_file(name)) for name in names] for side, names in files.items()}, {}
    short: dict[str, Any] = {}
    for side, names in files.items():
        short[side] = [str(samples / f"{side}-{number}.txt") for number in range(len(names))]
        for name, path in zip(names, short[side], strict=True):
            lines = islice(read_lines(sample_file(name)), EXAMPLES)
            Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return short, {}


def _mixed(task: str, samples: Path) -> dict[str, Any]:
    files, columns = _files(task, samples)
    return {"task": task, **files, **columns}


@pytest.fixture(scope="session")
def made() -> dict[tuple[str, int | None], Path]:
    """The runs that were made already, by what is trained and where they were stopped."""
    return {}


@pytest.fixture
def whole(case: Case, train: Callable[..., Path], made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    return _once(made, case, None, train, tmp_path_factory)


@pytest.fixture
def stopped(
    case: Case, train: Callable[..., Path], made: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> Path:
    """A run that was stopped, which the test may go on with."""
    return shutil.copytree(_once(made, case, STOP, train, tmp_path_factory), tmp_path / "stopped")


def _once(
    made: Any, case: Case, stop_at: int | None, train: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    if (case.name, stop_at) not in made:
        made[case.name, stop_at] = train(case, tmp_path_factory.mktemp("runs") / "run", stop_at=stop_at)
    return made[case.name, stop_at]


def _left_by(run: Path) -> dict[Any, Any]:
    """All that a run leaves but times, and the newest of its checkpoints alone: files by their names."""
    older = checkpoints(run)[:-1]  # one more where the run was stopped
    files = {
        path.relative_to(run): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.parent not in older
    }
    for name in ("README.md", "metrics.jsonl"):
        del files[next(path for path in files if path.name == name)]
    clocks = {"seconds", "tokens_per_second"}
    log = [{name: value for name, value in line.items() if name not in clocks} for line in read_metrics(run)]
    state = checkpoints(run)[-1].relative_to(run) / "state.yaml"
    progress = yaml.safe_load(files.pop(state))["progress"]
    return {**files, "log": log, "progress": {name: value for name, value in progress.items() if name not in clocks}}


@pytest.fixture
def dev_file(samples: Path) -> Callable[[str], str]:
    """dev_file(task): a file with examples of a task."""
    return lambda task: _files(task, samples)[0]["dev"][0]


@pytest.fixture
def differing() -> Callable[[Path, Path], list[str]]:
    """differing(run, other): what of the things they leave is not the same, to the bit."""

    def compared(run: Path, other: Path) -> list[str]:
        one, two = _left_by(run), _left_by(other)
        return [str(name) for name in one.keys() | two.keys() if one.get(name) != two.get(name)]

    return compared
