"""How well a model predicts running text: perplexity per token, word and byte, and bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nlpcli.config.counting import counted
from nlpcli.data.progress import followed
from nlpcli.errors import NlpcliError
from nlpcli.evaluation.score import Score
from nlpcli.runs.decoding_settings import text_start
from nlpcli.runs.find_model import LANGUAGE_MODEL, locate
from nlpcli.runs.open_model import open_model, task_of

if TYPE_CHECKING:
    import torch

    from nlpcli.data.shards import ShardSet
    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.objectives.clm import CausalLanguageModelling
    from nlpcli.objectives.objective import Loss
    from nlpcli.runs.open_model import Source

_ENCODER = "encoder"
_NOT_OF_ENCODERS = {
    "stride": "stride",
    "memory_length": "memory-length",
    "streams": "streams",
    "dynamic_evaluation": "dynamic-evaluation",
}
"""Fields of `PerplexitySettings` -> their options."""


@dataclass(frozen=True)
class PerplexitySettings:
    """How a text is cut for a model, and where this is computed.

    context: tokens seen at once; None: the model's own in training. stride: tokens from one window to the next; None:
    the context, without overlap. memory_length: positions that a model with memory looks back; None: its own number; 0:
    none. streams: equal parts of the text that such a model reads side by side, each from its beginning; None: as many
    as in the evaluation of its training. dynamic_evaluation: the rate at which the model learns from each window after
    it was scored; None: not at all. dynamic_decay: how far each such step goes back towards the trained weights.
    documents: the format of documents in the text, as for pretraining; None: one stream for a model without a token
    for the end of a document or from another program, `auto` for others, which then also predict the ends.
    """

    context: int | None = None
    stride: int | None = None
    memory_length: int | None = None
    streams: int | None = None
    dynamic_evaluation: float | None = None
    dynamic_decay: float = 0.0
    documents: str | None = None
    field: str = "text"
    column: int = 1
    batch_tokens: int = 4096
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("context", 1), ("stride", 1), ("memory_length", 0), ("streams", 1), ("batch_tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise NlpcliError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
        if self.dynamic_evaluation is not None and not 0 < self.dynamic_evaluation < math.inf:
            raise NlpcliError(f"--dynamic-evaluation needs a learning rate above 0, not {self.dynamic_evaluation:g}")
        if not 0 <= self.dynamic_decay <= 1:
            raise NlpcliError(f"--dynamic-decay must be from 0 to 1, not {self.dynamic_decay:g}")
        if self.dynamic_evaluation is None and self.dynamic_decay:
            raise NlpcliError("--dynamic-decay has no effect without --dynamic-evaluation")


def perplexity_of(
    model: Source | None,
    files: Sequence[str],
    reading: PerplexitySettings | None = None,
    *,
    notify: Callable[[str], None],
) -> dict[str, list[Score]]:
    """The scores of each file under a language model: `loss` in nats per token, `perplexity` per token,
    `word_perplexity`, `byte_perplexity` and `bits_per_byte`; every token but the first is predicted once, and the first
    too by a model whose texts begin with a token of its own, such as Llama's `<s>`.

    Of a masked language model the pseudo-perplexity (Salazar et al. 2020), `pseudo_perplexity` and so on: each token of
    a document is masked in turn.

    model: a folder; None: the newest run of a language model, whose name is passed to `notify`.
    Raises: NlpcliError for other kinds of models, settings the model has no use for or no positions for, and for files
    that can't be read or hold fewer than two tokens.
    """
    reading = reading or PerplexitySettings()
    if model is None or task_of(model) != _ENCODER:
        model = locate(LANGUAGE_MODEL, model, notify=notify)
    from nlpcli.training.device import prepare

    machine = prepare(reading.device, "float32", reading.threads)
    loaded = open_model(model, str(machine.device))
    measure = _masked if loaded.config.kind == _ENCODER else _left_to_right
    return {file: _signed(measure(loaded, file, reading, machine.device), reading) for file in files}


def _signed(scores: list[Score], reading: PerplexitySettings) -> list[Score]:
    """The scores with the format of documents in their signatures."""
    if reading.documents is None:
        return scores
    cut = f"|documents:{reading.documents}|nlpcli:"
    return [replace(score, signature=score.signature.replace("|nlpcli:", cut)) for score in scores]


def _left_to_right(loaded: LoadedModel, file: str, reading: PerplexitySettings, device: torch.device) -> list[Score]:
    import torch

    from nlpcli.evaluation.perplexity import PerplexityProtocol, perplexity
    from nlpcli.objectives.dynamic_evaluation import Adaptation, evaluate_dynamically

    context = _context(loaded, reading)
    remembers = _remembers(loaded, reading)
    task, shards = _task(loaded, file, reading, context, remembers=remembers)
    dynamic = ""
    if reading.dynamic_evaluation is None:
        with torch.inference_mode():
            losses = _summed(task.evaluate(loaded.model, device), _windows(task, remembers=remembers))
    else:
        adaptation = Adaptation(reading.dynamic_evaluation, reading.dynamic_decay)
        losses = _summed(evaluate_dynamically(task, loaded.model, device, adaptation), _windows(task, stride=context))
        dynamic = str(adaptation)
    protocol = PerplexityProtocol(
        context, task.stride, _name(loaded), _memory(loaded, reading) if remembers else "",
        streams=len(task.stream_starts()[0]) if remembers else 1,
        dynamic=dynamic,
    )  # fmt: skip
    scores = perplexity(
        sum(nats for nats, _ in losses),
        tokens=sum(count for _, count in losses),
        words=max(1, shards.text_words),
        bytes=max(1, shards.text_bytes),
        protocol=protocol,
    )
    return list(scores.values())


def _summed(losses: Iterable[Loss], total: int | None = None) -> list[tuple[float, int]]:
    return [(float(loss.nll), loss.count) for loss in followed(losses, "evaluating", total)]


def _windows(task: CausalLanguageModelling, *, remembers: bool = False, stride: int | None = None) -> int:
    """How many losses an evaluation gives. stride: None for that of the task; it has none if a model remembers."""
    assert task.dev is not None
    predicted = len(task.dev) - 1
    if remembers:
        starts, longest = task.stream_starts()
        return sum(-(-min(longest, predicted - start) // task.context) for start in starts.tolist())
    return 1 - (-max(0, predicted - task.context) // (stride or task.stride))


def _task(
    loaded: LoadedModel, file: str, reading: PerplexitySettings, context: int, *, remembers: bool
) -> tuple[CausalLanguageModelling, ShardSet]:
    """The text as it is to be read, and how long it is. Raises: NlpcliError where nothing of it can be predicted."""
    from nlpcli.data.packing import PackedWindows, StreamedWindows, TokenStream
    from nlpcli.data.readers import TextSource
    from nlpcli.data.shards import build_shards
    from nlpcli.objectives.clm import CausalLanguageModelling, EvaluationReading

    documents = reading.documents or ("auto" if _has_document_end(loaded) else "file")
    shards = build_shards([file], loaded.tokenizer, documents=TextSource(documents, reading.field, reading.column))
    eos = loaded.tokenizer.special.eos if documents != "file" and _has_document_end(loaded) else None
    stream = TokenStream(shards, eos=eos, before=text_start(loaded))
    if len(stream) < 2 or not shards.tokens:
        raise NlpcliError(f"{file}: the text has fewer than 2 tokens, so there is no token to predict")
    # training windows, which are not used: the smallest ones, for which every text has room
    windows = (StreamedWindows if remembers else PackedWindows)(shards, 1, eos=eos, batch_size=1)
    streams = _streams(loaded, reading) if remembers else 1
    task = CausalLanguageModelling(
        windows,
        stream,
        context=context,
        reading=EvaluationReading(None if remembers else reading.stride, streams),
        batch_tokens=reading.batch_tokens,
    )
    return task, shards


def _streams(loaded: LoadedModel, reading: PerplexitySettings) -> int:
    """With dynamic evaluation, the text is one stream."""
    if reading.dynamic_evaluation is not None:
        return 1
    return reading.streams or loaded.info.get("eval_streams") or 1


def _memory(loaded: LoadedModel, reading: PerplexitySettings) -> str:
    """The model's memory in the signature."""
    return loaded.config.memory_signature if reading.memory_length is None else str(reading.memory_length)


def _name(loaded: LoadedModel) -> str:
    return f"{loaded.tokenizer.kind}-{loaded.tokenizer.vocab_size}"


def _has_document_end(loaded: LoadedModel) -> bool:
    """Whether the model has learnt, from documents as they are read here, where one ends."""
    return bool(loaded.info.get("document_end", True)) and "read_from" not in loaded.info


def _context(loaded: LoadedModel, reading: PerplexitySettings) -> int:
    own = loaded.info.get("context") or loaded.config.max_length
    context = reading.context or own
    if loaded.model.max_length is not None and context > loaded.model.max_length:
        raise NlpcliError(
            f"the context has {counted(context, 'token')}, but the model has only "
            f"{counted(loaded.model.max_length, 'position')}",
            hint="use a smaller --context",
        )
    if reading.stride is not None and reading.stride > context:
        raise NlpcliError(
            f"the stride {reading.stride} is larger than the context of {counted(context, 'token')}, so tokens would "
            "be skipped",
            hint="use a smaller --stride",
        )
    return context


def _remembers(loaded: LoadedModel, reading: PerplexitySettings) -> bool:
    """Whether a memory replaces overlapping windows; sets the requested memory length of the model."""
    _check_adaptation(reading)
    if not loaded.model.has_memory:
        for name in ("memory_length", "streams"):
            if getattr(reading, name) is not None:
                raise NlpcliError(
                    f"--{name.replace('_', '-')} has no effect on {loaded.path}, because this model has no memory",
                    hint="use --context and --stride instead",
                )
        return False
    if reading.memory_length and loaded.config.memory_signature == "state":
        raise NlpcliError(
            f"--memory-length {reading.memory_length} can't be used with {loaded.path}, whose state sums up all "
            "earlier tokens",
            hint="leave out --memory-length, or use --memory-length 0 to read each window without earlier tokens",
        )
    if reading.memory_length is not None:
        loaded.model.memory_length = reading.memory_length
    if loaded.model.memory_length and reading.stride is not None:
        raise NlpcliError(
            "--stride has no effect on a model with memory, which reads each token once",
            hint="leave out --stride, or add --memory-length 0",
        )
    return bool(loaded.model.memory_length)


def _check_adaptation(reading: PerplexitySettings) -> None:
    """Raises: NlpcliError for what a dynamic evaluation, which reads window after window, has no use for."""
    for name in ("stride", "streams"):
        if reading.dynamic_evaluation is not None and getattr(reading, name) is not None:
            raise NlpcliError(
                f"--{name} can't be used with --dynamic-evaluation, which reads one window after the other",
                hint=f"leave out --{name}",
            )


# --- masked language models --------------------------------------------------------------------------------------


def _masked(loaded: LoadedModel, file: str, reading: PerplexitySettings, device: torch.device) -> list[Score]:
    """PPPL = exp(-1/N Σ_documents Σ_t log p(x_t | x without x_t)) (Salazar et al. 2020, eq. 2 and section 2.3)."""
    from nlpcli.data.readers import TextSource
    from nlpcli.data.shards import build_shards
    from nlpcli.evaluation.perplexity import PerplexityProtocol, perplexity

    model, special = loaded.model, loaded.tokenizer.special
    if getattr(model, "mlm_head", None) is None:
        raise NlpcliError(
            f"{loaded.path} is an encoder that can't predict tokens", hint="use one that was pretrained with mlm"
        )
    for name, option in _NOT_OF_ENCODERS.items():
        if getattr(reading, name) is not None:
            raise NlpcliError(
                f"--{option} has no effect on a masked language model, which scores each document separately"
            )
    special.check("cls", "sep", "mask", "pad")
    context = _context(loaded, reading)
    documents = reading.documents or "auto"
    shards = build_shards([file], loaded.tokenizer, documents=TextSource(documents, reading.field, reading.column))
    nats = _pseudo_nats(loaded, shards, context, max(1, reading.batch_tokens // context), device)
    scores = perplexity(
        nats,
        tokens=shards.tokens,
        words=max(1, shards.text_words),
        bytes=max(1, shards.text_bytes),
        protocol=PerplexityProtocol(None, None, _name(loaded)),
    )
    return [
        replace(score, name=f"pseudo_{score.name}", signature=f"pseudo_{score.signature}") for score in scores.values()
    ]


def _pseudo_nats(loaded: LoadedModel, shards: ShardSet, context: int, rows: int, device: torch.device) -> float:
    """-Σ log p of each token given the others of its document; documents longer than the context are cut in windows."""
    import torch

    from nlpcli.objectives.mlm import masked_loss

    special, inner = loaded.tokenizer.special, context - 2
    if inner < 1:
        raise NlpcliError(
            f"a context of {counted(context, 'token')} is too short for text between the special tokens",
            hint="use a larger --context",
        )
    nats = 0.0
    for begin, end in zip(shards.offsets[:-1].tolist(), shards.offsets[1:].tolist(), strict=True):
        for start in range(begin, end, inner):
            window = shards.read(start, min(start + inner, end)).astype("int64").tolist()
            ids = torch.tensor([special.cls, *window, special.sep], device=device)
            for chunk in torch.arange(1, len(window) + 1, device=device).split(rows):
                hidden = ids.repeat(len(chunk), 1)
                row = torch.arange(len(chunk), device=device)
                hidden[row, chunk] = special.mask
                with torch.inference_mode():
                    states = loaded.model(hidden)
                    loss = masked_loss(loaded.model, states, row * len(ids) + chunk, ids[chunk])
                nats += float(loss.nll)
    return nats
