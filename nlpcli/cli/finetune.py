"""`nlpcli finetune`: train a model for a task on examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import typer

from nlpcli.cli import forecast_output, shell_completion, suite_options, terminal, training_options
from nlpcli.cli.multiple_values import MultiValueCommand
from nlpcli.cli.option_conventions import LABELED_LINES

if TYPE_CHECKING:
    from nlpcli.runs.training_request import Request

_TRAIN = (
    "Training examples: TSV, CSV, JSON lines, CoNLL or SQuAD files; for translation two parallel files, SOURCE TARGET."
)


class Command(MultiValueCommand):
    """The task is an argument or the value of --task."""

    exclusive: ClassVar = (
        ("task_name", "task"),
        ("suite", "mixture"),
        ("mixture", "train"),
        ("resume", "fresh"),
        ("resume", "dry_run"),
        ("suite", "dry_run"),
        ("seeds", "dry_run"),
    )
    needed: ClassVar = {"only": ("suite",)}


def command(
    task_name: str = typer.Argument(
        None, metavar="TASK", help="The same as --task.", autocompletion=shell_completion.tasks
    ),
    task: str = typer.Option(
        None,
        "--task",
        metavar="NAME",
        help="Task: classify (one label per text), multi-label (any number of labels), regress (a number), "
        "choice (multiple choice), tag (one tag per word, such as named entities), span (extractive question "
        "answering), similarity (of two texts), text-to-text (such as summarization) or translation (the default).",
        autocompletion=shell_completion.tasks,
    ),
    train: list[str] = typer.Option(None, "--train", metavar="FILE...", help=_TRAIN),
    dev: list[str] = typer.Option(
        None,
        "--dev",
        metavar="FILE...",
        help="Dev set, in the same format. The task translation needs it. Default for the other tasks: a tenth of the "
        "training examples, sampled at random.",
    ),
    model: str = typer.Option(
        None,
        "--model",
        metavar="DIR|PRESET|FILE",
        help="Model to fine-tune: the folder of a run or a Hugging Face folder. With the name of a preset or a YAML "
        "file "
        "with settings, a new model starts from random weights. Default: a small preset for the task.",
        autocompletion=shell_completion.presets,
    ),
    text: str = typer.Option(
        None,
        "--text",
        metavar="COLUMN",
        help="Column of the text: its name, or its number from 1. Default: the column with a usual name such as text "
        "or sentence.",
    ),
    text2: str = typer.Option(
        None, "--text2", metavar="COLUMN", help="Column of the second text of a pair. Default: recognized by its name."
    ),
    label: str = typer.Option(
        None,
        "--label",
        metavar="COLUMN",
        help="Column of the label, score, tags or target. Default: recognized by its name.",
    ),
    choices: list[str] = typer.Option(
        None,
        "--choices",
        metavar="COLUMN...",
        help="For the task choice: columns of the candidate answers. Default: columns with usual names such as "
        "choice1, "
        "choice2, ….",
    ),
    format: str = typer.Option(
        None,
        "--format",
        help="Format of the data: auto (by file name and first line; the default), tsv, csv, jsonl, conll, conllu, "
        f"squad or {LABELED_LINES}.",
    ),
    header: str = typer.Option(
        None, "--header", help="Whether the first row contains column names: auto (the default), yes or no."
    ),
    objective: str = typer.Option(
        None,
        "--objective",
        help="For the task similarity: training objective. Default, by the labels: cosine for scores (more than two "
        "different numbers), contrastive for two labels of which one means similar (such as 0 and 1), softmax for "
        "other "
        "labels, and multiple-negatives for pairs without labels.",
    ),
    prefix: str = typer.Option(
        None,
        "--prefix",
        help='For the task text-to-text: text before every source, such as "summarize: ", or a template of the source, '
        'such as "{text} TL;DR:".',
    ),
    mixture: Path = typer.Option(
        None,
        "--mixture",
        metavar="FILE",
        help="Multi-task learning: YAML file with the tasks and their data; for example "
        "'tasks: {topic: {task: classify, train: topics.tsv}}'. One model is trained for all tasks. See "
        "docs/finetuning.md.",
    ),
    suite: str = typer.Option(
        None,
        "--suite",
        help="Benchmark suite: glue, superglue or russian-superglue. --train is then the folder with the data of the "
        "suite. One model for each task is trained, in subfolders of --out.",
    ),
    only: list[str] = typer.Option(
        None, "--only", metavar="TASK...", help="With --suite: train only these tasks of the suite."
    ),
    source_layers: int = typer.Option(
        None,
        "--source-layers",
        min=1,
        help="For translation with a pretrained encoder-decoder: number of layers of an additional encoder for a new "
        "source language. Its output replaces the token embeddings of the pretrained encoder (Lewis et al. 2020).",
    ),
    source_tokenizer: Path = typer.Option(
        None,
        "--source-tokenizer",
        metavar="DIR",
        help="With --source-layers: tokenizer of the source language. Default: a new one, trained on the source texts.",
    ),
    align_train: Path = typer.Option(
        None,
        "--align-train",
        metavar="FILE",
        help="For translation: word links of the training pairs in Pharaoh format (0-0 1-2), one line for each pair. "
        "One attention head learns them while the model learns to translate (guided alignment); 'nlpcli "
        "visualize-attention --format pharaoh' then reads alignments off this head.",
    ),
    align_dev: Path = typer.Option(
        None,
        "--align-dev",
        metavar="FILE",
        help="With --align-train: word links of the dev set, for its alignment error rate (AER).",
    ),
    attention: list[str] = training_options.ATTENTION,
    tune: str = typer.Option(
        None,
        "--tune",
        help="Which weights are trained: all (the default); head (only the task head; the pretrained layers are "
        "frozen); gradual (gradual unfreezing: first the head, then one more layer after each epoch); stages (with "
        "--source-layers: first the additional encoder, then all weights).",
    ),
    lora: int = typer.Option(
        None,
        "--lora",
        min=1,
        metavar="RANK",
        help="Low-rank adaptation (LoRA): train only the task head and adapters of this rank. After training, the "
        "adapters are merged into the weights.",
    ),
    layer_decay: float = typer.Option(
        None,
        "--layer-decay",
        help="Layer-wise learning rate decay: the learning rate of each layer is that of the layer above times this "
        "factor, such as 0.9. Default: 1 (no decay).",
    ),
    fresh: bool = typer.Option(
        False, "--fresh", help="Start from random weights; use only the architecture and the tokenizer of --model."
    ),
    dry_run: bool = forecast_output.DRY_RUN,
    seeds: int = typer.Option(
        None,
        "--seeds",
        min=1,
        help="Train N times with different random seeds, and print mean and standard deviation of each metric.",
    ),
    batch_size: int = typer.Option(
        None,
        "--batch-size",
        min=1,
        help="Batch size in examples, for all tasks except translation. Default: 32.",
    ),
    patience: int = typer.Option(
        None,
        "--patience",
        min=1,
        help="Early stopping: stop after N evaluations in a row without improvement on the dev set.",
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
    batch_tokens: str = typer.Option(
        None,
        "--batch-tokens",
        metavar="N|auto",
        help="For translation: batch size in tokens, padding included. For the other tasks, a number applies to the "
        "evaluation "
        f"on the dev set only; --batch-size sets the training batches. {training_options.AUTO_BATCH}",
    ),
    lr: float = training_options.LR,
    seed: int = training_options.SEED,
    device: str = training_options.DEVICE,
    precision: str = training_options.PRECISION,
    threads: int = training_options.THREADS,
    processes: int = training_options.PROCESSES,
    json: bool = training_options.JSON,
) -> int | None:
    """Train a model for a task on labeled examples.

    \b
    nlpcli finetune --task classify --model runs/mlm --train train.tsv --dev dev.tsv --out runs/sentiment
    nlpcli finetune --task tag --model bert-folder/ --train eng.train --dev eng.testa --out runs/ner
    nlpcli finetune --task translation --train train.en train.de --dev val.en val.de --out runs/ende
    nlpcli finetune --resume --out runs/ende
    nlpcli finetune --suite glue --train GLUE/ --model bert-folder/ --out runs/glue

    Without --train, the tasks classify, regress, similarity, tag, span and translation use the sample data that nlpcli
    contains. Ctrl-C saves a checkpoint and stops the run; --resume resumes it.

    If you do not give an option, the value in --config is used, or else the default of the task, or else the value in
    the preset. The command writes all values to config.yaml in the folder of the run. If you give one or more of
    --max-steps, --max-epochs, --max-minutes and --max-tokens, the limits in --config, in the preset and of the task are
    ignored, and training stops at the first of your limits that is reached.
    """
    given = dict(locals())
    single = "--suite" if suite else "--seeds" if seeds else "--dry-run" if dry_run else None
    status = training_options.launched(processes, alone=single)
    if status is not None:
        return status
    from nlpcli.runs.finetuning.finetune import finetune, use_of
    from nlpcli.runs.request_from_options import finetuning_request, suite_request

    line = training_options.command_line()
    if suite is not None:
        suite_options.finetune(given, lambda kind: suite_request(given, kind, command=line))
        return None
    suite_options.refuse_only(only)
    request = finetuning_request({**given, "task": task or task_name}, command=line, notify=terminal.notify)
    with training_options.watched("finetune", seeds=seeds) as watcher:
        if seeds is not None:
            _seeds(request, seeds, watcher, json=json)
            return None
        if dry_run:
            from nlpcli.runs.run_forecast import forecast

            forecast_output.write(forecast(request, watcher, finetunes=True), json=json)
            return None
        run, outcome = finetune(request, watcher)
    training_options.report(run, outcome, json=json, use=use_of(run))
    return None


def _seeds(request: Request, count: int, watcher: training_options.Watcher, *, json: bool) -> None:
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
