"""The engines that continue texts: a model of PyTorch with every search, or CTranslate2 with greedy search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nlpcli.commands.generate.generate_request import GenerateRequest
from nlpcli.config.number_types import check_threads
from nlpcli.runs.decoding_engine import EngineRequest, engine_folder, open_library, without_weights
from nlpcli.runs.decoding_settings import end_of, generation_of, window_of
from nlpcli.runs.open_model import Source, open_model

if TYPE_CHECKING:
    from nlpcli.decoding.autoregressive import Watch
    from nlpcli.decoding.constraints import Constraints
    from nlpcli.decoding.hypothesis import Hypothesis
    from nlpcli.decoding.stop_conditions import Stop, StopConditions
    from nlpcli.models.model_folder import LoadedModel

MOST_TOKENS = 200


@dataclass(frozen=True)
class Rows:
    """Texts that are continued together. streams: what distinguishes the random numbers of each, see `sampler`."""

    prefixes: Sequence[Sequence[int]]
    streams: Sequence[tuple[int, ...]]
    stop: Stop | None = None
    watch: Watch | None = None


class Engine(Protocol):
    """A language model, which may lack its weights, and what continues texts with it."""

    loaded: LoadedModel

    def continuations(self, rows: Rows) -> list[Hypothesis]:
        """One for each row."""
        ...


def open_engine(
    job: GenerateRequest, source: Source, *, notify: Callable[[str], None], warn: Callable[[str], None]
) -> Engine:
    """The engine of a job. Raises: NlpcliError as `engine_folder` and `open_model`."""
    check_threads(job.threads)
    folder = None
    if job.greedy or job.engine is not None:
        request = EngineRequest(job.engine, job.quantization, job.device)
        folder = engine_folder(source, request, lambda: _unsupported(job, without_weights(source)), notify)
    return TorchEngine(job, source, warn) if folder is None else CTranslate2Engine(job, source, folder)


def _unsupported(job: GenerateRequest, loaded: LoadedModel) -> list[str]:
    from nlpcli.decoding.ctranslate2_generator import unsupported

    sampling = [] if job.greedy else ["sampling (use --greedy)"]
    return sampling + unsupported(_constraints(job, loaded))


class TorchEngine:
    """Greedy search, sampling, and what a Hugging Face folder sets, with PyTorch."""

    def __init__(self, job: GenerateRequest, source: Source, warn: Callable[[str], None]) -> None:
        from nlpcli.models.packed_decoder import packed
        from nlpcli.training.device import prepare

        self._job = job
        machine = prepare(job.device, "float32", job.threads or (1 if job.samples == 1 else None))
        self.loaded = open_model(source, str(machine.device))
        self._model: Any = packed(self.loaded.model)
        self._generation = generation_of(self.loaded, job.as_generation(), warn=warn)
        self._window = window_of(self.loaded)
        # a model with memory forgets by itself what is too long ago
        self._remembers = getattr(self._model, "memory_length", 0) > 0

    def continuations(self, rows: Rows) -> list[Hypothesis]:
        """See `Engine`."""
        from nlpcli.decoding.autoregressive import ContextShift
        from nlpcli.decoding.greedy import greedy_search
        from nlpcli.decoding.huggingface_generation import GenerationInputs, HuggingFaceDecoder
        from nlpcli.decoding.sampling import SamplingSettings, sample

        job, model = self._job, self._model
        context_shift = None if self._remembers else ContextShift(model.init_state, self._window)
        state = model.init_state(len(rows.prefixes))
        if self._generation is not None:
            most = job.max_new_tokens or MOST_TOKENS
            limits = [self._generation.new_tokens(len(prefix), most) for prefix in rows.prefixes]
            inputs = GenerationInputs(rows.prefixes, limits, streams=rows.streams)
            decoder = HuggingFaceDecoder(self._generation, self.loaded.tokenizer.special, seed=job.random_seed)
            found = decoder.generate(
                model, state, inputs, stop=rows.stop, context_shift=context_shift, watch=rows.watch
            )
            return [hypotheses[0] for hypotheses in found]
        conditions, constraints = _conditions(job, self.loaded, rows), _constraints(job, self.loaded)
        if job.greedy:
            found = greedy_search(
                model, state, rows.prefixes, conditions,
                constraints=constraints, context_shift=context_shift, watch=rows.watch,
            )  # fmt: skip
        else:
            settings = SamplingSettings(
                **job.chosen("temperature", "top_k", "top_p", "min_p"), seed=job.random_seed, constraints=constraints
            )
            found = sample(
                model, state, rows.prefixes, conditions,
                settings=settings, streams=rows.streams, context_shift=context_shift, watch=rows.watch,
            )  # fmt: skip
        return [hypotheses[0] for hypotheses in found]


class CTranslate2Engine:
    """Greedy search with CTranslate2. folder: the converted model."""

    def __init__(self, job: GenerateRequest, source: Source, folder: Path) -> None:
        from nlpcli.convert.ctranslate2_limits import vocabulary
        from nlpcli.decoding.ctranslate2_generator import CTranslate2Generator

        self._job = job
        self.loaded = without_weights(source)
        self._generator = CTranslate2Generator(
            open_library(folder, job.threads or 1, job.quantization, "Generator"),
            vocabulary(self.loaded.tokenizer),
            window=window_of(self.loaded),
            scores=job.scores,
        )

    def continuations(self, rows: Rows) -> list[Hypothesis]:
        """See `Engine`."""
        return self._generator.greedy_search(
            rows.prefixes, _conditions(self._job, self.loaded, rows),
            constraints=_constraints(self._job, self.loaded), watch=rows.watch,
        )  # fmt: skip


def _conditions(job: GenerateRequest, loaded: LoadedModel, rows: Rows) -> StopConditions:
    from nlpcli.decoding.stop_conditions import StopConditions

    return StopConditions(end_of(loaded), job.max_new_tokens or MOST_TOKENS, stop=rows.stop)


def _constraints(job: GenerateRequest, loaded: LoadedModel) -> Constraints:
    from nlpcli.decoding.constraints import Constraints, never_written

    return Constraints(
        suppress=never_written(loaded.tokenizer.special, end=end_of(loaded) is not None),
        **job.chosen("min_length", "no_repeat_ngram", "repetition_penalty"),
    )
