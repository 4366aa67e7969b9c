"""`nlpcli pretrain`: train a model on raw text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import typer

from nlpcli.cli import complete, terminal, training
from nlpcli.cli.spread import Spreading


class Command(Spreading):
    """The objective is an argument or the value of --objective."""

    spread: ClassVar = ("--data", "--dev")  # a shell makes several values of a glob

    exclusive: ClassVar = (
        ("objective_name", "objective"),
        ("model", "preset"),
        ("resume", "show"),
    )


def command(
    objective_name: str = typer.Argument(
        None, metavar="OBJECTIVE", help="The same as --objective.", autocompletion=complete.objectives
    ),
    objective: str = typer.Option(
        None,
        "--objective",
        help="clm, mlm, nsp, sop, denoise, gap-sentences, plm, or a weighted sum such as mlm=1+nsp=0.5.",
        autocompletion=complete.objectives,
    ),
    noise: str = typer.Option(
        None, "--noise", help="Noise for 'denoise': mask, delete, infill, permute, rotate; spans, iid, …"
    ),
    data: list[str] = typer.Option(
        None, "--data", metavar="PATH...", help="Training text: files, folders or globs, also compressed."
    ),
    dev: list[str] = typer.Option(
        None, "--dev", metavar="PATH...", help="Dev set. Default: the last 5 % of the data (data.dev_fraction)."
    ),
    preset: str = typer.Option(None, "--preset", help="A preset or a YAML file.", autocompletion=complete.presets),
    model: Path = typer.Option(
        None, "--model", metavar="DIR", help="Model to start from: a run or a Hugging Face folder."
    ),
    documents: str = typer.Option(
        None, "--documents", help="What a document is: auto, lines, paragraphs, file, jsonl or tsv."
    ),
    field: str = typer.Option(None, "--field", help="Field of the text in JSON lines."),
    sentences: str = typer.Option(
        None, "--sentences", help="What a sentence is, for objectives that need sentences: lines, or split (by rules)."
    ),
    context: int = typer.Option(None, "--context", min=1, help="Number of tokens in a window (context length)."),
    document_mask: bool = typer.Option(None, "--document-mask", help="clm: no attention across document boundaries."),
    attention: list[str] = training.ATTENTION,
    show: int = typer.Option(
        None, "--show", min=1, metavar="N", help="Print N training examples with their noise, and don't train."
    ),
    config: Path = training.CONFIG,
    overrides: list[str] = training.SET,
    tokenizer: Path = training.TOKENIZER,
    out: Path = training.OUT,
    resume: bool = training.RESUME,
    overwrite: bool = training.OVERWRITE,
    max_steps: int = training.MAX_STEPS,
    max_epochs: float = training.MAX_EPOCHS,
    max_minutes: float = training.MAX_MINUTES,
    max_tokens: int = training.MAX_TOKENS,
    batch_tokens: int = training.BATCH_TOKENS,
    lr: float = training.LR,
    seed: int = training.SEED,
    device: str = training.DEVICE,
    precision: str = training.PRECISION,
    threads: int = training.THREADS,
    json: bool = training.JSON,
) -> None:
    """Train a model on raw text with a self-supervised objective.

    \b
    nlpcli pretrain --objective mlm --data corpus/ --out runs/bert
    nlpcli pretrain --objective clm --data corpus/ --preset gpt-mini --out runs/lm
    nlpcli pretrain --objective denoise --noise infill --data corpus/ --show 5
    nlpcli pretrain --objective mlm --model bert-folder/ --data domain/ --out runs/domain
    nlpcli pretrain --resume --out runs/lm

    Without --data it trains on the Shakespeare text of nlpcli. Ctrl-C saves a checkpoint and stops.
    """
    given = dict(locals())
    from nlpcli.recipes import pretrain as recipe
    from nlpcli.recipes.pretraining import default_preset

    chosen, noise = _named(objective or objective_name, noise)
    if not resume:
        chosen = chosen or training.base_settings(given, None).get("objective") or ("denoise" if noise else None)
    if not resume and config is None and preset is None:
        if chosen is None:
            chosen = "clm"
            terminal.say("objective: clm (the default)")
        preset = default_preset(chosen, noise, overrides or ())
        terminal.say(f"{'preset' if model is None else 'settings as of preset'}: {preset} (the default)")
    if not resume and not data:
        data, documents = _sample(documents, chosen, training.base_settings(given, config or preset))
    request = training.request(
        given,
        default="gpt-mini",
        preset=preset if model is None else None,
        base=None if model is None or resume or config is not None else recipe.without_model(preset),
        init=None if model is None else str(model),
        objective=chosen,
        data__train=data,
        data__dev=dev,
        data__documents=documents,
        data__field=field,
        data__sentences=sentences,
        data__context=context,
        data__document_mask=document_mask,
        noise__kinds=noise,
        model__attention=list(attention or []),
    )
    with training.watched("pretrain") as watcher:
        if show is not None:
            _print(recipe.show(request, show, watcher), json=json)
            return
        run, outcome = recipe.pretrain(request, watcher)
    training.report(run, outcome, json=json, use=recipe.use_of(run))


def _sample(
    documents: str | None, objective: str | None, settings: Mapping[str, Any]
) -> tuple[list[str] | None, str | None]:
    """The sample and how documents stand in it, where `settings` name no text; what they say of documents is kept."""
    from nlpcli.data.sample import sample_file

    if training.chosen_in(settings, "train"):
        return None, documents
    data = str(sample_file("tinyshakespeare.txt.gz"))
    usual = "file" if (objective or settings.get("objective") or "clm") == "clm" else "paragraphs"
    documents = documents or training.chosen_in(settings, "documents")
    terminal.say(f"data: {data} (the sample data of nlpcli), documents: {documents or usual}")
    return [data], documents or usual


def _named(objective: str | None, noise: str | None) -> tuple[str | None, str | None]:
    """The objective of this name or synonym, and the noise that goes with it where none was given."""
    from nlpcli.recipes.pretraining import SYNONYMS, parse

    if objective is None:
        return None, noise
    if objective.lower() not in SYNONYMS:
        parse(objective)
        return objective, noise
    found, usual = SYNONYMS[objective.lower()]
    noise = noise or usual
    terminal.say(f"objective: {found} ({objective})" + (f", noise: {noise}" if usual else ""))
    return found, noise


_STYLES = {"text": "", "special": "bold cyan", "changed": "bold red"}


def _print(samples: Iterable[dict[str, list[tuple[str, str]]]], *, json: bool) -> None:
    """Each example as three paragraphs: in colour on a terminal, as JSON lines when asked."""
    for number, sample in enumerate(samples, 1):
        if json:
            terminal.write_json({name: " ".join(text for text, _ in parts) for name, parts in sample.items()})
            continue
        terminal.write_line(f"{number}." if number == 1 else f"\n{number}.")
        for name, parts in sample.items():
            pieces = [(f"{name:<10}", "bold"), *((f" {text}", _STYLES[kind]) for text, kind in parts)]
            terminal.write_styled(pieces)
