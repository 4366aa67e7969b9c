"""`nlpcli predict`: apply a fine-tuned model."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from nlpcli.cli import terminal
from nlpcli.cli.convention import OUT_FILE
from nlpcli.cli.multiple_values import Spreading

Command = Spreading


def command(
    files: list[str] = typer.Argument(None, metavar="[FILE]...", help="Files to read. Default: standard input."),
    model: Path = typer.Option(None, "--model", metavar="DIR", help="A fine-tuned run. Default: the newest."),
    json: bool = typer.Option(False, "--json", help="Write JSON lines with all predictions and probabilities."),
    top: int = typer.Option(
        None, "--top", min=1, help="Print the N most probable labels or answers with their probabilities."
    ),
    format: str = typer.Option(
        "auto", "--format", help="lines (a tab between two texts), tsv, csv, jsonl, conll, conllu, squad."
    ),
    text: str = typer.Option(None, "--text", metavar="COLUMN", help="Column of the text. Default: as in training."),
    text2: str = typer.Option(None, "--text2", metavar="COLUMN", help="Column of the second text of a pair."),
    choices: list[str] = typer.Option(
        None, "--choices", metavar="COLUMN...", help="Columns of the candidates (choice)."
    ),
    part: str = typer.Option(None, "--as", metavar="NAME", help="The task, for a model trained on several tasks."),
    results: Path = OUT_FILE,
    batch_tokens: int = typer.Option(4096, "--batch-tokens", min=1, help="Tokens in a batch, padding included."),
    line_buffered: bool = typer.Option(
        False, "--line-buffered", help="Write each answer before the next line is read."
    ),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or cuda:N."),
    threads: int = typer.Option(None, "--threads", min=1, help="CPU threads."),
) -> None:
    """Apply a fine-tuned model: one output line for each input line, in the same order.

    \b
    echo "What a film!" | nlpcli predict --model runs/sentiment --top 2
    nlpcli predict --model runs/ner --json < sentences.txt
    nlpcli predict --model runs/entailment premise-TAB-hypothesis.txt

    The output depends on the task: label and probability; labels; a score; tags; an answer; text. A model for span
    reads lines of question, tab, context.
    """
    from nlpcli.commands.predict import Predicting, predict, record
    from nlpcli.errors import NlpcliError

    if json and top is not None:
        raise NlpcliError(
            "--json gives the probabilities of all labels, and --top is for plain lines", hint="leave one of them out"
        )
    names = [*(files or ["-"])]
    job = Predicting(
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
    )
    if "-" in names:
        terminal.announce_stdin()

    def lines():
        from json import dumps

        for task, window in predict(job, say=terminal.say, warn=terminal.warn):
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
