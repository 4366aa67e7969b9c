"""`nlpcli translate`: lines in one language to lines in another."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import typer

from nlpcli.cli import option_conventions, shared_options, terminal
from nlpcli.cli.option_conventions import JSON_FIELD, OUT_FILE, STANDARD_INPUT
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.commands.translate import Layout
    from nlpcli.runs.translation import TranslateRequest


class Command(option_conventions.Command):
    """Translations come either from beam search or from sampling."""

    exclusive: ClassVar = (
        ("sample", "beam_size"),
        ("sample", "length_penalty"),
        ("sample", "length_normalization"),
        ("sample", "coverage_penalty"),
        ("sample", "beam_patience"),
        ("target_prefix", "target_prefix_file"),
        ("line_buffered", "processes"),
    )
    needed: ClassVar = {
        **dict.fromkeys(("temperature", "top_k", "top_p", "min_p", "seed"), ("sample",)),
        "alignment_layer": ("alignments",),
    }


def command(
    files: list[str] = typer.Argument(None, metavar="FILE", help=f"Files with one text in each line. {STANDARD_INPUT}"),
    model: Path = typer.Option(
        None, "--model", help="Folder of a translation model. Default: the latest translation model in runs/."
    ),
    ensemble: list[Path] = typer.Option(
        [],
        "--ensemble",
        metavar="DIR",
        help="Folder of another translation model with the same tokenizer (repeatable). The models choose each token "
        "together, by the mean of their probabilities.",
    ),
    results: Path = OUT_FILE,
    beam_size: int = typer.Option(
        None,
        "--beam-size",
        help="Number of hypotheses in beam search; 1 means greedy search. "
        "Default: the value in the model's configuration, or 5.",
    ),
    length_penalty: float = typer.Option(
        None,
        "--length-penalty",
        help="Length penalty. Larger values favor longer translations; 0 means no penalty. "
        "Default: the value in the model's configuration, or 1.",
    ),
    length_normalization: str = typer.Option(
        None,
        "--length-normalization",
        help="How the length penalty is applied. wu: the log-probability is divided by "
        "((5 + length) / 6)^penalty. average: it is divided by length^penalty. Default: wu.",
    ),
    coverage_penalty: float = typer.Option(
        None,
        "--coverage-penalty",
        help="Penalty for source words that receive little attention (Wu et al. 2016); 0 means no penalty. Default: 0.",
    ),
    beam_patience: float = typer.Option(
        None,
        "--beam-patience",
        help="Beam search stops after (this number x --beam-size) complete hypotheses. inf: it stops only when no "
        "incomplete hypothesis can still become the best one. Default: 1.",
    ),
    n_best: int = typer.Option(1, "--n-best", help="Number of translations of each input line."),
    scores: bool = typer.Option(
        False,
        "--scores",
        help="Print a tab and the score after each translation: the log-probability, changed by the length penalty and "
        "the coverage penalty. A higher score is better.",
    ),
    alignments: bool = typer.Option(
        False,
        "--alignments",
        help="Print a tab and the word alignment after each translation. 0-0 1-2 means: source word 0 is aligned with "
        "target word 0, and source word 1 with target word 2. With --n-best, the alignment is the last field of each "
        "output line.",
    ),
    alignment_layer: int = typer.Option(
        None,
        "--alignment-layer",
        help="Number of the decoder layer whose attention gives the word alignment, from 1. "
        "Default: the head trained by guided alignment, or else the second to last layer.",
    ),
    target_prefix: str = typer.Option(
        "", "--target-prefix", metavar="TEXT", help="Text with which every translation starts."
    ),
    target_prefix_file: Path = typer.Option(
        None,
        "--target-prefix-file",
        metavar="FILE",
        help="File with one target prefix for each input line; a blank line means no prefix.",
    ),
    sample: bool = typer.Option(False, "--sample", help="Sample translations at random instead of using beam search."),
    temperature: float = typer.Option(
        None,
        "--temperature",
        help="With --sample: sampling temperature. Values below 1 make the translations less random, values above 1 "
        "more random. Default: 1.",
    ),
    top_k: int = typer.Option(
        None,
        "--top-k",
        help="With --sample: sample only from the N most probable tokens; 0 means all tokens. Default: 0.",
    ),
    top_p: float = typer.Option(
        None,
        "--top-p",
        help="With --sample: sample only from the smallest set of most probable tokens whose total probability is at "
        "least this number; 1 means all tokens. Default: 1.",
    ),
    min_p: float = typer.Option(
        None,
        "--min-p",
        help="With --sample: sample only from tokens whose probability is at least this number times the probability "
        "of the most probable token; 0 means all tokens. Default: 0.",
    ),
    seed: int = typer.Option(
        None, "--seed", help="With --sample: random seed. The same seed gives the same translations. Default: 1."
    ),
    max_length: int = typer.Option(
        None,
        "--max-length",
        help="Maximum number of tokens in a translation, target prefix included. "
        "Default: 2 x N + 50 for a source of N tokens.",
    ),
    min_length: int = typer.Option(None, "--min-length", help="Minimum number of tokens in a translation. Default: 0."),
    no_repeat_ngram: int = shared_options.NO_REPEAT_NGRAM,
    repetition_penalty: float = typer.Option(
        None,
        "--repetition-penalty",
        help="Penalty for tokens that already occur in the translation. Values above 1 make them less probable. "
        "Default: 1 (no penalty).",
    ),
    allow_unknown: bool = typer.Option(
        False, "--allow-unknown", help="Allow the token for unknown words, <unk>, in translations."
    ),
    format: str = typer.Option(
        "auto",
        "--format",
        help="Input format: auto, text or jsonl (JSON lines). auto: jsonl if the file name ends in .jsonl, .ndjson or "
        ".json, or if --field is given.",
    ),
    field: str = typer.Option(
        None,
        "--field",
        help=f"JSON field with the text to translate. {JSON_FIELD} The option implies --format jsonl. Default: text.",
    ),
    output_field: str = typer.Option(
        "translation",
        "--output-field",
        help="JSON field for the translation. For JSON lines, the output contains all input fields and this one.",
    ),
    json: bool = typer.Option(
        False, "--json", help="Write one JSON object for each input line, with the translation and its score."
    ),
    line_buffered: bool = typer.Option(
        False, "--line-buffered", help="Translate and print each line before the next line is read."
    ),
    batch_tokens: int = typer.Option(
        None,
        "--batch-tokens",
        help="Maximum number of source tokens in a batch, padding included. It affects only speed and memory. "
        "Default: 1024.",
    ),
    engine: str = typer.Option(
        None,
        "--engine",
        metavar="ENGINE",
        help="What computes the translations: torch, ctranslate2 (two to five times faster on a CPU; needs pip install "
        "'nlpcli[fast]'), or auto: ctranslate2 if it is installed and supports the model and the options. For "
        "ctranslate2 the model is converted once; the result is kept in the folder of the model. Default: auto.",
    ),
    quantization: str = typer.Option(
        None,
        "--quantization",
        metavar="TYPE",
        help="With --engine ctranslate2: type of the weights, such as int8 or bfloat16. Smaller types are faster and "
        "change the translations slightly. Default: float32.",
    ),
    device: str = shared_options.DEVICE,
    threads: int = shared_options.THREADS,
    processes: int = shared_options.PROCESSES,
) -> None:
    """Translate text with a translation model: one output line for each input line, in the same order.

    A blank input line gives a blank output line. If a line is longer than the model's maximum length, the line is
    truncated and a warning names its line number.

    With --n-best N, each input line gives N output lines, best first, in the n-best format of the Moses toolkit. The
    fields are the number of the input line (from 0), the translation, its log-probability and its score:

    \b
      0 ||| Guten Morgen! ||| logprob= -1.2040 ||| -0.8754

    The defaults below apply to models that were trained with nlpcli. For a model in a Hugging Face folder, the defaults
    are the settings in its file generation_config.json.

    \b
    Examples:
      nlpcli translate file.txt
      cat test.en | nlpcli translate --model runs/ende | tee hyp.de | nlpcli score --metric bleu --ref test.de
      nlpcli translate --n-best 5 --alignments file.txt
      nlpcli translate --field question --output-field frage data.jsonl
    """
    from nlpcli.commands.translate import Layout
    from nlpcli.runs.search_options import Search
    from nlpcli.runs.text_inputs import is_json
    from nlpcli.runs.translation import TranslateRequest

    files = files or ["-"]
    if output_field != "translation" and not json and not any(is_json(path, format, field) for path in files):
        raise NlpcliError(
            "--output-field names a field of JSON objects, but the input and the output are plain lines",
            hint="add --json, or leave --output-field out",
        )
    sampling_options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed}
    sampling: dict[str, Any] = {name: value for name, value in sampling_options.items() if value is not None}
    layout = Layout(n_best, scores, alignments, json, output_field)
    job = TranslateRequest(
        files=tuple(files),
        model=model,
        search=Search(
            beam_size=beam_size,
            length_penalty=length_penalty,
            length_normalization=length_normalization,
            coverage_penalty=coverage_penalty,
            beam_patience=beam_patience,
            n_best=n_best,
            sample=sample,
            min_length=min_length,
            no_repeat_ngram=no_repeat_ngram,
            repetition_penalty=repetition_penalty,
            allow_unknown=allow_unknown,
            **sampling,
        ),
        format=format,
        input_field=field,
        added=layout.fields,
        prefix=target_prefix,
        prefix_file=target_prefix_file,
        alignments=alignments,
        alignment_layer=alignment_layer,
        scores=scores or json or n_best > 1,
        batch_tokens=batch_tokens,
        max_length=max_length,
        line_buffered=line_buffered or ("-" in files and sys.stdin is not None and sys.stdin.isatty()),
        device=device,
        threads=threads,
        processes=processes,
        engine=engine,
        quantization=quantization,
        ensemble=tuple(ensemble),
    )
    if "-" in job.files:
        terminal.announce_stdin()
    for lines in _lines(job, layout):
        terminal.stdout().writelines(line + "\n" for line in lines)
        terminal.stdout().flush()


def _lines(job: TranslateRequest, layout: Layout) -> Iterator[list[str]]:
    """Lines of output in the portions in which they are ready, with progress where somebody can see it move."""
    from nlpcli.runs.translation import translate

    shown = not job.line_buffered and sys.stderr.isatty() and not sys.stdout.isatty()
    number, start = 0, time.monotonic()
    windows = translate(job, notify=terminal.notify, warn=terminal.warn)
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
