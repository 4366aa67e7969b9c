"""TranslateRequest with a trained model: settings of the search, the model ready for requests, lines in and out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nlpcli.config.counting import counted
from nlpcli.config.number_types import check_threads
from nlpcli.data.open_text import check_opens
from nlpcli.data.readers import read_lines
from nlpcli.errors import NlpcliError, unknown
from nlpcli.runs.decoding_engine import (
    CTRANSLATE2,
    TORCH,
    EngineRequest,
    engine_folder,
    open_library,
    without_weights,
)
from nlpcli.runs.decoding_settings import check_lengths, generation_of
from nlpcli.runs.find_model import TRANSLATION, locate
from nlpcli.runs.open_model import folder_of, open_model
from nlpcli.runs.search_options import Search, search_settings
from nlpcli.runs.text_inputs import check_field, check_first, read_inputs
from nlpcli.runs.worker_processes import device_of, in_processes
from nlpcli.training.distributed.launcher import cores

if TYPE_CHECKING:
    from nlpcli.config.generation_settings import Generation
    from nlpcli.config.transformer_settings import TransformerConfig
    from nlpcli.decoding.line_translator import LineTranslator, Request, Translation, TranslatorSettings
    from nlpcli.decoding.translation_model import TranslationModel
    from nlpcli.models.alignment_head import AlignmentHead
    from nlpcli.models.model_folder import LoadedModel

FORMATS = ("auto", "text", "jsonl")


WINDOW = 1024  # lines read ahead


@dataclass(frozen=True)
class TranslateRequest:
    """The inputs of a translation, its model and its settings.

    `model` None: the newest run; `files` are names, "-" for standard input; `prefix` begins every
    translation, `prefix_file` holds a prefix for each line; `format` auto is JSON lines for .jsonl and .ndjson, and
    wherever `input_field`, a key or a path to one, is given; `added` are the names of the fields that the output adds
    to an object. See `TranslatorSettings` for the sizes. `engine`: a name of `ENGINES`, None for auto without a
    word where PyTorch is taken; `quantization`: of the weights for CTranslate2; `ensemble`: further models, which
    choose each token together with `model`.
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
    scores: bool = False
    batch_tokens: int | None = None
    max_length: int | None = None
    line_buffered: bool = False
    device: str = "auto"
    threads: int | None = None
    processes: int = 1
    engine: str | None = None
    quantization: str | None = None
    ensemble: Sequence[Path] = ()

    def __post_init__(self) -> None:
        if self.ensemble and (self.alignments or self.search.coverage_penalty):
            which = "--alignments" if self.alignments else "--coverage-penalty"
            raise NlpcliError(
                f"{which} and --ensemble can't be used together, because an ensemble has no attention of its own",
                hint="leave out one of them",
            )
        self.engine_request.check()
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

    @property
    def engine_request(self) -> EngineRequest:
        """Which engine is wanted."""
        return EngineRequest(self.engine, self.quantization, self.device)


def translate(
    job: TranslateRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]
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
        yield from _in_processes(job, notify=notify, warn=warn)
        return
    yield from open_translator(job, notify=notify, warn=warn).windows(read_requests(job))


def _in_processes(
    job: TranslateRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[list[Translation]]:
    """As `translate`, by several processes; each translates whole windows."""
    from nlpcli.decoding.line_translator import windows_of

    job = replace(job, model=folder_of(locate(TRANSLATION, job.model, notify=notify)))
    fast = fast_folder(job, notify)  # made before the processes look for it
    job = replace(job, engine=CTRANSLATE2 if fast else TORCH)
    work = _TranslationWork(job)
    for translations, warnings in in_processes(windows_of(read_requests(job), WINDOW), work, job.processes):
        for warning in warnings:
            warn(warning)
        yield translations


@dataclass(frozen=True)
class _TranslationWork:
    """Translates windows of requests, each with the number of its first line; gives warnings with them."""

    job: TranslateRequest

    def open(self, number: int, threads: int) -> Callable[[tuple[int, list[Request]]], Any]:
        warnings: list[str] = []
        job = replace(self.job, device=device_of(self.job.device, number), threads=self.job.threads or threads)
        translator = open_translator(job, notify=lambda text: None, warn=warnings.append)
        opened = list(warnings)

        def translate_window(window: tuple[int, list[Request]]) -> tuple[list[Translation], list[str]]:
            start, requests = window
            warnings.clear()
            translations = translator.translate_window(requests, start)
            return translations, [*([] if start else opened), *warnings]

        return translate_window


def open_translator(
    job: TranslateRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]
) -> LineTranslator:
    """The model and the search of a job, ready for requests, wherever they come from.

    Raises: NlpcliError when there is no such model, and for options that it has no use for.
    """
    job = replace(job, model=locate(TRANSLATION, job.model, notify=notify))
    if job.line_buffered and not job.threads:
        # One sentence alone is too little work for two threads, which then only wait for each other.
        job = replace(job, threads=1)
    folder = fast_folder(job, notify)
    return _torch_translator(job, warn) if folder is None else _fast_translator(job, folder, warn)


def _torch_translator(job: TranslateRequest, warn: Callable[[str], None]) -> LineTranslator:
    from nlpcli.decoding.translator import Translator
    from nlpcli.training.device import prepare

    assert job.model is not None
    device = prepare(job.device, "float32", job.threads).device
    loaded = open_model(job.model, str(device))
    generation = _generation(job, loaded, warn)
    found = cast("TranslationModel", loaded.model)  # `locate` gives no other
    if job.ensemble:
        from nlpcli.decoding.ensemble import Ensemble

        others = [_member(path, loaded, str(device)) for path in job.ensemble]
        found = cast("TranslationModel", Ensemble([found, *others]))  # it has all methods that are used here
    return Translator(
        found, loaded.tokenizer.for_targets(), _settings(job, loaded, generation), device=device, warn=warn,
        source_tokenizer=loaded.source_tokenizer or loaded.tokenizer,
    )  # fmt: skip


def _member(source: Path, first: LoadedModel, device: str) -> TranslationModel:
    """A further model of an ensemble. Raises: NlpcliError for one that reads or writes other ids than the first."""
    loaded = open_model(locate(TRANSLATION, source, notify=lambda text: None), device)
    pairs = [
        (getattr(model.tokenizer, "fingerprint", None), getattr(model.source_tokenizer, "fingerprint", None),
         model.info.get("source_start"), model.info.get("target_start"))
        for model in (first, loaded)
    ]  # fmt: skip
    if pairs[0] != pairs[1]:
        raise NlpcliError(
            f"{loaded.path} can't be in an ensemble with {first.path}, because their tokenizers differ",
            hint="train all models of an ensemble with one tokenizer, named with --tokenizer",
        )
    return cast("TranslationModel", loaded.model)


def _fast_translator(job: TranslateRequest, folder: Path, warn: Callable[[str], None]) -> LineTranslator:
    """A translator of CTranslate2 for its folder; PyTorch's is opened when it is needed for a sentence."""
    from nlpcli.convert.ctranslate2_limits import position_count, vocabulary
    from nlpcli.decoding.ctranslate2_translator import CTranslate2Model, CTranslate2Translator

    assert job.model is not None
    described = without_weights(job.model)
    tokenizer = described.tokenizer
    config = cast("TransformerConfig", described.config)  # others are not converted
    model = CTranslate2Model(
        open_library(folder, job.threads or cores(), job.quantization),
        vocabulary(tokenizer),
        rows=position_count(config),
        positions=config.position_limit,
    )
    return CTranslate2Translator(
        model, tokenizer.for_targets(), _settings(job, described, None), warn=warn, source_tokenizer=tokenizer,
        otherwise=functools.cache(lambda: _torch_translator(replace(job, device="cpu"), warn)),
    )  # fmt: skip


def fast_folder(job: TranslateRequest, notify: Callable[[str], None]) -> Path | None:
    """The folder that CTranslate2 translates with; None where PyTorch translates. See `engine_folder` for more."""
    check_threads(job.threads)
    assert job.model is not None
    source = job.model

    def unsupported() -> list[str]:
        from nlpcli.decoding.ctranslate2_translator import unsupported

        lacking = {
            "--target-prefix": job.prefix,
            "--target-prefix-file": job.prefix_file is not None,
            "--ensemble": job.ensemble,
        }
        found = unsupported(_settings(job, without_weights(source), None))
        return found + [name for name, given in lacking.items() if given]

    return engine_folder(source, job.engine_request, unsupported, notify)


def _settings(job: TranslateRequest, loaded: LoadedModel, generation: Generation | None) -> TranslatorSettings:
    """How a model translates. generation: as `_generation` gives it."""
    from nlpcli.decoding.line_translator import TranslatorSettings

    target_start = tuple(loaded.info.get("target_start", ())) or None
    if generation is not None:
        assert generation.start is not None  # as of every encoder-decoder
        target_start = (generation.start,)
    return TranslatorSettings(
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
        alignment_head=_alignment_head(loaded) if job.alignments else None,
        scores=job.scores,
        **({} if job.batch_tokens is None else {"batch_tokens": job.batch_tokens}),
    )


def _alignment_head(loaded: LoadedModel) -> AlignmentHead | None:
    from nlpcli.models.alignment_head import AlignmentHead  # it imports torch, which CTranslate2 does without

    return AlignmentHead.of(loaded.info)


def _generation(job: TranslateRequest, loaded: LoadedModel, warn: Callable[[str], None]) -> Generation | None:
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


def read_requests(job: TranslateRequest) -> Iterator[Request]:
    """A request for each line of the files; its origin is the JSON object it stood in, None for plain text.

    Raises: NlpcliError naming file and line for what can't be read.
    """
    from nlpcli.decoding.line_translator import Request

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
