"""Whether a language model prefers acceptable sentences to unacceptable ones: BLiMP and other minimal pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nlpcli.config.counting import counted
from nlpcli.data.minimal_pair_files import MinimalPair, read_pairs
from nlpcli.data.progress import followed
from nlpcli.errors import NlpcliError, unknown
from nlpcli.evaluation.minimal_pair_accuracy import MinimalPairScores, PairCounts
from nlpcli.runs.decoding_settings import beginning, end_of, text_start
from nlpcli.runs.find_model import LANGUAGE_MODEL, locate
from nlpcli.runs.open_model import check_one_tokenizer, open_model, task_of

if TYPE_CHECKING:
    from nlpcli.evaluation.score import Resampling
    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.runs.open_model import Source

PLL = ("original", "word-l2r")
"""Further tokens that are masked: none (Salazar et al. 2020), or the rest of the word (Kauf and Ivanova 2023)."""

_ENCODER = "encoder"
_AHEAD = 2048  # pairs read and sorted by length at a time


@dataclass(frozen=True)
class PairsRequest:
    """The request of a scoring.

    files: files of pairs and folders of such files. pll: one of PLL, for masked language models; None: the original
    one. resampling: of the confidence intervals, None for none.
    """

    files: Sequence[str]
    model: Source | None = None
    pll: str | None = None
    resampling: Resampling | None = None
    batch_tokens: int = 4096
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.pll is not None and self.pll not in PLL:
            raise unknown("pseudo-log-likelihood", self.pll, PLL)


@dataclass(frozen=True)
class ScoredPair:
    """A pair with the log-probabilities of its sentences, in nats; those of a masked language model are PLLs."""

    pair: MinimalPair
    good: float
    bad: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data in full precision, for JSON."""
        named = {"UID": self.pair.paradigm, "linguistics_term": self.pair.phenomenon, "field": self.pair.field}
        return {
            "sentence_good": self.pair.good,
            "sentence_bad": self.pair.bad,
            **{name: value for name, value in named.items() if value is not None},
            "logprob_good": self.good,
            "logprob_bad": self.bad,
            "correct": self.good > self.bad,
        }


@dataclass(frozen=True)
class PairsReport:
    """The scores of a model on minimal pairs."""

    model: Path
    scores: MinimalPairScores

    def as_dict(self) -> dict[str, Any]:
        """Plain data in full precision, for JSON."""
        levels = self.scores.levels().values()
        return {
            "model": str(self.model),
            "pairs": self.scores.pairs,
            "ties": self.scores.ties,
            "scores": [score.as_dict() for scores in levels for score in scores.values()],
        }


def score_minimal_pairs(request: PairsRequest, *, notify: Callable[[str], None]) -> PairsReport:
    """The accuracy of a language model on minimal pairs, see `MinimalPairScores`.

    The score of a causal model is Σ_t log p(x_t | x_<t) of all tokens of a sentence after the first token of its texts;
    that of a masked language model is the pseudo-log-likelihood. Memory does not grow with the number of pairs.

    model: a folder; None: the newest run of a language model, whose name is passed to `notify`.
    Raises: NlpcliError for other kinds of models, sentences that are too long for one, and files that can't be read.
    """
    scorer = _scorer(request, notify)
    counts = PairCounts()
    for scored in _scored(scorer, request.files):
        pair = scored.pair
        counts.add(pair.paradigm, pair.phenomenon, pair.field, good=scored.good, bad=scored.bad)
    return PairsReport(Path(scorer.loaded.path), counts.scores(scorer.protocol, request.resampling))


def scored_pairs(request: PairsRequest, *, notify: Callable[[str], None]) -> Iterator[ScoredPair]:
    """Each pair with its log-probabilities, in order, as they are ready. Raises: as `score_minimal_pairs`."""
    return _scored(_scorer(request, notify), request.files)


def _scored(scorer: _Scorer, files: Sequence[str]) -> Iterator[ScoredPair]:
    for portion in followed(_portions(files), "scoring"):
        ids = scorer.loaded.tokenizer.encode([text for pair in portion for text in (pair.good, pair.bad)])
        encoded = list(zip(ids[::2], ids[1::2], strict=True))
        for pair, sentences in zip(portion, encoded, strict=True):
            scorer.check(pair, sentences)
        values = scorer.logprobs(encoded)
        yield from (ScoredPair(pair, good, bad) for pair, (good, bad) in zip(portion, values, strict=True))


def _portions(files: Sequence[str]) -> Iterator[list[MinimalPair]]:
    pairs = read_pairs(files)
    while portion := list(islice(pairs, _AHEAD)):
        yield portion


Encoded = tuple[Sequence[int], Sequence[int]]
"""The ids of the acceptable and of the unacceptable sentence."""


class _Scorer(Protocol):
    """Computes log-probabilities with one kind of model."""

    loaded: LoadedModel
    protocol: str
    """The part of the signature."""

    def check(self, pair: MinimalPair, sentences: Encoded) -> None:
        """Raises: NlpcliError for a sentence that the model can't read."""
        ...

    def logprobs(self, pairs: Sequence[Encoded]) -> list[Sequence[float]]:
        """The log-probabilities of each pair's sentences in nats."""
        ...


def _scorer(request: PairsRequest, notify: Callable[[str], None]) -> _Scorer:
    from nlpcli.training.device import prepare

    model = request.model
    if model is None or task_of(model) != _ENCODER:
        model = locate(LANGUAGE_MODEL, model, notify=notify)
    machine = prepare(request.device, "float32", request.threads)
    loaded = open_model(model, str(machine.device))
    check_one_tokenizer(loaded)
    if loaded.config.kind == _ENCODER:
        return _Masked(loaded, request.pll or PLL[0], request.batch_tokens)
    if request.pll is not None:
        raise NlpcliError(
            f"--pll has no effect on {loaded.path}, which predicts text from left to right", hint="leave out --pll"
        )
    return _Causal(loaded, request.batch_tokens)


class _Causal:
    """Decoders, Transformer-XL and recurrent language models."""

    def __init__(self, loaded: LoadedModel, batch_tokens: int) -> None:
        self.loaded, self._batch_tokens = loaded, batch_tokens
        self._start = beginning(loaded)
        remembers = getattr(loaded.model, "memory_length", 0)
        self._segment = (loaded.info.get("context") or loaded.config.max_length) if remembers else None
        start = "text-start" if text_start(loaded) else "newline" if end_of(loaded) is None else "eos"
        self.protocol = f"logprob:sum|start:{start}|{_tokenizer(loaded)}"

    def check(self, pair: MinimalPair, sentences: Encoded) -> None:
        _check_length(self.loaded, pair, sentences, len(self._start) - 1)

    def logprobs(self, pairs: Sequence[Encoded]) -> list[Sequence[float]]:
        from nlpcli.decoding.likelihood import Completions, log_likelihoods

        found = log_likelihoods(
            self.loaded.model,
            [Completions(self._start, pair) for pair in pairs],
            pad_id=self.loaded.tokenizer.special.pad,
            segment=self._segment,
            batch_tokens=self._batch_tokens,
        )
        return list(found)


class _Masked:
    """Encoders with a head for masked tokens."""

    def __init__(self, loaded: LoadedModel, pll: str, batch_tokens: int) -> None:
        from nlpcli.decoding.pseudo_likelihood import WordTails

        if getattr(loaded.model, "mlm_head", None) is None:
            raise NlpcliError(
                f"{loaded.path} is an encoder that can't predict tokens", hint="use one that was pretrained with mlm"
            )
        loaded.tokenizer.special.check("cls", "sep", "mask")
        self.loaded, self._batch_tokens = loaded, batch_tokens
        self._word_ends = WordTails(loaded.tokenizer) if pll == "word-l2r" else None
        self.protocol = f"logprob:pll-{pll}|{_tokenizer(loaded)}"

    def check(self, pair: MinimalPair, sentences: Encoded) -> None:
        _check_length(self.loaded, pair, sentences, 2)

    def logprobs(self, pairs: Sequence[Encoded]) -> list[Sequence[float]]:
        from nlpcli.decoding.pseudo_likelihood import pseudo_log_likelihoods

        values = pseudo_log_likelihoods(
            self.loaded.model,
            [ids for pair in pairs for ids in pair],
            self.loaded.tokenizer.special,
            word_ends=self._word_ends,
            batch_tokens=self._batch_tokens,
        )
        return list(zip(values[::2], values[1::2], strict=True))


def _tokenizer(loaded: LoadedModel) -> str:
    return f"tok:{loaded.tokenizer.kind}-{loaded.tokenizer.vocab_size}"


def _check_length(loaded: LoadedModel, pair: MinimalPair, sentences: Encoded, more: int) -> None:
    """more: tokens that are read beside those of a sentence."""
    most = loaded.model.max_length
    for ids, kind in zip(sentences, ("acceptable", "unacceptable"), strict=True):
        if not ids:
            raise NlpcliError(f"{pair.place}: the tokenizer of the model makes no token of the {kind} sentence")
        if most is not None and len(ids) + more > most:
            raise NlpcliError(
                f"{pair.place}: the {kind} sentence has {counted(len(ids), 'token')}, but the model has only "
                f"{counted(most, 'position')}",
                hint="leave out this pair, or use a model that reads longer texts",
            )
