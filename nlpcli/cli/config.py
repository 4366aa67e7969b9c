"""`nlpcli config`: the presets, and every setting of a run, ready to edit."""

from __future__ import annotations

from pathlib import Path

import typer

from nlpcli.cli import shell_completion, terminal
from nlpcli.cli.option_conventions import OUT_FILE, Command

app = typer.Typer(no_args_is_help=False)


@app.command("show", cls=Command)
def show(
    name: str = typer.Argument(
        ...,
        metavar="NAME|FILE",
        help="Name of a preset, YAML file with settings, or folder of a run.",
        autocompletion=shell_completion.presets,
    ),
    overrides: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Change one setting, such as training.lr=0.001 (repeatable)."
    ),
    json: bool = typer.Option(False, "--json", help="Write one JSON object instead of YAML."),
    results: Path = OUT_FILE,
) -> None:
    """Print all settings of a configuration, as YAML with a comment for each setting.

    You can edit the output and use it with --config:

    \b
    nlpcli config show gpt-mini > mine.yaml
    nlpcli pretrain --objective clm --data corpus/ --config mine.yaml
    """
    from nlpcli.commands import config as recipe

    config = recipe.resolve(name, overrides)
    if json:
        terminal.write_json(config.model_dump(mode="json"))
    else:
        terminal.stdout().write(recipe.show(config))


@app.command("list", cls=Command)
def list_presets(
    json: bool = typer.Option(False, "--json", help="Write one JSON object for each preset."),
    results: Path = OUT_FILE,
) -> None:
    """List the presets: name, architecture, and the paper that the settings come from."""
    from dataclasses import asdict, fields

    from nlpcli.commands import config as recipe

    rows = recipe.list_presets()
    if json:
        for row in rows:
            terminal.write_json(asdict(row))
    else:
        headings = [field.name for field in fields(recipe.PresetSummary)]
        terminal.write_table(headings, [list(asdict(row).values()) for row in rows])
