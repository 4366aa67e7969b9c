"""`nlpcli generate`: a language model continues texts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import typer

from nlpcli.cli import convention, terminal
from nlpcli.cli.convention import OUT_FILE
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.commands.generate.prompting import Prompting

SEPARATOR = "---"
_PANEL = "Solving a task with prompts"
_PROMPTING = ("data", "shots", "examples", "text", "text2", "label", "format", "header")
_CONTINUING = (
    "prompt", "max_new_tokens", "num_samples", "greedy", "temperature", "top_k", "top_p", "min_p", "min_length",
    "no_repeat_ngram", "repetition_penalty", "stop",
)  # fmt: skip


class Command(convention.Command):
    """Tokens are either the most probable ones or drawn."""

    exclusive: ClassVar = tuple(("greedy", name) for name in ("temperature", "top_k", "top_p", "min_p", "seed"))


def command(
    context: typer.Context,
    prompt: list[str] = typer.Option(
        [], "--prompt", metavar="TEXT", help="Text to continue (repeatable). Default: standard input."
    ),
    model: Path = typer.Option(
        None, "--model", "-m", help="Model folder. Default: the newest language model below runs/."
    ),
    max_new_tokens: int = typer.Option(None, "--max-new-tokens", help="Maximum number of new tokens. Default: 200."),
    num_samples: int = typer.Option(1, "--num-samples", help="Number of continuations of each prompt."),
    greedy: bool = typer.Option(False, "--greedy", help="Always take the most probable token, without sampling."),
    temperature: float = typer.Option(
        None, "--temperature", help="Sampling temperature: below 1 less random, above 1 more random."
    ),
    top_k: int = typer.Option(None, "--top-k", help="Sample from the k most probable tokens; 0: from all."),
    top_p: float = typer.Option(
        None, "--top-p", help="Sample from the smallest set of tokens with this total probability."
    ),
    min_p: float = typer.Option(
        None, "--min-p", help="Sample from tokens with at least this share of the highest probability."
    ),
    seed: int = typer.Option(None, "--seed", help="Random seed; the same seed gives the same text. Default: 1."),
    min_length: int = typer.Option(None, "--min-length", help="Minimum number of new tokens."),
    no_repeat_ngram: int = typer.Option(None, "--no-repeat-ngram", metavar="N", help="Repeat no sequence of N tokens."),
    repetition_penalty: float = typer.Option(
        None, "--repetition-penalty", help="Above 1, repeated tokens become less probable."
    ),
    stop: list[str] = typer.Option([], "--stop", metavar="TEXT", help="Stop before this text (repeatable)."),
    echo: bool = typer.Option(
        None,
        "--echo/--no-echo",
        help="Print the prompt before its continuation; with --template, include it in the JSON.",
    ),
    json: bool = typer.Option(
        False, "--json", help="Write one JSON object for each continuation, with its probability."
    ),
    results: Path = OUT_FILE,
    template: Path = typer.Option(
        None,
        "--template",
        metavar="FILE",
        rich_help_panel=_PANEL,
        help="A YAML file that describes the prompt.",
    ),
    data: str = typer.Option("-", "--data", metavar="FILE", rich_help_panel=_PANEL, help="The examples to solve."),
    shots: int = typer.Option(0, "--shots", rich_help_panel=_PANEL, help="Number of solved examples in each prompt."),
    examples: str = typer.Option(
        None, "--examples", metavar="FILE", rich_help_panel=_PANEL, help="Training examples that --shots samples from."
    ),
    text: str = typer.Option(
        None, "--text", metavar="COLUMN", rich_help_panel=_PANEL, help="Column for {text}, by name or number."
    ),
    text2: str = typer.Option(None, "--text2", metavar="COLUMN", rich_help_panel=_PANEL, help="Column for {text2}."),
    label: str = typer.Option(
        None, "--label", metavar="COLUMN", rich_help_panel=_PANEL, help="Column of the reference answer."
    ),
    format: str = typer.Option(
        None, "--format", rich_help_panel=_PANEL, help="auto, tsv, csv, jsonl, squad, labeled-lines, lines."
    ),
    header: str = typer.Option(
        None, "--header", rich_help_panel=_PANEL, help="Whether the first row holds column names: auto, yes or no."
    ),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or cuda:N."),
    threads: int = typer.Option(None, "--threads", min=1, help="CPU threads."),
) -> None:
    """Continue a text with a language model.

    A text ends with the model's end token, or after --max-new-tokens. A line '---' separates several texts.
    If a text is longer than the model's context, only its last tokens are read. A model from a Hugging Face folder is
    decoded as its generation_config.json says, greedily if it says nothing, unless an option says otherwise.

    With --template a model solves a task without training: candidates are ranked by their likelihood after the prompt,
    or the answer is written. One line for each example; the metric goes to standard error. See docs/prompting.md.

    \b
    Examples:
      nlpcli generate --prompt "ROMEO:" --max-new-tokens 200 --top-p 0.9 --seed 1
      nlpcli generate --prompt "To be" --num-samples 3 --json
      cat prompts.txt | nlpcli generate --model runs/lm --greedy --no-echo
      nlpcli generate --template task.yaml --data dev.tsv --shots 4 --examples train.tsv
    """
    given = {name for name in context.params if _is_given(context, name)}
    if template is not None:
        _check(given, _CONTINUING, "has no effect with --template", "the template sets how answers are generated")
        if echo and not json:
            raise NlpcliError("--echo with --template writes the prompts into JSON", hint="add --json")
        from nlpcli.commands.generate.prompting import Prompting
        from nlpcli.data.columns import Columns

        columns = Columns(format=format or "auto", header=header or "auto", text=text, text2=text2, label=label)
        _solve(
            Prompting(
                template=template, data=data, model=model, shots=shots, examples=examples, columns=columns,
                seed=1 if seed is None else seed,
                device=device, threads=threads,
            ),
            json=json, echo=bool(echo), seeded="seed" in given,
        )  # fmt: skip
        return
    _check(given, _PROMPTING, "needs --template", "to continue texts, give --prompt or lines on standard input")
    echo = echo is not False
    from nlpcli.commands.generate.generate import Generating, Generator

    job = Generating(
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
    )
    generator = Generator(job, say=terminal.say, warn=terminal.warn)
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


def _solve(job: Prompting, *, json: bool, echo: bool, seeded: bool) -> None:
    """One line for each example, and the metrics on stderr."""
    from nlpcli.commands.generate.prompting import Prompter
    from nlpcli.evaluation import Resampling

    if seeded and not job.shots:
        terminal.warn("--seed has no effect: without --shots nothing is sampled")
    if job.data == "-" or job.examples == "-":
        terminal.announce_stdin()
    prompter = Prompter(job, say=terminal.say, warn=terminal.warn)
    for portion in prompter.answers():
        for answer in portion:
            if json:
                terminal.write_json(answer.as_dict(prompt=echo))
            else:
                terminal.write_line(answer.line())
        terminal.stdout().flush()
    for score in prompter.scores(Resampling()):
        terminal.say(score.line())


def _prompts(given: list[str]) -> Iterable[str]:
    if given:
        return given
    from nlpcli.data.readers import read_lines

    terminal.announce_stdin()
    return read_lines("-")


def _type(generator, prompt: str, echo: bool) -> None:
    """One text on a terminal, as it grows."""

    def tell(text: str) -> None:
        terminal.stdout().write(text)
        terminal.stdout().flush()

    tell(prompt if echo else "")
    for _ in generator.generate([prompt], stream=tell):
        terminal.write_line()


def _record(one) -> dict:
    return {
        "text": one.prompt,
        "continuation": one.text,
        "tokens": one.tokens,
        "logprob": round(one.logprob, 6),
        "finished": one.finished,
        "prompt_number": one.prompt_number,
        "sample": one.sample,
    }
