"""Choosing parts of a model by name."""

from __future__ import annotations

import pytest

from nlpcli.errors import NlpcliError
from nlpcli.layers.module_name_patterns import fitting

NAMES = [
    "encoder_embedding.tokens.weight",
    "encoder.layers.0.self_attention.query.weight",
    "encoder.layers.10.self_attention.query.weight",
    "output_bias",
]


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("query", [1, 2]),
        (r"encoder\.layers\.[01]", [1]),
        ("layers.1", []),
        ("encoder", [1, 2]),
        ("(encoder|decoder)_embedding", [0]),
        ("weight", [0, 1, 2]),
        ("output_bias|tokens", [0, 3]),
        (".*", [0, 1, 2, 3]),
        ("quer", []),
        ("out", []),
    ],
)
def test_a_pattern_fits_whole_steps_of_a_name(pattern, places):
    if places:
        assert fitting(NAMES, [pattern], "parameter") == [NAMES[place] for place in places]
    else:
        with pytest.raises(NlpcliError, match="this model has no parameter that matches"):
            fitting(NAMES, [pattern], "parameter")


def test_several_patterns_give_each_name_once_in_the_models_order():
    assert fitting(NAMES, ["output_bias", "query", "weight"], "parameter") == NAMES
