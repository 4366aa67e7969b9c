"""Looking at texts one by one: the model is opened once, and each text becomes an `Attention`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.commands.visualize_attention.request import (
    AttentionInput,
    AttentionRequest,
    OpenedModel,
    RecordedPass,
    View,
    not_possible,
)
from nlpcli.config.files import real_path
from nlpcli.config.model_settings import permuting_families
from nlpcli.errors import NlpcliError
from nlpcli.runs.find_model import newest_model
from nlpcli.runs.open_model import open_model

if TYPE_CHECKING:
    import torch

    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.visualization.attention_data import Attention, Site

_NAMELESS = ("model", "models", "best", "last", "latest", "final", "checkpoint", "output", "out")


def collect_attention(
    job: AttentionRequest,
    texts: Iterable[AttentionInput],
    *,
    notify: Callable[[str], None],
    warn: Callable[[str], None],
) -> Iterator[Attention]:
    """The attention of the model in each text, one text after the other.

    A text that is too long for the model is cut; `warn` receives a message.

    Raises: NlpcliError for a model that can't do what is requested, and for a text that it can't read.
    """
    collector = None
    for given in texts:
        collector = collector or AttentionCollector(job, notify=notify, warn=warn)
        yield collector.collect(given)


class AttentionCollector:
    """An opened model whose attention is recorded. notify: receives its name if the request names none."""

    def __init__(self, job: AttentionRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]) -> None:
        path = Path(job.model) if job.model is not None else _newest(job, notify)
        from nlpcli.runs.finetuning.multi_task_training import choose_part
        from nlpcli.training.device import prepare

        machine = prepare(job.device, "float32", job.threads)
        loaded = open_model(path, str(machine.device))
        info, model = choose_part(loaded.info, loaded.model, job.part)
        loaded = replace(loaded, model=model, info=info)
        self.opened = OpenedModel(job, loaded, machine.device, warn, _task(info, loaded))
        self._read = _reader(self.opened)

    def collect(self, given: AttentionInput) -> Attention:
        """The attention of the model in one text."""
        import torch

        from nlpcli.visualization.attention_data import Attention

        self._check(given)
        gradient = self.opened.job.gradient
        with torch.set_grad_enabled(gradient):
            seen = self._read(self.opened, given)
        if not seen.views:
            raise not_possible(self.opened, "a picture of attention", "it computes its output without attention")
        weights = [[layer.detach() for layer in view.weights] for view in seen.views]
        if gradient:
            weights = _times_gradients(seen, weights)
        sites = [_site(view, layers, gradient) for view, layers in zip(seen.views, weights, strict=True)]
        notes = ({} if given.line is None else {"line": given.line}) | seen.notes
        if gradient:
            notes["gradient of"] = f"the {seen.gradient_target_name}"
        return Attention(tuple(sites), _name(self.opened.loaded.path), seen.texts, notes)

    def _check(self, given: AttentionInput) -> None:
        """Raises: NlpcliError for a part of a text that the model has no use for."""
        opened = self.opened
        config = opened.loaded.config
        writes = opened.task is not None or (config.kind == "encoder-decoder" and opened.model is opened.body)
        if given.target is not None and not writes:
            raise not_possible(opened, "a target", "the model generates no text", "leave out the target")
        reads_two = opened.task is not None or opened.model is not opened.body or config.kind == "encoder"
        if given.second is not None and not reads_two:
            raise not_possible(opened, "a second text", "the model takes only one text", "leave out the second text")


def _name(path: Path) -> str:
    """The name of the model in a folder: the folder's name, with its parent's if it is generic."""
    path = real_path(path)
    return "/".join(path.parts[-2:]) if path.name in _NAMELESS else path.name


def _newest(job: AttentionRequest, notify: Callable[[str], None], root: Path = Path("runs")) -> Path:
    """The newest run below `root` that can do what is requested."""
    found = newest_model(lambda info: _is_able(info, job), root)
    if found is None:
        raise NlpcliError(f"no model is given, and no run in {root}/ is suitable", hint="name a model with --model")
    return found.report("the newest run", notify)


def _is_able(info: dict[str, Any], job: AttentionRequest) -> bool:
    if job.order is not None and info["model"].get("family") not in permuting_families():
        return False
    return job.memory is None or bool(info["model"].get("memory_length"))


def _task(info: dict[str, Any], loaded: LoadedModel) -> Any:
    """The task of a model that was tuned to write text; nothing else of a task is needed to read."""
    from nlpcli.tasks import TASKS

    kind = TASKS.load(info["task"]) if info.get("task") in TASKS else None
    if kind is None or not kind.generates or kind.parallel_text:
        return None
    from nlpcli.config.schema import DecodingConfig
    from nlpcli.runs.finetuning.task_generator import BeamGenerator
    from nlpcli.tasks.task import Context

    context = Context(loaded.tokenizer, loaded.config, info, int(info.get("max_length", 512)))
    task = kind.restore(info["problem"], context)
    task.generator = BeamGenerator(DecodingConfig(**info.get("decoding", {})), task, generation=info.get("generation"))
    return task


def _reader(opened: OpenedModel) -> Callable[[OpenedModel, AttentionInput], RecordedPass]:
    """How this kind of model reads. Raises: NlpcliError for settings that mean nothing to it."""
    from nlpcli.commands.visualize_attention import (
        document_inputs,
        encoder_inputs,
        language_model_inputs,
        permutation_inputs,
        source_target_inputs,
    )

    job, config = opened.job, opened.loaded.config
    bare = opened.model is opened.body
    if job.label is not None and bare:
        raise not_possible(opened, f"the label '{job.label}'", "the model has no labels", "leave out --target-label")
    if job.memory is not None and not (bare and bool(getattr(opened.body, "memory_length", 0))):
        why = (
            "only Transformer-XL and XLNet have a memory"
            if bare
            else "a model with a task head does not use its memory"
        )
        raise not_possible(opened, "a memory", why, "leave out --memory")
    if job.order is not None and not (bare and opened.body.permutes):
        raise not_possible(
            opened, "a factorization order", "only XLNet without a task head has one", "leave out --order"
        )
    if not bare and config.sentence_splitting is not None:
        return document_inputs.read_document
    if not bare or (config.kind == "encoder" and not opened.body.permutes):
        return encoder_inputs.read_rows
    if opened.body.permutes:
        if job.order is not None:
            return permutation_inputs.read_in_order
        return permutation_inputs.read_after_memory if job.memory is not None else encoder_inputs.read_rows
    if config.kind == "encoder-decoder":
        return source_target_inputs.read_pair
    return language_model_inputs.read_prompt if opened.task is not None else language_model_inputs.read_stream


def _site(view: View, weights: list[torch.Tensor], signed: bool) -> Site:
    from nlpcli.visualization.attention_data import Site

    arrays = tuple(view.arrange(layer).float().cpu().numpy() for layer in weights)
    signed = signed or any((layer < 0).any() for layer in arrays)  # as Linformer's and the delta rule's weights are
    return Site(view.name, view.title, view.queries, view.keys, arrays, signed=signed)


def _times_gradients(seen: RecordedPass, weights: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
    """A ⊙ ∂y/∂A of each layer, y the number in `gradient_target`; where y does not depend on A it is zero.

    Source: the product is that of Barkan et al. 2021, section 3 (Grad-SAM), and Chefer et al. 2021, eq. 5 ("Generic
    attention-model explainability"), without what they do next, which is to drop what is negative.
    """
    import torch

    flat = [layer for view in seen.views for layer in view.weights]
    assert seen.gradient_target is not None  # a pass with gradients has one
    found = iter(torch.autograd.grad(seen.gradient_target, flat, allow_unused=True))
    pairs = [[(layer, next(found)) for layer in layers] for layers in weights]
    return [[torch.zeros_like(a) if g is None else a * g for a, g in layers] for layers in pairs]
