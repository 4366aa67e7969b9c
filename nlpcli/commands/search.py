"""Searching a corpus by meaning: the lines nearest to a query, optionally reranked by a cross-encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.config.files import check_regular, new_directory
from nlpcli.config.loading import Strict, dump_yaml, load_yaml, parse
from nlpcli.config.temporary_files import is_free
from nlpcli.data.readers import read_lines
from nlpcli.data.vector_files import finite_vectors, unit, write_vectors
from nlpcli.data.vector_index import EXACT, KINDS, make_index
from nlpcli.errors import NlpcliError, unknown
from nlpcli.runs.embedder import Embedder, EmbedderSettings
from nlpcli.runs.embedding_inputs import EmbedRequest, check_files, fitted, read_texts, warn_cut_lines, windows

DESCRIPTION, VECTORS, TEXTS = "index.yaml", "vectors.npy", "texts.txt"
WINDOW = 256  # queries answered together
_CHECKED = 1000  # texts among which the shortest is embedded again
_SAME = 0.999  # cosine of a text's vector with itself, made again
_FORMAT = 1
_ALIKE = {"1", "yes", "true", "relevant", "positive", "similar", "same", "duplicate", "paraphrase", "equivalent",
          "entailment"}  # fmt: skip


@dataclass(frozen=True)
class SearchRequest:
    """The queries, the index and the settings of a search.

    vectors: a .npy file, whose lines are in the file `texts`; or a folder that was saved as an index. corpus: files of
    lines that are embedded first. index: `exact`, `faiss` or `hnsw`; None: as saved, or exact. top: hits for a query.
    save_index: a new folder for all that a later search needs. rerank: a model that was tuned on pairs of texts; it
    orders the `candidates` nearest anew, by its score or by the probability of the label `positive` (None: of the one
    that means so, or the last one).

    Raises: NlpcliError for settings that can't be used together.
    """

    vectors: Path | None = None
    texts: str | None = None
    corpus: Sequence[str] = ()
    settings: EmbedderSettings = field(default_factory=EmbedderSettings)
    index: str | None = None
    top: int = 10
    save_index: Path | None = None
    rerank: Path | None = None
    candidates: int = 50
    positive: str | None = None
    window: int = WINDOW

    def __post_init__(self) -> None:
        if self.index is not None and self.index not in KINDS:
            raise unknown("index", self.index, KINDS)
        if bool(self.corpus) == (self.vectors is not None):
            raise NlpcliError(
                "no text to search is given"
                if self.vectors is None
                else "--vectors and --corpus can't be used together",
                hint="add --corpus FILE, or --vectors FILE.npy --texts FILE",
            )
        folder = self.vectors is not None and self.vectors.suffix != ".npy"
        if self.vectors is not None and folder == (self.texts is not None):
            raise NlpcliError(
                f"{self.vectors}: --texts has no effect, because a saved index contains its texts"
                if folder
                else f"{self.vectors} contains only vectors, so their texts are needed, too",
                hint="leave out --texts" if folder else "name the file of their texts with --texts FILE",
            )
        if self.positive is not None and self.rerank is None:
            raise NlpcliError("--positive has no effect without --rerank", hint="add --rerank DIR")
        if self.rerank is not None and self.candidates < self.top:
            raise NlpcliError(f"--candidates {self.candidates} is smaller than --top {self.top}")
        if self.save_index is not None and not is_free(self.save_index):
            raise NlpcliError(f"{self.save_index} already exists", hint="name a new folder")


class Hit(NamedTuple):
    """A line that was found. line: counted from 1. score: the cosine, or the score of the reranking model."""

    line: int
    text: str
    score: float
    cosine: float


class Answer(NamedTuple):
    """The hits for one query, the best first; number: of the query, from 1."""

    number: int
    query: str
    hits: list[Hit]


class Search:
    """A corpus ready to be searched. `notify` reports where vectors come from, `warn` what was left out."""

    def __init__(self, job: SearchRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self.job = job
        check_files([*job.corpus, *([] if job.texts is None else [job.texts])])
        place, settings = job.vectors, job.settings
        saved: _Description | None = None
        given: tuple[np.ndarray, list[str]] | None = None
        if place is not None:
            if job.texts is None:  # a saved index has its own
                saved = _read_description(place)
                settings = _as_saved(job.settings, saved, place)
            vectors = finite_vectors(place if saved is None else place / VECTORS)
            if job.texts is None:
                check_regular(place / TEXTS)
            texts = list(read_lines(place / TEXTS if job.texts is None else job.texts))
            _check_lengths(vectors, texts, job)
            given = vectors, texts
        self.rerank = None if job.rerank is None else _Reranker(job.rerank, job, notify=notify)
        self.embedder = Embedder(settings, notify=notify)
        notify(f"vectors: {self.embedder.describe()}")
        if given is None:
            given = self._embedded(warn)
        else:
            self.embedder.fit(given[1])
            self._check_model(*given, saved)
        self.vectors, self.texts = given
        self.kind = job.index or (saved.index if saved else EXACT)
        file = None
        if place is not None and saved is not None and saved.index == self.kind != EXACT:
            file = place / f"index.{self.kind}"
        self.index = make_index(self.kind, self.vectors, file)
        if job.save_index is not None:
            self.save(job.save_index)
            notify(f"the index was written to {job.save_index} ({counted(len(self.texts), 'line')}, {self.kind})")

    def answers(self, queries: Iterable[str]) -> Iterator[list[Answer]]:
        """The hits for each query, in order, in the portions in which they are ready; none for a blank query."""
        numbered = enumerate(queries, start=1)
        while window := list(islice(numbered, self.job.window)):
            filled = [(number, query) for number, query in window if query.strip()]
            found = dict(zip([number for number, _ in filled], self._hits([query for _, query in filled]), strict=True))
            yield [Answer(number, query, found.get(number, [])) for number, query in window]

    def save(self, path: Path) -> None:
        """Writes all that a later search needs into a new folder. Raises: NlpcliError when it exists."""
        embedder = self.embedder
        description = _Description(
            format=_FORMAT,
            model=str(embedder.path),
            pooling=embedder.pooling,
            layers=embedder.layers,
            max_length=embedder.max_length,
            index=self.kind,
            fingerprint=embedder.fingerprint(),
        )
        with new_directory(path) as folder:
            write_vectors(folder / VECTORS, [np.asarray(self.vectors)], self.vectors.shape[1])
            (folder / TEXTS).write_text("".join(f"{text}\n" for text in self.texts), "utf-8")
            if hasattr(self.index, "save"):  # all but the exact one
                self.index.save(folder / f"index.{self.kind}")
            (folder / DESCRIPTION).write_text(dump_yaml(description.model_dump()), "utf-8")

    def _hits(self, queries: list[str]) -> list[list[Hit]]:
        if not queries or not self.texts:
            return [[] for _ in queries]
        k = min(self.job.top if self.rerank is None else self.job.candidates, len(self.texts))
        places, cosines = self.index.nearest(unit(self.embedder.vectors(queries)), k)
        hits = [
            [
                Hit(int(place) + 1, self.texts[place], float(cosine), float(cosine))
                for place, cosine in zip(row, scores, strict=True)
                if place >= 0  # an index that looks at a part may find fewer
            ]
            for row, scores in zip(places, cosines, strict=True)
        ]
        return hits if self.rerank is None else self.rerank.reranked(queries, hits, self.job.top)

    def _embedded(self, warn: Callable[[str], None]) -> tuple[np.ndarray, list[str]]:
        blocks, texts = [np.empty((0, self.embedder.width), dtype=np.float32)], []
        corpus = read_texts(EmbedRequest(tuple(self.job.corpus)))
        for window in windows(fitted(self.embedder, corpus, lambda line: line.text)):
            lines = [line.text for line in window]
            blocks.append(self.embedder.vectors(lines))
            texts += [line.replace("\n", " ") for line in lines]
        if not texts:
            raise NlpcliError(f"there are no lines to search in {', '.join(self.job.corpus)}")
        warn_cut_lines(self.embedder, warn)
        self.embedder.cut = 0
        return np.concatenate(blocks), texts

    def _check_model(self, vectors: np.ndarray, texts: list[str], saved: _Description | None) -> None:
        """Raises: NlpcliError when the model makes other vectors of the texts than those that are there.

        A saved index has the fingerprint of its weights; for a bare file one text is embedded again, which does not
        distinguish a model from one that was trained slightly longer.
        """
        if saved is not None and saved.fingerprint != self.embedder.fingerprint():
            raise NlpcliError(
                f"{self.job.vectors} was made with another model, not with {self.embedder.path}",
                hint="name that model with --model, or embed the lines again with --corpus",
            )
        width = self.embedder.width
        if vectors.shape[1] != width:
            raise NlpcliError(
                f"{self.job.vectors} has vectors of dimension {vectors.shape[1]}, but those of the model have "
                f"dimension {width}",
                hint="use the model, --layers and --pooling that made the vectors",
            )
        candidates = [(len(text), place) for place, text in enumerate(texts[:_CHECKED]) if text.strip()]
        if not candidates:
            return
        place = min(candidates)[1]
        again, there = self.embedder.vectors([texts[place]]), np.asarray(vectors[place : place + 1], dtype=np.float32)
        cosine = float((unit(again) * unit(there)).sum())
        if cosine < _SAME:
            raise NlpcliError(
                f"{self.job.vectors}: vector {place + 1} was not made from line {place + 1} by this model "
                f"(cosine {cosine:.2f})",
                hint="use the model, --layers, --pooling and texts that made the vectors",
            )


class _Reranker:
    """A cross-encoder: it reads query and hit together."""

    def __init__(self, model: Path, job: SearchRequest, *, notify: Callable[[str], None]) -> None:
        from nlpcli.runs.task_model import BATCH_TOKENS, open_task

        settings = job.settings
        self.applied = open_task(model, device=settings.device, threads=settings.threads, engine=settings.engine)
        self.batch_tokens = settings.batch_tokens or BATCH_TOKENS
        task = self.applied.task
        self.label: str | None = None
        if task.answer == "label" and task.labels:
            self.label = _positive(task.labels, job.positive)
            notify(f"hits are reranked by the probability of '{self.label}' ({model})")
        elif task.answer != "score":
            raise NlpcliError(
                f"{model} is a model for {task.name}, which can't score pairs of texts",
                hint="train one with: nlpcli finetune --task regress --train pairs.tsv",
            )
        elif job.positive is not None:
            raise NlpcliError(
                f"--positive has no effect on {model}, which predicts scores", hint="leave out --positive"
            )
        else:
            notify(f"hits are reranked by the score of {model}")

    def reranked(self, queries: Sequence[str], hits: list[list[Hit]], top: int) -> list[list[Hit]]:
        from nlpcli.data.examples import Example

        pairs = [Example((query, hit.text)) for query, own in zip(queries, hits, strict=True) for hit in own]
        scores = map(self._score, self.applied.predict(pairs, batch_tokens=self.batch_tokens) if pairs else [])
        found = [[hit._replace(score=next(scores)) for hit in own] for own in hits]
        return [sorted(own, key=lambda hit: -hit.score)[:top] for own in found]

    def _score(self, prediction: dict[str, Any]) -> float:
        return prediction["score"] if self.label is None else prediction["probabilities"][self.label]


def _positive(labels: Sequence[str], requested: str | None) -> str:
    if requested is not None:
        if requested not in labels:
            raise unknown("label", requested, labels)
        return requested
    meaning = [label for label in labels if label.lower() in _ALIKE]
    return meaning[0] if len(meaning) == 1 else labels[-1]


# --- a saved index -----------------------------------------------------------------------------------------------


class _Description(Strict):
    format: int
    model: str
    pooling: str
    layers: str
    max_length: int
    index: str
    fingerprint: str


def _read_description(path: Path) -> _Description:
    if not (path / DESCRIPTION).is_file():
        raise NlpcliError(
            f"{path} {'is not a saved index' if path.is_dir() else 'does not exist'}",
            hint="name a .npy file, or a folder written by --save-index",
        )
    found = parse(_Description, load_yaml(path / DESCRIPTION), str(path / DESCRIPTION))
    if found.format != _FORMAT or found.index not in KINDS:
        raise NlpcliError(f"{path / DESCRIPTION}: this version of the index is not supported", hint="update nlpcli")
    return found


def _as_saved(settings: EmbedderSettings, saved: _Description, path: Path) -> EmbedderSettings:
    """The settings the index was made with, where the call names no others."""
    model = settings.model
    if model is None:
        model = Path(saved.model)
        if not model.exists():
            raise NlpcliError(
                f"{path} was made with the model {model}, which does not exist", hint="name the model with --model"
            )
    return replace(
        settings,
        model=model,
        pooling=settings.pooling or saved.pooling,
        layers=settings.layers or saved.layers,
        max_length=settings.max_length or saved.max_length,
    )


def _check_lengths(vectors: np.ndarray, texts: list[str], job: SearchRequest) -> None:
    if len(vectors) != len(texts):
        raise NlpcliError(
            f"{job.vectors} has {counted(len(vectors), 'vector')}, but {job.texts or TEXTS} has "
            f"{counted(len(texts), 'line')}",
            hint="name the file that the vectors were made from",
        )
    if not texts:
        raise NlpcliError(f"{job.vectors} contains no vectors")
