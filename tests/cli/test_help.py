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


def test_help_says_the_range_of_a_number_in_words():
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    @app.command(cls=Command)
    def command(
        least: int = typer.Option(None, "--least", min=1, help="A count."),
        share: float = typer.Option(0.5, "--share", min=0, max=1, help="A share."),
    ) -> None:
        """Count."""

    built = typer.main.get_command(app)
    with built.make_context("count", []) as context:
        shown = " ".join(built.get_help(context).split())
    assert "A count. [at least 1]" in shown and "A share. [default: 0.5; from 0 to 1]" in shown
