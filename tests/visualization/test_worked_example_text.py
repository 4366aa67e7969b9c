import json

import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention.worked_example import MAX_TOKENS, worked_example
from nlpcli.visualization.text_width import cells
from nlpcli.visualization.worked_example_text import example_data, example_lines


def rows_below(lines, title):
    start = next(number for number, line in enumerate(lines) if title in line) + 1
    end = next((number for number in range(start, len(lines)) if not lines[number]), len(lines))
    return lines[start:end]


def test_the_tables_hold_the_numbers_of_the_example():
    example = worked_example("The cat sat")
    header, *rows = rows_below(list(example_lines(example)), "7. A = softmax")
    assert header.split() == ["The", "cat", "sat"]
    shown = torch.tensor([[float(number) for number in row.split()[1:]] for row in rows], dtype=torch.float64)
    torch.testing.assert_close(shown, example.weights, rtol=0, atol=0.0005 + 1e-9)


def test_a_masked_score_is_a_dash_and_its_weight_is_zero():
    lines = list(example_lines(worked_example("The cat sat", causal=True)))
    assert rows_below(lines, "6. S /")[1].split()[2:] == ["-", "-"]
    assert rows_below(lines, "7. A =")[1].split()[2:] == ["0.000", "0.000"]


words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(str.strip)


@given(st.lists(words, min_size=1, max_size=MAX_TOKENS), st.booleans(), st.integers(0, 50))
def test_no_line_is_wider_than_80_columns_whatever_the_words_are(words, causal, seed):
    text = " ".join(" ".join(words).split()[:MAX_TOKENS])
    for line in example_lines(worked_example(text, causal=causal, seed=seed)):
        assert cells(line) <= 80
        assert "\x1b" not in line


def test_the_data_has_every_matrix_in_full_precision_and_null_where_a_key_is_masked():
    example = worked_example("The cat sat", causal=True)
    data = json.loads(json.dumps(example_data(example)))
    assert data["tokens"] == ["The", "cat", "sat"]
    assert data["weights"] == example.weights.tolist()
    assert data["scaled"][0][1:] == [None, None]
    assert set(data) == {"tokens", "d_key", "inputs", "query_weight", "key_weight", "value_weight", "query", "key",
                         "value", "scores", "scaled", "weights", "context"}  # fmt: skip
