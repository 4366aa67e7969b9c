from __future__ import annotations

import typer

from nlpcli.cli.convention import Command


def test_help_shows_options_under_their_headings_after_the_others():
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    @app.command(cls=Command)
    def command(
        text: str = typer.Argument(..., help="The text."),
        deep: bool = typer.Option(False, "--deep", help="Go deep.", rich_help_panel="Depth"),
        plain: bool = typer.Option(False, "--plain", help="Stay plain."),
        hidden: bool = typer.Option(False, "--hidden", hidden=True, rich_help_panel="Nothing"),
    ) -> None:
        """Say it."""

    built = typer.main.get_command(app)
    with built.make_context("say", ["x"]) as context:
        shown = built.get_help(context)
    assert "Nothing" not in shown
    places = [
        shown.index(part) for part in ("Arguments:", "The text.", "Options:", "Stay plain.", "Depth:", "Go deep.")
    ]
    assert places == sorted(places)
