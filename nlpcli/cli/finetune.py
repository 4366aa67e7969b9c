"""`nlpcli finetune`: train a model for a task on examples."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import typer

from nlpcli.cli import complete, suites, terminal, training
from nlpcli.cli.spread import Spreading

_TRAIN = "Training examples: TSV, CSV, JSON lines, CoNLL or SQuAD; for translation two parallel files, SOURCE TARGET."
_SAMPLES = {
    "classify": "sentence-type",
    "regress": "paraphrases",
    "similarity": "paraphrases",
    "tag": "names",
    "span": "find-translation",
}
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
    task_name: str = typer.Argument(None, metavar="TASK", help="The same as --task.", autocompletion=complete.tasks),
    task: str = typer.Option(
        None,
        "--task",
        help="classify, multi-label, regress, choice, tag, span, similarity, text-to-text, translation.",
        autocompletion=complete.tasks,
    ),
    train: list[str] = typer.Option(None, "--train", metavar="FILE...", help=_TRAIN),
    dev: list[str] = typer.Option(None, "--dev", metavar="FILE...", help="Dev set, in the same format."),
    model: str = typer.Option(
        None,
        "--model",
        metavar="DIR|PRESET|FILE",
        help="Model to start from: a run, a Hugging Face folder, or a preset or YAML file (random weights).",
        autocompletion=complete.presets,
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
    attention: list[str] = training.ATTENTION,
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
    config: Path = training.CONFIG,
    overrides: list[str] = training.SET,
    tokenizer: Path = training.TOKENIZER,
    out: Path = training.OUT,
    resume: bool = training.RESUME,
    overwrite: bool = training.OVERWRITE,
    max_steps: int = training.MAX_STEPS,
    max_epochs: float = training.MAX_EPOCHS,
    max_minutes: float = training.MAX_MINUTES,
    max_tokens: int = training.MAX_TOKENS,
    batch_tokens: int = training.BATCH_TOKENS,
    lr: float = training.LR,
    seed: int = training.SEED,
    device: str = training.DEVICE,
    precision: str = training.PRECISION,
    threads: int = training.THREADS,
    json: bool = training.JSON,
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
    from nlpcli.recipes.finetune import finetune

    if suite is not None:
        suites.finetune(given, lambda kind: _request(given, training.Asked(kind, model, config, resume=False)))
        return
    suites.refuse_only(only)

    chosen = _named(task or task_name)
    if not resume:
        chosen = chosen or training.base_settings(given, None).get("task")
    if not resume and config is None and chosen is None:
        chosen = "text-to-text" if mixture else "translation"
        terminal.say(f"task: {chosen} (the default)")
    named = bool(resume or train or mixture)
    asked = training.Asked(chosen, model, config, resume)
    if not named and not training.chosen_in(training.base_settings(given, asked.base), "train"):
        asked = replace(asked, sample=True)
    training.tell_model(asked)
    if asked.sample:
        train, held_out = _sample(chosen)
        dev = dev or held_out
        terminal.say(f"data: {' and '.join(train)} (the sample data of nlpcli)")
    request = _request(
        given,
        asked,
        task=chosen,
        data__train=list(train or []),
        data__dev=list(dev or []),
        data__mixture=None if mixture is None else str(mixture),
        training__metric="mean" if mixture and not resume else None,
    )
    with training.watched("finetune") as watcher:
        if seeds is not None:
            _seeds(request, seeds, watcher, json=json)
            return
        run, outcome = finetune(request, watcher)
    use = _USES.get(_task_of(run), "nlpcli predict --model {run} FILE")
    training.report(run, outcome, json=json, use=use.format(run=shlex.quote(str(run))))


def _request(given: Mapping[str, Any], asked: training.Asked, **more: Any) -> Any:
    return training.request(
        given,
        default=asked.default or "",
        preset=asked.preset,
        base=asked.defaults(),
        init=asked.init,
        examples__text=given["text"],
        examples__text2=given["text2"],
        examples__label=given["label"],
        examples__choices=list(given["choices"] or []),
        examples__format=given["format"],
        examples__header=given["header"],
        model__attention=list(given["attention"] or []),
        head__objective=given["objective"],
        head__prefix=given["prefix"],
        tuning__mode=given["tune"],
        tuning__fresh=given["fresh"] or None,
        tuning__lora_rank=given["lora"],
        tuning__source_layers=given["source_layers"],
        tuning__layer_decay=given["layer_decay"],
        training__batch_size=given["batch_size"],
        training__patience=given["patience"],
        **more,
    )


def _seeds(request: Any, count: int, watcher: Any, *, json: bool) -> None:
    from nlpcli.recipes.seeds import finetune_seeds

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


def _named(task: str | None) -> str | None:
    """The task of this name or synonym. Raises: NlpcliError for an unknown one."""
    from nlpcli.tasks import TASKS

    found = None if task is None else TASKS.check(task)
    if found != task:
        terminal.say(f"task: {found} ({task})")
    return found


def _task_of(run: Path) -> str:
    from nlpcli.models.directory import read_info

    return read_info(run)["task"]


def _sample(task: str) -> tuple[list[str], list[str]]:
    """Sample data for a task: files to train on and files held out."""
    from nlpcli.data.sample import sample_file
    from nlpcli.errors import NlpcliError
    from nlpcli.tasks import TASKS

    if task == "translation":
        names = [f"tatoeba-en-de/{part}" for part in ("train.en.gz", "train.de.gz", "dev.en", "dev.de")]
        paths = [str(sample_file(name)) for name in names]
        return paths[:2], paths[2:]
    if TASKS.check(task) not in _SAMPLES:
        raise NlpcliError(f"{task} needs training examples", hint="--train FILE --dev FILE")
    folder = f"labelled/{_SAMPLES[task]}"
    suffix = {"tag": "conll", "span": "json"}.get(task, "tsv")
    return [str(sample_file(f"{folder}/train.{suffix}.gz"))], [str(sample_file(f"{folder}/dev.{suffix}"))]
