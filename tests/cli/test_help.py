from __future__ import annotations

import typer

from nlpcli.cli.option_conventions import Command


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


def test_help_writes_arguments_and_bounds_in_words():
    app = typer.Typer(rich_markup_mode=None, add_completion=False)

    @app.command(cls=Command)
    def command(
        grid: str = typer.Argument(..., metavar="GRID", help="The grid."),
        files: list[str] = typer.Argument(..., metavar="FILE...", help="The files [x>=1 stays here]."),
        least: int = typer.Option(2, "--least", min=1, help="Least."),
        share: float = typer.Option(None, "--share", min=0.0, max=0.5, help="Share."),
        most: float = typer.Option(None, "--most", max=2.0, help="Most."),
        ratio: float = typer.Option(0.3, "--ratio", min=0.01, help="Ratio."),
    ) -> None:
        """Say it."""

    built = typer.main.get_command(app)
    with built.make_context("say", ["x", "y"]) as context:
        shown = " ".join(built.get_help(context).split())
    for words in (
        "Usage: say [OPTIONS] GRID FILE... Say it.", "Least. [default: 2; at least 1]", "Share. [0 to 0.5]",
        "Most. [at most 2]", "Ratio. [default: 0.3; at least 0.01]", "[x>=1 stays here]",
    ):  # fmt: skip
        assert words in shown, shown
