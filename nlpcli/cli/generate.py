"""`nlpcli generate`: a language model continues texts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import typer

from nlpcli.cli import option_conventions, shared_options, terminal
from nlpcli.cli.option_conventions import OUT_FILE
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.commands.generate.generate import Continuation, Generator
    from nlpcli.commands.generate.prompting import PromptRequest

SEPARATOR = "---"
_PANEL = "Solving a task with --template"
_PROMPTING = ("data", "shots", "examples", "text", "text2", "label", "format", "header")
_CONTINUING = (
    "prompt", "max_new_tokens", "num_samples", "greedy", "temperature", "top_k", "top_p", "min_p", "min_length",
    "no_repeat_ngram", "repetition_penalty", "stop",
)  # fmt: skip


class Command(option_conventions.Command):
    """Tokens are either the most probable ones or sampled."""

    exclusive: ClassVar = tuple(("greedy", name) for name in ("temperature", "top_k", "top_p", "min_p", "seed"))


def command(
    context: typer.Context,
    prompt: list[str] = typer.Option(
        [],
        "--prompt",
        metavar="TEXT",
        help="Text to continue. Can be given several times. Default: each line of standard input is a prompt.",
    ),
    model: Path = typer.Option(None, "--model", help="Model folder. Default: the latest language model in runs/."),
    max_new_tokens: int = typer.Option(
        None, "--max-new-tokens", help="Maximum number of new tokens in each continuation. Default: 200."
    ),
    num_samples: int = typer.Option(1, "--num-samples", help="Number of continuations to sample for each prompt."),
    greedy: bool = typer.Option(
        False, "--greedy", help="Choose the most probable next token at each step, instead of sampling."
    ),
    temperature: float = typer.Option(
        None,
        "--temperature",
        help="Sampling temperature. Values below 1 make the text less random, values above 1 more random. Default: 1.",
    ),
    top_k: int = typer.Option(
        None, "--top-k", help="Sample only from the N most probable tokens; 0 means all tokens. Default: 0."
    ),
    top_p: float = typer.Option(
        None,
        "--top-p",
        help="Sample only from the smallest set of most probable tokens whose total probability is at least this "
        "number; 1 means all tokens. Default: 1.",
    ),
    min_p: float = typer.Option(
        None,
        "--min-p",
        help="Sample only from tokens whose probability is at least this number times the probability of the most "
        "probable token; 0 means all tokens. Default: 0.",
    ),
    seed: int = typer.Option(None, "--seed", help="Random seed. The same seed gives the same text. Default: 1."),
    min_length: int = typer.Option(
        None, "--min-length", help="Minimum number of new tokens in each continuation. Default: 0."
    ),
    no_repeat_ngram: int = shared_options.NO_REPEAT_NGRAM,
    repetition_penalty: float = typer.Option(
        None,
        "--repetition-penalty",
        help="Penalty for tokens that already occur in the text. Values above 1 make them less probable. "
        "Default: 1 (no penalty).",
    ),
    stop: list[str] = typer.Option(
        [],
        "--stop",
        metavar="TEXT",
        help="Stop when the model generates this text, and do not print it. Can be given several times.",
    ),
    echo: bool = typer.Option(
        None,
        "--echo/--no-echo",
        help="Print each prompt before its continuation. Default: on; with --template: off. With "
        "--template, --echo needs --json and adds the prompt to each JSON object.",
    ),
    json: bool = typer.Option(
        False,
        "--json",
        help="Write one JSON object for each continuation, with its log-probability; with --template, one for each "
        "example.",
    ),
    results: Path = OUT_FILE,
    template: Path = typer.Option(
        None,
        "--template",
        metavar="FILE",
        rich_help_panel=_PANEL,
        help="YAML file that describes how an example becomes a prompt.",
    ),
    data: str = typer.Option(
        "-",
        "--data",
        metavar="FILE",
        rich_help_panel=_PANEL,
        help="File with the examples to solve; '-' means standard input.",
    ),
    shots: int = typer.Option(
        0,
        "--shots",
        rich_help_panel=_PANEL,
        help="Number of few-shot examples: solved examples that each prompt contains before the example to solve.",
    ),
    examples: str = typer.Option(
        None,
        "--examples",
        metavar="FILE",
        rich_help_panel=_PANEL,
        help="File with training examples. The few-shot examples of each prompt are sampled from it at random.",
    ),
    text: str = typer.Option(
        None,
        "--text",
        metavar="COLUMN",
        rich_help_panel=_PANEL,
        help="Name or number (from 1) of the data column that replaces {text} in the template. Default: the column "
        "'text', or one with another usual name such as 'sentence'.",
    ),
    text2: str = typer.Option(
        None,
        "--text2",
        metavar="COLUMN",
        rich_help_panel=_PANEL,
        help="Name or number of the data column that replaces {text2}.",
    ),
    label: str = typer.Option(
        None,
        "--label",
        metavar="COLUMN",
        rich_help_panel=_PANEL,
        help="Name or number of the column with the correct answer. Default: the column 'label', or one with another "
        "usual name such as 'answer'.",
    ),
    format: str = typer.Option(
        None,
        "--format",
        rich_help_panel=_PANEL,
        help="Format of --data and --examples: auto, tsv, csv, jsonl, squad, labeled-lines or lines. Default: auto.",
    ),
    header: str = typer.Option(
        None,
        "--header",
        rich_help_panel=_PANEL,
        help="Whether the first row of a table contains the column names: auto, yes or no. Default: auto.",
    ),
    engine: str = typer.Option(
        None,
        "--engine",
        metavar="ENGINE",
        help="What computes the text: torch, ctranslate2 (several times faster on a CPU; only with --greedy; needs pip "
        "install 'nlpcli[fast]'), or auto: ctranslate2 if it is installed and supports the model and the options. For "
        "ctranslate2 the model is converted once; the result is kept in the folder of the model. Default: auto.",
    ),
    quantization: str = typer.Option(
        None,
        "--quantization",
        metavar="TYPE",
        help="With --engine ctranslate2: type of the weights, such as int8 or bfloat16. Smaller types are faster and "
        "change the text. Default: float32.",
    ),
    device: str = shared_options.DEVICE,
    threads: int = shared_options.THREADS,
) -> None:
    """Continue texts with a language model.

    A continuation stops when the model generates its end-of-text token, or after --max-new-tokens. If a prompt is
    longer than the model's context, the model uses only the last tokens of the prompt. If there are several
    continuations, a line '---' separates them.

    The defaults below apply to models that were trained with nlpcli. For a model in a Hugging Face folder, the defaults
    are the settings in its file generation_config.json. Such a model samples only if that file contains do_sample: true
    or if you give --temperature, --top-k, --top-p, --min-p, --seed or more than 1 for --num-samples. Otherwise, it does
    greedy search or the beam search of that file.

    With --template, the model solves a task without training. The template turns each example of --data into a prompt.
    If the template lists the possible answers, the output is the answer that is most probable after the prompt;
    otherwise, it is the text that the model generates after the prompt. Each example gives one output line. If the
    data contain the correct answers, the accuracy or another metric over all examples is printed to standard error.

    A template is a YAML file, such as the following one. {text} is replaced by the column text of --data, and {label}
    by each possible answer. 'pos: good' means that the label pos of the data is written as good in the prompt; the
    output is pos. See docs/prompting.md for all keys.

    \b
      prompt: "Review: {text}"
      label: " Sentiment: {label}"
      labels: {pos: good, neg: bad}

    \b
    Examples:
      nlpcli generate --prompt "ROMEO:" --max-new-tokens 200 --top-p 0.9 --seed 1
      nlpcli generate --prompt "To be" --num-samples 3 --json
      cat prompts.txt | nlpcli generate --model runs/lm --greedy --no-echo
      nlpcli generate --template task.yaml --data dev.tsv --shots 4 --examples train.tsv
    """
    given = {name for name in context.params if _is_given(context, name)}
    if template is not None:
        _check(given, _CONTINUING, "has no effect with --template", "the template file sets how answers are generated")
        _check(
            given, ("engine", "quantization"), "has no effect with --template",
            "PyTorch computes the answers to a template; leave out the option",
        )  # fmt: skip
        if echo and not json:
            raise NlpcliError("--echo with --template has no effect without --json", hint="add --json")
        from nlpcli.commands.generate.prompting import PromptRequest
        from nlpcli.data.columns import Columns

        columns = Columns(format=format or "auto", header=header or "auto", text=text, text2=text2, label=label)
        _solve(
            PromptRequest(
                template=template, data=data, model=model, shots=shots, examples=examples, columns=columns,
                seed=1 if seed is None else seed,
                device=device, threads=threads,
            ),
            json=json, echo=bool(echo), seeded="seed" in given,
        )  # fmt: skip
        return
    _check(
        given, _PROMPTING, "has no effect without --template",
        "to continue a text, use --prompt or standard input; to solve a task, add --template",
    )  # fmt: skip
    echo = echo is not False
    from nlpcli.commands.generate.generate import Generator
    from nlpcli.commands.generate.generate_request import GenerateRequest

    job = GenerateRequest(
        model=model,
        max_new_tokens=max_new_tokens,
        samples=num_samples,
        greedy=greedy,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        min_length=min_length,
        no_repeat_ngram=no_repeat_ngram,
        repetition_penalty=repetition_penalty,
        stop=tuple(stop),
        device=device,
        threads=threads,
        engine=engine,
        quantization=quantization,
        scores=json,
    )
    generator = Generator(job, notify=terminal.notify, warn=terminal.warn)
    if len(prompt) == 1 and num_samples == 1 and not json and not stop and sys.stdout.isatty():
        _type(generator, prompt[0], echo)
        return
    first = True
    for portion in generator.generate(_prompts(prompt)):
        for one in portion:
            if json:
                terminal.write_json(_record(one))
                continue
            if not first:
                terminal.write_line(SEPARATOR)
            first = False
            terminal.write_line((one.prompt if echo else "") + one.text)
        terminal.stdout().flush()


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _check(given: set[str], names: Iterable[str], why: str, hint: str) -> None:
    for name in names:
        if name in given:
            raise NlpcliError(f"--{name.replace('_', '-')} {why}", hint=hint)


def _solve(job: PromptRequest, *, json: bool, echo: bool, seeded: bool) -> None:
    """One line for each example, and the metrics on stderr."""
    from nlpcli.commands.generate.prompting import Prompter
    from nlpcli.evaluation import Resampling

    if seeded and not job.shots:
        terminal.warn("--seed has no effect without --shots, because nothing is sampled")
    if job.data == "-" or job.examples == "-":
        terminal.announce_stdin()
    prompter = Prompter(job, notify=terminal.notify, warn=terminal.warn)
    for portion in prompter.answers():
        for answer in portion:
            if json:
                terminal.write_json(answer.as_dict(prompt=echo))
            else:
                terminal.write_line(answer.line())
        terminal.stdout().flush()
    for score in prompter.scores(Resampling()):
        terminal.notify(score.line())


def _prompts(given: list[str]) -> Iterable[str]:
    if given:
        return given
    from nlpcli.data.readers import read_lines

    terminal.announce_stdin()
    return read_lines("-")


def _type(generator: Generator, prompt: str, echo: bool) -> None:
    """One text on a terminal, as it grows."""

    def write(text: str) -> None:
        terminal.stdout().write(text)
        terminal.stdout().flush()

    write(prompt if echo else "")
    for _ in generator.generate([prompt], stream=write):
        terminal.write_line()


def _record(one: Continuation) -> dict[str, object]:
    return {
        "text": one.prompt,
        "continuation": one.text,
        "tokens": one.tokens,
        "logprob": round(one.logprob, 6),
        "finished": one.finished,
        "prompt_number": one.prompt_number,
        "sample": one.sample,
    }
