"""`nlpcli pretrain`: train a model on raw text."""

from __future__ import annotations

from pathlib import Path

import typer

from nlpcli.cli import complete, terminal, training


def command(
    objective_name: str = typer.Argument(
        None, metavar="OBJECTIVE", help="The same as --objective.", autocompletion=complete.objectives
    ),
    objective: str = typer.Option(
        None, "--objective", help="clm: predict each token from those before it.", autocompletion=complete.objectives
    ),
    data: list[str] = typer.Option(
        None, "--data", "-d", metavar="PATH", help="Text: a file, folder or glob, also compressed (repeatable)."
    ),
    dev: list[str] = typer.Option(
        None, "--dev", metavar="PATH", help="Held-out text; else the last 5 % of the data (data.dev_fraction)."
    ),
    preset: str = typer.Option(
        None, "--preset", "-p", help="A preset or a YAML file.", autocompletion=complete.presets
    ),
    documents: str = typer.Option(
        None, "--documents", help="How documents stand in files: auto, lines, paragraphs, file, jsonl or tsv."
    ),
    field: str = typer.Option(None, "--field", help="The key of the text in JSON lines."),
    context: int = typer.Option(None, "--context", min=1, help="Tokens in one window."),
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
    """Train a model on raw text with a self-supervised objective.

    \b
    nlpcli pretrain --objective clm --data corpus/ --preset gpt-mini --out runs/lm
    nlpcli pretrain --resume --out runs/lm

    Without data it trains on the Shakespeare that comes with nlpcli. Ctrl-C saves first.
    """
    given = dict(locals())
    from nlpcli.recipes.pretrain import pretrain

    chosen = objective or objective_name
    if not resume and config is None:
        if chosen is None:
            chosen = "clm"
            terminal.say("objective: clm (the default)")
        if preset is None:
            preset = "gpt-mini"
            terminal.say("preset: gpt-mini (the default)")
    if not data and not training.names_data(given, config or preset):
        from nlpcli.data.sample import sample_file

        data = [str(sample_file("tinyshakespeare.txt.gz"))]
        documents = documents or "file"
        terminal.say(f"data: {data[0]} (the sample that comes with nlpcli), one document")
    request = training.request(
        given,
        default="gpt-mini",
        preset=preset,
        objective=chosen,
        data__train=data,
        data__dev=dev,
        data__documents=documents,
        data__field=field,
        data__context=context,
    )
    with training.watched("pretrain") as watcher:
        run, outcome = pretrain(request, watcher)
    training.report(run, outcome, json=json, use=f'nlpcli generate --model {run} --prompt "…"')
