"""A worked example of attention as text or as plain data: one table a step, with its equation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from nlpcli.attention.worked_example import D_KEY, D_MODEL, WorkedExample
from nlpcli.visualization.text_width import cut, printable, to_left, to_right, wrapped

_CELL = 7
_NAME = 14
_DIMENSIONS = tuple(f"[{number}]" for number in range(1, D_MODEL + 1))


def example_lines(example: WorkedExample) -> Iterator[str]:
    """The steps as lines of at most 80 columns."""
    tokens = example.tokens
    yield f"One attention head: d_model = {D_MODEL}, d_key = d_value = {D_KEY}, random numbers."
    for title, names, table, columns in (
        ("1. X: a vector for each token (a model looks it up in its embedding table)", tokens, example.inputs, None),
        ("2. W_Q: the weights of the query projection", _DIMENSIONS, example.query_weight, None),
        ("   Q = X W_Q: the query of each token", tokens, example.query, None),
        ("3. W_K: the weights of the key projection", _DIMENSIONS, example.key_weight, None),
        ("   K = X W_K: the key of each token", tokens, example.key, None),
        ("4. W_V: the weights of the value projection", _DIMENSIONS, example.value_weight, None),
        ("   V = X W_V: the value of each token", tokens, example.value, None),
        ("5. S = Q Kᵀ: the score of each query (row) with each key (column)", tokens, example.scores, tokens),
        (f"6. S / √d_key = S / {math.sqrt(D_KEY):.3f}: the scaled scores", tokens, example.scaled, tokens),
        ("7. A = softmax of each row: the attention weights; each row sums to 1", tokens, example.weights, tokens),
        ("8. C = A V: the context of each token, a weighted mean of the values", tokens, example.context, None),
    ):
        yield ""
        yield title
        yield from _table(names, table, columns)
    yield ""
    yield from _one_cell(example)


def example_data(example: WorkedExample) -> dict[str, Any]:
    """All numbers in full precision; a score that is masked is null."""
    matrices = {name: value for name, value in vars(example).items() if isinstance(value, Tensor)}
    rows = {
        name: [[None if math.isinf(number) else number for number in row] for row in matrix.tolist()]
        for name, matrix in matrices.items()
    }
    return {"tokens": list(example.tokens), "d_key": D_KEY, **rows}


def _table(names: Sequence[str], table: Tensor, columns: Sequence[str] | None) -> Iterator[str]:
    if columns is not None:
        yield " " * _NAME + "".join(to_right(cut(printable(name), _CELL - 1), _CELL) for name in columns)
    for name, row in zip(names, table.tolist(), strict=True):
        yield "  " + to_left(cut(printable(name), _NAME - 3), _NAME - 2) + "".join(_number(number) for number in row)


def _one_cell(example: WorkedExample) -> Iterator[str]:
    """The last token's row written out, so that a reader can follow one of each."""
    query, key = example.query[-1].tolist(), example.key[0].tolist()
    products = " + ".join(f"{a:.3f} · {b:.3f}" for a, b in zip(query, key, strict=True))
    scaled = example.scaled[-1].tolist()
    first, last = (cut(printable(example.tokens[place]), _NAME) for place in (0, -1))
    terms = wrapped(" + ".join(f"e^{number:.3f}" for number in scaled), 60)
    yield f"How one weight is computed: query '{last}', key '{first}'"
    yield f"  score   {products} = {example.scores[-1, 0]:.3f}"
    yield f"  scaled  {example.scores[-1, 0]:.3f} / {math.sqrt(D_KEY):.3f} = {scaled[0]:.3f}"
    yield f"  weight  e^{scaled[0]:.3f} divided by"
    yield from (f"          {line}" for line in terms)
    yield f"          = {example.weights[-1, 0]:.3f}"


def _number(number: float) -> str:
    """Three decimals without a negative zero; - where a key is masked."""
    return ("-" if math.isinf(number) else f"{round(number, 3) + 0.0:.3f}").rjust(_CELL)
