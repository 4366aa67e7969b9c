"""`nlpcli demo`: every command it runs is printed first, and could be typed instead."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer

from nlpcli.cli import terminal


def command(
    out: Path = typer.Option(Path("nlpcli-demo"), "--out", metavar="DIR", help="New folder for all files of the demo."),
    minutes: float = typer.Option(
        3.0,
        "--minutes",
        min=0.01,
        help="Training time of the translation model in minutes. More time gives better translations.",
    ),
    json: bool = typer.Option(False, "--json", help="Print the folder and the translations as JSON."),
) -> None:
    """Train and score a small translation model on the sample data, step by step.

    The demo trains a tokenizer, a small language model and a translation model from English to German. Then it
    translates sentences of the test set and compares the translations with the references. This takes about five
    minutes on two CPU cores. The demo prints each command line before it runs it.
    """
    from nlpcli.commands import demo

    files = demo.prepare(out)
    terminal.notify(f"The sample data is in {out / 'data'}; all other files are written to {out}.")
    steps = demo.steps(out, files, minutes)
    for number, step in enumerate(steps, start=1):
        for line in ("", f"[{number}/{len(steps)}] {step.title}:", "", f"  {step.line}", ""):
            terminal.notify(line)
        status = step.run()
        if status != 0:
            terminal.notify(f"nlpcli: step {number} of the demo failed with status {status}")
            terminal.notify(f"  hint: the results of the earlier steps are in {out}")
            raise typer.Exit(status if status > 0 else 128 - status)
    examples = demo.examples(out, files)
    if json:
        names = ("text", "translation", "reference")
        rows = [dict(zip(names, example, strict=True)) for example in examples]
        terminal.write_json({"out": str(out), "examples": rows})
    else:
        _show_examples(examples)
    _show_what_next(out)


def _show_examples(examples: Iterable[tuple[str, str, str]]) -> None:
    terminal.write_line()
    for source, hypothesis, reference in examples:
        terminal.write_report(f"  source      {source}")
        terminal.write_report(f"  translation {hypothesis}")
        terminal.write_report(f"  reference   {reference}")
        terminal.write_line()


def _show_what_next(out: Path) -> None:
    text = f"""\
Next steps:

  echo "Where is my book?" | nlpcli translate --model {out}/translator
  nlpcli generate --model {out}/lm --prompt "JULIET:"
  nlpcli config show transformer-mini        print the settings of the translation model
  nlpcli demo --minutes 30 --out demo-30     run the demo with more training time
  nlpcli finetune --help                     train on your own data"""
    for line in text.splitlines():
        terminal.notify(line)
