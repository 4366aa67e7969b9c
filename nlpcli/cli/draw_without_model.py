"""What `visualize-attention` draws without a model: where it comes from, and the formats that each drawing has."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nlpcli.cli import terminal
from nlpcli.cli.attention_options import Options, useless
from nlpcli.cli.attention_output import FIGURES, Canvas, has_unicode
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.attention.worked_example import WorkedExample
    from nlpcli.visualization.convolution_data import ConvolutionComparison
    from nlpcli.visualization.kernel_regression_data import Regression
    from nlpcli.visualization.position_matrices import Matrix

_LENGTH = 32


def draw_without_model(canvas: Canvas, options: Options) -> None:
    """Draws the subject of the options. Raises: NlpcliError for a format that has no form for it."""
    given = options.drawing
    subject, value = options.subject
    seed = given["--seed"] or 0
    if subject == "--explain":
        from nlpcli.attention.worked_example import worked_example

        _write_example(canvas, worked_example(value, causal=given["--causal"], seed=seed))
    elif subject == "--kernel-regression":
        _refuse(canvas, subject, ("terminal", *FIGURES, "html", "json"))
        from nlpcli.commands.visualize_attention.kernel_regression import example_regression, file_regression

        files, bandwidth = options.reading["TEXT"], given["--bandwidth"]
        _write_regression(
            canvas, file_regression(files[0], bandwidth) if files else example_regression(bandwidth, seed=seed)
        )
    elif subject == "--convolution":
        _refuse(canvas, subject, ("terminal", *FIGURES, "json"))
        from nlpcli.commands.visualize_attention.convolution import compare_convolution

        _write_convolution(canvas, compare_convolution(value, seed=seed))
    else:
        _draw_positions(canvas, subject, value, given)


def _draw_positions(canvas: Canvas, subject: str, value: str, given: Any) -> None:
    """Who may look at whom, or how positions are encoded."""
    from nlpcli.commands.visualize_attention.write_figures import pattern_attention, position_matrix

    length, causal = given["--length"] or _LENGTH, given["--causal"]
    if subject == "--pattern":
        canvas.write(iter([pattern_attention(value, length, causal=causal, seed=given["--seed"] or 0)]))
        return
    sizes = {"d_model": given["--d-model"], "buckets": given["--buckets"], "distance": given["--distance"]}
    chosen = {name: size for name, size in sizes.items() if size is not None}
    _write_matrix(canvas, position_matrix(value, length, causal=causal, **chosen))


def _refuse(canvas: Canvas, subject: str, formats: tuple[str, ...]) -> None:
    """Raises: NlpcliError for a format that is none of these."""
    if canvas.format not in formats:
        named = f"{', '.join(formats[:-1])} or {formats[-1]}"
        raise NlpcliError(f"{subject} does not support the format {canvas.format}", hint=f"use --format {named}")


def _write_json(canvas: Canvas, value: object) -> None:
    import json

    canvas.write_lines([json.dumps(value, ensure_ascii=False, allow_nan=False)])


def _write_matrix(canvas: Canvas, matrix: Matrix) -> None:
    _refuse(canvas, "--positions", ("terminal", *FIGURES, "json"))
    if canvas.format in FIGURES:
        from nlpcli.visualization.attention_figures import draw_matrix

        useless({"--title": canvas.title}, "has no effect on positions")
        canvas.write_bytes(draw_matrix(matrix, format=canvas.format, theme=canvas.theme, dpi=canvas.dpi))
    elif canvas.format == "terminal":
        from nlpcli.visualization.terminal import draw_matrix as draw

        rows, columns = (tuple(map(str, range(count))) for count in matrix.values.shape)
        useless({"--view": canvas.view != "auto", "--links": canvas.links}, "applies to attention, not to positions")
        canvas.write_lines([
            draw(
                matrix.values, rows, columns, title=f"{matrix.title} ({matrix.rows} by {matrix.columns})",
                width=canvas.width, color=canvas.color, unicode=has_unicode(),
            )
        ])  # fmt: skip
    else:
        _write_json(canvas, {**asdict(matrix), "values": matrix.values.tolist()})


def _write_example(canvas: Canvas, example: WorkedExample) -> None:
    """One head in numbers."""
    from nlpcli.visualization.worked_example_text import example_data, example_lines

    _refuse(canvas, "--explain", ("terminal", "json"))
    if canvas.format == "json":
        _write_json(canvas, example_data(example))
    else:
        canvas.write_lines(example_lines(example))


def _write_regression(canvas: Canvas, regression: Regression) -> None:
    if canvas.format in FIGURES:
        from nlpcli.visualization.kernel_regression_figure import draw as figure

        canvas.write_bytes(
            figure(
                regression, format=canvas.format, theme=canvas.theme, dpi=canvas.dpi, title=canvas.title,
                warn=terminal.warn,
            )
        )  # fmt: skip
    elif canvas.format == "html":
        from nlpcli.visualization.kernel_regression_page import page

        canvas.write_text(page(regression, title=canvas.title or "Kernel regression"))
    elif canvas.format == "json":
        from nlpcli.visualization.kernel_regression_data import as_json

        _write_json(canvas, as_json(regression))
    else:
        from nlpcli.visualization.kernel_regression_text import draw

        canvas.write_lines([draw(regression, width=canvas.width, color=canvas.color, unicode=has_unicode())])


def _write_convolution(canvas: Canvas, comparison: ConvolutionComparison) -> None:
    if canvas.format in FIGURES:
        from nlpcli.visualization.convolution_figure import draw as figure

        canvas.write_bytes(
            figure(comparison, format=canvas.format, theme=canvas.theme, dpi=canvas.dpi, title=canvas.title)
        )
    elif canvas.format == "json":
        from nlpcli.visualization.convolution_data import as_json

        _write_json(canvas, as_json(comparison))
    else:
        from nlpcli.visualization.convolution_text import draw

        canvas.write_lines([draw(comparison, width=canvas.width, color=canvas.color, unicode=has_unicode())])
