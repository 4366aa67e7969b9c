"""`nlpcli evaluate`: measure a fine-tuned model on labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import typer

from nlpcli.cli import shared_options, suite_options, terminal
from nlpcli.cli.multiple_values import MultiValueCommand
from nlpcli.cli.option_conventions import LABELED_LINES, OUT_FILE

if TYPE_CHECKING:
    from nlpcli.commands.evaluate import Evaluation


class Command(MultiValueCommand):
    """Data are arguments or values of --data."""

    exclusive: ClassVar = (("files", "data"), ("suite", "confusion"), ("suite", "worst"))
    needed: ClassVar = {"samples": ("confidence",), "seed": ("confidence",)}


def command(
    files: list[str] = typer.Argument(None, metavar="FILE", help="The same as --data."),
    data: list[str] = typer.Option(
        None,
        "--data",
        metavar="FILE...",
        help="Labeled examples, in the same format as the training data. Required, unless FILE is given. '-' means "
        "standard input.",
    ),
    model: Path = shared_options.FINE_TUNED_MODEL,
    suite: str = typer.Option(
        None,
        "--suite",
        help="Benchmark suite: glue, superglue or russian-superglue. --data is then the folder with the data of the "
        "suite, and --model the folder with one model for each task, such as --out of 'nlpcli finetune --suite'.",
    ),
    only: list[str] = typer.Option(
        None, "--only", metavar="TASK...", help="With --suite: evaluate only these tasks of the suite."
    ),
    predictions: Path = typer.Option(
        None,
        "--predictions",
        metavar="DIR",
        help="With --suite: also predict the test sets, and write the predictions to this folder in the format of the "
        "suite's leaderboard.",
    ),
    confusion: bool = typer.Option(
        False, "--confusion", help="For the tasks classify and tag: print the confusion matrix."
    ),
    worst: int = typer.Option(
        0,
        "--worst",
        min=0,
        metavar="N",
        help="Print the N worst predictions: those that give the correct label the lowest probability, or those that "
        "differ most from the reference.",
    ),
    confidence: bool = typer.Option(
        True,
        "--confidence/--no-confidence",
        help="Compute 95 % confidence intervals by bootstrap resampling. Default: on.",
        show_default=False,
    ),
    samples: int = typer.Option(1000, "--bootstrap-samples", help="Number of bootstrap resamples."),
    seed: int = shared_options.BOOTSTRAP_SEED,
    format: str = typer.Option(
        "auto",
        "--format",
        help="Format of the data: auto (by file name and first line), tsv, csv, jsonl, conll, conllu, squad or "
        f"{LABELED_LINES}.",
    ),
    text: str = shared_options.EXAMPLE_TEXT,
    text2: str = shared_options.EXAMPLE_TEXT2,
    label: str = typer.Option(
        None, "--label", metavar="COLUMN", help="Column of the label, score, tags or target. Default: as in training."
    ),
    choices: list[str] = typer.Option(
        None,
        "--choices",
        metavar="COLUMN...",
        help="For the task choice: columns of the candidate answers. Default: the same as in training.",
    ),
    header: str = typer.Option(None, "--header", help="Whether the first row contains column names: auto, yes or no."),
    part: str = shared_options.ONE_OF_SEVERAL_TASKS,
    json: bool = typer.Option(False, "--json", help="Write one JSON object with unrounded numbers."),
    results: Path = OUT_FILE,
    batch_tokens: int = shared_options.BATCH_TOKENS,
    device: str = shared_options.DEVICE,
    threads: int = shared_options.THREADS,
) -> None:
    """Evaluate a fine-tuned model on labeled data, with confidence intervals.

    The metrics depend on the task, such as accuracy and F1. For a translation model, use 'nlpcli translate' and 'nlpcli
    score' instead.

    \b
    nlpcli evaluate --model runs/sentiment --data dev.tsv --confusion --worst 10
    nlpcli evaluate --suite glue --model runs/glue --data GLUE/
    """
    from nlpcli.commands.evaluate import evaluate
    from nlpcli.errors import NlpcliError
    from nlpcli.evaluation import Resampling
    from nlpcli.runs.task_evaluation import EvaluateRequest

    names = [*(data or []), *(files or [])]
    if not names:
        raise NlpcliError("evaluate needs labeled data, but no file is given", hint="name a file: --data FILE")
    job = EvaluateRequest(
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
        suite_options.refuse_minimal_pairs(suite, job)
        suite_options.evaluate(suite, job, only=only or [], predictions=predictions, json=json)
        return
    suite_options.refuse_only(only)
    if predictions is not None:
        raise NlpcliError(
            "--predictions has no effect without --suite", hint="to predict other data: nlpcli predict FILE"
        )
    with terminal.evaluation("evaluate"):
        result = evaluate(job, notify=terminal.notify, warn=terminal.warn)
    if json:
        terminal.write_json(result.as_dict())
    else:
        _print(result)


def _print(result: Evaluation) -> None:
    rows = [
        [name, f"{score.value:.2f}", score.interval(), score.summary, score.signature]
        for name, score in result.scores.items()
    ]
    terminal.write_columns(["metric", "value", "95 % interval", "details", "signature"], rows)
    if result.confusion is not None:
        labels, table = result.confusion
        terminal.write_line()
        numbers = [[label, *counts] for label, counts in zip(labels, table, strict=True)]
        terminal.write_table(["reference \\ predicted", *labels], numbers)
    if result.worst:
        terminal.write_line()
        rows = [[m.place, f"{m.error:.3f}", m.expected, m.predicted, _short(m.text)] for m in result.worst]
        terminal.write_table(["place", "error", "reference", "predicted", "text"], rows)


def _short(text: str, width: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
