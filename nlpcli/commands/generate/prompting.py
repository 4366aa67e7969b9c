"""A language model solves a task it was not trained for, from a prompt alone (Radford et al. 2019, section 3; Brown
et al. 2020, section 2.4).

Zero-shot: the prompt describes the task; one-shot and few-shot: it also shows examples with their answers. Candidates
are ranked by

    none            log P(candidate | prompt)
    tokens          log P(candidate | prompt) / tokens of the candidate
    unconditional   log P(candidate | prompt) - log P(candidate | answer context)

and without candidates the answer is what the model writes until a stop text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.commands.generate.prompt_template import Case, Template, placeholders, read_template
from nlpcli.config.counting import counted
from nlpcli.data.columns import Columns
from nlpcli.data.open_text import STDIN, check_opens
from nlpcli.errors import NlpcliError
from nlpcli.evaluation.score import Resampling, Score

if TYPE_CHECKING:
    from nlpcli.commands.generate.prompt_answers import Writer
    from nlpcli.commands.generate.prompt_layout import Composer, Demonstrations, Prompt
    from nlpcli.models.model_folder import LoadedModel

_AHEAD = 64  # prompts that are composed before the model reads them


@dataclass(frozen=True)
class PromptRequest:
    """The prompts, the model, and the number of examples shown.

    data: the file whose examples are to be solved, "-" for standard input. examples: where the `shots` examples that
    each prompt shows are sampled from, by `seed`. model None: the newest run of a language model. batch_tokens:
    tokens read at once, padding included, which changes the speed only.
    """

    template: Path
    data: str = STDIN
    model: Path | None = None
    shots: int = 0
    examples: str | None = None
    columns: Columns = field(default_factory=Columns)
    seed: int = 1
    batch_tokens: int = 4096
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.shots < 0:
            raise NlpcliError(f"--shots must be at least 0, not {self.shots}")
        if self.seed < 0:
            raise NlpcliError(f"the seed must be at least 0, not {self.seed}")
        if self.shots and self.examples is None:
            raise NlpcliError(
                f"--shots {self.shots} needs a file of examples for the prompt",
                hint="add --examples FILE",
            )
        if not self.shots and self.examples is not None:
            raise NlpcliError("--examples has no effect without --shots", hint="add --shots 4")
        if self.data == self.examples == STDIN:
            raise NlpcliError("standard input can be read only once, as data or as examples")


@dataclass(frozen=True)
class Ranked:
    """A candidate: its name in the data, its text after the prompt, log P in nats of its tokens, and what it is ranked
    by."""

    label: str
    text: str
    logprob: float
    tokens: int
    score: float


@dataclass(frozen=True)
class Answer:
    """The answer to an example. prediction: the name of the best candidate, or what was written; None for a blank line.
    texts: the columns of the example that the prompt shows, see `Case`.

    candidates: as the template has them, none where text was written; logprob: of what was written, its end counted;
    finished: False where the limit cut it. prompt: the whole text that was shown; shots: the examples in it.
    """

    prediction: str | None
    references: tuple[str, ...] | None
    prompt: str
    shots: int
    candidates: tuple[Ranked, ...] = ()
    logprob: float = 0.0
    finished: bool = True
    texts: tuple[str, ...] = ("",)

    def line(self) -> str:
        """The prediction as one line."""
        return " ".join((self.prediction or "").splitlines())

    def as_dict(self, *, prompt: bool = False) -> dict[str, Any]:
        """Plain data; `text` and `text2` are the first columns in the prompt, `label` where it is known, and the prompt
        on request."""
        found: dict[str, Any] = dict(zip(("text", "text2"), self.texts or ("",), strict=False))
        found["prediction"] = self.prediction
        if self.prediction is None:
            return found
        if self.references is not None:
            found["label"] = self.references[0] if len(self.references) == 1 else list(self.references)
        if self.candidates:
            found["candidates"] = [asdict(candidate) for candidate in self.candidates]
        else:
            found |= {"logprob": self.logprob, "finished": self.finished}
        return found | {"shots": self.shots} | ({"prompt": self.prompt} if prompt else {})


_BLANK = Answer(None, None, "", 0)


class Prompter:
    """A model and a template, ready to go through the data once. `notify` and `warn` receive messages for the user."""

    def __init__(self, job: PromptRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self.job, self.notify, self.warn = job, notify, warn
        self.template = read_template(job.template)
        for name in ("text", "text2"):
            if getattr(job.columns, name) is not None and name not in self.template.columns:
                warn(f"--{name} has no effect, because the template does not contain {{{name}}}")
        from nlpcli.commands.generate.prompt_metrics import metrics_of

        self.metrics = metrics_of(self.template)
        for path in {path for path in (job.data, job.examples) if path is not None}:
            check_opens(path)
        from nlpcli.commands.generate.prompt_layout import Demonstrations
        from nlpcli.training.device import prepare

        pool = [] if job.examples is None else [case for case in self._cases(job.examples) if case is not None]
        demonstrations = Demonstrations(pool, job.shots, job.seed)
        folder = _model_path(job.model, notify)
        self.machine = prepare(job.device, "float32", job.threads)
        self.loaded = _open(folder, str(self.machine.device))
        self.composer = _composer(self.template, self.loaded, demonstrations, warn)
        self._writer: Writer | None = None
        self._unconditional: dict[tuple[str, ...], list[float]] = {}
        self._references: list[tuple[str, ...]] = []
        self._predicted: list[str] = []
        self._unlabelled = 0

    def answers(self) -> Iterator[list[Answer]]:
        """The answer to every example, in order, in the portions in which they are ready.
        The prediction of a blank line is None.

        Raises: NlpcliError for bad input, after all answers before it were given.
        """
        cases = self._cases(self.job.data, blank_lines=True)
        count = 0  # of examples, which decides the shots of each
        while True:
            prompts: list[Prompt | None] = []
            error: NlpcliError | None = None
            try:
                for case in islice(cases, _AHEAD):
                    prompts.append(None if case is None else self.composer.compose(case, count))
                    count += case is not None
            except NlpcliError as found:
                error = found
            if prompts:
                yield self._answers(prompts)
            if error is not None:
                raise error
            if len(prompts) < _AHEAD:
                break
        if summary := self.composer.summary():
            self.warn(summary)

    def _answers(self, prompts: Sequence[Prompt | None]) -> list[Answer]:
        """The answers to prompts, None being a blank line, and remembers them for the scores."""
        filled = [prompt for prompt in prompts if prompt is not None]
        found = (self._rank(filled) if self.template.ranks else self._write(filled)) if filled else []
        self._remember(found)
        answers = iter(found)
        return [_BLANK if prompt is None else next(answers) for prompt in prompts]

    def scores(self, resampling: Resampling | None = None) -> list[Score]:
        """The scores of all answers given so far whose examples have a label; none where no example has one."""
        from nlpcli.commands.generate.prompt_metrics import measure

        if not self._references:
            self.notify("no example has a label, so no score is computed")
            return []
        if self._unlabelled:
            have = "has no label and is" if self._unlabelled == 1 else "have no label and are"
            self.warn(f"{counted(self._unlabelled, 'example')} {have} not scored")
        return [measure(metric, self._references, self._predicted, resampling) for metric in self.metrics]

    def _cases(self, path: str, *, blank_lines: bool = False) -> Iterator[Case | None]:
        """The cases in a file; None for a blank line, if these are wanted."""
        from nlpcli.commands.generate.prompt_data import read_records

        columns = replace(self.job.columns, blank_lines=blank_lines)
        for record in read_records(path, columns, self.template.columns):
            yield None if record.is_blank else self.template.case(record)

    def _remember(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            if answer.references is None:
                self._unlabelled += 1
            else:
                self._references.append(answer.references)
                self._predicted.append(answer.prediction or "")

    # --- candidates ----------------------------------------------------------------------------------------------

    def _rank(self, prompts: Sequence[Prompt]) -> list[Answer]:
        logprobs = self._log_likelihoods([prompt.question for prompt in prompts])
        bases = [[0.0] * len(values) for values in logprobs]
        if self.template.normalize == "unconditional":
            bases = self._bases([prompt.case for prompt in prompts])
        answers = []
        for prompt, values, base in zip(prompts, logprobs, bases, strict=True):
            sizes = [len(candidate) for candidate in prompt.question.candidates]
            divisors = sizes if self.template.normalize == "tokens" else [1] * len(sizes)
            ranked = tuple(
                Ranked(name, text, value, size, (value - less) / divisor)
                for (name, text), value, size, less, divisor in zip(
                    prompt.case.candidates.items(), values, sizes, base, divisors, strict=True
                )
            )
            best = max(ranked, key=lambda candidate: candidate.score)
            case = prompt.case
            answers.append(Answer(best.label, case.references, prompt.context, prompt.shots, ranked, texts=case.texts))
        return answers

    def _bases(self, cases: Sequence[Case]) -> list[list[float]]:
        """log P of the candidates after a prompt without content; those of a task's labels are read once."""
        keys = [(case.nothing, *case.candidates.values()) for case in cases]
        known = self._unconditional
        new = [key for key in dict.fromkeys(keys) if key not in known]
        questions = [self.composer.layout.ask(key[0], key[1:]) for key in new]
        known.update(zip(new, self._log_likelihoods(questions), strict=True))
        found = [known[key] for key in keys]
        if not self.template.labels or placeholders(self.template.answer_context):
            known.clear()  # these hardly come again
        return found

    def _log_likelihoods(self, questions: Sequence[Any]) -> list[list[float]]:
        from nlpcli.decoding.likelihood import log_likelihoods

        remembers = getattr(self.loaded.model, "memory_length", 0)
        return log_likelihoods(
            self.loaded.model,
            questions,
            pad_id=self.loaded.tokenizer.special.pad,
            segment=(self.loaded.info.get("context") or self.loaded.config.max_length) if remembers else None,
            batch_tokens=self.job.batch_tokens,
        )

    # --- text ----------------------------------------------------------------------------------------------------

    def _write(self, prompts: Sequence[Prompt]) -> list[Answer]:
        from nlpcli.commands.generate.prompt_answers import Writer

        self._writer = self._writer or Writer(self.loaded, self.template, self.job.batch_tokens)
        written = self._writer.write([prompt.question for prompt in prompts])
        return [
            Answer(text, prompt.case.references, prompt.context, prompt.shots, (), logprob, finished, prompt.case.texts)
            for prompt, (text, logprob, finished) in zip(prompts, written, strict=True)
        ]


def _model_path(path: Path | None, notify: Callable[[str], None]) -> Path:
    from nlpcli.runs.find_model import LANGUAGE_MODEL, locate
    from nlpcli.runs.open_model import folder_of

    return folder_of(locate(LANGUAGE_MODEL, None, notify=notify)) if path is None else Path(path)


def _open(path: Path, device: str) -> LoadedModel:
    """A model that writes text. Raises: NlpcliError for one that doesn't, with what it is for instead."""
    from nlpcli.runs.open_model import check_one_tokenizer, open_model, task_of

    task = task_of(path)
    loaded = open_model(path, device)
    check_one_tokenizer(loaded)
    if loaded.info.get("head"):
        raise NlpcliError(
            f"{path} was fine-tuned for {task} and does not use a prompt", hint=f"run: nlpcli predict --model {path}"
        )
    if loaded.config.kind == "encoder":
        raise NlpcliError(
            f"{path} is an encoder, and an encoder can't continue a prompt",
            hint="use a language model or an encoder-decoder, or fine-tune this one: nlpcli finetune",
        )
    return loaded


def _composer(
    template: Template, loaded: LoadedModel, demonstrations: Demonstrations, warn: Callable[[str], None]
) -> Composer:
    from nlpcli.commands.generate.prompt_layout import Composer, DecoderLayout, EncoderDecoderLayout

    layout = (EncoderDecoderLayout if loaded.config.kind == "encoder-decoder" else DecoderLayout)(loaded)
    return Composer(template, layout, demonstrations, warn=warn)
