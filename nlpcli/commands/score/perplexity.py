"""How well a model predicts running text: perplexity per token, word and byte, and bits per byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nlpcli.config.counting import counted
from nlpcli.data.progress import followed
from nlpcli.errors import NlpcliError
from nlpcli.evaluation.score import Score
from nlpcli.runs.find_model import LANGUAGE_MODEL, locate
from nlpcli.runs.open_model import open_model, task_of

if TYPE_CHECKING:
    import torch

    from nlpcli.data.shards import ShardSet
    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.runs.open_model import Source

_ENCODER = "encoder"


@dataclass(frozen=True)
class Reading:
    """How a text is cut for a model, and where this is computed.

    context: tokens seen at once; None: the model's own in training. stride: tokens from one window to the next; None:
    the context, without overlap. memory_length: positions that a model with memory looks back; None: its own number.
    documents: how documents stand in the text, as for pretraining; None: the text is one stream for a model that knows
    no end of documents or comes from elsewhere, and `auto` for others, which then predict the ends too.
    """

    context: int | None = None
    stride: int | None = None
    memory_length: int | None = None
    documents: str | None = None
    field: str = "text"
    column: int = 1
    batch_tokens: int = 4096
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("context", 1), ("stride", 1), ("memory_length", 0), ("batch_tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise NlpcliError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")


def perplexity_of(
    model: Source | None, files: Sequence[str], reading: Reading | None = None, *, say: Callable[[str], None]
) -> dict[str, list[Score]]:
    """The scores of each file under a language model: `loss` in nats per token, `perplexity` per token,
    `word_perplexity`, `byte_perplexity` and `bits_per_byte`; every token but the first is predicted once.

    Of a masked language model the pseudo-perplexity (Salazar et al. 2020), `pseudo_perplexity` and so on: each token of
    a document is masked in turn.

    model: a folder; None stands for the newest run of a language model, which `say` is told.
    Raises: NlpcliError for other kinds of models, settings the model has no use for or no positions for, and for files
    that can't be read or hold fewer than two tokens.
    """
    reading = reading or Reading()
    if model is None or task_of(model) != _ENCODER:
        model = locate(LANGUAGE_MODEL, model, say=say)
    from nlpcli.training.device import prepare

    machine = prepare(reading.device, "float32", reading.threads)
    loaded = open_model(model, str(machine.device))
    measure = _masked if loaded.config.kind == _ENCODER else _left_to_right
    return {file: _signed(measure(loaded, file, reading, machine.device), reading) for file in files}


def _signed(scores: list[Score], reading: Reading) -> list[Score]:
    """The scores with what was said about documents in their signatures."""
    if reading.documents is None:
        return scores
    cut = f"|documents:{reading.documents}|nlpcli:"
    return [replace(score, signature=score.signature.replace("|nlpcli:", cut)) for score in scores]


def _left_to_right(loaded: LoadedModel, file: str, reading: Reading, device: torch.device) -> list[Score]:
    import torch

    from nlpcli.data.packing import PackedWindows, StreamedWindows, TokenStream
    from nlpcli.data.readers import TextSource
    from nlpcli.data.shards import build_shards
    from nlpcli.objectives.clm import CausalLanguageModelling

    model, special = loaded.model, loaded.tokenizer.special
    context = _context(loaded, reading)
    remembers = _remembers(loaded, reading)
    documents = reading.documents or ("auto" if _knows_ends(loaded) else "file")
    shards = build_shards([file], loaded.tokenizer, documents=TextSource(documents, reading.field, reading.column))
    eos = special.eos if documents != "file" and _knows_ends(loaded) else None
    if len(TokenStream(shards, eos=eos)) < 2:
        raise NlpcliError(f"{file}: the text has fewer than 2 tokens, so there is no token to predict")
    # windows to train on, of which there are none: the least that any text has room for
    windows = (StreamedWindows if remembers else PackedWindows)(shards, 1, eos=eos, batch_size=1)
    task = CausalLanguageModelling(
        windows,
        TokenStream(shards, eos=eos),
        context=context,
        stride=None if remembers else reading.stride,
        batch_tokens=reading.batch_tokens,
    )
    with torch.inference_mode():
        losses = [(float(loss.nll), loss.count) for loss in followed(task.evaluate(model, device), "evaluating")]
    from nlpcli.evaluation.perplexity import Protocol, perplexity

    memory = model.memory_length if remembers else 0
    scores = perplexity(
        sum(nats for nats, _ in losses),
        tokens=sum(count for _, count in losses),
        words=max(1, shards.text_words),
        bytes=max(1, shards.text_bytes),
        protocol=Protocol(context, task.stride, _name(loaded), memory),
    )
    return list(scores.values())


def _name(loaded: LoadedModel) -> str:
    return f"{loaded.tokenizer.kind}-{loaded.tokenizer.vocab_size}"


def _knows_ends(loaded: LoadedModel) -> bool:
    """Whether the model has learnt, from documents as they are read here, where one ends."""
    return bool(loaded.info.get("document_end", True)) and "read_from" not in loaded.info


def _context(loaded: LoadedModel, reading: Reading) -> int:
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


def _remembers(loaded: LoadedModel, reading: Reading) -> bool:
    """Whether a memory takes the place of overlapping windows; the model is given the one that was asked for."""
    if not loaded.model.has_memory:
        if reading.memory_length is not None:
            raise NlpcliError(
                f"--memory-length has no effect on {loaded.path}, because this model has no memory",
                hint="use --context and --stride instead",
            )
        return False
    if reading.memory_length is not None:
        loaded.model.memory_length = reading.memory_length
    if loaded.model.memory_length and reading.stride is not None:
        raise NlpcliError(
            "--stride has no effect on a model with memory, which reads each token once",
            hint="leave out --stride, or add --memory-length 0",
        )
    return bool(loaded.model.memory_length)


# --- masked language models --------------------------------------------------------------------------------------


def _masked(loaded: LoadedModel, file: str, reading: Reading, device: torch.device) -> list[Score]:
    """PPPL = exp(-1/N Σ_documents Σ_t log p(x_t | x without x_t)) (Salazar et al. 2020, eq. 2 and section 2.3)."""
    from nlpcli.data.readers import TextSource
    from nlpcli.data.shards import build_shards
    from nlpcli.evaluation.perplexity import Protocol, perplexity

    model, special = loaded.model, loaded.tokenizer.special
    if getattr(model, "mlm_head", None) is None:
        raise NlpcliError(
            f"{loaded.path} is an encoder that can't predict tokens", hint="use one that was pretrained with mlm"
        )
    for name in ("stride", "memory_length"):
        if getattr(reading, name) is not None:
            option = name.replace("_", "-")
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
        protocol=Protocol(None, None, _name(loaded)),
    )
    return [
        replace(score, name=f"pseudo_{score.name}", signature=f"pseudo_{score.signature}") for score in scores.values()
    ]


def _pseudo_nats(loaded: LoadedModel, shards: ShardSet, context: int, rows: int, device: torch.device) -> float:
    """-Σ log p of every token given the others of its document; what is longer than the context is cut in pieces."""
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
            piece = shards.read(start, min(start + inner, end)).astype("int64").tolist()
            ids = torch.tensor([special.cls, *piece, special.sep], device=device)
            for chunk in torch.arange(1, len(piece) + 1, device=device).split(rows):
                hidden = ids.repeat(len(chunk), 1)
                row = torch.arange(len(chunk), device=device)
                hidden[row, chunk] = special.mask
                with torch.inference_mode():
                    states = loaded.model(hidden)
                    loss = masked_loss(loaded.model, states, row * len(ids) + chunk, ids[chunk])
                nats += float(loss.nll)
    return nats
