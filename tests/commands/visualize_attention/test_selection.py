"""What is shown of all the weights where little or nothing was chosen."""

from __future__ import annotations

import numpy as np
import pytest

from nlpcli.commands.visualize_attention.selection import (
    AttentionSelection,
    describe_selection,
    has_chosen,
    mean_numbers,
    select,
)
from nlpcli.errors import NlpcliError
from nlpcli.visualization.attention_data import Attention, Side, Site
from nlpcli.visualization.transformations import HeadNumbers


def site(name, *, layers=4, heads=3, n=3, m=3, signed=False):
    rng = np.random.default_rng(len(name))
    weights = [rng.random((heads, n, m)).astype(np.float32) for _ in range(layers)]
    if not signed:
        weights = [layer / layer.sum(-1, keepdims=True) for layer in weights]
    keys = Side(tuple(f"k{i}" for i in range(m)))
    queries = keys if name in ("encoder", "content") else Side(tuple(f"q{i}" for i in range(n)))
    if name == "decoder":
        queries = Side((*keys.tokens[1:], "end"))
    return Site(name, name.title(), queries, keys, tuple(weights), signed=signed)


TRANSLATOR = Attention((site("encoder"), site("decoder"), site("cross", m=5)))


def shapes(attention):
    return [(one.name, one.layers, one.heads) for one in attention.sites]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, [("cross", (3,), ("mean",))]),
        ({"heads": (2,)}, [("cross", (3,), (2,))]),
        ({"layers": (1, 4)}, [("cross", (1, 4), ("mean",))]),
        ({"average": "both"}, [("cross", ("mean",), ("mean",))]),
        ({"average": "layers"}, [("cross", ("mean",), (1, 2, 3))]),
        ({"average": "heads"}, [("cross", (3,), ("mean",))]),
        ({"sites": ("encoder",)}, [("encoder", (4,), ("mean",))]),
        ({"sites": ("encoder",), "layers": (2,), "heads": (1, 3)}, [("encoder", (2,), (1, 3))]),
        ({"rollout": True}, [("encoder", (4,), ("rollout",)), ("decoder", (4,), ("rollout",))]),
        ({"rollout": True, "layers": (2,)}, [("encoder", (2,), ("rollout",)), ("decoder", (2,), ("rollout",))]),
    ],
)  # fmt: skip
def test_one_matrix_of_a_site_is_shown_where_nothing_else_is_chosen(selection, expected):
    assert shapes(select(TRANSLATOR, AttentionSelection(**selection), few=True)) == expected


def test_all_is_shown_where_a_form_has_room_for_it():
    assert shapes(select(TRANSLATOR, AttentionSelection(), few=False)) == shapes(TRANSLATOR)
    assert shapes(select(TRANSLATOR, AttentionSelection(rollout=True), few=False))[1] == (
        "decoder",
        (1, 2, 3, 4),
        ("rollout",),
    )


def test_a_model_of_one_layer_aligns_with_it():
    attention = Attention((site("cross", layers=1, m=5),))
    assert shapes(select(attention, AttentionSelection(), few=True)) == [("cross", (1,), ("mean",))]


def test_the_matrix_shown_is_the_mean_of_its_heads():
    [one] = select(TRANSLATOR, AttentionSelection(), few=True).sites
    assert np.allclose(one.weights[0][0], TRANSLATOR.site("cross").weights[2].mean(0))


def test_gradients_are_shown_as_the_mean_of_all_layers():
    attention = Attention((site("encoder", signed=True),), notes={"gradient of": "the logit"})
    [one] = select(attention, AttentionSelection(), few=True).sites
    assert (one.layers, one.heads, one.signed) == (("mean",), ("mean",), True)
    assert np.allclose(one.weights[0][0], np.mean(attention.sites[0].weights, axis=(0, 1)))
    with pytest.raises(NlpcliError, match="rollout needs"):
        select(attention, AttentionSelection(rollout=True), few=True)


def test_weights_that_may_be_negative_are_shown_of_the_last_layer_as_others_are():
    [one] = select(Attention((site("encoder", signed=True),)), AttentionSelection(), few=True).sites
    assert (one.layers, one.heads) == ((4,), ("mean",))


def test_what_is_shown_is_told():
    def said(**selection):
        return describe_selection(TRANSLATOR, select(TRANSLATOR, AttentionSelection(**selection), few=True))

    assert said() == "Cross, layer 3 of 4, mean of 3 heads"
    assert said(layers=(1, 2), heads=(3,)) == "Cross, layers 1, 2 of 4, head 3 of 3"
    assert said(average="both") == "Cross, mean of 4 layers, mean of 3 heads"
    assert said(rollout=True) == "Encoder, layer 4 of 4; Decoder, layer 4 of 4"


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, True),
        ({"sites": ("encoder",), "layers": (1,)}, True),
        ({"sites": ("encoder",), "layers": (1,), "heads": (1,)}, False),
        ({"layers": (1,), "heads": (1,)}, True),  # of which kind?
        ({"sites": ("encoder",), "average": "both"}, False),
        ({"sites": ("encoder",), "average": "heads"}, True),
        ({"rollout": True, "sites": ("encoder",), "layers": (2,)}, False),
    ],
)
def test_it_is_known_whether_the_program_made_a_choice(selection, expected):
    settings = AttentionSelection(**selection)
    assert has_chosen(TRANSLATOR, select(TRANSLATOR, settings, few=True), settings) is expected


def test_means_over_texts_leave_out_those_without_a_number():
    def numbers(entropy, distance):
        return [HeadNumbers("encoder", 1, 1, entropy, 2.0, distance), HeadNumbers("encoder", 1, 2, 1.0, 2.0, None)]

    one, two = mean_numbers([numbers(1.0, None), numbers(2.0, 3.0), numbers(None, 5.0)])
    assert (one.entropy, one.distance, one.most) == (1.5, 4.0, 2.0)
    assert (two.entropy, two.distance) == (1.0, None)


def test_settings_that_exclude_each_other_are_refused():
    for wrong in ({"average": "word"}, {"rollout": True, "heads": (1,)}, {"rollout": True, "average": "heads"}):
        with pytest.raises(NlpcliError):
            AttentionSelection(**wrong)
