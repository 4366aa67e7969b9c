"""`nlpcli finetune`: train a model for a task on examples."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, ClassVar

import typer

from nlpcli.cli import shell_completion, suite_options, terminal, training_options
from nlpcli.cli.multiple_values import Spreading

_TRAIN = "Training examples: TSV, CSV, JSON lines, CoNLL or SQuAD; for translation two parallel files, SOURCE TARGET."
_USES = {
    "translation": "nlpcli translate --model {run} FILE",
    "similarity": "nlpcli embed --model {run} FILE",
    "mixture": "nlpcli predict --model {run} --as TASK FILE",
}


class Command(Spreading):
    """The task is an argument or the value of --task."""

    exclusive: ClassVar = (
        ("task_name", "task"),
        ("suite", "mixture"),
        ("mixture", "train"),
        ("resume", "fresh"),
    )
    needed: ClassVar = {"only": ("suite",)}


def command(
    task_name: str = typer.Argument(
        None, metavar="TASK", help="The same as --task.", autocompletion=shell_completion.tasks
    ),
    task: str = typer.Option(
        None,
        "--task",
        help="classify, multi-label, regress, choice, tag, span, similarity, text-to-text, translation.",
        autocompletion=shell_completion.tasks,
    ),
    train: list[str] = typer.Option(None, "--train", metavar="FILE...", help=_TRAIN),
    dev: list[str] = typer.Option(None, "--dev", metavar="FILE...", help="Dev set, in the same format."),
    model: str = typer.Option(
        None,
        "--model",
        metavar="DIR|PRESET|FILE",
        help="Model to start from: a run, a Hugging Face folder, or a preset or YAML file (random weights).",
        autocompletion=shell_completion.presets,
    ),
    text: str = typer.Option(None, "--text", metavar="COLUMN", help="Column of the text, by name or number."),
    text2: str = typer.Option(None, "--text2", metavar="COLUMN", help="Column of the second text of a pair."),
    label: str = typer.Option(None, "--label", metavar="COLUMN", help="Column of the label, score, tags or target."),
    choices: list[str] = typer.Option(
        None, "--choices", metavar="COLUMN...", help="Columns of the candidates (choice)."
    ),
    format: str = typer.Option(None, "--format", help="tsv, csv, jsonl, conll, conllu, squad, labeled-lines."),
    header: str = typer.Option(None, "--header", help="Whether the first row holds column names: auto, yes or no."),
    objective: str = typer.Option(
        None, "--objective", help="Loss for similarity: softmax, cosine, contrastive, multiple-negatives."
    ),
    prefix: str = typer.Option(
        None, "--prefix", help='text-to-text: prefix of every source ("summarize: ") or template ("{text} TL;DR:").'
    ),
    mixture: Path = typer.Option(
        None, "--mixture", metavar="FILE", help="YAML file with several tasks to train at once."
    ),
    suite: str = typer.Option(
        None, "--suite", help="glue, superglue or russian-superglue: train one model for each task in --train DIR."
    ),
    only: list[str] = typer.Option(None, "--only", metavar="TASK...", help="With --suite: only these tasks."),
    source_layers: int = typer.Option(
        None, "--source-layers", min=1, help="translation: number of layers of a new source encoder below --model."
    ),
    source_tokenizer: Path = typer.Option(
        None,
        "--source-tokenizer",
        metavar="DIR",
        help="Tokenizer of the new source encoder. Default: train one on the sources.",
    ),
    attention: list[str] = training_options.ATTENTION,
    tune: str = typer.Option(
        None,
        "--tune",
        help="What to train: all, head (frozen body), gradual (unfreeze from the top down), "
        "stages (--source-layers first).",
    ),
    lora: int = typer.Option(
        None, "--lora", min=1, metavar="RANK", help="Train low-rank adapters (LoRA) only; they are merged at the end."
    ),
    layer_decay: float = typer.Option(
        None, "--layer-decay", help="Factor of the learning rate from one layer to the layer below, such as 0.9."
    ),
    fresh: bool = typer.Option(
        False, "--fresh", help="Use the architecture and tokenizer of --model with random weights."
    ),
    seeds: int = typer.Option(
        None, "--seeds", min=1, help="Train with this many seeds and report mean and standard deviation."
    ),
    batch_size: int = typer.Option(None, "--batch-size", min=1, help="Examples per batch."),
    patience: int = typer.Option(
        None, "--patience", min=1, help="Stop after this many evaluations without improvement."
    ),
    config: Path = training_options.CONFIG,
    overrides: list[str] = training_options.SET,
    tokenizer: Path = training_options.TOKENIZER,
    out: Path = training_options.OUT,
    resume: bool = training_options.RESUME,
    overwrite: bool = training_options.OVERWRITE,
    max_steps: int = training_options.MAX_STEPS,
    max_epochs: float = training_options.MAX_EPOCHS,
    max_minutes: float = training_options.MAX_MINUTES,
    max_tokens: int = training_options.MAX_TOKENS,
    batch_tokens: int = training_options.BATCH_TOKENS,
    lr: float = training_options.LR,
    seed: int = training_options.SEED,
    device: str = training_options.DEVICE,
    precision: str = training_options.PRECISION,
    threads: int = training_options.THREADS,
    json: bool = training_options.JSON,
) -> None:
    """Train a model for a task on examples.

    \b
    nlpcli finetune --task classify --model runs/mlm --train train.tsv --dev dev.tsv --out runs/sentiment
    nlpcli finetune --task tag --model bert-folder/ --train eng.train --dev eng.testa --out runs/ner
    nlpcli finetune --task translation --train train.en train.de --dev val.en val.de --out runs/ende
    nlpcli finetune --resume --out runs/ende
    nlpcli finetune --suite glue --train GLUE/ --model bert-folder/ --out runs/glue

    Without data, classify, regress, similarity, tag, span and translation train on the sample data of nlpcli.
    Ctrl-C saves a checkpoint and stops.
    """
    given = dict(locals())
    from nlpcli.runs.finetuning.finetune import finetune
    from nlpcli.runs.training_requests import finetuning_request, suite_request

    line = training_options.command_line()
    if suite is not None:
        suite_options.finetune(given, lambda kind: suite_request(given, kind, command=line))
        return
    suite_options.refuse_only(only)
    request = finetuning_request({**given, "task": task or task_name}, command=line, say=terminal.say)
    with training_options.watched("finetune") as watcher:
        if seeds is not None:
            _seeds(request, seeds, watcher, json=json)
            return
        run, outcome = finetune(request, watcher)
    use = _USES.get(_task_of(run), "nlpcli predict --model {run} FILE")
    training_options.report(run, outcome, json=json, use=use.format(run=shlex.quote(str(run))))


def _seeds(request: Any, count: int, watcher: Any, *, json: bool) -> None:
    from nlpcli.runs.finetuning.seeds import finetune_seeds

    summary = finetune_seeds(request, count, watcher)
    if json:
        terminal.write_json(summary.as_dict())
        return
    terminal.write_table(
        ["metric", "mean", "deviation", *[f"seed {seed}" for seed in summary.seeds]],
        [
            [name, f"{mean:.2f}", f"{deviation:.2f}", *[f"{value:.2f}" for value in values]]
            for name, mean, deviation, values in summary.rows()
        ],
    )


def _task_of(run: Path) -> str:
    from nlpcli.models.model_folder import read_info

    return read_info(run)["task"]
