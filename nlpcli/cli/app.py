"""The command tree: which commands there are, in the order in which they are used, and their Typer objects.

A command's module is imported when the command is called or completed, not before, so that `nlpcli --help` costs
nothing but Typer itself.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import typer
from typer.core import TyperGroup

from nlpcli import __version__
from nlpcli.cli import help
from nlpcli.cli.convention import Command
from nlpcli.errors import unknown

PROGRAM = "nlpcli"

# Each name stands for a module nlpcli.cli.NAME ("-" is "_" there), which holds either `app` (a Typer with commands of
# its own) or `command` (a function).
COMMANDS = {
    "demo": "Train and score a small translator on the sample data, step by step (5 minutes).",
    "tokenize": "Train a tokenizer; turn text into tokens or ids and back.",
    "pretrain": "Train a model on raw text with a self-supervised objective.",
    "finetune": "Train a model for a task: labels, scores, tags, answers, vectors, translation, text.",
    "predict": "Apply a fine-tuned model: one output line for each input line.",
    "evaluate": "Evaluate a fine-tuned model on labeled data.",
    "embed": "Turn lines, or words in context, into vectors.",
    "search": "Find the lines of a corpus that are closest to a query.",
    "cluster": "Group similar lines.",
    "translate": "Translate text: one output line for each input line.",
    "generate": "Continue a text with a language model.",
    "score": "Compare output with references: BLEU, ROUGE, WER, F1, correlations, perplexity, …",
    "visualize-attention": "Show attention weights in the terminal, as a figure or as a web page.",
    "report": "Compare runs: curves, scores with intervals, outputs, cost.",
    "compare": "Train a grid of models at equal cost and compare the results.",
    "inspect": "Describe a model, tokenizer, run, text or parallel corpus, and check it for problems.",
    "convert": "Convert a model to or from the Hugging Face format.",
    "config": "Show the presets and all settings of a run.",
}

INTRODUCTION = """
Train, fine-tune and evaluate language models and translators in the shell.

Results go to standard output; messages go to standard error.
"""

EXAMPLES = """
\b
Examples:
  nlpcli demo
  nlpcli tokenize train --type unigram --vocab-size 8000 --out tok/ train.en train.de
  nlpcli pretrain --objective clm --data corpus/ --preset gpt-mini --out runs/lm
  nlpcli finetune --task translation --train train.en train.de --dev val.en val.de --out runs/ende
  cat test.en | nlpcli translate --model runs/ende | tee hyp.de | nlpcli score --metric bleu --ref test.de
  nlpcli finetune --task classify --model runs/mlm --train train.tsv --dev dev.tsv --out runs/labels
  nlpcli predict --model runs/labels < lines.txt
  nlpcli generate --model runs/lm --prompt "ROMEO:" --max-new-tokens 200
  nlpcli visualize-attention --model runs/ende "A man sleeps ." --out attention.html
  nlpcli report runs/ende runs/mine --out report.html
  nlpcli inspect train.en train.de

'nlpcli COMMAND --help' explains one command.
"""

SETTINGS = {"help_option_names": ["-h", "--help"]}


class Group(TyperGroup):
    """A group of commands that answers a wrong name with the nearest right one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            raise unknown("command", name, self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        sections = [*help.option_sections(self, ctx), ("Commands", self.rows(ctx))]
        formatter.write(help.page(self, ctx, sections=sections))

    def rows(self, ctx: Any) -> list[help.Row]:
        """Each command with what it does."""
        return help.described((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))


class Commands(Group):
    """The commands of the program, each built when it is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return build_command(cmd_name) if cmd_name in COMMANDS else None

    def rows(self, ctx: Any) -> list[help.Row]:
        return list(COMMANDS.items())


def build_command(name: str) -> Any:
    """The command object for `name`, a key of `COMMANDS`."""
    module = importlib.import_module("nlpcli.cli." + name.replace("-", "_"))
    outer = typer.Typer(rich_markup_mode=None, add_completion=False, context_settings=SETTINGS)
    outer.callback()(_nothing)
    if hasattr(module, "app"):
        outer.add_typer(module.app, name=name, help=COMMANDS[name], cls=Group)
    else:
        cls = getattr(module, "Command", Command)
        outer.command(name=name, short_help=COMMANDS[name], cls=cls)(module.command)
    return typer.main.get_command(outer).commands[name]  # type: ignore[attr-defined]


def build() -> Any:
    """The whole program as one command object: `make_context(name, arguments)`, then `invoke(context)`."""
    app = typer.Typer(
        cls=Commands,
        rich_markup_mode=None,
        help=INTRODUCTION,
        epilog=EXAMPLES,
        context_settings=SETTINGS,
        subcommand_metavar="COMMAND ...",
    )
    app.callback()(_program)
    return typer.main.get_command(app)


def _nothing() -> None:
    pass


def _show_version(wanted: bool) -> None:
    if wanted:
        from nlpcli.cli.terminal import write_line

        write_line(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _show_traceback(wanted: bool) -> None:
    if wanted:
        os.environ["NLPCLI_TRACEBACK"] = "1"


def _program(
    version: bool = typer.Option(
        False, "--version", "-V", callback=_show_version, is_eager=True, help="Print the version."
    ),
    traceback: bool = typer.Option(
        False,
        "--traceback",
        callback=_show_traceback,
        is_eager=True,
        help="Show the traceback of an error (also: NLPCLI_TRACEBACK=1).",
    ),
) -> None:
    pass
