"""The drawings of `visualize-attention` without a text: their data, and the formats of each drawing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from nlpcli.cli import terminal
from nlpcli.cli.attention_options import Options, useless
from nlpcli.cli.attention_output import FIGURES, AttentionOutput, has_unicode
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.attention.worked_example import WorkedExample
    from nlpcli.visualization.convolution_data import ConvolutionComparison
    from nlpcli.visualization.kernel_regression_data import Regression
    from nlpcli.visualization.position_matrices import Matrix

_LENGTH = 32


def draw_without_model(output: AttentionOutput, options: Options) -> None:
    """Draws the subject of the options. Raises: NlpcliError for a format that has no form for it."""
    given = options.drawing
    subject, value = options.subject
    seed = given["--seed"] or 0
    if subject == "--explain":
        from nlpcli.attention.worked_example import worked_example

        _write_example(output, worked_example(value, causal=given["--causal"], seed=seed))
    elif subject == "--kernel-regression":
        _refuse(output, subject, ("terminal", *FIGURES, "html", "json"))
        from nlpcli.commands.visualize_attention.kernel_regression import example_regression, file_regression

        files, bandwidth = options.reading["TEXT"], given["--bandwidth"]
        _write_regression(
            output, file_regression(files[0], bandwidth) if files else example_regression(bandwidth, seed=seed)
        )
    elif subject == "--convolution":
        _refuse(output, subject, ("terminal", *FIGURES, "json"))
        from nlpcli.commands.visualize_attention.convolution import compare_convolution

        _write_convolution(output, compare_convolution(value, seed=seed))
    else:
        _draw_positions(output, subject, value, options)


def _draw_positions(output: AttentionOutput, subject: str, value: str, options: Options) -> None:
    """An attention pattern, or position encodings."""
    from nlpcli.commands.visualize_attention.pattern_and_positions import (
        learned_matrix,
        pattern_attention,
        position_matrix,
    )

    given = options.drawing
    if options.positions_of_model:
        _write_matrix(output, learned_matrix(options.reading["--model"], given["--length"], notify=terminal.notify))
        return
    length, causal = given["--length"] or _LENGTH, given["--causal"]
    if subject == "--pattern":
        output.write(iter([pattern_attention(value, length, causal=causal, seed=given["--seed"] or 0)]))
        return
    sizes = {"d_model": given["--d-model"], "buckets": given["--buckets"], "distance": given["--distance"]}
    chosen = {name: size for name, size in sizes.items() if size is not None}
    _write_matrix(output, position_matrix(value, length, causal=causal, **chosen))


def _refuse(output: AttentionOutput, subject: str, formats: tuple[str, ...]) -> None:
    """Raises: NlpcliError for a format that is none of these."""
    if output.format not in formats:
        named = f"{', '.join(formats[:-1])} or {formats[-1]}"
        raise NlpcliError(f"{subject} does not support the format {output.format}", hint=f"use --format {named}")


def _write_json(output: AttentionOutput, value: object) -> None:
    import json

    output.write_lines([json.dumps(value, ensure_ascii=False, allow_nan=False)])


def _write_matrix(output: AttentionOutput, matrix: Matrix) -> None:
    _refuse(output, "--positions", ("terminal", *FIGURES, "json"))
    if output.format in FIGURES:
        from nlpcli.visualization.attention_figures import draw_matrix

        useless({"--title": output.title}, "has no effect on positions")
        output.write_bytes(draw_matrix(matrix, format=output.format, theme=output.theme, dpi=output.dpi))
    elif output.format == "terminal":
        from nlpcli.visualization.terminal_attention import draw_matrix as draw

        rows, columns = (tuple(map(str, range(count))) for count in matrix.values.shape)
        useless({"--view": output.view != "auto", "--links": output.links}, "applies to attention, not to positions")
        output.write_lines([
            draw(
                matrix.values, rows, columns, title=f"{matrix.title} ({matrix.rows} by {matrix.columns})",
                width=output.width, color=output.color, unicode=has_unicode(),
            )
        ])  # fmt: skip
    else:
        _write_json(output, {**asdict(matrix), "values": matrix.values.tolist()})


def _write_example(output: AttentionOutput, example: WorkedExample) -> None:
    """One head in numbers."""
    from nlpcli.visualization.worked_example_text import example_data, example_lines

    _refuse(output, "--explain", ("terminal", "json"))
    if output.format == "json":
        _write_json(output, example_data(example))
    else:
        output.write_lines(example_lines(example))


def _write_regression(output: AttentionOutput, regression: Regression) -> None:
    if output.format in FIGURES:
        from nlpcli.visualization.kernel_regression_figure import draw as figure

        output.write_bytes(
            figure(
                regression, format=output.format, theme=output.theme, dpi=output.dpi, title=output.title,
                warn=terminal.warn,
            )
        )  # fmt: skip
    elif output.format == "html":
        from nlpcli.visualization.kernel_regression_page import page

        output.write_text(page(regression, title=output.title or "Kernel regression"))
    elif output.format == "json":
        from nlpcli.visualization.kernel_regression_data import as_json

        _write_json(output, as_json(regression))
    else:
        from nlpcli.visualization.kernel_regression_text import draw

        output.write_lines([draw(regression, width=output.width, color=output.color, unicode=has_unicode())])


def _write_convolution(output: AttentionOutput, comparison: ConvolutionComparison) -> None:
    if output.format in FIGURES:
        from nlpcli.visualization.convolution_figure import draw as figure

        output.write_bytes(
            figure(comparison, format=output.format, theme=output.theme, dpi=output.dpi, title=output.title)
        )
    elif output.format == "json":
        from nlpcli.visualization.convolution_data import as_json

        _write_json(output, as_json(comparison))
    else:
        from nlpcli.visualization.convolution_text import draw

        output.write_lines([draw(comparison, width=output.width, color=output.color, unicode=has_unicode())])
