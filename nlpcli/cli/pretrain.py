"""`nlpcli pretrain`: train a model on raw text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import typer

from nlpcli.cli import forecast_output, shell_completion, terminal, training_options
from nlpcli.cli.multiple_values import MultiValueCommand
from nlpcli.cli.option_conventions import DOCUMENTS, JSON_FIELD


class Command(MultiValueCommand):
    """The objective is an argument or the value of --objective."""

    multi_value_options: ClassVar = ("--data", "--dev")  # a shell makes several values of a glob

    exclusive: ClassVar = (
        ("objective_name", "objective"),
        ("model", "preset"),
        ("resume", "show"),
        ("resume", "dry_run"),
        ("show", "dry_run"),
    )


def command(
    objective_name: str = typer.Argument(
        None, metavar="OBJECTIVE", help="The same as --objective.", autocompletion=shell_completion.objectives
    ),
    objective: str = typer.Option(
        None,
        "--objective",
        help="Training objective: clm (causal language modeling; the default), mlm (masked language modeling), "
        "nsp (next sentence prediction), sop (sentence order prediction), denoise (text denoising, as in BART and T5), "
        "gap-sentences (gap sentence generation, as in PEGASUS), plm (permutation language modeling, as in XLNet), "
        "word2vec (word vectors by negative sampling), paragraph-vector (vectors of documents, as in Doc2Vec), "
        "skip-thought (write the sentences before and after a sentence), "
        "or a weighted sum such as mlm=1+nsp=0.5.",
        autocompletion=shell_completion.objectives,
    ),
    noise: str = typer.Option(
        None,
        "--noise",
        metavar="NAME[:RATE]",
        help="Noise of the objective denoise. One or more of BART's noises, separated by commas: mask (replace tokens "
        "by the mask), delete (delete tokens), infill (replace each span by one mask), permute (shuffle the sentences) "
        "and rotate (start the text at a random token). Or one of T5's noises: spans (replace spans by sentinels), iid "
        "(the same, but each token is chosen independently), drop (delete tokens; the target contains only these), "
        "bert-style (mask tokens, or replace them by random ones), mass-style (only mask them), prefix (the source is "
        "the beginning of the text, the target is the rest) or deshuffle (shuffle all tokens). RATE is the fraction of "
        "the tokens that are changed, such as mask:0.15; permute, rotate, prefix and deshuffle have no rate. For "
        "infill "
        "and spans, the mean length of a span in tokens may follow, as in spans:0.15:3. Default: infill:0.3,permute.",
    ),
    data: list[str] = typer.Option(
        None,
        "--data",
        metavar="PATH...",
        help="Training text: files, folders or glob patterns. Files may be compressed.",
    ),
    dev: list[str] = typer.Option(
        None,
        "--dev",
        metavar="PATH...",
        help="Dev set: files, folders or glob patterns. Default: the last 5 % of the training text (setting "
        "data.dev_fraction).",
    ),
    preset: str = typer.Option(
        None,
        "--preset",
        metavar="NAME|FILE",
        help="Preset with the architecture and the training settings. A YAML file has the same effect as in --config. "
        "Default: a small preset for the objective. 'nlpcli config list' lists the presets.",
        autocompletion=shell_completion.presets,
    ),
    model: Path = typer.Option(
        None,
        "--model",
        metavar="DIR",
        help="Continue from the weights of this model: the folder of a run or a Hugging Face folder.",
    ),
    documents: str = typer.Option(
        None,
        "--documents",
        help=f"What a document is: {DOCUMENTS} In TSV files, the text is in the first column, or in the column that "
        "the setting data.column names. Default: auto.",
    ),
    field: str = typer.Option(None, "--field", help=f"JSON field that contains the text. {JSON_FIELD} Default: text."),
    sentences: str = typer.Option(
        None,
        "--sentences",
        help="Where sentences end, for objectives that need sentences: lines (one sentence per line) or split (found "
        "by rules; the default).",
    ),
    context: int = typer.Option(None, "--context", min=1, help="Context length in tokens."),
    document_mask: bool = typer.Option(
        None, "--document-mask", help="For the objective clm: mask attention between tokens of different documents."
    ),
    attention: list[str] = training_options.ATTENTION,
    show: int = typer.Option(
        None,
        "--show",
        min=1,
        metavar="N",
        help="Print N training examples (inputs and targets) and exit without training.",
    ),
    dry_run: bool = forecast_output.DRY_RUN,
    config: Path = training_options.CONFIG,
    overrides: list[str] = training_options.SET,
    tokenizer: Path = training_options.TOKENIZER,
    out: Path = training_options.OUT,
    resume: bool = training_options.RESUME,
    overwrite: bool = training_options.OVERWRITE,
    max_steps: int = training_options.MAX_STEPS,
    max_epochs: float = training_options.MAX_EPOCHS,
    max_minutes: float = training_options.MAX_MINUTES,
    max_tokens: int = training_options.MAX_TOKENS,
    batch_tokens: str = training_options.BATCH_TOKENS,
    lr: float = training_options.LR,
    seed: int = training_options.SEED,
    device: str = training_options.DEVICE,
    precision: str = training_options.PRECISION,
    threads: int = training_options.THREADS,
    processes: int = training_options.PROCESSES,
    json: bool = training_options.JSON,
) -> int | None:
    """Train a model on raw text with a self-supervised objective.

    \b
    nlpcli pretrain --objective mlm --data corpus/ --out runs/bert
    nlpcli pretrain --objective clm --data corpus/ --preset gpt-mini --out runs/lm
    nlpcli pretrain --objective denoise --noise infill --data corpus/ --show 5
    nlpcli pretrain --objective mlm --model bert-folder/ --data domain/ --out runs/domain
    nlpcli pretrain --resume --out runs/lm

    Without --data the command trains on the Shakespeare text that nlpcli contains. Ctrl-C saves a checkpoint and stops
    the run; --resume resumes it.

    If you do not give an option, the value in --config or in the preset is used, or else the default in the help of
    the option. If you give one or more of --max-steps, --max-epochs, --max-minutes and --max-tokens, the limits in
    --config and in the preset are ignored, and training stops at the first of your limits that is reached.
    """
    given = {**locals(), "objective": objective or objective_name}
    status = training_options.launched(processes, alone="--show" if show else "--dry-run" if dry_run else None)
    if status is not None:
        return status
    from nlpcli.runs.pretraining import pretrain as recipe
    from nlpcli.runs.request_from_options import pretraining_request

    request = pretraining_request(given, command=training_options.command_line(), notify=terminal.notify)
    with training_options.watched("pretrain", trains=show is None) as watcher:
        if show is not None:
            _print(recipe.show(request, show, watcher), json=json)
            return None
        if dry_run:
            from nlpcli.runs.run_forecast import forecast

            forecast_output.write(forecast(request, watcher, finetunes=False), json=json)
            return None
        run, outcome = recipe.pretrain(request, watcher)
    training_options.report(run, outcome, json=json, use=recipe.use_of(run))
    return None


_STYLES = {"text": "", "special": "bold cyan", "changed": "bold red"}


def _print(samples: Iterable[dict[str, list[tuple[str, str]]]], *, json: bool) -> None:
    """Each example as three paragraphs: in color on a terminal, as JSON lines on request."""
    for number, sample in enumerate(samples, 1):
        if json:
            terminal.write_json({name: " ".join(text for text, _ in parts) for name, parts in sample.items()})
            continue
        terminal.write_line(f"{number}." if number == 1 else f"\n{number}.")
        for name, parts in sample.items():
            styled = [(f"{name:<10}", "bold"), *((f" {text}", _STYLES[kind]) for text, kind in parts)]
            terminal.write_styled(styled)
