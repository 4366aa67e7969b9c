"""Vectors of texts, and of words in them, from any model: encoder, decoder, the encoder of both, with a head or not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.config.number_parsing import parse_int
from nlpcli.convert.sentence_transformers_in import SentenceSettings, sentence_settings
from nlpcli.data.vector_files import unit
from nlpcli.errors import NlpcliError, unknown
from nlpcli.runs.find_model import newest_run
from nlpcli.runs.onnx.onnx_info import OnnxFacts, facts_of, weights_fingerprint
from nlpcli.runs.open_model import Source, check_one_tokenizer, description_of, folder_of
from nlpcli.runs.text_pooling import FITTED, PARAGRAPH, SIF, paragraph_of, sif_of

if TYPE_CHECKING:
    import torch

    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.models.model_with_head import WithHead
    from nlpcli.models.padded_batch import Row

POOLINGS = ("mean", "first", "max", "last", SIF, PARAGRAPH)
DEFAULT_LENGTH = 512
_BATCH_TOKENS = {"cpu": 1024}  # whose hidden states a processor's cache holds; measured with MiniLM
_BATCH_TOKENS_ELSEWHERE = 4096
_DESCRIPTIONS = {
    "mean": "mean of all tokens, {states}",
    "max": "maximum over all tokens, {states}",
    SIF: "mean of all words weighted by smooth inverse frequency, without the first principal component",
    PARAGRAPH: "paragraph vector, inferred",
}
Span = tuple[int, int]


@dataclass(frozen=True)
class EmbedderSettings:
    """How texts become vectors.

    model: a run, a Hugging Face folder or a file of word vectors; None: the newest run of a similarity task,
    or else of an encoder. pooling: which state represents a text, `first`, `last`, `mean` or `max`; or `sif` or
    `paragraph`, see `nlpcli.runs.text_pooling`. normalize: whether vectors get the length
    1. layers: `last`, or `concat:N` or `mean:N` of the last N layers. max_length: the most tokens of a text, the rest
    is cut off. None for all four: as the model was trained, or as in its sentence-transformers folder; otherwise the
    mean of the last layer's states, or the state for a whole text in the model's family, without normalization.
    batch_tokens: tokens read at once, which changes speed and memory only; None: as is fast on the device.
    engine: what computes the model, see `nlpcli.runs.onnx.choose_engine`.

    Raises: NlpcliError for values that make no sense.
    """

    model: Path | LoadedModel | None = None
    pooling: str | None = None
    normalize: bool | None = None
    layers: str | None = None
    max_length: int | None = None
    batch_tokens: int | None = None
    device: str = "auto"
    threads: int | None = None
    engine: str | None = None

    def __post_init__(self) -> None:
        if self.pooling is not None and self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)
        if self.layers is not None:
            how, _, count = self.layers.partition(":")
            if self.layers != "last" and (how not in ("concat", "mean") or parse_int(count) is None):
                raise NlpcliError(
                    f"--layers does not support the value '{self.layers}'",
                    hint="choose last, concat:N or mean:N, such as concat:4",
                )


@dataclass(frozen=True)
class WordVector:
    """A word: its characters in the text, its vector, and the mean (or first) of its tokens' input embeddings."""

    span: Span
    vector: np.ndarray
    static: np.ndarray


class Embedder:
    """A model that turns texts into vectors. `notify` reports which model was taken, if none was named.

    width: the numbers of a vector. cut: how many texts so far were longer than `max_length` tokens.
    """

    def __init__(self, settings: EmbedderSettings, *, notify: Callable[[str], None]) -> None:
        source = settings.model if settings.model is not None else _newest(notify)
        from nlpcli.runs.onnx.choose_engine import device_for, engine_of, open_for
        from nlpcli.training.device import prepare

        engine = engine_of(source, settings.engine)
        sentence = _sentence_settings(source, settings.pooling)
        machine = prepare(device_for(engine, settings.device), "float32", settings.threads)
        loaded = open_for(source, engine, machine, layers=settings.layers)
        check_one_tokenizer(loaded)
        trained = loaded.info.get("head") or {}
        trained = trained if trained.get("kind") == "vector" else {}
        self.path, self.device = loaded.path, machine.device
        self.batch_tokens = settings.batch_tokens or _BATCH_TOKENS.get(machine.device.type, _BATCH_TOKENS_ELSEWHERE)
        self.tokenizer, self.config = loaded.tokenizer, loaded.config
        self.pooling: str = (
            sentence.pooling
            or trained.get("pooling")
            or loaded.info.get("pooling")
            or ("paragraphs" in loaded.info and PARAGRAPH)
            or loaded.config.text_pooling
            or "mean"
        )
        self.normalize = (
            trained.get("normalize", sentence.normalize) if settings.normalize is None else settings.normalize
        )
        self.layers = settings.layers or trained.get("layers", "last")
        self._fingerprint: str | None = None
        self.model: Any = self._with_head(loaded, trained)
        self.width: int = self.model.head.width
        self._sif = sif_of(loaded.model.body) if self.pooling == SIF else None
        self._pool: Callable[[torch.Tensor, Any], torch.Tensor] = self._sif or self.model.head
        if self.pooling == PARAGRAPH:
            self._pool = paragraph_of(loaded.model.body, loaded.info)
        self.max_length = self._longest(settings.max_length, loaded.info, sentence.max_length)
        self.layout = self._layout(loaded.info, bool(trained))
        self.room = self.layout.room(1, self.max_length)
        self.cut = 0

    def describe(self) -> str:
        """How a vector is made, in words."""
        of = _DESCRIPTIONS.get(self.pooling, f"{self.pooling} token, {self.states}").format(states=self.states)
        length = ", normalized to length 1" if self.normalize else ""
        return f"dimension {self.width}, {of}{length}; texts are truncated to {counted(self.max_length, 'token')}"

    def fingerprint(self) -> str:
        """A digest of the weights the vectors are made with; the same wherever the model lies, and in any form."""
        return self._fingerprint or weights_fingerprint(self.model.body)

    @property
    def states(self) -> str:
        """Whose states are taken, in words."""
        if self.config.static:
            return "the word vectors"
        return "the last layer" if self.layers == "last" else self.layers

    @property
    def depends_on_texts(self) -> bool:
        """Whether vectors depend on the texts as a whole, which `fit` must see before `vectors`."""
        return self._sif is not None

    @property
    def component(self) -> np.ndarray | None:
        """The component that `fit` has found, (width,); None where vectors do not depend on the texts as a whole."""
        return None if self._sif is None else self._sif.component

    @component.setter
    def component(self, direction: np.ndarray | None) -> None:
        if self._sif is not None:
            self._sif.component = direction

    def fit(self, texts: Sequence[str]) -> None:
        """Takes from the first `FITTED` texts, or all, what the vectors depend on, if they depend on any.

        Raises: NlpcliError for too few texts.
        """
        if self._sif is not None:
            cut = self.cut
            self._sif.fit(self._pooled(texts[:FITTED]))
            self.cut = cut

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width) float32, of n texts."""
        found = self._pooled(texts)
        if self._sif is not None:
            found = self._sif.without_component(found)
        return unit(found) if self.normalize else found

    def _pooled(self, texts: Sequence[str]) -> np.ndarray:
        rows = [self._row(self._known(ids)) for ids in self.layout.encode(self.tokenizer, list(texts))]
        found = np.empty((len(rows), self.width), dtype=np.float32)
        for places, states, batch in self._states(rows):
            found[places] = self._pool(states, batch).float().cpu().numpy()
        return found

    def _known(self, ids: list[int]) -> list[int]:
        """The ids, without those of unknown words in a static model."""
        return [id_ for id_ in ids if id_ != self.tokenizer.special.unk] if self.config.static else ids

    def word_vectors(
        self, texts: Sequence[str], find: Callable[[str], Sequence[Span]], *, how: str = "mean"
    ) -> list[list[WordVector]]:
        """The vectors of the words in each text, each the mean of its tokens' states, or the first one.

        find: the words of a text. Words that were cut off, or that have no tokens, are left out.
        """
        all_ids, all_spans = self.layout.encode_with_offsets(self.tokenizer, list(texts))
        rows = [self._row(ids) for ids in all_ids]
        found: list[list[WordVector]] = [[] for _ in texts]
        begin = self.layout.first()
        for places, states, batch in self._states(rows):
            inputs = self.model.body.token_embedding(batch.ids)
            for place, of_row, static_of_row in zip(places, states, inputs, strict=True):
                spans = all_spans[place][: self.room]
                for start, end in find(texts[place]):
                    tokens = [i for i, (a, b) in enumerate(spans) if a < end and b > start][
                        : 1 if how == "first" else None
                    ]
                    if not tokens:
                        continue
                    own = [begin + i for i in tokens]
                    vector, static = (x[own].float().mean(dim=0) for x in (of_row, static_of_row))
                    found[place].append(WordVector((start, end), vector.cpu().numpy(), static.cpu().numpy()))
        return found

    def _row(self, ids: Sequence[int]) -> Row:
        self.cut += len(ids) > self.room
        ids = ids[: self.room]
        special = self.tokenizer.special
        if not ids and not self.layout.start and not self.layout.end:  # something must be read
            ids = [special.bos if "eos" in special.absent else special.eos]
        return self.layout.row(ids)

    def _states(self, rows: Sequence[Row]) -> Iterator[tuple[np.ndarray, torch.Tensor, Any]]:
        """Rows in batches of similar length: their places, the states (rows, n, width), and what was read."""
        import torch

        from nlpcli.data.bucketing import token_budget_batches
        from nlpcli.models.padded_batch import stack

        segments = self.config.segment_count > 1
        sizes = np.array([len(row.ids) for row in rows])
        with torch.inference_mode():
            for places in token_budget_batches(sizes, max_tokens=self.batch_tokens, shuffle=False):
                batch = stack([rows[i] for i in places], self.tokenizer.special.pad, segments=segments).to(self.device)
                yield places, self.model.states(batch), batch

    def _with_head(self, loaded: LoadedModel, trained: dict[str, Any]) -> Any:
        from nlpcli.models.model_with_head import WithHead

        if (facts := facts_of(loaded.info, self.path)) is not None:
            return self._of_graph(loaded, facts)
        if trained and self.layers == trained.get("layers", "last"):
            return _with_pooling(loaded.model, self.pooling)
        body = loaded.model.body
        head: dict[str, Any] = {"kind": "vector", "pooling": self.pooling}
        return WithHead(body, width=self.config.d_model, layers=self.layers, side="encoder", **head).eval()

    def _of_graph(self, loaded: LoadedModel, facts: OnnxFacts) -> Any:
        """The graph in the ONNX format with a head that pools in this way."""
        from nlpcli.models.heads import VectorHead

        if self.layers != facts.layers:
            raise NlpcliError(
                f"--layers {self.layers}: the ONNX graph in {self.path} gives the hidden states of '{facts.layers}'",
                hint="leave out --layers, or name the run that it was converted from",
            )
        self._fingerprint = facts.fingerprint if facts.quantization is None else f"{facts.fingerprint}-int8"
        loaded.model.head = VectorHead(facts.width, pooling=self.pooling)
        return loaded.model

    def _longest(self, requested: int | None, info: dict[str, Any], sentence: int | None) -> int:
        limit = self.config.position_limit
        if requested is not None and limit is not None and requested > limit:
            raise NlpcliError(
                f"--max-length {requested} is larger than the model's maximum of {counted(limit, 'token')}"
            )
        found = requested or info.get("max_length") or sentence or DEFAULT_LENGTH
        return found if limit is None else min(found, limit)

    def _layout(self, info: dict[str, Any], trained: bool) -> Any:
        """A language model that learnt no vectors reads the text alone, as in its pretraining."""
        from nlpcli.tasks.input_layout import Layout

        if self.config.kind == "decoder" and not trained:
            return Layout((), (), ())
        return Layout.of(self.config, self.tokenizer.special, info)


def _with_pooling(model: WithHead, pooling: str) -> Any:
    """The same model, its weights shared, with a head that pools in this way, to vectors of any length."""
    head, found = copy.copy(model.head), copy.copy(model)
    head.pooling, head.normalize = pooling, False
    found.__dict__["_modules"] = {**model._modules, "head": head}
    return found


def _sentence_settings(source: Source, pooling: str | None) -> SentenceSettings:
    """How vectors are made according to the model's folder; a requested pooling replaces its own.

    For a model in the ONNX format that was not trained to make vectors, as in its model.yaml.
    """
    path = folder_of(source)
    facts = facts_of(description_of(source), path) if path.is_dir() else None
    if facts is None:
        return sentence_settings(path, pooling)
    if pooling is not None:
        return SentenceSettings(pooling, False, facts.vector_length)
    return SentenceSettings(facts.pooling, facts.normalize, facts.vector_length)


def _newest(notify: Callable[[str], None]) -> Path:
    try:
        found = newest_run("similarity")
    except NlpcliError:
        found = newest_run("encoder")
    return found.report("the newest encoder run", notify)
