"""`nlpcli generate`: a language model continues texts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import typer

from nlpcli.cli import terminal

SEPARATOR = "---"


def command(
    prompt: list[str] = typer.Option(
        [], "--prompt", "-p", metavar="TEXT", help="Text to continue (may be repeated); lines of stdin without it."
    ),
    model: Path = typer.Option(None, "--model", "-m", help="Model folder; the newest language model below runs/."),
    max_new_tokens: int = typer.Option(200, "--max-new-tokens", "-n", help="Most tokens to add."),
    num_samples: int = typer.Option(1, "--num-samples", help="Continuations of each prompt."),
    greedy: bool = typer.Option(False, "--greedy", help="Always the most probable token; nothing is drawn."),
    temperature: float = typer.Option(1.0, "--temperature", help="Below 1 more probable, above 1 more various."),
    top_k: int = typer.Option(0, "--top-k", help="Only the k most probable tokens; 0: all."),
    top_p: float = typer.Option(1.0, "--top-p", help="Only the most probable tokens with this mass together."),
    min_p: float = typer.Option(0.0, "--min-p", help="Only tokens this near to the most probable one."),
    seed: int = typer.Option(1, "--seed", help="The same seed draws the same text."),
    min_length: int = typer.Option(0, "--min-length", help="Fewest tokens to add."),
    no_repeat_ngram: int = typer.Option(0, "--no-repeat-ngram", metavar="N", help="Repeat no sequence of N tokens."),
    repetition_penalty: float = typer.Option(1.0, "--repetition-penalty", help="Above 1 disfavours repeated tokens."),
    stop: list[str] = typer.Option([], "--stop", metavar="TEXT", help="End before this text (may be repeated)."),
    echo: bool = typer.Option(True, "--echo/--no-echo", help="Print the prompt before its continuation."),
    json: bool = typer.Option(False, "--json", help="One JSON object for each continuation, with its probability."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or cuda:N."),
    threads: int = typer.Option(None, "--threads", min=1, help="CPU threads."),
) -> None:
    """Continue a text with a language model.

    A text ends where the model ends it, or after --max-new-tokens. Several texts are separated by a line '---'.
    Beyond the model's context it forgets the beginning.

    \b
    Examples:
      nlpcli generate --prompt "ROMEO:" --max-new-tokens 200 --top-p 0.9 --seed 1
      nlpcli generate --prompt "To be" --num-samples 3 --json
      cat prompts.txt | nlpcli generate --model runs/lm --greedy --no-echo
    """
    from nlpcli.recipes.generate import Generating, Generator

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
        "prompt": one.prompt,
        "text": one.text,
        "tokens": one.tokens,
        "logprob": round(one.logprob, 6),
        "finished": one.finished,
        "prompt_number": one.prompt_number,
        "sample": one.sample,
    }
