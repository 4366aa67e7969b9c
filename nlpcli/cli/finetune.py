"""`nlpcli finetune`: train a model for a task on examples."""

from __future__ import annotations

from pathlib import Path

import typer

from nlpcli.cli import complete, terminal, training

_PAIR = "Two parallel text files, plain or compressed: line n of one is the translation of line n of the other."


def command(
    task_name: str = typer.Argument(None, metavar="TASK", help="The same as --task.", autocompletion=complete.tasks),
    task: str = typer.Option(None, "--task", "-t", help="translation.", autocompletion=complete.tasks),
    train: tuple[str, str] = typer.Option(None, "--train", metavar="SOURCE TARGET", help=_PAIR),
    dev: tuple[str, str] = typer.Option(None, "--dev", metavar="SOURCE TARGET", help="The same, held out."),
    model: str = typer.Option(
        None, "--model", "-m", metavar="PRESET|FILE", help="A preset or a YAML file.", autocompletion=complete.presets
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
    nlpcli finetune --task translation --train train.en train.de --dev val.en val.de --out runs/ende
    nlpcli finetune --resume --out runs/ende

    Without data it trains on the English-German sentences that come with nlpcli. Ctrl-C saves first.
    """
    given = dict(locals())
    from nlpcli.recipes.finetune import finetune

    chosen = task or task_name
    if not resume and config is None:
        if chosen is None:
            chosen = "translation"
            terminal.say("task: translation (the default)")
        if model is None:
            model = "transformer-tiny"
            terminal.say("model: transformer-tiny (the default)")
    if not train and not training.names_data(given, config or model):
        train, held_out = _sample_pairs()
        dev = dev or held_out
        terminal.say(f"data: {train[0]} and {train[1]} (the sample that comes with nlpcli)")
    request = training.request(
        given,
        default="transformer-tiny",
        preset=model,
        task=chosen,
        data__train=list(train or []),
        data__dev=list(dev or []),
    )
    with training.watched("finetune") as watcher:
        run, outcome = finetune(request, watcher)
    training.report(run, outcome, json=json, use=f"nlpcli translate --model {run} FILE")


def _sample_pairs() -> tuple[tuple[str, str], tuple[str, str]]:
    from nlpcli.data.sample import sample_file

    names = [f"tatoeba-en-de/{part}" for part in ("train.en.gz", "train.de.gz", "dev.en", "dev.de")]
    paths = [str(sample_file(name)) for name in names]
    return (paths[0], paths[1]), (paths[2], paths[3])
