"""The request for attention maps, and the recordings of a forward pass."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError, unknown

if TYPE_CHECKING:
    import torch

    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.text import Tokenizer
    from nlpcli.visualization.attention_data import Side
    from nlpcli.visualization.capture import Recorder

ORDERS = ("left-to-right", "random")


@dataclass(frozen=True)
class AttentionRequest:
    """The model whose attention is recorded, and how it reads.

    model: a folder; None: the newest run that can do what is requested. memory: an earlier text that a model with
    memory has read. order: of factorisation, of ORDERS; XLNet then shows both streams. seed: of a random order.
    gradient: gradient times attention instead of attention. label: the class whose logit is differentiated; None: the
    predicted one. part: of a model that learnt several tasks, the one that is meant.

    Raises: NlpcliError for an unknown order, and settings without effect.
    """

    model: Path | None = None
    memory: str | None = None
    order: str | None = None
    seed: int = 0
    gradient: bool = False
    label: str | None = None
    part: str | None = None
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.order is not None and self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)
        if self.label is not None and not self.gradient:
            raise NlpcliError(f"--target-label {self.label} has no effect without --gradient", hint="add --gradient")


@dataclass(frozen=True)
class AttentionInput:
    """A text to read. second: the second one of a pair. target: what an encoder-decoder is to write; None: what it
    writes by itself. place: names the text in messages (`<stdin>:3`); line: its number in a file, from 1."""

    text: str
    second: str | None = None
    target: str | None = None
    place: str = "the text"
    line: int | None = None


@dataclass(frozen=True)
class OpenedModel:
    """An opened model. task: its fine-tuning task, if inputs depend on it; warn: receives a message for a cut text."""

    job: AttentionRequest
    loaded: LoadedModel
    device: torch.device
    warn: Callable[[str], None]
    task: Any = None

    @property
    def model(self) -> Any:
        return self.loaded.model

    @property
    def body(self) -> Any:
        """The model without its head."""
        return getattr(self.model, "body", self.model)

    @cached_property
    def writes(self) -> Tokenizer:
        """The tokenizer of what a decoder writes."""
        return self.loaded.tokenizer.for_targets()

    @property
    def reads(self) -> Tokenizer:
        """The tokenizer of what an encoder reads."""
        return self.loaded.source_tokenizer or self.loaded.tokenizer

    @property
    def limit(self) -> int:
        """The most tokens of a sequence, special ones included."""
        config = self.loaded.config
        own = self.loaded.info.get("max_length") or config.max_length
        return min(own, config.max_length) if self.body.max_length is not None else own

    def tensor(self, ids: Sequence[int]) -> torch.Tensor:
        """(1, n) ids on the model's device."""
        import torch

        return torch.tensor([list(ids)], device=self.device)


@dataclass
class View:
    """One site as it was seen: the tokens on its sides, and for each layer the weights that it recorded.

    arrange: makes (heads, n, m) from a layer's recording, which is (1, heads, n, m) unless documented otherwise.
    """

    name: str
    title: str
    queries: Side
    keys: Side
    weights: list[torch.Tensor]
    arrange: Callable[[torch.Tensor], torch.Tensor] = operator.itemgetter(0)


@dataclass
class RecordedPass:
    """The result of a pass. gradient_target: a number, to be differentiated by the weights; gradient_target_name: its
    description in words."""

    views: list[View]
    texts: dict[str, str]
    notes: dict[str, Any] = field(default_factory=dict)
    gradient_target: torch.Tensor | None = None
    gradient_target_name: str = ""


TITLES = {
    "source-encoder": "Source encoder",
    "encoder": "Encoder",
    "decoder": "Decoder",
    "cross": "Cross-attention",
    "content": "Content stream",
    "query": "Query stream",
    "words": "Words of each sentence",
    "sentences": "Sentences of the document",
}


def view(name: str, queries: Side, keys: Side, recorders: Sequence[Recorder], *, call: int = 0) -> list[View]:
    """The site of that name as the layers recorded it in their `call`-th call; none where they were not called."""
    weights = [recorder[call] for recorder in recorders if len(recorder) > call]
    return [View(name, TITLES[name], queries, keys, weights)] if weights else []


def not_possible(opened: OpenedModel, what: str, why: str, hint: str | None = None) -> NlpcliError:
    """The error for a request `what` that is meaningless for this model."""
    return NlpcliError(f"{what} is not possible with {opened.loaded.path}, because {why}", hint=hint)


def truncated(place: str, tokens: int, room: int) -> str:
    """The warning for a text that is too long. tokens: all it has; room: those that are left of it."""
    return f"{place}: the text has {counted(tokens, 'token')}, but the model reads at most {room:,}; it was truncated"
