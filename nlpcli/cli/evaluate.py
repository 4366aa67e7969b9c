"""`nlpcli evaluate`: measure a fine-tuned model on labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import typer

from nlpcli.cli import suite_options, terminal
from nlpcli.cli.convention import OUT_FILE
from nlpcli.cli.multiple_values import Spreading


class Command(Spreading):
    """Data are arguments or values of --data."""

    exclusive: ClassVar = (("files", "data"), ("suite", "confusion"), ("suite", "worst"))
    needed: ClassVar = {"samples": ("confidence",), "seed": ("confidence",)}


def command(
    files: list[str] = typer.Argument(None, metavar="[FILE]...", help="The same as --data."),
    data: list[str] = typer.Option(None, "--data", metavar="FILE...", help="Labeled examples, as for training."),
    model: Path = typer.Option(None, "--model", metavar="DIR", help="A fine-tuned run. Default: the newest."),
    suite: str = typer.Option(
        None, "--suite", help="glue, superglue or russian-superglue: evaluate all tasks of the folder in --data."
    ),
    only: list[str] = typer.Option(None, "--only", metavar="TASK...", help="With --suite: only these tasks."),
    predictions: Path = typer.Option(
        None,
        "--predictions",
        metavar="DIR",
        help="With --suite: write the predictions for its test data, as the leaderboard takes them.",
    ),
    confusion: bool = typer.Option(False, "--confusion", help="Print the confusion matrix (classify, tag)."),
    worst: int = typer.Option(0, "--worst", min=0, metavar="N", help="Print the N largest errors."),
    confidence: bool = typer.Option(
        True, "--confidence/--no-confidence", help="95 % confidence intervals by bootstrap."
    ),
    samples: int = typer.Option(1000, "--bootstrap-samples", help="Number of resamples for the intervals."),
    seed: int = typer.Option(12345, "--seed", help="Seed of the resampling."),
    format: str = typer.Option("auto", "--format", help="tsv, csv, jsonl, conll, conllu, squad, labeled-lines."),
    text: str = typer.Option(None, "--text", metavar="COLUMN", help="Column of the text. Default: as in training."),
    text2: str = typer.Option(None, "--text2", metavar="COLUMN", help="Column of the second text of a pair."),
    label: str = typer.Option(None, "--label", metavar="COLUMN", help="Column of the label, score, tags or target."),
    choices: list[str] = typer.Option(
        None, "--choices", metavar="COLUMN...", help="Columns of the candidates (choice)."
    ),
    header: str = typer.Option(None, "--header", help="Whether the first row holds column names: auto, yes or no."),
    part: str = typer.Option(None, "--as", metavar="NAME", help="The task, for a model trained on several tasks."),
    json: bool = typer.Option(False, "--json", help="Write JSON, in full precision."),
    results: Path = OUT_FILE,
    batch_tokens: int = typer.Option(4096, "--batch-tokens", min=1, help="Tokens in a batch, padding included."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or cuda:N."),
    threads: int = typer.Option(None, "--threads", min=1, help="CPU threads."),
) -> None:
    """Evaluate a fine-tuned model on labeled data, with confidence intervals.

    \b
    nlpcli evaluate --model runs/sentiment --data dev.tsv --confusion --worst 10
    nlpcli evaluate --suite glue --model runs/glue --data GLUE/
    """
    from nlpcli.commands.evaluate import Evaluating, evaluate
    from nlpcli.errors import NlpcliError
    from nlpcli.evaluation import Resampling

    names = [*(data or []), *(files or [])]
    if not names:
        raise NlpcliError("evaluate needs labeled data", hint="--data FILE")
    job = Evaluating(
        data=tuple(names),
        model=model,
        format=format,
        columns={"text": text, "text2": text2, "label": label, "choices": list(choices or []), "header": header},
        part=part,
        resampling=Resampling(samples, seed) if confidence else None,
        worst=worst,
        confusion=confusion,
        batch_tokens=batch_tokens,
        device=device,
        threads=threads,
    )
    if suite is not None:
        suite_options.evaluate(suite, job, only=only or [], predictions=predictions, json=json)
        return
    suite_options.refuse_only(only)
    if predictions is not None:
        raise NlpcliError("--predictions needs --suite", hint="for other data: nlpcli predict FILE")
    with terminal.evaluation("evaluate"):
        result = evaluate(job, say=terminal.say, warn=terminal.warn)
    if json:
        terminal.write_json(result.as_dict())
    else:
        _print(result)


def _print(result: Any) -> None:
    rows = [
        [name, f"{score.value:.2f}", score.interval(), score.summary, score.signature]
        for name, score in result.scores.items()
    ]
    terminal.write_columns(["metric", "value", "95 % interval", "details", "signature"], rows)
    if result.confusion is not None:
        labels, table = result.confusion
        terminal.write_line()
        rows = [[label, *counts] for label, counts in zip(labels, table, strict=True)]
        terminal.write_table(["reference \\ predicted", *labels], rows)
    if result.worst:
        terminal.write_line()
        rows = [[m.place, f"{m.badness:.3f}", m.expected, m.predicted, _short(m.text)] for m in result.worst]
        terminal.write_table(["place", "error", "expected", "predicted", "text"], rows)


def _short(text: str, width: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
