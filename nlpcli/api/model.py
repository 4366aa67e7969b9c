"""Using a model: `translate`, `generate`, `predict`, `evaluate`, `embed`; `load` reads one once, for many calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from nlpcli.api.arguments import (
    PathLike,
    exclusive,
    given,
    like,
    lines,
    needs,
    notify,
    path,
    paths,
    python_names,
    strings,
    warn,
)
from nlpcli.api.options import (
    EmbedOptions,
    EvaluateOptions,
    GenerateOptions,
    MinimalPairsOptions,
    PerplexityOptions,
    PredictOptions,
    TranslateOptions,
    takes,
)
from nlpcli.api.results import (
    Confusion,
    Continuation,
    Evaluation,
    MinimalPairScores,
    Mistake,
    Prediction,
    Score,
    Translation,
)
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Unpack

    from nlpcli.data.examples import Example
    from nlpcli.decoding.line_translator import Candidate
    from nlpcli.decoding.line_translator import Translation as Translated
    from nlpcli.models.model_folder import LoadedModel
    from nlpcli.tasks.task import Task

    Vector = np.ndarray[Any, np.dtype[np.float32]]


class Model:
    """A model in memory, from `load`. Its methods are the functions of the same names, without `model`.

    path: the folder it came from. task: what it was trained for. device: where it is.
    """

    def __init__(self, loaded: LoadedModel, device: str) -> None:
        self._loaded = loaded
        self.path: Path = loaded.path
        self.task: str = loaded.info["task"]
        self.device = device

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r}, task={self.task!r}, device={self.device!r})"

    @overload
    def translate(self, texts: Iterator[str], **options: Unpack[TranslateOptions]) -> Iterator[Translation]: ...  # type: ignore[overload-overlap]  # an iterator is iterable
    @overload
    def translate(self, texts: Iterable[str], **options: Unpack[TranslateOptions]) -> list[Translation]: ...
    def translate(
        self, texts: Iterable[str], **options: Unpack[TranslateOptions]
    ) -> list[Translation] | Iterator[Translation]:
        """As the function `translate`."""
        return translate(texts, model=self, **options)

    @overload
    def generate(self, prompts: Iterator[str], **options: Unpack[GenerateOptions]) -> Iterator[Continuation]: ...  # type: ignore[overload-overlap]  # an iterator is iterable
    @overload
    def generate(self, prompts: Iterable[str], **options: Unpack[GenerateOptions]) -> list[Continuation]: ...
    def generate(
        self, prompts: Iterable[str], **options: Unpack[GenerateOptions]
    ) -> list[Continuation] | Iterator[Continuation]:
        """As the function `generate`."""
        return generate(prompts, model=self, **options)

    @overload
    def predict(self, texts: Iterator[Text], **options: Unpack[PredictOptions]) -> Iterator[Prediction]: ...  # type: ignore[overload-overlap]  # an iterator is iterable
    @overload
    def predict(self, texts: Iterable[Text], **options: Unpack[PredictOptions]) -> list[Prediction]: ...
    def predict(
        self, texts: Iterable[Text], **options: Unpack[PredictOptions]
    ) -> list[Prediction] | Iterator[Prediction]:
        """As the function `predict`."""
        return predict(texts, model=self, **options)

    @overload
    def embed(self, texts: Iterator[str], **options: Unpack[EmbedOptions]) -> Iterator[Vector]: ...  # type: ignore[overload-overlap]  # an iterator is iterable
    @overload
    def embed(self, texts: Iterable[str], **options: Unpack[EmbedOptions]) -> Vector: ...
    def embed(self, texts: Iterable[str], **options: Unpack[EmbedOptions]) -> Vector | Iterator[Vector]:
        """As the function `embed`."""
        return embed(texts, model=self, **options)

    def evaluate(self, data: PathLike | Iterable[PathLike], **options: Unpack[EvaluateOptions]) -> Evaluation:
        """As the function `evaluate`."""
        return evaluate(data, model=self, **options)

    @takes(PerplexityOptions)
    def perplexity(self, file: PathLike, **options: Unpack[PerplexityOptions]) -> dict[str, Score]:
        """How well the model predicts the text of a file: what `nlpcli score perplexity` gives, by name.

        The names are `loss`, `perplexity` (for each token), `word_perplexity`, `byte_perplexity` and `bits_per_byte`.
        The arguments are named and explained as the options of the command.
        Raises: NlpcliError for a model that predicts no text, and for a file that can't be read.
        """
        with python_names():
            from nlpcli.commands.score.perplexity import PerplexitySettings, perplexity_of

            name = str(Path(file))
            found = perplexity_of(
                self._loaded, (name,), PerplexitySettings(**given(**options), device=self.device), notify=notify
            )
            return {score.name: score for score in found[name]}

    @takes(MinimalPairsOptions)
    def minimal_pairs(
        self, files: PathLike | Iterable[PathLike], **options: Unpack[MinimalPairsOptions]
    ) -> MinimalPairScores:
        """How often the model gives an acceptable sentence the higher probability: `nlpcli score minimal-pairs`.

        files: files of minimal pairs and folders of such files, such as data/ of BLiMP. confidence: whether to estimate
        95 % intervals. The arguments are named and explained as the options of the command.
        Raises: NlpcliError for a model that predicts no text, for a sentence that is too long for it, and for a file
        that can't be read, with its line.
        """
        resampling = given(samples=options.get("bootstrap_samples"), seed=options.get("seed"))
        needs("confidence", options, "bootstrap_samples", "seed")
        with python_names():
            from nlpcli.commands.score.score_minimal_pairs import PairsRequest, score_minimal_pairs
            from nlpcli.evaluation import Resampling

            request = PairsRequest(
                tuple(paths(files) or ()),
                self._loaded,
                options.get("pll"),
                Resampling(**resampling) if options.get("confidence") else None,
                device=self.device,
            )
            return score_minimal_pairs(request, notify=notify).scores


AnyModel = PathLike | Model
"""A run or its folder, a Hugging Face folder, or what `load` gives."""
Text = str | Sequence[str]
"""A text; or several that belong together: a pair, a text and its candidates, a question and its context, words."""


def load(model: PathLike, *, device: str | None = None, threads: int | None = None) -> Model:
    """Reads a model once, for many calls. model: a run or its folder, or a Hugging Face folder.

    device: auto (the default), cpu, cuda or cuda:N. threads: of the CPU, for all of torch in this process.
    Raises: NlpcliError when there is no model, or a damaged one.
    """
    with python_names():
        from nlpcli.runs.open_model import open_model
        from nlpcli.training.device import prepare

        machine = prepare(device or "auto", "float32", threads)
        return Model(open_model(Path(model), str(machine.device)), str(machine.device))


@overload
def translate(  # type: ignore[overload-overlap]  # an iterator is iterable
    texts: Iterator[str], *, model: AnyModel | None = None, **options: Unpack[TranslateOptions]
) -> Iterator[Translation]: ...
@overload
def translate(
    texts: Iterable[str], *, model: AnyModel | None = None, **options: Unpack[TranslateOptions]
) -> list[Translation]: ...
@takes(TranslateOptions)
def translate(
    texts: Iterable[str], *, model: AnyModel | None = None, **options: Unpack[TranslateOptions]
) -> list[Translation] | Iterator[Translation]:
    """Translates texts, as `nlpcli translate` does: one translation for each, in order, an empty one for a blank text.

    A list of texts, or one string, gives a list; an iterator, such as an open file, gives an iterator, which reads
    ahead 1024 texts. model: a run or its folder, a Hugging Face folder, or a loaded model; None: the newest translation
    run below runs/. The options are those of `TranslateOptions`, named and explained as those of the command.

    Raises: NlpcliError for a model of another kind and for wrong options.
    """
    sampling = {name: options.get(name) for name in ("temperature", "top_k", "top_p", "min_p", "seed")}
    for name in ("beam_size", "length_penalty", "length_normalization", "coverage_penalty", "beam_patience"):
        exclusive(sample=options.get("sample"), **{name: options.get(name)})
    needs("sample", options, *sampling)
    needs("alignments", options, "alignment_layer")
    with python_names():
        from nlpcli.runs.search_options import Search
        from nlpcli.runs.translation import TranslateRequest, open_translator

        searching = {name: options.get(name) for name in _SEARCH}
        job = TranslateRequest(
            search=Search(**given(**searching, **sampling)),
            **_using(model, options),
            **given(prefix=options.get("target_prefix"), alignments=options.get("alignments")),
            **given(**{name: options.get(name) for name in _TRANSLATING}),
            ensemble=[Path(folder) for folder in options.get("ensemble") or ()],
            scores=True,
        )
        translator = open_translator(job, notify=notify, warn=warn)

    def translations() -> Iterator[Translation]:
        from nlpcli.decoding.line_translator import Request

        with python_names():
            requests = (Request(text, place, job.prefix) for text, place in _placed(texts))
            for window in translator.windows(requests):
                yield from map(_translation, window)

    return like(texts, translations())


_SEARCH = (
    "beam_size", "length_penalty", "length_normalization", "coverage_penalty", "beam_patience", "n_best", "sample",
    "min_length", "no_repeat_ngram", "repetition_penalty", "allow_unknown",
)  # fmt: skip


_TRANSLATING = ("alignment_layer", "batch_tokens", "max_length", "engine", "quantization")


def _translation(found: Translated) -> Translation:
    def of(candidate: Candidate, others: tuple[Translation, ...] = ()) -> Translation:
        links = None if candidate.alignment is None else tuple((int(i), int(j)) for i, j in candidate.alignment)
        return Translation(
            found.request.text, candidate.text, candidate.score, candidate.logprob, candidate.ended, links, others
        )

    best, *rest = found.candidates
    return of(best, tuple(map(of, rest)))


@overload
def generate(  # type: ignore[overload-overlap]  # an iterator is iterable
    prompts: Iterator[str], *, model: AnyModel | None = None, **options: Unpack[GenerateOptions]
) -> Iterator[Continuation]: ...
@overload
def generate(
    prompts: Iterable[str], *, model: AnyModel | None = None, **options: Unpack[GenerateOptions]
) -> list[Continuation]: ...
@takes(GenerateOptions)
def generate(
    prompts: Iterable[str], *, model: AnyModel | None = None, **options: Unpack[GenerateOptions]
) -> list[Continuation] | Iterator[Continuation]:
    """Continues texts with a language model, as `nlpcli generate` does: `num_samples` continuations of each, in order.

    A list of prompts, or one string, gives a list; an iterator gives an iterator. model: as in `translate`; None: the
    newest language model below runs/. The options are those of `GenerateOptions`, named and explained as those of the
    command.

    Raises: NlpcliError for a model of another kind and for wrong options.
    """
    for name in ("temperature", "top_k", "top_p", "min_p", "seed"):
        exclusive(greedy=options.get("greedy"), **{name: options.get(name)})
    chosen = {name: value for name, value in given(**options).items() if name not in ("num_samples", "stop", "device")}
    with python_names():
        from nlpcli.commands.generate.generate import Generator
        from nlpcli.commands.generate.generate_request import GenerateRequest

        stops = options.get("stop") or ()
        job = GenerateRequest(
            **{**chosen, **_using(model, options)},
            stop=(stops,) if isinstance(stops, str) else tuple(stops),
            **given(samples=options.get("num_samples")),
        )
        generator = Generator(job, notify=notify, warn=warn)

    def continuations() -> Iterator[Continuation]:
        with python_names():
            for portion in generator.generate(strings(prompts)):
                for one in portion:
                    yield Continuation(
                        one.prompt, one.text, one.tokens, one.logprob, one.finished, one.prompt_number, one.sample
                    )

    return like(prompts, continuations())


@overload
def predict(  # type: ignore[overload-overlap]  # an iterator is iterable
    texts: Iterator[Text], *, model: AnyModel | None = None, **options: Unpack[PredictOptions]
) -> Iterator[Prediction]: ...
@overload
def predict(
    texts: Iterable[Text], *, model: AnyModel | None = None, **options: Unpack[PredictOptions]
) -> list[Prediction]: ...
@takes(PredictOptions)
def predict(
    texts: Iterable[Text], *, model: AnyModel | None = None, **options: Unpack[PredictOptions]
) -> list[Prediction] | Iterator[Prediction]:
    """Applies a fine-tuned model, as `nlpcli predict` does: one prediction for each text, in order.

    texts: strings; where several belong together (a pair, a text and its candidates, a question and its context, the
    words of a sentence), a list or tuple of them. A list of texts, or one string, gives a list; an iterator gives an
    iterator, which reads ahead 1024 texts. model: as in `translate`; None: the newest fine-tuned run below runs/.
    part: of a model that learnt several tasks, the one that is meant. batch_tokens: tokens in a batch. engine: torch or
    onnx.

    Raises: NlpcliError for a model of another kind, and for texts that the task can't read.
    """
    with python_names():
        from nlpcli.commands.predict import Predictor, PredictRequest

        chosen = given(**{name: options.get(name) for name in ("part", "batch_tokens", "engine")})
        predictor = Predictor(PredictRequest(**chosen, **_using(model, options)), notify=notify, warn=warn)

    def predictions() -> Iterator[Prediction]:
        from nlpcli.commands.predict import parse_lines

        task = predictor.applied.task
        with python_names():
            for window in predictor.windows(parse_lines(task, _placed(_lines(texts, by_words=task.by_words)))):
                for example, found in window:
                    yield _prediction(task, example, found)

    return like(texts, predictions())


def _lines(texts: str | Iterable[Text], *, by_words: bool) -> Iterator[str]:
    """Texts as the lines of a file: several that belong together with tabs between, words with spaces."""
    for number, text in enumerate([texts] if isinstance(texts, str) else texts, start=1):
        if isinstance(text, str):
            yield text
            continue
        parts = list(strings(text))
        if by_words:
            wrong = next((word for word in parts if len(word.split()) != 1), None)
            if wrong is not None:
                raise NlpcliError(
                    f"text {number}: '{wrong}' is not one word", hint="give each word as a separate string"
                )
        yield (" " if by_words else "\t").join(part.replace("\t", " ") for part in parts)


def _prediction(task: Task, example: Example, found: dict[str, Any]) -> Prediction:
    from nlpcli.commands.predict import record

    answer = found.get(task.answer)
    return Prediction(
        tuple(answer) if isinstance(answer, list) else answer, found.get("probability"), record(task, example, found)
    )


@takes(EvaluateOptions)
def evaluate(
    data: PathLike | Iterable[PathLike], *, model: AnyModel | None = None, **options: Unpack[EvaluateOptions]
) -> Evaluation:
    """Measures a fine-tuned model on files of labelled examples, as `nlpcli evaluate` does.

    model: as in `translate`; None: the newest fine-tuned run below runs/. confidence: whether to estimate 95 %
    intervals, True by default. The options are those of `EvaluateOptions`, named and explained as those of the command.

    Raises: NlpcliError, with file and line, for data that can't be read, and for a model of another kind.
    """
    resampling = given(samples=options.get("bootstrap_samples"), seed=options.get("seed"))
    confidence = options.get("confidence", True)
    needs("confidence", {**options, "confidence": confidence}, "bootstrap_samples", "seed")
    columns = {name: options.get(name) for name in ("text", "text2", "label", "header")}
    with python_names():
        from nlpcli.commands.evaluate import evaluate as recipe
        from nlpcli.evaluation import Resampling
        from nlpcli.runs.task_evaluation import EvaluateRequest

        chosen = {name: options.get(name) for name in ("format", "part", "worst", "confusion", "batch_tokens")}
        job = EvaluateRequest(
            data=tuple(paths(data) or ()),
            columns={**columns, "choices": list(options.get("choices") or [])},
            resampling=Resampling(**resampling) if confidence else None,
            **given(**chosen),
            **_using(model, options),
        )
        found = recipe(job, notify=notify, warn=warn)
    confusion = found.confusion and Confusion(tuple(found.confusion[0]), tuple(map(tuple, found.confusion[1])))
    worst = tuple(Mistake(one.place, one.error, one.expected, one.predicted, one.text) for one in found.worst)
    return Evaluation(found.model, found.examples, dict(found.scores), confusion, worst)


@overload
def embed(  # type: ignore[overload-overlap]  # an iterator is iterable
    texts: Iterator[str], *, model: AnyModel | None = None, **options: Unpack[EmbedOptions]
) -> Iterator[Vector]: ...
@overload
def embed(texts: Iterable[str], *, model: AnyModel | None = None, **options: Unpack[EmbedOptions]) -> Vector: ...
@takes(EmbedOptions)
def embed(
    texts: Iterable[str], *, model: AnyModel | None = None, **options: Unpack[EmbedOptions]
) -> Vector | Iterator[Vector]:
    """Turns texts into vectors, as `nlpcli embed` does.

    A list of n texts, or one string, gives an array of float32, (n, width); an iterator gives an iterator over vectors,
    (width,). model: as in `translate`; None: the newest run of a similarity task, or else of an encoder.
    pooling: mean, first, max or last state, or sif or paragraph of word vectors; normalize: to the length 1; layers:
    last, concat:N or mean:N; max_length: most tokens of a text; engine: torch or onnx. None: the model's own way.

    Raises: NlpcliError for a model that makes no vectors and for wrong options.
    """
    with python_names():
        from nlpcli.runs.embedder import Embedder, EmbedderSettings

        chosen = {name: value for name, value in given(**options).items() if name not in ("device", "threads")}
        embedder = Embedder(EmbedderSettings(**{**chosen, **_using(model, options)}), notify=notify)

    def vectors() -> Iterator[Vector]:
        from nlpcli.commands.embed import embed_texts

        with python_names():
            yield from embed_texts(embedder, lines(texts), warn=warn)

    if isinstance(texts, Iterator):
        return (vector for block in vectors() for vector in block)
    import numpy as np

    return np.concatenate([np.empty((0, embedder.width), dtype=np.float32), *vectors()])


# --- what all share ----------------------------------------------------------------------------------------------


def _using(model: AnyModel | None, options: Mapping[str, object]) -> dict[str, Any]:
    """The model and the machine as the settings of the commands name them."""
    if isinstance(model, Model):
        return given(model=model._loaded, device=options.get("device") or model.device, threads=options.get("threads"))
    return given(model=path(model), device=options.get("device"), threads=options.get("threads"))


def _placed(texts: str | Iterable[str]) -> Iterator[tuple[str, str]]:
    """Texts, each with its place for messages, counted from 1."""
    for number, text in enumerate(lines(texts), start=1):
        yield text, f"text {number}"
