"""Translating with a trained model: settings of the search, the model ready for requests, lines in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nlpcli.config.counting import counted
from nlpcli.data.open_text import check_opens
from nlpcli.data.readers import read_lines
from nlpcli.errors import NlpcliError, unknown
from nlpcli.runs.decoding_settings import check_lengths, generation_of
from nlpcli.runs.find_model import TRANSLATION, locate
from nlpcli.runs.open_model import folder_of, open_model
from nlpcli.runs.text_inputs import check_field, check_first, read_inputs
from nlpcli.runs.worker_processes import device_of, in_processes

if TYPE_CHECKING:
    from nlpcli.config.generation_settings import Generation
    from nlpcli.decoding.translation_model import TranslationModel
    from nlpcli.decoding.translator import Request, Translation, Translator
    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.text import SpecialTokens

FORMATS = ("auto", "text", "jsonl")


WINDOW = 1024  # lines read ahead


@dataclass(frozen=True)
class Search:
    """Beam search; with `sample` set, sampling of `n_best` translations instead.

    What is None is as the model says: `beam_size` and `length_penalty` those it was measured with in training, the beam
    at least `n_best` wide; of a model from a Hugging Face folder, everything its decoding settings say. Where it says
    nothing, nothing is limited.
    """

    beam_size: int | None = None
    length_penalty: float | None = None
    length_normalization: str | None = None
    coverage_penalty: float | None = None
    beam_patience: float | None = None
    n_best: int = 1
    sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int = 1
    min_length: int | None = None
    no_repeat_ngram: int | None = None
    repetition_penalty: float | None = None
    allow_unknown: bool = False

    def as_generation(self, max_length: int | None) -> dict[str, Any]:
        """The same in the names of `Generation`; None where the model decides."""
        beams = self.beam_size
        if self.n_best > 1 and beams is None and not self.sample:
            beams = max(self.n_best, 1)
        return {
            "num_beams": beams,
            "do_sample": True if self.sample else False if beams is not None else None,
            "length_penalty": self.length_penalty,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "min_length": None if self.min_length is None else self.min_length + 1,  # with the start
            "max_length": None if max_length is None else max_length + 1,
            "no_repeat_ngram_size": self.no_repeat_ngram,
            "repetition_penalty": self.repetition_penalty,
        }


@dataclass(frozen=True)
class Translating:
    """What to translate, with what, and how.

    `model` None stands for the newest run; `files` are names, "-" for standard input; `prefix` begins every
    translation, `prefix_file` holds a prefix for each line; `format` auto is JSON lines for .jsonl and .ndjson, and
    wherever `input_field`, a key or a path to one, is given; `added` are the names of the fields that the output adds
    to an object. See `TranslatorSettings` for the sizes.
    """

    files: Sequence[str] = ("-",)
    model: Path | LoadedModel | None = None
    search: Search = field(default_factory=Search)
    format: str = "auto"
    input_field: str | None = None
    added: tuple[str, ...] = ()
    prefix: str = ""
    prefix_file: Path | None = None
    alignments: bool = False
    alignment_layer: int | None = None
    batch_tokens: int | None = None
    max_length: int | None = None
    line_buffered: bool = False
    device: str = "auto"
    threads: int | None = None
    processes: int = 1

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("format", self.format, FORMATS)
        check_field(self.format, self.input_field)
        if self.prefix and self.prefix_file is not None:
            raise NlpcliError(
                "--target-prefix and --target-prefix-file can't be used together", hint="leave out one of them"
            )
        if (self.input_field or "text") in self.added:
            raise NlpcliError(
                f"the translation can't be written to the field '{self.input_field or 'text'}', which contains the "
                "source",
                hint="name another field with --output-field",
            )
        check_lengths(self.search.min_length, self.max_length)


def translate(
    job: Translating, *, say: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[list[Translation]]:
    """The translations in the order of the lines, in the portions in which they are ready.

    Raises: NlpcliError for bad input, after all translations before it were given.
    """
    paths: list[Path | str] = [*job.files]
    if job.prefix_file is not None:
        paths.append(job.prefix_file)
    for path in paths:
        check_opens(path)
    check_first(job.files, job.format, job.input_field, job.added)
    if job.processes > 1 and not job.line_buffered:
        yield from _in_processes(job, say=say, warn=warn)
        return
    yield from open_translator(job, say=say, warn=warn).windows(read_requests(job))


def _in_processes(
    job: Translating, *, say: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[list[Translation]]:
    """As `translate`, by several processes, each of which translates whole windows."""
    from nlpcli.decoding.translator import windows_of

    job = replace(job, model=folder_of(locate(TRANSLATION, job.model, say=say)))
    work = _TranslationWork(job)
    for translations, warnings in in_processes(windows_of(read_requests(job), WINDOW), work, job.processes):
        for warning in warnings:
            warn(warning)
        yield translations


@dataclass(frozen=True)
class _TranslationWork:
    """Translates windows of requests, each with the number of its first line; gives warnings with them."""

    job: Translating

    def open(self, number: int, threads: int) -> Callable[[tuple[int, list[Request]]], Any]:
        warnings: list[str] = []
        job = replace(self.job, device=device_of(self.job.device, number), threads=self.job.threads or threads)
        translator = open_translator(job, say=lambda text: None, warn=warnings.append)
        opened = list(warnings)

        def translate_window(window: tuple[int, list[Request]]) -> tuple[list[Translation], list[str]]:
            start, requests = window
            warnings.clear()
            translations = translator.translate_window(requests, start)
            return translations, [*([] if start else opened), *warnings]

        return translate_window


def open_translator(job: Translating, *, say: Callable[[str], None], warn: Callable[[str], None]) -> Translator:
    """The model and the search of a job, ready for requests, wherever they come from.

    Raises: NlpcliError when there is no such model, and for options that it has no use for.
    """
    model = locate(TRANSLATION, job.model, say=say)
    from nlpcli.decoding.translator import Translator, TranslatorSettings
    from nlpcli.training.device import prepare

    # One sentence alone is too little work for two threads, which then only wait for each other.
    threads = job.threads or (1 if job.line_buffered else None)
    machine = prepare(job.device, "float32", threads)
    loaded = open_model(model, str(machine.device))
    generation = _generation(job, loaded, warn)
    target_start = tuple(loaded.info.get("target_start", ())) or None
    if generation is not None:
        assert generation.start is not None  # as of every encoder-decoder
        target_start = (generation.start,)
    settings = TranslatorSettings(
        search=search_settings(job.search, loaded.tokenizer.special, loaded.info.get("decoding", {})),
        generation=generation,
        seed=job.search.seed,
        samples=job.search.n_best,
        window=1 if job.line_buffered else WINDOW,
        max_length=job.max_length,
        max_source_length=loaded.config.max_length,
        source_start=tuple(loaded.info.get("source_start", ())),
        target_start=target_start,
        alignments=job.alignments,
        alignment_layer=job.alignment_layer,
        **({} if job.batch_tokens is None else {"batch_tokens": job.batch_tokens}),
    )
    found = cast("TranslationModel", loaded.model)  # `locate` gives no other
    return Translator(
        found, loaded.tokenizer.for_targets(), settings, device=machine.device, warn=warn,
        source_tokenizer=loaded.source_tokenizer or loaded.tokenizer,
    )  # fmt: skip


def _generation(job: Translating, loaded: LoadedModel, warn: Callable[[str], None]) -> Generation | None:
    """How a model from a Hugging Face folder decodes, None for any other.

    Raises: NlpcliError for options of a search that such a model isn't searched with.
    """
    given = job.search.as_generation(job.max_length)
    found = generation_of(loaded, given, warn=warn)
    if found is None:
        return None
    for name in ("length_normalization", "coverage_penalty", "beam_patience"):
        if getattr(job.search, name) is not None:
            raise NlpcliError(
                f"--{name.replace('_', '-')} has no effect on {loaded.path}, because its search settings come from its "
                "generation_config.json, as in the library Hugging Face Transformers",
                hint="leave out this option, or change the settings in generation_config.json",
            )
    return found.model_copy(update={"num_beams": max(found.num_beams, job.search.n_best)})


def search_settings(search: Search, special: SpecialTokens, trained: Mapping[str, Any]) -> Any:
    """`search` in the words of `nlpcli.decoding`; trained: what the model was measured with in training."""
    from nlpcli.decoding.beam import BeamSettings
    from nlpcli.decoding.constraints import Constraints, never_written
    from nlpcli.decoding.length_penalty import Ranking
    from nlpcli.decoding.sampling import SamplingSettings

    constraints = Constraints(
        suppress=never_written(special, unknown=search.allow_unknown),
        **_given(search, "min_length", "no_repeat_ngram", "repetition_penalty"),
    )
    if search.sample:
        drawing = _given(search, "temperature", "top_k", "top_p", "min_p", "seed")
        return SamplingSettings(**drawing, constraints=constraints)
    size, penalty = search.beam_size, search.length_penalty
    if size is None:
        size = max(trained.get("beam_size", BeamSettings.beam_size), search.n_best)
    if penalty is None:
        penalty = trained.get("length_penalty", Ranking.length_penalty)
    named: dict[str, Any] = {"normalization": search.length_normalization, "coverage_penalty": search.coverage_penalty}
    ranking = Ranking(penalty, **{name: value for name, value in named.items() if value is not None})
    patience = BeamSettings.patience if search.beam_patience is None else search.beam_patience
    return BeamSettings(size, search.n_best, patience, ranking, constraints)


def _given(search: Search, *names: str) -> dict[str, Any]:
    """Those of the settings that are set."""
    values = {name: getattr(search, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def read_requests(job: Translating) -> Iterator[Request]:
    """A request for each line of the files; its origin is the JSON object it stood in, None for plain text.

    Raises: NlpcliError naming file and line for what can't be read.
    """
    from nlpcli.decoding.translator import Request

    prefixes = read_lines(job.prefix_file) if job.prefix_file is not None else None
    count = 0
    for path in job.files:
        for text, place, record in read_inputs(path, job.format, job.input_field, job.added):
            count += 1
            prefix = job.prefix
            if prefixes is not None:
                own = next(prefixes, None)
                if own is None:
                    raise NlpcliError(
                        f"{place}: {job.prefix_file} has only {counted(count - 1, 'line')}",
                        hint="write one line for each line to translate; leave the line blank where there is no prefix",
                    )
                prefix = own
            yield Request(text, place, prefix, record)
    if prefixes is not None and next(prefixes, None) is not None:
        raise NlpcliError(f"{job.prefix_file} has more lines than the input, which has {counted(count, 'line')}")
