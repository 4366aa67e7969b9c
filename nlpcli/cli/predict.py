"""`nlpcli predict`: apply a fine-tuned model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from nlpcli.cli import shared_options, terminal
from nlpcli.cli.multiple_values import MultiValueCommand
from nlpcli.cli.option_conventions import LABELED_LINES, OUT_FILE, STANDARD_INPUT

Command = MultiValueCommand


def command(
    files: list[str] = typer.Argument(None, metavar="FILE", help=f"Files with examples. {STANDARD_INPUT}"),
    model: Path = shared_options.FINE_TUNED_MODEL,
    json: bool = typer.Option(False, "--json", help="Write one JSON object for each example, with all probabilities."),
    top: int = typer.Option(
        None,
        "--top",
        min=1,
        help="Print the N most probable labels, candidates or answers, each followed by its probability, on one line; "
        "tabs separate them.",
    ),
    format: str = typer.Option(
        "auto",
        "--format",
        help="Format of the input: auto (by the file name), lines (one example in each line; tabs separate its texts), "
        f"tsv, csv, jsonl, conll, conllu, squad or {LABELED_LINES}.",
    ),
    text: str = shared_options.EXAMPLE_TEXT,
    text2: str = shared_options.EXAMPLE_TEXT2,
    choices: list[str] = typer.Option(
        None,
        "--choices",
        metavar="COLUMN...",
        help="For the task choice: columns of the candidate answers. Write FILE before this option. Default: the same "
        "as in training.",
    ),
    part: str = shared_options.ONE_OF_SEVERAL_TASKS,
    results: Path = OUT_FILE,
    batch_tokens: int = shared_options.BATCH_TOKENS,
    line_buffered: bool = typer.Option(
        False, "--line-buffered", help="Write each prediction before the command reads the next line (slower)."
    ),
    device: str = shared_options.DEVICE,
    threads: int = shared_options.THREADS,
    processes: int = shared_options.PROCESSES,
    engine: str = shared_options.ENGINE,
) -> None:
    """Predict with a fine-tuned model: one output line for each example, in the same order.

    In plain text, each line is an example. In a table or a JSON lines file, each row or object is an example.

    \b
    echo "What a film!" | nlpcli predict --model runs/sentiment --top 2
    nlpcli predict --model runs/ner --json < sentences.txt
    nlpcli predict --model runs/entailment pairs.txt

    The task of the model determines what an output line contains. Tabs separate its fields.

    \b
      classify      the most probable label and its probability
      multi-label   all labels with a probability of at least 0.5 (or head.threshold, a setting of the run)
      regress       a number
      choice        the most probable candidate and its probability; an input line is text, tab, candidate, tab, …
      tag           one tag for each word, separated by spaces; an input line is the words, separated by spaces
      span          the answer; an input line is a question and a context, separated by a tab
      similarity    the cosine similarity; an input line is two texts, separated by a tab
      text-to-text  the generated text

    A blank input line gives a blank output line. Translation models need 'nlpcli translate'.
    """
    from nlpcli.commands.predict import PredictRequest, predict, record
    from nlpcli.errors import NlpcliError

    if json and top is not None:
        raise NlpcliError(
            "--json already writes all probabilities, so --top has no effect with it", hint="leave one of them out"
        )
    names = [*(files or ["-"])]
    job = PredictRequest(
        files=tuple(names),
        model=model,
        format=format,
        columns={"text": text, "text2": text2, "choices": list(choices or [])},
        top=top,
        part=part,
        batch_tokens=batch_tokens,
        line_buffered=line_buffered or ("-" in names and sys.stdin is not None and sys.stdin.isatty()),
        device=device,
        threads=threads,
        processes=processes,
        engine=engine,
    )
    if "-" in names:
        terminal.announce_stdin()

    def lines() -> Iterator[list[str]]:
        from json import dumps

        for task, window in predict(job, notify=terminal.notify, warn=terminal.warn):
            portion = []
            for example, prediction in window:
                if json:
                    portion.append(dumps(record(task, example, prediction), ensure_ascii=False))
                else:
                    portion.append(task.line(prediction, top) if prediction else "")
            yield portion

    for portion in lines():
        terminal.stdout().writelines(line + "\n" for line in portion)
        terminal.stdout().flush()
