"""`nlpcli convert`: models to and from Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import typer

from nlpcli.cli import convention, terminal
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError

_SHOWN = 5


class Command(convention.Command):
    """The folder that is written is an argument or the value of --out."""

    exclusive: ClassVar = (("folder", "out"),)


def command(
    source: Path = typer.Argument(..., metavar="MODEL", help="A run's folder, or a Hugging Face checkpoint folder."),
    folder: Path = typer.Argument(None, metavar="OUT", help="The same as --out."),
    out: Path = typer.Option(None, "--out", metavar="DIR", help="The folder to write."),
    to: str = typer.Option(
        None, "--to", help="Format to write: huggingface or nlpcli. Default: the one that MODEL does not have."
    ),
    allow_pickle: bool = typer.Option(
        False, "--allow-pickle", help="Read weights from a pytorch_model.bin (a pickle; only its tensors are loaded)."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a model in OUT."),
    json: bool = typer.Option(False, "--json", help="Report as one JSON object."),
) -> None:
    """Convert a model to or from the Hugging Face format: settings, weights and tokenizer.

    BERT, RoBERTa, XLM-R, ELECTRA, DistilBERT, ModernBERT, MPNet, GPT, GPT-2, GPT-NeoX, Llama, Mistral, Qwen3, BART, T5,
    PEGASUS, XLNet and Marian are read and written. A fine-tuned model becomes the class for its task, such as
    BertForSequenceClassification, with its labels; one for similarity a folder of sentence-transformers. Commands that
    take a model take such a folder directly, too.

    \b
    Examples:
      nlpcli convert --to huggingface runs/ende ende-hf/
      nlpcli convert opus-mt-en-de/ runs/opus
      nlpcli convert --to huggingface runs/classifier classifier-hf/
    """
    from nlpcli.commands.convert import Conversion, convert

    target = out or folder
    if target is None:
        raise NlpcliError("no output folder is given", hint=f"nlpcli convert {source} OUT")
    done = convert(Conversion(source, target, to, allow_pickle, overwrite))
    terminal.say(
        f"{done.out}: {done.model}, {counted(done.parameters, 'parameter')}, {counted(done.vocab_size, 'token')}"
    )
    if done.left_out:
        more = f" and {len(done.left_out) - _SHOWN} more" if len(done.left_out) > _SHOWN else ""
        terminal.warn(f"weights that this model does not use were left out: {', '.join(done.left_out[:_SHOWN])}{more}")
    if json:
        from dataclasses import asdict

        terminal.write_json({**asdict(done), "out": str(done.out)})
