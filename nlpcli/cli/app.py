"""The command tree: which commands there are, in the order in which they are used, and their Typer objects.

A command's module is imported when the command is called or completed, not before, so that `nlpcli --help` costs
nothing but Typer itself.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup, TyperOption

from nlpcli import __version__
from nlpcli.cli import help
from nlpcli.cli.option_conventions import Command
from nlpcli.errors import unknown

if TYPE_CHECKING:
    from typer._click import Command as AnyCommand
    from typer._click import Context, HelpFormatter

PROGRAM = "nlpcli"

# Each name stands for a module nlpcli.cli.NAME ("-" is "_" there), which holds either `app` (a Typer with commands of
# its own) or `command` (a function).
COMMANDS = {
    "demo": "Train and score a small translation model on the sample data, step by step (5 minutes).",
    "tokenize": "Train a tokenizer; convert text into tokens or token ids, and back.",
    "pretrain": "Train a model on raw text with a self-supervised objective.",
    "finetune": "Train a model on labeled examples: classification, regression, tagging, question answering, "
    "similarity, translation or text generation.",
    "predict": "Predict with a fine-tuned model: one output line for each input line.",
    "evaluate": "Evaluate a fine-tuned model on labeled data.",
    "embed": "Compute embeddings (vectors) of lines, or of words in context.",
    "search": "Find the lines of a corpus that are most similar to a query.",
    "cluster": "Cluster lines by the similarity of their embeddings.",
    "translate": "Translate text: one output line for each input line.",
    "generate": "Continue a text with a language model, or solve a task with prompts.",
    "score": "Compute metrics of outputs against references (BLEU, ROUGE, WER, F1, …), or perplexity.",
    "visualize-attention": "Show attention weights in the terminal, as a figure or as a web page.",
    "report": "Report on one or more runs: learning curves, scores with confidence intervals, outputs, cost.",
    "compare": "Train several configurations with the same training budget and compare the results.",
    "inspect": "Describe a model, tokenizer, run, text or parallel corpus, and report problems in it.",
    "convert": "Convert a model to or from the Hugging Face format.",
    "config": "List the presets (named configurations); print all settings of a configuration.",
}

INTRODUCTION = """
Train, fine-tune and evaluate language models and translation models from the command line.

Each training is a run. Its folder, by default a new one in runs/, contains the model, its tokenizer, its configuration
and its metrics. Other commands take the folder of a run as their model.

Results go to standard output. Messages go to standard error. The pages that the help names, such as
docs/finetuning.md, are in the source code of nlpcli.
"""

EXAMPLES = """
\b
Examples:
  nlpcli demo
  nlpcli tokenize train --type unigram --vocab-size 8000 --out tok/ train.en train.de
  nlpcli pretrain --objective mlm --data corpus/ --out runs/mlm
  nlpcli finetune --task classify --model runs/mlm --train train.tsv --dev dev.tsv --out runs/labels
  nlpcli predict --model runs/labels lines.txt
  nlpcli pretrain --objective clm --data corpus/ --out runs/lm
  nlpcli generate --model runs/lm --prompt "ROMEO:" --max-new-tokens 200
  nlpcli finetune --task translation --tokenizer tok/ --train train.en train.de --dev val.en val.de --out runs/ende
  cat test.en | nlpcli translate --model runs/ende | tee hyp.de | nlpcli score --metric bleu --ref test.de
  nlpcli visualize-attention --model runs/ende "A man sleeps ." --out attention.html
  nlpcli report runs/ende --out report.html
  nlpcli inspect train.en train.de

'nlpcli COMMAND --help' describes one command and its options.
"""

_COMPLETION = {
    "install_completion": "Install completion of commands and options (Tab key) for the current shell.",
    "show_completion": "Print the completion script for the current shell instead of installing it.",
}
"""Help of the options that Typer adds, by parameter."""

SETTINGS = {"help_option_names": ["-h", "--help"]}


class Group(TyperGroup):
    """A group of commands that answers a wrong name with the nearest right one."""

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, AnyCommand | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            raise unknown("command", name, self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        sections = [*help.option_sections(self, ctx), ("Commands", self.rows(ctx))]
        formatter.write(help.page(self, ctx, sections=sections))

    def rows(self, ctx: Context) -> list[help.Row]:
        """Each command with what it does."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        return help.described((name, command) for name, command in commands if command is not None)


class Commands(Group):
    """The commands of the program, each built when it is needed."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> AnyCommand | None:
        return build_command(cmd_name) if cmd_name in COMMANDS else None

    def rows(self, ctx: Context) -> list[help.Row]:
        return list(COMMANDS.items())


def build_command(name: str) -> AnyCommand:
    """The command object for `name`, a key of `COMMANDS`."""
    module = importlib.import_module("nlpcli.cli." + name.replace("-", "_"))
    outer = typer.Typer(rich_markup_mode=None, add_completion=False, context_settings=SETTINGS)
    outer.callback()(_nothing)
    if hasattr(module, "app"):
        outer.add_typer(module.app, name=name, help=COMMANDS[name], cls=Group)
    else:
        cls = getattr(module, "Command", Command)
        outer.command(name=name, short_help=COMMANDS[name], cls=cls)(module.command)
    group = typer.main.get_command(outer)
    assert isinstance(group, TyperGroup)  # as it has a callback
    return group.commands[name]


def build() -> AnyCommand:
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
    command = typer.main.get_command(app)
    for parameter in command.params:
        if isinstance(parameter, TyperOption):
            parameter.help = _COMPLETION.get(parameter.name, parameter.help)
    return command


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
        False, "--version", "-V", callback=_show_version, is_eager=True, help="Print the version of nlpcli."
    ),
    traceback: bool = typer.Option(
        False,
        "--traceback",
        callback=_show_traceback,
        is_eager=True,
        help="Print the Python traceback of an error (as does the environment variable NLPCLI_TRACEBACK=1).",
    ),
) -> None:
    pass
