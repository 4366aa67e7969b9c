"""Translating files: from lines, plain or JSON, to lines in the same order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.data.opening import check_opens, shown
from nlpcli.data.readers import read_lines
from nlpcli.errors import NlpcliError, unknown
from nlpcli.recipes.locate import TRANSLATION, locate
from nlpcli.recipes.models import open_model
from nlpcli.recipes.records import check_field, is_json, read_record

if TYPE_CHECKING:
    from nlpcli.decoding.translator import Candidate, Request, Translation
    from nlpcli.text import SpecialTokens

FORMATS = ("auto", "text", "jsonl")
WINDOW = 1024  # lines read ahead


@dataclass(frozen=True)
class Search:
    """Beam search; with `sample` set, sampling of `n_best` translations instead.

    `beam_size` and `length_penalty` are those the model was measured with in training when they are None, the beam at
    least `n_best` wide.
    """

    beam_size: int | None = None
    length_penalty: float | None = None
    length_normalization: str = "wu"
    coverage_penalty: float = 0.0
    patience: float = 1.0
    n_best: int = 1
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 1
    min_length: int = 0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    allow_unknown: bool = False


@dataclass(frozen=True)
class Translating:
    """What to translate, with what, and how.

    `model` None stands for the newest run; `files` are names, "-" for standard input; `prefix` begins every
    translation, `prefix_file` holds a prefix for each line; `format` auto is JSON lines for .jsonl and .ndjson, and
    wherever `input_field` is given. See `TranslatorSettings` for the sizes.
    """

    files: Sequence[str] = ("-",)
    model: Path | None = None
    search: Search = field(default_factory=Search)
    format: str = "auto"
    input_field: str | None = None
    prefix: str = ""
    prefix_file: Path | None = None
    alignments: bool = False
    alignment_layer: int | None = None
    batch_tokens: int | None = None
    max_length: int | None = None
    line_buffered: bool = False
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("format", self.format, FORMATS)
        check_field(self.format, self.input_field)
        if self.prefix and self.prefix_file is not None:
            raise NlpcliError("a target prefix for all lines and a file of prefixes exclude each other")


def translate(
    job: Translating, *, say: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[list[Translation]]:
    """The translations in the order of the lines, in the portions in which they are ready.

    Raises: NlpcliError for bad input, after all translations before it were given.
    """
    for path in [*job.files, *([] if job.prefix_file is None else [job.prefix_file])]:
        check_opens(path)
    model = locate(TRANSLATION, job.model, say=say)
    from nlpcli.decoding.translator import Translator, TranslatorSettings
    from nlpcli.training.device import prepare

    # One sentence alone is too little work for two threads, which then only wait for each other.
    threads = job.threads or (1 if job.line_buffered else None)
    machine = prepare(job.device, "float32", threads)
    loaded = open_model(model, str(machine.device))
    settings = TranslatorSettings(
        search=search_settings(job.search, loaded.tokenizer.special, loaded.info.get("decoding", {})),
        samples=job.search.n_best,
        window=1 if job.line_buffered else WINDOW,
        max_length=job.max_length,
        max_source_length=loaded.config.max_length,
        source_start=tuple(loaded.info.get("source_start", ())),
        target_start=tuple(loaded.info.get("target_start", ())) or None,
        alignments=job.alignments,
        alignment_layer=job.alignment_layer,
        **({} if job.batch_tokens is None else {"batch_tokens": job.batch_tokens}),
    )
    translator = Translator(
        loaded.model, loaded.tokenizer.for_targets(), settings, device=machine.device, warn=warn,
        source_tokenizer=loaded.source_tokenizer or loaded.tokenizer,
    )  # fmt: skip
    yield from translator.windows(read_requests(job))


def search_settings(search: Search, special: SpecialTokens, trained: Mapping[str, Any]) -> Any:
    """`search` in the words of `nlpcli.decoding`; trained: what the model was measured with in training."""
    from nlpcli.decoding.beam import BeamSettings
    from nlpcli.decoding.constraints import Constraints, never_written
    from nlpcli.decoding.ranking import Ranking
    from nlpcli.decoding.sampling import SamplingSettings

    constraints = Constraints(
        suppress=never_written(special, unknown=search.allow_unknown),
        min_length=search.min_length,
        no_repeat_ngram=search.no_repeat_ngram,
        repetition_penalty=search.repetition_penalty,
    )
    if search.sample:
        return SamplingSettings(
            search.temperature, search.top_k, search.top_p, search.min_p, search.seed, constraints=constraints
        )
    size, penalty = search.beam_size, search.length_penalty
    if size is None:
        size = max(trained.get("beam_size", BeamSettings.beam_size), search.n_best)
    if penalty is None:
        penalty = trained.get("length_penalty", Ranking.length_penalty)
    ranking = Ranking(penalty, search.length_normalization, search.coverage_penalty)
    return BeamSettings(size, search.n_best, search.patience, ranking=ranking, constraints=constraints)


# --- input -------------------------------------------------------------------------------------------------------


def read_requests(job: Translating) -> Iterator[Request]:
    """A request for each line of the files; its origin is the JSON object it stood in, None for plain text.

    Raises: NlpcliError naming file and line for what can't be read.
    """
    from nlpcli.decoding.translator import Request

    prefixes = read_lines(job.prefix_file) if job.prefix_file is not None else None
    count = 0
    for path in job.files:
        as_json = is_json(path, job.format, job.input_field)
        for number, line in enumerate(read_lines(path), start=1):
            place = f"{shown(path)}:{number}"
            count += 1
            prefix = job.prefix
            if prefixes is not None:
                prefix = next(prefixes, None)
                if prefix is None:
                    raise NlpcliError(
                        f"{place}: {job.prefix_file} has only {count - 1} lines",
                        hint="it must have a line for each line to translate; a blank one forces nothing",
                    )
            record = read_record(line, place, job.input_field or "text") if as_json else None
            text = line if record is None else record[job.input_field or "text"]
            yield Request(text, place, prefix, record)
    if prefixes is not None and next(prefixes, None) is not None:
        raise NlpcliError(f"{job.prefix_file}: has more lines than the {count} to translate")


# --- output ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """What a translation looks like in the output.

    Plain text: the translation; then, separated by tabs, the score and the alignment where they are asked for. With
    `n_best` above one, Moses' list: `number ||| translation ||| logprob= L ||| score`, the number of the line from 0,
    the alignment as a further field. JSON lines (whenever that is what came in, or with `as_json`): the object that
    came in with the translation under `output_field`, and beside it `…_score`, `…_alignment` and `…_nbest`.
    """

    n_best: int = 1
    scores: bool = False
    alignments: bool = False
    as_json: bool = False
    output_field: str = "translation"

    def lines(self, translation: Translation, number: int) -> list[str]:
        """The lines for the translation of line `number`, from 0; exactly one unless it is a list of the n best."""
        record = translation.request.origin
        if record is None and self.as_json:
            record = {"text": translation.request.text}
        if record is not None:
            return [json.dumps({**record, **self._fields(translation)}, ensure_ascii=False)]
        if self.n_best == 1:
            return [self._plain(translation.candidates[0])]
        return [self._moses(number, candidate) for candidate in translation.candidates]

    def _plain(self, candidate: Candidate) -> str:
        more = [f"{candidate.score:.4f}"] * self.scores + [_alignment(candidate)] * self.alignments
        if not more:
            return candidate.text
        return "\t".join([candidate.text.replace("\t", " "), *more])

    def _moses(self, number: int, candidate: Candidate) -> str:
        text = candidate.text.replace("|||", "| | |")
        parts = [str(number), text, f"logprob= {candidate.logprob:.4f}", f"{candidate.score:.4f}"]
        return " ||| ".join(parts + [_alignment(candidate)] * self.alignments)

    def _fields(self, translation: Translation) -> dict[str, Any]:
        name, scored = self.output_field, self.scores or self.as_json
        fields = self._named(name, translation.candidates[0], scored)
        if self.n_best > 1:
            fields[f"{name}_nbest"] = [
                {"logprob": round(candidate.logprob, 6), **self._named("translation", candidate, True)}
                for candidate in translation.candidates
            ]
        return fields

    def _named(self, name: str, candidate: Candidate, scored: bool) -> dict[str, Any]:
        fields: dict[str, Any] = {name: candidate.text}
        if scored:
            fields[f"{name}_score"] = round(candidate.score, 6)
        if self.alignments:
            fields[f"{name}_alignment"] = _alignment(candidate)
        return fields


def _alignment(candidate: Candidate) -> str:
    from nlpcli.decoding.attention import pharaoh

    return pharaoh(candidate.alignment or ())


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes a whole file of lines, or leaves what stood there."""
    from nlpcli.config.files import write_atomic

    write_atomic(path, (f"{line}\n" for line in lines))
