"""`nlpcli visualize-attention`: what a model attends to, in the terminal, as a figure, as a page, as numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from nlpcli.cli import terminal
from nlpcli.errors import NlpcliError

_LENGTH = 32
_NUMBERS = re.compile(r"\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*")


class Command(TyperCommand):
    """`--layer 1 2` as `--layer 1 --layer 2`; what is no number after it is a text."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        result: list[str] = []
        current = ""
        for argument in args:
            if argument in ("--layer", "--head"):
                current = argument
                result.append(argument)
            elif current and result[-1] != current and _NUMBERS.fullmatch(argument):
                result += [current, argument]
            else:
                current = current if current and result[-1] == current else ""
                result.append(argument)
        return super().parse_args(ctx, result)


def command(
    texts: list[str] = typer.Argument(
        None, metavar="[TEXT]...", help="What the model reads; the lines of standard input when none is given."
    ),
    model: Path = typer.Option(
        None, "--model", "-m", metavar="DIR", help="A run or a Hugging Face folder; the newest run below runs/."
    ),
    text_a: str = typer.Option(None, "--text-a", metavar="TEXT", help="The first text of a pair."),
    text_b: str = typer.Option(None, "--text-b", metavar="TEXT", help="The second."),
    target: str = typer.Option(
        None, "--target", metavar="TEXT", help="What an encoder-decoder is to write; by default what it writes itself."
    ),
    target_file: Path = typer.Option(None, "--target-file", metavar="FILE", help="The same, a line for each text."),
    memory: str = typer.Option(
        None, "--memory", metavar="TEXT", help="What a model with memory has read before (Transformer-XL, XLNet)."
    ),
    order: str = typer.Option(
        None, "--order", help="XLNet's two streams in an order of factorisation: left-to-right or random."
    ),
    part: str = typer.Option(None, "--as", metavar="NAME", help="Of a model that learnt several tasks, the one meant."),
    site: list[str] = typer.Option(
        None, "--site", help="encoder, decoder, cross, source-encoder, content, query (repeatable)."
    ),
    layer: list[str] = typer.Option(None, "--layer", metavar="N...", help="Layers from 1: 3, or 1 2, or 1-4."),
    head: list[str] = typer.Option(None, "--head", metavar="N...", help="Heads from 1."),
    average: str = typer.Option(None, "--average", help="Show the mean over heads, layers or both."),
    rollout: bool = typer.Option(
        False, "--rollout", help="Attention followed through the layers (Abnar and Zuidema 2020)."
    ),
    gradient: bool = typer.Option(
        False, "--gradient", help="Gradient times attention: how much each weight moves what is predicted."
    ),
    label: str = typer.Option(None, "--label", help="With --gradient: of this label, not of the predicted one."),
    words: bool = typer.Option(False, "--words", help="Merge subwords to words."),
    special: bool = typer.Option(True, "--special/--no-special", help="Show special tokens, or leave them out."),
    stats: bool = typer.Option(
        False, "--stats", help="Entropy and mean distance of each head instead, over all texts."
    ),
    format: str = typer.Option(
        None,
        "--format",
        "-f",
        help="terminal, png, svg, pdf, html, json, npz or pharaoh. Default: by the name of --out, or terminal.",
    ),
    out: Path = typer.Option(
        None, "--out", "-o", metavar="FILE", help="Write here, all or nothing, not to standard output."
    ),
    width: int = typer.Option(None, "--width", min=20, help="Columns; those of the terminal."),
    color: str = typer.Option(None, "--color", help="auto (on a terminal, unless NO_COLOR is set), always or never."),
    view: str = typer.Option(None, "--view", help="In the terminal: matrix, grid (of small maps), or auto."),
    links: bool = typer.Option(False, "--links", help="In the terminal: what each token looks at most, in words."),
    theme: str = typer.Option(None, "--theme", help="Of figures: light or dark."),
    dpi: int = typer.Option(None, "--dpi", help="Of figures: dots per inch. Default: 150."),
    title: str = typer.Option(None, "--title", help="Stands above a figure or a page."),
    align: str = typer.Option(None, "--align", help="For pharaoh: argmax, or intersection of two directions."),
    reverse: Path = typer.Option(
        None, "--reverse", metavar="DIR", help="For --align intersection: the model of the other direction."
    ),
    pattern: str = typer.Option(
        None, "--pattern", metavar="PATTERN", help='Who may look at whom, without a model: "window:4+global:1".'
    ),
    positions: str = typer.Option(
        None, "--positions", help="Encodings of positions, without a model: sinusoidal, rotary, relative, …"
    ),
    length: int = typer.Option(None, "--length", min=1, help="Of a pattern or of positions, in tokens. Default: 32."),
    causal: bool = typer.Option(False, "--causal", help="Of a pattern or relative positions: nobody looks ahead."),
    d_model: int = typer.Option(None, "--d-model", min=2, help="Of positions: their width. Default: 128."),
    buckets: int = typer.Option(None, "--buckets", min=4, help="Of relative positions. Default: 32."),
    distance: int = typer.Option(None, "--distance", help="Of relative positions: beyond it all share a bucket."),
    seed: int = typer.Option(None, "--seed", help="Of --order random, and of random patterns. Default: 1."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or cuda:N."),
    threads: int = typer.Option(None, "--threads", min=1, help="CPU threads."),
) -> None:
    """See what a model attends to: rows look at columns.

    Where nothing is chosen, the terminal shows one matrix: of a translator the cross-attention of the layer that aligns
    best, of others the last layer, as the mean of its heads. The row of a decoder is the step that predicts the token
    named there.

    \b
    Examples:
      nlpcli visualize-attention --model runs/ende "A man sleeps ." --out attention.html
      nlpcli visualize-attention --model runs/bert --layer 3 --head 5 < line.txt
      nlpcli visualize-attention --model bert-base/ --text-a "He left." --text-b "Why?" --out heads.png
      nlpcli visualize-attention --model runs/ende --words --format pharaoh < test.en > test.align
      nlpcli visualize-attention --pattern "window:4+global:1" --length 32
    """
    from nlpcli.cli.attention_output import Canvas, useless

    canvas = Canvas.of(
        format, out, width=width, color=color, view=view, links=links or None, theme=theme, dpi=dpi, title=title
    )
    reading = {
        "TEXT": texts, "--model": model, "--text-a": text_a, "--text-b": text_b, "--target": target,
        "--target-file": target_file, "--memory": memory, "--order": order, "--as": part, "--gradient": gradient,
        "--label": label,
    }  # fmt: skip
    choosing = {
        "--site": site, "--layer": layer, "--head": head, "--average": average, "--rollout": rollout,
        "--words": words, "--no-special": not special, "--stats": stats,
    }  # fmt: skip
    of_patterns = {"--length": length, "--causal": causal}
    of_positions = {"--d-model": d_model, "--buckets": buckets, "--distance": distance}
    aligning = {"--align": align, "--reverse": reverse}
    if canvas.format != "pharaoh":
        useless(aligning, "is about alignments", hint="add --format pharaoh")
    if pattern is not None or positions is not None:
        name = "--pattern" if pattern is not None else "--positions"
        useless({**reading, **choosing}, f"is about a model, and {name} draws without one")
        if pattern is not None:
            useless({"--positions": positions, **of_positions}, "is about positions, and a pattern is drawn")
            _draw_pattern(canvas, pattern, length, causal, seed)
        else:
            useless({"--seed": seed}, "is about what is drawn by chance, and positions are not")
            _draw_positions(canvas, positions, length, causal, of_positions)
        return
    useless(
        {**of_patterns, **of_positions}, "is about what is drawn without a model", hint="add --pattern or --positions"
    )
    if order != "random":
        useless({"--seed": seed}, "is about a random order", hint="add --order random or --pattern")
    from nlpcli.recipes.looking.asked import Looking
    from nlpcli.recipes.looking.showing import Showing

    showing = Showing(
        sites=tuple(site or ()), layers=_numbers("--layer", layer), heads=_numbers("--head", head), words=words,
        special=special, average=average, rollout=rollout,
    )  # fmt: skip
    job = Looking(
        model=model, memory=memory, order=order, seed=1 if seed is None else seed, gradient=gradient, label=label,
        part=part, device=device, threads=threads,
    )  # fmt: skip
    _check(rollout and gradient, "a rollout is of weights, not of gradients", "leave out --rollout or --gradient")
    _check(stats and gradient, "entropy is that of weights, not of gradients", "leave out --stats or --gradient")
    given = _given(texts or [], text_a, text_b, target, target_file)
    _draw(canvas, job, showing, given, stats)


def _draw(canvas: Any, job: Any, showing: Any, given: Iterator[Any], stats: bool) -> None:
    from nlpcli.recipes.looking.look import look
    from nlpcli.recipes.looking.showing import mean_numbers, shown, told

    attentions = look(job, given, say=terminal.say, warn=terminal.warn)
    if stats:
        from nlpcli.visualization.aids import statistics

        numbers = [statistics(shown(attention, showing, few=False)) for attention in attentions]
        canvas.write_numbers(mean_numbers(numbers), len(numbers))
        return
    whole = bool(showing.layers and (showing.heads or showing.average))

    def drawn() -> Iterator[Any]:
        for number, attention in enumerate(attentions):
            few = canvas.shows_few(attention, showing)
            found = shown(attention, showing, few=few)
            if few and number == 0 and not whole:
                terminal.say(f"shown: {told(attention, found)}; --site, --layer and --head choose, html shows all")
            yield found

    canvas.write(drawn())


def _draw_pattern(canvas: Any, pattern: str, length: int | None, causal: bool, seed: int | None) -> None:
    from nlpcli.recipes.figures import pattern_attention

    canvas.write(iter([pattern_attention(pattern, length or _LENGTH, causal=causal, seed=1 if seed is None else seed)]))


def _draw_positions(canvas: Any, kind: str, length: int | None, causal: bool, given: dict[str, int | None]) -> None:
    from nlpcli.cli.attention_output import useless
    from nlpcli.recipes.figures import position_matrix

    relative = kind == "relative"
    if relative:
        useless({"--d-model": given["--d-model"]}, "is about vectors, and relative positions are numbers")
    else:
        names = ("--buckets", "--distance")
        wrong = {name: given[name] for name in names} | {"--causal": causal}
        useless(wrong, f"is about relative positions, not {kind} ones")
    named = {"--d-model": "d_model", "--buckets": "buckets", "--distance": "distance"}
    settings = {named[name]: value for name, value in given.items() if value is not None}
    canvas.write_matrix(position_matrix(kind, length or _LENGTH, causal=causal, **settings))


# --- what is read ------------------------------------------------------------------------------------------------


def _given(
    texts: list[str], text_a: str | None, text_b: str | None, target: str | None, target_file: Path | None
) -> Iterator[Any]:
    """The texts one by one: arguments, the pair, or the lines of standard input. Blank ones are told and left out."""
    _check(bool(texts) and text_a is not None, "texts were given twice", "leave out --text-a, or the other texts")
    _check(text_b is not None and text_a is None, "--text-b is the second text, and there is no --text-a", "add it")
    _check(target is not None and target_file is not None, "targets were given twice", "leave out --target or the file")
    _check(
        target is not None and len(texts) > 1, f"one --target for {len(texts)} texts", "put them into a --target-file"
    )
    return _numbered(texts if text_a is None else [text_a], text_b, target, target_file)


def _numbered(texts: list[str], second: str | None, target: str | None, target_file: Path | None) -> Iterator[Any]:
    from nlpcli.data.opening import STDIN, shown
    from nlpcli.data.readers import read_lines
    from nlpcli.recipes.looking.asked import Given

    if not texts:
        terminal.announce_stdin()
    targets = None if target_file is None else read_lines(target_file)
    number = 0
    for number, line in enumerate(texts or read_lines(STDIN), start=1):
        place = f"text {number}" if texts else f"{shown(STDIN)}:{number}"
        _check(target is not None and number > 1, "one --target for several lines", "put them into a --target-file")
        wanted = target
        if targets is not None:
            wanted = next(targets, None)
            _check(wanted is None, f"{place}: {target_file} has only {number - 1} lines", "it needs one for each text")
        text, other = line, second
        if second is None and not texts and "\t" in line:
            text, other = line.split("\t", 1)
        if not text.strip():
            terminal.warn(f"{place}: blank, and left out")
            continue
        yield Given(text, other, wanted, place, None if texts else number)
    if targets is not None and next(targets, None) is not None:
        raise NlpcliError(f"{target_file}: has more lines than the {number} texts")


def _numbers(name: str, given: list[str] | None) -> tuple[int, ...]:
    """`3`, `1,2` and `1-4` as numbers. Raises: NlpcliError for anything else."""
    found: list[int] = []
    for text in given or ():
        if not _NUMBERS.fullmatch(text):
            raise NlpcliError(f"{name} {text}: is no number", hint="such as 3, or 1,2, or 1-4; they count from 1")
        for part in text.split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(found))


def _check(wrong: bool, message: str, hint: str) -> None:
    if wrong:
        raise NlpcliError(message, hint=hint)
