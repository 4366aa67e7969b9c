"""A fine-tuned model ready to predict: its task, its columns, its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nlpcli.config.loading import parse
from nlpcli.config.task_settings import ExamplesConfig
from nlpcli.errors import NlpcliError, described_by

if TYPE_CHECKING:
    from nlpcli.data.examples import Columns, Example
    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.runs.open_model import Source
    from nlpcli.tasks.task import OnCut

WINDOW = 1024  # examples read ahead
BATCH_TOKENS = 4096


@dataclass(frozen=True)
class TaskModel:
    """A fine-tuned model ready for use."""

    loaded: LoadedModel
    task: Any
    device: Any

    def predict(self, examples: Sequence[Example], *, batch_tokens: int = BATCH_TOKENS) -> list[dict[str, Any]]:
        """The predictions for examples, in their order."""
        from nlpcli.tasks.supervised_objective import predict_items

        groups = self.task.encode(examples)
        items = [item for group in groups for item in group]
        outputs = iter(predict_items(self.task, self.loaded.model, items, self.device, batch_tokens=batch_tokens))
        return [
            self.task.prediction(example, group, [next(outputs) for _ in group])
            for example, group in zip(examples, groups, strict=True)
        ]


def open_task(
    source: Source,
    *,
    device: str = "auto",
    threads: int | None = None,
    part: str | None = None,
    on_cut: OnCut | None = None,
    engine: str | None = None,
) -> TaskModel:
    """The fine-tuned model in the folder `source`. part: see `PredictRequest`. on_cut: receives texts that are cut.
    engine: see `nlpcli.runs.onnx.choose_engine`.

    Raises: NlpcliError when there is none, or one that was not fine-tuned for a task of `nlpcli predict`, and for an
        engine that does not compute it.
    """
    from nlpcli.config.schema import DecodingConfig
    from nlpcli.runs.finetuning.multi_task_training import choose_part
    from nlpcli.runs.onnx.choose_engine import ONNX, device_for, engine_of, open_for
    from nlpcli.tasks import TASKS
    from nlpcli.tasks.task import Context
    from nlpcli.training.device import prepare

    engine = engine_of(source, engine)
    if engine == ONNX and task_class(source, part).generates:
        raise NlpcliError("a model that generates text is not run by onnxruntime", hint="leave out --engine")
    machine = prepare(device_for(engine, device), "float32", threads)
    loaded = open_for(source, engine, machine)
    with described_by(loaded.path):
        info, model = choose_part(loaded.info, loaded.model, part)
        loaded = replace(loaded, model=model, info=info)
        context = Context(loaded.tokenizer, loaded.config, info, int(info.get("max_length", 512)), on_cut)
        task = TASKS.load(info["task"]).restore(info["problem"], context)
        if task.generates:
            from nlpcli.runs.finetuning.task_generator import BeamGenerator

            settings = DecodingConfig(**info.get("decoding", {}))
            task.generator = BeamGenerator(settings, task, generation=info.get("generation"))
    return TaskModel(loaded, task, machine.device)


def task_class(source: Source, part: str | None) -> Any:
    """The class of the task of a fine-tuned model, without its weights. part: see `PredictRequest`.

    Raises: NlpcliError for a part that the model doesn't have.
    """
    from nlpcli.runs.finetuning.multi_task_training import part_of
    from nlpcli.runs.open_model import description_of, folder_of
    from nlpcli.tasks import TASKS

    with described_by(folder_of(source)):
        return TASKS.load(part_of(description_of(source), part)["task"])


def columns_of(loaded: LoadedModel, given: dict[str, Any], format: str) -> Columns:
    """The columns a model was trained with, as far as `given` names no others.

    Raises: NlpcliError for a description of the model that was changed.
    """
    from nlpcli.data.examples import Columns
    from nlpcli.models.model_folder import DESCRIPTION

    saved = parse(ExamplesConfig, loaded.info.get("columns") or {}, str(loaded.path / DESCRIPTION)).model_dump()
    chosen = {**saved, **{name: value for name, value in given.items() if value not in (None, [], ())}}
    chosen["format"] = saved["format"] if format == "auto" else format
    return Columns(**{**chosen, "choices": tuple(chosen["choices"])})
