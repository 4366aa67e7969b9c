"""`nlpcli translate`: lines in one language to lines in another."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import typer

from nlpcli.cli import convention, terminal
from nlpcli.cli.convention import OUT_FILE
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.commands.translate import Layout, Translating


class Command(convention.Command):
    """Translations are either searched for or drawn."""

    exclusive: ClassVar = (
        ("sample", "beam_size"),
        ("sample", "length_penalty"),
        ("sample", "length_normalization"),
        ("sample", "coverage_penalty"),
        ("sample", "patience"),
        ("target_prefix", "target_prefix_file"),
    )
    needed: ClassVar = {
        **dict.fromkeys(("temperature", "top_k", "top_p", "min_p", "seed"), ("sample",)),
        "alignment_layer": ("alignments",),
    }


def command(
    files: list[str] = typer.Argument(
        None, metavar="FILE", help="Files with lines to translate; '-' or none: standard input."
    ),
    model: Path = typer.Option(None, "--model", help="Model folder. Default: the newest translation run below runs/."),
    results: Path = OUT_FILE,
    beam_size: int = typer.Option(
        None,
        "--beam-size",
        help="Beam size; 1 is greedy search. Default: the model's, or 5.",
    ),
    length_penalty: float = typer.Option(
        None, "--length-penalty", help="Length penalty: above 0 favors longer translations. Default: the model's, or 1."
    ),
    length_normalization: str = typer.Option(
        None,
        "--length-normalization",
        help="Form of the length penalty: wu divides by ((5 + length) / 6)^penalty, "
        "average by length^penalty. Default: wu.",
    ),
    coverage_penalty: float = typer.Option(
        None, "--coverage-penalty", help="Coverage penalty: above 0 favors attention to every source word."
    ),
    patience: float = typer.Option(
        None,
        "--patience",
        help="Stop a sentence at patience * beam-size finished hypotheses; inf: never stop early. Default: 1.",
    ),
    n_best: int = typer.Option(1, "--n-best", help="Number of translations for each line."),
    scores: bool = typer.Option(False, "--scores", help="After each translation, print a tab and its score."),
    alignments: bool = typer.Option(
        False, "--alignments", help="After each translation, print a tab and the word alignment: 0-0 1-2."
    ),
    alignment_layer: int = typer.Option(
        None, "--alignment-layer", help="Decoder layer for --alignments, from 1. Default: the last but one."
    ),
    target_prefix: str = typer.Option(
        "", "--target-prefix", metavar="TEXT", help="Text that each translation starts with."
    ),
    target_prefix_file: Path = typer.Option(
        None, "--target-prefix-file", metavar="FILE", help="File with such a text for each line."
    ),
    sample: bool = typer.Option(False, "--sample", help="Sample translations instead of beam search."),
    temperature: float = typer.Option(
        None, "--temperature", help="With --sample: temperature; below 1 less random, above 1 more random."
    ),
    top_k: int = typer.Option(None, "--top-k", help="With --sample: sample from the k most probable tokens."),
    top_p: float = typer.Option(
        None, "--top-p", help="With --sample: sample from the smallest set of tokens with this total probability."
    ),
    min_p: float = typer.Option(
        None, "--min-p", help="With --sample: sample from tokens with at least this share of the highest probability."
    ),
    seed: int = typer.Option(None, "--seed", help="With --sample: random seed."),
    max_length: int = typer.Option(
        None,
        "--max-length",
        help="Maximum number of tokens of a translation, prefix included. Default: twice the source length plus 50.",
    ),
    min_length: int = typer.Option(None, "--min-length", help="Minimum number of tokens of a translation."),
    no_repeat_ngram: int = typer.Option(None, "--no-repeat-ngram", metavar="N", help="Repeat no sequence of N tokens."),
    repetition_penalty: float = typer.Option(
        None, "--repetition-penalty", help="Above 1, repeated tokens become less probable."
    ),
    allow_unknown: bool = typer.Option(False, "--allow-unknown", help="Allow the unknown token in translations."),
    format: str = typer.Option(
        "auto", "--format", help="Input: auto, text or jsonl (JSON lines keep their other fields)."
    ),
    field: str = typer.Option(
        None, "--field", help="JSON field to translate, or its path (data.text); implies jsonl. Default: text."
    ),
    output_field: str = typer.Option("translation", "--output-field", help="JSON field for the translation."),
    json: bool = typer.Option(False, "--json", help="Write one JSON object for each line, with scores."),
    line_buffered: bool = typer.Option(
        False, "--line-buffered", help="Write each translation before the next line is read."
    ),
    batch_tokens: int = typer.Option(
        None, "--batch-tokens", help="Source tokens in a batch; affects only speed and memory."
    ),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or cuda:N."),
    threads: int = typer.Option(None, "--threads", min=1, help="CPU threads."),
) -> None:
    """Translate text: one output line for each input line, in the same order. A blank line stays blank.

    A line too long for the model is cut, with a warning that names it. With --n-best the output is Moses' list
    (number ||| translation ||| logprob= L ||| score), numbers from 0. A model from a Hugging Face folder is decoded as
    its generation_config.json says, unless an option says otherwise.

    \b
    Examples:
      nlpcli translate file.txt
      cat test.en | nlpcli translate --model runs/ende | tee hyp.de | nlpcli score --metric bleu --ref test.de
      nlpcli translate --n-best 5 --alignments file.txt
      nlpcli translate --field question --output-field frage data.jsonl
    """
    from nlpcli.commands import translate as recipe
    from nlpcli.runs.text_inputs import is_json

    files = files or ["-"]
    if output_field != "translation" and not json and not any(is_json(path, format, field) for path in files):
        raise NlpcliError(
            "--output-field names a field of JSON objects, but the input and the output are plain lines",
            hint="add --json, or leave --output-field out",
        )
    drawing = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed}
    drawing = {name: value for name, value in drawing.items() if value is not None}
    layout = recipe.Layout(n_best, scores, alignments, json, output_field)
    job = recipe.Translating(
        files=tuple(files),
        model=model,
        search=recipe.Search(
            beam_size=beam_size,
            length_penalty=length_penalty,
            length_normalization=length_normalization,
            coverage_penalty=coverage_penalty,
            patience=patience,
            n_best=n_best,
            sample=sample,
            min_length=min_length,
            no_repeat_ngram=no_repeat_ngram,
            repetition_penalty=repetition_penalty,
            allow_unknown=allow_unknown,
            **drawing,
        ),
        format=format,
        input_field=field,
        added=layout.fields,
        prefix=target_prefix,
        prefix_file=target_prefix_file,
        alignments=alignments,
        alignment_layer=alignment_layer,
        batch_tokens=batch_tokens,
        max_length=max_length,
        line_buffered=line_buffered or ("-" in files and sys.stdin is not None and sys.stdin.isatty()),
        device=device,
        threads=threads,
    )
    if "-" in job.files:
        terminal.announce_stdin()
    for lines in _lines(job, layout):
        terminal.stdout().writelines(line + "\n" for line in lines)
        terminal.stdout().flush()


def _lines(job: Translating, layout: Layout) -> Iterator[list[str]]:
    """Lines of output in the portions in which they are ready, with progress where somebody can see it move."""
    from nlpcli.commands.translate import translate

    shown = not job.line_buffered and sys.stderr.isatty() and not sys.stdout.isatty()
    number, start = 0, time.monotonic()
    windows = translate(job, say=terminal.say, warn=terminal.warn)
    with terminal.progress("lines") if shown else _unseen() as bar:
        for window in windows:
            lines = [line for i, item in enumerate(window, number) for line in layout.lines(item, i)]
            number += len(window)
            bar.update(number, f"{number:,}, {number / max(time.monotonic() - start, 1e-9):,.0f} lines per second")
            yield lines


class _unseen:
    """Progress that nobody sees."""

    def __enter__(self) -> _unseen:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, completed: float, status: str = "") -> None:
        pass
