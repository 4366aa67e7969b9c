"""`nlpcli visualize-attention`: what a model attends to, in the terminal, as a figure, as a page, as numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nlpcli.cli import shared_options, terminal
from nlpcli.cli.attention_options import Command, Options, numbers

if TYPE_CHECKING:
    from nlpcli.cli.attention_output import AttentionOutput
    from nlpcli.commands.visualize_attention.request import AttentionInput, AttentionRequest
    from nlpcli.commands.visualize_attention.selection import AttentionSelection
    from nlpcli.commands.visualize_attention.text_arguments import Texts
    from nlpcli.visualization.attention_data import Attention

__all__ = ["Command", "command"]


def command(
    texts: list[str] = typer.Argument(
        None,
        metavar="TEXT",
        help="Texts that the model processes. Default: each line of standard input is a text. With "
        "--kernel-regression: a file of points.",
    ),
    model: Path = typer.Option(
        None,
        "--model",
        metavar="DIR",
        help="Folder of a run or of a Hugging Face model. Default: the latest run in runs/.",
    ),
    text_a: str = typer.Option(None, "--text-a", metavar="TEXT", help="The first text of a pair."),
    text_b: str = typer.Option(None, "--text-b", metavar="TEXT", help="The second text of a pair."),
    target: str = typer.Option(
        None,
        "--target",
        metavar="TEXT",
        help="For an encoder-decoder model: the target text. Default: the model's own output.",
    ),
    target_file: Path = typer.Option(
        None,
        "--target-file",
        metavar="FILE",
        help="For an encoder-decoder model: file with one target line for each text.",
    ),
    memory: str = typer.Option(
        None, "--memory", metavar="TEXT", help="For Transformer-XL and XLNet: an earlier text, which fills the memory."
    ),
    order: str = typer.Option(
        None, "--order", help="For XLNet: factorization order of its two streams, left-to-right or random."
    ),
    part: str = typer.Option(
        None, "--task", metavar="NAME", help="For a model trained on several tasks: the task to use."
    ),
    site: list[str] = typer.Option(
        None,
        "--site",
        metavar="NAME",
        help="Attention to show: encoder or decoder (self-attention), cross (from the decoder to the encoder), "
        "source-encoder (self-attention of the additional encoder from 'nlpcli finetune --source-layers'), content or "
        "query (the two streams of XLNet), words or sentences (the two levels of a hierarchical attention network). "
        "Repeatable.",
    ),
    layer: list[str] = typer.Option(
        None,
        "--layer",
        metavar="N...",
        help="Layers, counted from 1. Examples: 3; 1 2; 1-4. Default: see above. With --format pharaoh and "
        "--reverse-model, also A,B (layer A of --model and layer B of --reverse-model, such as 3,2) or auto (the pair "
        "of layers whose alignments agree best).",
    ),
    head: list[str] = typer.Option(
        None, "--head", metavar="N...", help="Heads, counted from 1. Examples: 3; 1 2; 1-4. Default: see above."
    ),
    average: str = typer.Option(
        None, "--average", help="What the mean is taken over: heads, layers or both. Default: see above."
    ),
    rollout: bool = typer.Option(
        False,
        "--rollout",
        help="Show attention rollout for each layer: the product of the attention matrices of the first layer up to "
        "this "
        "layer, each averaged over its heads and with the residual connection (Abnar and Zuidema 2020).",
    ),
    gradient: bool = typer.Option(
        False, "--gradient", help="Show gradient times attention: how much each weight affects the prediction."
    ),
    label: str = typer.Option(
        None,
        "--target-label",
        metavar="LABEL",
        help="With --gradient: the label whose score is differentiated. Default: the predicted label.",
    ),
    words: bool = typer.Option(False, "--words", help="Merge subword tokens into words."),
    special: bool = typer.Option(True, "--special/--no-special", help="Show special tokens, or leave them out."),
    stats: bool = typer.Option(
        False,
        "--stats",
        help="Print two statistics of each head, averaged over all texts: the entropy of its attention weights in "
        "bits, "
        "and the mean distance in tokens from a query to its keys, weighted by attention.",
    ),
    format: str = typer.Option(
        None,
        "--format",
        help="Output format: terminal, png, svg, pdf, html, json, npz (NumPy) or pharaoh (word alignments). "
        "Default: the format in the file name of --out, otherwise terminal.",
    ),
    json: bool = shared_options.JSON_AS_FORMAT,
    out: Path = typer.Option(None, "--out", metavar="FILE", help="Write to this file, not to standard output."),
    width: int = typer.Option(
        None, "--width", min=20, help="In the terminal: width in columns. Default: the terminal's width."
    ),
    color: str = typer.Option(
        None,
        "--color",
        help="In the terminal: colors, auto (on a terminal, unless NO_COLOR is set), always or never. Default: auto.",
    ),
    view: str = typer.Option(
        None,
        "--view",
        help="In the terminal: matrix (full matrices), grid (many small matrices), text (for hierarchical attention "
        "networks: the text, its words shaded by their weights) or auto. Default: auto.",
    ),
    links: bool = typer.Option(
        False, "--links", help="In the terminal: also list the keys with the largest weights for each query."
    ),
    theme: str = typer.Option(None, "--theme", help="Theme of figures: light or dark. Default: light."),
    dpi: int = typer.Option(None, "--dpi", help="Resolution of figures in dots per inch. Default: 150."),
    title: str = typer.Option(None, "--title", help="Title of a figure or a page."),
    align: str = typer.Option(
        None,
        "--align",
        metavar="METHOD",
        help="For pharaoh: how words are aligned. argmax: each target word with its best source word. intersection, "
        "union, grow-diag, grow-diag-final and grow-diag-final-and: combine these links with those of each source word "
        "with its best target word. Default: argmax, or grow-diag with --reverse-model.",
    ),
    reverse: Path = typer.Option(
        None,
        "--reverse-model",
        metavar="DIR",
        help="For pharaoh: folder of a second model, which translates in the opposite direction. The weights of both "
        "are multiplied.",
    ),
    step: str = typer.Option(
        None,
        "--step",
        help="For pharaoh: the decoding step whose attention aligns a target word: predict (the step that predicts "
        "the word) or read (the next step, which takes the word as input). Default: predict. A head trained by guided "
        "alignment has its own step and is used unless --step, --layer or --gradient is given.",
    ),
    pattern: str = typer.Option(
        None,
        "--pattern",
        metavar="PATTERN",
        help="Draw an attention mask, such as window:4+global:1. Parts are full, causal, prefix:N, window:N, "
        "restricted:N, dilated:N:D, global:N, global-random:N, random:N, random-past:N, blockwise:N, strided:N, "
        "fixed:N and bigbird:N; + means 'or', & means 'and'. "
        "docs/figures.md describes them. This needs no model.",
    ),
    positions: str = typer.Option(
        None,
        "--positions",
        metavar="NAME",
        help="Draw positional encodings: sinusoidal (sines and cosines alternate), sinusoidal-halves (first all sines, "
        "then all cosines, as in Marian and PEGASUS), rotary (RoPE), transformer-xl (sines and cosines of the "
        "distance), relative (the buckets of T5), alibi (a number for each distance), or learned (the vectors of "
        "--model). This needs no text, and a model for learned ones only.",
    ),
    explain: str = typer.Option(
        None,
        "--explain",
        metavar="TEXT",
        help="Print all numbers of one small attention head with random weights for the words of TEXT (at most 8): "
        "queries, keys, values, scores, weights and contexts. This needs no model.",
    ),
    kernel_regression: bool = typer.Option(
        False,
        "--kernel-regression",
        help="Draw kernel regression (Nadaraya-Watson), which is attention over points: its curves, errors and "
        "attention weights. TEXT is then a file with one point on each line: the last column is y, the others are x; "
        "'-' is standard input. Default: 50 points of y = 2 sin x + x^0.8 + noise. This needs no model.",
    ),
    bandwidth: str = typer.Option(
        None,
        "--bandwidth",
        metavar="NUMBER|learn",
        help="For --kernel-regression: width of the Gaussian kernel, in the unit of x; several separated by commas are "
        "for the columns of x; learn trains it on the leave-one-out error. Default: two regressions, one with the "
        "width of Scott's rule and one with the learned width.",
    ),
    convolution: str = typer.Option(
        None,
        "--convolution",
        metavar="SIZE",
        help="Draw how multi-head attention computes a convolution with a kernel of this size, such as 5 or 3x3 "
        "(Cordonnier et al. 2020). This needs no model.",
    ),
    length: int = typer.Option(
        None,
        "--length",
        min=1,
        help="For --pattern and --positions: number of tokens. Default: 32; for --positions learned: all "
        "that the model has vectors for.",
    ),
    causal: bool = typer.Option(
        False,
        "--causal",
        help="For --pattern, --positions relative and --explain: queries do not attend to later keys.",
    ),
    d_model: int = typer.Option(
        None, "--d-model", min=2, help="For --positions: dimension of the encodings. Default: 128."
    ),
    buckets: int = typer.Option(
        None, "--buckets", min=4, help="For --positions relative: number of buckets. Default: 32."
    ),
    distance: int = typer.Option(
        None,
        "--distance",
        help="For --positions relative: all distances of N tokens or more share one bucket. Default: 128.",
    ),
    seed: int = typer.Option(
        None,
        "--seed",
        min=0,
        max=2**31 - 1,
        help="Random seed of --order random, random patterns, --explain, --convolution and the points of "
        "--kernel-regression. Default: 0.",
    ),
    device: str = typer.Option("auto", "--device", help="Device: auto, cpu, cuda, cuda:N or mps."),
    threads: int = shared_options.THREADS,
) -> None:
    """Show attention weights: rows are queries, columns are keys.

    By default, the terminal shows one matrix, the mean over all heads of one layer. For a translation model, this is
    the cross-attention of the second-to-last layer, which usually aligns words best. For other models, it is the last
    layer. With --gradient, the matrix is the mean over all layers. With --order (XLNet only), there is one matrix for
    each of the two attention streams, content and query. For a hierarchical attention network, the terminal shows the
    text with the weights of its sentences and of their words. Select other layers
    and heads with --site, --layer and --head. --format html shows all.

    Each row of a decoder is one decoding step, labeled with the token that it predicts.

    \b
    Examples:
      nlpcli visualize-attention --model runs/ende "A man sleeps ." --out attention.html
      nlpcli visualize-attention --model runs/bert --layer 3 --head 5 < line.txt
      nlpcli visualize-attention --model bert-base/ --text-a "He left." --text-b "Why?" --out heads.png
      nlpcli visualize-attention --model runs/ende --target-file test.de --format pharaoh < test.en > test.align
      nlpcli visualize-attention --pattern "window:4+global:1" --length 32
      nlpcli visualize-attention --explain "The cat sat"
      nlpcli visualize-attention --kernel-regression points.tsv --out curve.png
    """
    from nlpcli.cli.attention_output import AttentionOutput
    from nlpcli.commands.visualize_attention.text_arguments import Texts

    output = AttentionOutput.of(
        "json" if json else format,
        out,
        width=width,
        color=color,
        view=view,
        links=links or None,
        theme=theme,
        dpi=dpi,
        title=title,
    )
    options = Options(
        reading={
            "TEXT": texts, "--model": model, "--text-a": text_a, "--text-b": text_b, "--target": target,
            "--target-file": target_file, "--memory": memory, "--order": order, "--task": part, "--gradient": gradient,
            "--target-label": label,
        },
        choosing={
            "--site": site, "--layer": layer, "--head": head, "--average": average, "--rollout": rollout,
            "--words": words, "--no-special": not special, "--stats": stats,
        },
        subjects={
            "--pattern": pattern, "--positions": positions, "--explain": explain,
            "--kernel-regression": kernel_regression, "--convolution": convolution,
        },
        drawing={
            "--length": length, "--causal": causal, "--d-model": d_model, "--buckets": buckets,
            "--distance": distance, "--bandwidth": bandwidth, "--seed": seed,
        },
        aligning={"--align": align, "--reverse-model": reverse, "--step": step},
        viewing={"--view": view, "--links": links},
        machine={"--device": None if device == "auto" else device, "--threads": threads},
    )  # fmt: skip
    options.check(output.format)
    if options.without_model:
        from nlpcli.cli.draw_without_model import draw_without_model

        draw_without_model(output, options)
        return
    given = Texts((text_a,) if text_a is not None else tuple(texts or ()), text_b, target, target_file)
    if not given.texts:
        terminal.announce_stdin()
    if output.format == "pharaoh":
        _align(output, given, options, device=device, threads=threads)
        return
    from nlpcli.commands.visualize_attention.request import AttentionRequest
    from nlpcli.commands.visualize_attention.selection import AttentionSelection

    selection = AttentionSelection(
        sites=tuple(site or ()), layers=numbers("--layer", layer), heads=numbers("--head", head), words=words,
        special=special, average=average, rollout=rollout,
    )  # fmt: skip
    job = AttentionRequest(
        model=model, memory=memory, order=order, seed=seed or 0, gradient=gradient, label=label,
        part=part, device=device, threads=threads,
    )  # fmt: skip
    _draw(output, job, selection, given.read(warn=terminal.warn), stats)


def _draw(
    output: AttentionOutput,
    job: AttentionRequest,
    selection: AttentionSelection,
    given: Iterator[AttentionInput],
    stats: bool,
) -> None:
    """Looks at each text, and draws what is shown of it."""
    from nlpcli.commands.visualize_attention.collect_maps import collect_attention
    from nlpcli.commands.visualize_attention.selection import describe_selection, has_chosen, mean_numbers, select

    attentions = collect_attention(job, given, notify=terminal.notify, warn=terminal.warn)
    if stats:
        from nlpcli.visualization.transformations import statistics

        numbers = [statistics(select(attention, selection, few=False)) for attention in attentions]
        output.write_numbers(mean_numbers(numbers), len(numbers))
        return

    def drawn() -> Iterator[Attention]:
        for number, attention in enumerate(attentions):
            few = output.shows_few(attention, selection)
            found = select(attention, selection, few=few)
            if few and number == 0 and has_chosen(attention, found, selection):
                terminal.notify(
                    f"this is {describe_selection(attention, found)}; select others with --site, --layer and --head, "
                    "or see all with --format html"
                )
            yield found

    output.write(drawn())


def _align(output: AttentionOutput, given: Texts, options: Options, *, device: str, threads: int | None) -> None:
    """Links of words, each text with its target."""
    from nlpcli.commands.visualize_attention.word_alignment import AlignmentRequest, align, parse_layer

    reading, aligning, layers = options.reading, options.aligning, options.choosing["--layer"]
    with given.files() as (sources, targets):
        job = AlignmentRequest(
            target=targets, sources=(sources,), model=reading["--model"], reverse=aligning["--reverse-model"],
            method=aligning["--align"], gradient=reading["--gradient"],
            layer=parse_layer(",".join(layers) if layers else None), step=aligning["--step"],
            device=device, threads=threads,
        )  # fmt: skip
        output.write_lines(line for lines in align(job, notify=terminal.notify, warn=terminal.warn) for line in lines)
