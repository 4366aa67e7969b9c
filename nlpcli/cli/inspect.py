"""`nlpcli inspect`: what is this?"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nlpcli.cli import terminal
from nlpcli.cli.option_conventions import OUT_FILE

if TYPE_CHECKING:
    from nlpcli.commands.inspect.findings import Inspection

_PAIR = 2


def command(
    paths: list[str] = typer.Argument(
        ...,
        metavar="PATH [TARGET]",
        help="A file or folder, or the two files of a parallel corpus. '-' means standard input.",
    ),
    as_kind: str = typer.Option(
        None,
        "--as",
        metavar="KIND",
        help="What to inspect PATH as: run (the folder of a run), model, tokenizer, checkpoint, runs (a folder that "
        "contains runs), shards (a tokenized text), index (a search index), suite (the data of a benchmark suite), "
        "weights (a .safetensors file), vectors (a .npy file), metrics (the log metrics.jsonl of a run), json-lines or "
        "text. Default: recognized from the content.",
    ),
    length: int = typer.Option(
        None,
        "--length",
        min=1,
        max=1_000_000,
        help="For a model: sequence length in tokens for which FLOPs (floating-point operations) are counted. "
        "Default: 128.",
    ),
    weights: bool = typer.Option(
        False,
        "--weights",
        help="For a model: list each weight with its shape, data type, mean, standard deviation, minimum and maximum.",
    ),
    verify: bool = typer.Option(
        False,
        "--verify",
        help="For a trained model: compute the parts of its signature again, from its files and the training data. "
        "Exit with status 1 if one differs.",
    ),
    text: list[str] = typer.Option(
        [],
        "--corpus",
        metavar="FILE",
        help="For a tokenizer: a text file to tokenize, to report tokens per word and unknown tokens. Repeatable.",
    ),
    dev: tuple[str, str] = typer.Option(
        None,
        "--dev",
        metavar="SOURCE TARGET",
        help="For a parallel corpus: dev set that is checked for overlap with the training data.",
    ),
    test: tuple[str, str] = typer.Option(
        None,
        "--test",
        metavar="SOURCE TARGET",
        help="For a parallel corpus: test set that is checked for overlap with the training data.",
    ),
    tokenizer: Path = typer.Option(
        None, "--tokenizer", metavar="DIR", help="For a parallel corpus: tokenizer that is used to count tokens."
    ),
    target_tokenizer: Path = typer.Option(
        None,
        "--target-tokenizer",
        metavar="DIR",
        help="For a parallel corpus: tokenizer of the target side. Default: the same as --tokenizer.",
    ),
    languages: tuple[str, str] = typer.Option(
        None, "--languages", metavar="SOURCE TARGET", help="For a parallel corpus: expected languages, such as en de."
    ),
    show: int = typer.Option(3, "--show", min=0, help="Number of examples to show for each finding."),
    limit: int = typer.Option(None, "--limit", min=1, help="Read at most this many lines of each text. Default: all."),
    strict: bool = typer.Option(
        False, "--strict", help="Exit with status 1 if a problem is found (notes do not count as problems)."
    ),
    json: bool = typer.Option(
        False,
        "--json",
        help="Write one JSON object. It contains the numbers of all lines in which a problem was found.",
    ),
    results: Path = OUT_FILE,
) -> int:
    """Describe a file or folder, and report problems in it.

    It can be a model, a tokenizer, a run, a checkpoint, a tokenized text, vectors, a text or a parallel corpus.

    \b
    Examples:
      nlpcli inspect runs/ende
      nlpcli inspect --as tokenizer runs/ende --corpus test.de
      nlpcli inspect train.en train.de --test test.en test.de --languages en de
      zcat corpus.gz | nlpcli inspect -
    """
    if "-" in [*paths, *text, *(dev or ()), *(test or ())]:
        terminal.announce_stdin()
    with terminal.progress("inspecting") as shown:

        def count(lines: int) -> None:
            shown.update(lines, "lines")

        if len(paths) == 1:
            _refuse_pair_options(dev=dev, test=test, tokenizer=tokenizer, target_tokenizer=target_tokenizer,
                                 languages=languages)  # fmt: skip
            from nlpcli.commands.inspect import inspect

            found = inspect(paths[0], as_kind=as_kind, length=length, weights=weights, verify=verify,
                            text=text, show=show, limit=limit, on_line=count)  # fmt: skip
        else:
            _refuse_single_options(paths, as_kind=as_kind, length=length, weights=weights, verify=verify, text=text)
            from nlpcli.commands.inspect.parallel_report import Corpus, inspect_parallel

            corpus = Corpus((paths[0], paths[1]), dev=dev, test=test, tokenizer=tokenizer,
                            target_tokenizer=target_tokenizer, languages=tuple(languages or ()), show=show,
                            limit=limit, on_line=count)  # fmt: skip
            found = inspect_parallel(corpus)
    if json:
        terminal.write_json(found.as_dict())
    else:
        _write(found)
    return int((strict or verify) and found.has_problems)


def _refuse_pair_options(**given: object) -> None:
    from nlpcli.errors import NlpcliError

    for name, value in given.items():
        if value:
            raise NlpcliError(
                f"--{name.replace('_', '-')} applies to a parallel corpus only",
                hint="name both files of it: nlpcli inspect train.en train.de",
            )


def _refuse_single_options(paths: Sequence[str], **given: object) -> None:
    from nlpcli.errors import NlpcliError

    if len(paths) > _PAIR:
        raise NlpcliError(
            f"{len(paths)} paths are given, but at most two are possible",
            hint="name one path, or the two files of a parallel corpus",
        )
    folders = [path for path in paths if Path(path).is_dir()]
    if folders:
        raise NlpcliError(
            f"{folders[0]}: the path is a folder, but both sides of a parallel corpus must be files",
            hint="inspect one path at a time; 'nlpcli report' compares runs",
        )
    for name, value in given.items():
        if value:
            option = {"as_kind": "as", "text": "corpus"}.get(name, name)
            raise NlpcliError(f"--{option} has no effect on a parallel corpus")


def _write(inspection: Inspection) -> None:
    from nlpcli.cli.fact_sections import finding_lines, section_lines

    width = _width()
    terminal.write_styled([(inspection.path, "bold"), (f": {inspection.title}", "")])
    for section in inspection.sections:
        terminal.write_line()
        terminal.write_styled([(section.title, "bold cyan")])
        for line in section_lines(section, width):
            terminal.write_styled(line)
    terminal.write_line()
    terminal.write_styled([("Findings" if inspection.findings else "No problems were found.", "bold cyan")])
    for line in finding_lines(inspection.findings, width):
        terminal.write_styled(line)


def _width() -> int:
    """Columns of the terminal, 80 in a pipe."""
    return max(40, min(shutil.get_terminal_size((80, 24)).columns, 120))
