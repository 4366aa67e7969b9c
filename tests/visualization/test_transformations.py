from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.visualization import transformations
from nlpcli.visualization.attention_data import Attention, Side, Site


def softmaxed(rng: np.random.Generator, *shape: int) -> np.ndarray:
    powers = np.exp(3 * rng.standard_normal(shape))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


def side(rng: np.random.Generator, n: int) -> Side:
    """Tokens in words of one to three pieces, some of them special, in two parts."""
    words, special, word = [], [], 0
    for _ in range(n):
        own = rng.random() < 0.2
        special.append(bool(own))
        word += bool(rng.random() < 0.5)
        words.append(-1 if own else word)
    cut = int(rng.integers(n + 1))
    groups = ("a",) * cut + ("b",) * (n - cut) if rng.random() < 0.5 else ()
    return Side(tuple(f"t{i}" for i in range(n)), tuple(words), tuple(special), groups)


@st.composite
def sites(draw, square: bool = False, masked: bool = True) -> Site:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers, heads, n, m = (draw(st.integers(1, most)) for most in (3, 3, 7, 7))
    queries = side(rng, n)
    keys = queries if square else side(rng, m)
    weights = [softmaxed(rng, heads, n, len(keys)) for _ in range(layers)]
    if masked:
        for layer in weights:
            layer[rng.random((heads, n)) < 0.2] = 0
    return Site("encoder" if square else "cross", "Encoder", queries, keys, tuple(weights))


def of(site: Site) -> Attention:
    return Attention((site,), model="m", texts={"text": "t"}, notes={"cut": "no"})


# --- words -------------------------------------------------------------------------------------------------------


def merged_by_loops(matrix: np.ndarray, site: Site) -> list[list[float]]:
    def words(tokens: Side) -> list[list[int]]:
        parts: list[list[int]] = []
        for i in range(len(tokens)):
            same = (
                i > 0
                and tokens.words[i] >= 0
                and tokens.words[i] == tokens.words[i - 1]
                and not tokens.special[i]
                and not tokens.special[i - 1]
                and (not tokens.groups or tokens.groups[i] == tokens.groups[i - 1])
            )
            if same:
                parts[-1].append(i)
            else:
                parts.append([i])
        return parts

    return [
        [sum(float(matrix[i, j]) for i in rows for j in columns) / len(rows) for columns in words(site.keys)]
        for rows in words(site.queries)
    ]


@given(sites())
def test_merged_words_equal_the_sums_and_means_of_loops_and_keep_the_rows_sums(site):
    merged = transformations.merge_words(of(site)).sites[0]
    for before, after in zip(site.weights, merged.weights, strict=True):
        for head, expected in zip(after, before, strict=True):
            np.testing.assert_allclose(head, merged_by_loops(expected, site), atol=1e-6)
    if all((layer.sum(axis=-1) > 0).all() for layer in site.weights):
        for layer in merged.weights:
            np.testing.assert_allclose(layer.sum(axis=-1), 1, atol=1e-5)


@given(sites())
def test_merging_words_twice_is_merging_them_once(site):
    once = transformations.merge_words(of(site))
    twice = transformations.merge_words(once)
    assert twice.sites[0].queries == once.sites[0].queries and twice.notes == once.notes
    for a, b in zip(once.sites[0].weights, twice.sites[0].weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("tokens", "words", "expected"),
    [
        (("▁Ein", "▁schl", "äft", "</s>"), (0, 1, 1, -1), ("Ein", "schläft", "</s>")),
        (("un", "##aff", "##able", "[SEP]"), (0, 0, 0, -1), ("unaffable", "[SEP]")),
        (("Ġlow", "er", "Ġ"), (0, 0, 1), ("lower", "Ġ")),
        (("lo@@", "wer", "C@@"), (0, 0, 1), ("lower", "C@@")),
        (("▁a", "##", "b"), (0, 0, 0), ("a##b",)),
        (("c", "a", "t"), (0, 0, 0), ("cat",)),
        # bytes of a character
        (("▁M<0xC3>", "<0xA4>d", "▁<0xF09F>", "<0x98>", "<0x80>"), (0, 0, 1, 1, 1), ("Mäd", "😀")),
        (("▁<0xF09F>", "<0x98>x"), (0, 0), ("<0xF09F><0x98>x",)),
    ],
)
def test_a_words_pieces_are_joined_without_the_tokenizers_marks(tokens, words, expected):
    special = tuple(word < 0 for word in words)
    sides = Side(tokens, words, special)
    weights = np.full((1, len(tokens), len(tokens)), 1 / len(tokens), np.float32)
    assert (
        transformations.merge_words(of(Site("encoder", "", sides, sides, (weights,)))).sites[0].keys.tokens == expected
    )


def test_a_side_without_tokens_has_no_words():
    none, one = Side(()), Side(("a",))
    for queries, keys in ((none, one), (one, none), (none, none)):
        site = Site("cross", "", queries, keys, (np.zeros((2, len(queries), len(keys)), np.float32),))
        [merged] = transformations.merge_words(of(site)).sites
        assert (merged.queries, merged.keys, merged.weights[0].shape) == (queries, keys, site.weights[0].shape)


# --- special tokens ----------------------------------------------------------------------------------------------


@given(sites(), st.booleans())
def test_without_special_keeps_exactly_the_weights_between_other_tokens(site, renormalize):
    rows = [i for i in range(len(site.queries)) if not site.queries.special[i]]
    columns = [j for j in range(len(site.keys)) if not site.keys.special[j]]
    result = transformations.without_special(of(site), renormalize=renormalize).sites
    if not rows or not columns:
        assert result == ()
        return
    assert result[0].queries.tokens == tuple(site.queries.tokens[i] for i in rows)
    assert result[0].keys.words == tuple(site.keys.words[j] for j in columns)
    assert not any(result[0].keys.special)
    for before, after in zip(site.weights, result[0].weights, strict=True):
        for head, i in itertools.product(range(len(site.heads)), range(len(rows))):
            kept = [float(before[head, rows[i], j]) for j in columns]
            scale = sum(kept) if renormalize and sum(kept) > 0 else 1.0
            np.testing.assert_allclose(after[head, i], [weight / scale for weight in kept], rtol=1e-6)


def test_rows_of_zeros_stay_zeros_whatever_is_done_to_them():
    tokens = Side(("<s>", "a", "b"), (-1, 0, 0), (True, False, False))
    weights = np.array([[[0, 0, 0], [0, 0, 0], [0, 0, 0]]], np.float32)
    attention = of(Site("encoder", "", tokens, tokens, (weights, weights)))
    for changed in (
        transformations.without_special(attention, renormalize=True),
        transformations.merge_words(attention),
        transformations.average(attention, "both"),
    ):
        assert all((layer == 0).all() for layer in changed.sites[0].weights)
    np.testing.assert_array_equal(transformations.rollout(attention.sites[0]).weights[1][0], np.eye(3))
    assert (
        np.isnan(transformations.entropy(attention.sites[0])).all()
        and np.isnan(transformations.mean_distance(attention.sites[0])).all()
    )


# --- averages and choices ----------------------------------------------------------------------------------------


@given(sites(), st.sampled_from(["heads", "layers", "both"]))
def test_averages_equal_means_and_the_average_of_one_is_it(site, over):
    mean = transformations.average(of(site), over).sites[0]
    stack = np.stack(site.weights).astype(np.float64)
    axes = {"heads": (1,), "layers": (0,), "both": (0, 1)}[over]
    np.testing.assert_allclose(np.stack(mean.weights), stack.mean(axis=axes, keepdims=True), atol=1e-7)
    assert mean.heads == (site.heads if over == "layers" else ("mean",))
    assert mean.layers == (site.layers if over == "heads" else ("mean",))
    if over == "heads" and len(site.heads) == 1:
        for a, b in zip(mean.weights, site.weights, strict=True):
            np.testing.assert_array_equal(a, b)


@given(sites(), st.data())
def test_select_keeps_the_numbers_shown_and_their_weights(site, data):
    layers = data.draw(st.sets(st.sampled_from(site.layers), min_size=1))
    heads = data.draw(st.sets(st.sampled_from(site.heads), min_size=1))
    once = transformations.select(of(site), layers=layers, heads=heads)
    chosen = transformations.select(once, layers=layers, heads=heads).sites[0]  # the numbers are still the model's
    assert chosen.layers == tuple(sorted(layers)) and chosen.heads == tuple(sorted(heads))
    for number, layer in zip(chosen.layers, chosen.weights, strict=True):
        np.testing.assert_array_equal(layer, site.weights[number - 1][[head - 1 for head in chosen.heads]])


def test_what_is_not_there_is_refused_with_what_is():
    tokens = Side(("a",))
    deep = Site("encoder", "", tokens, tokens, tuple(np.ones((2, 1, 1), np.float32) for _ in range(4)))
    flat = Site("cross", "", tokens, tokens, (np.ones((1, 1, 1), np.float32),))
    attention = Attention((deep, flat))
    assert [site.name for site in transformations.select(attention, layers=[3]).sites] == ["encoder"]
    with pytest.raises(NlpcliError, match="layer 5 does not exist") as error:
        transformations.select(attention, layers=[5])
    assert error.value.hint == "choose a layer from 1 to 4"
    with pytest.raises(NlpcliError, match="head 0 does not exist"):
        transformations.select(attention, heads=[0])
    with pytest.raises(NlpcliError, match="layer 2 does not exist") as error:
        transformations.select(attention, ["cross"], layers=[2])
    assert error.value.hint == "the only layer is 1"
    with pytest.raises(NlpcliError, match="unknown attention 'encodr'"):
        transformations.select(attention, sites=["encodr"])
    with pytest.raises(NlpcliError, match="unknown average 'head'"):
        transformations.average(attention, "head")


# --- rollout -----------------------------------------------------------------------------------------------------


@given(sites(square=True))
def test_rollout_equals_the_sum_over_all_paths_and_its_rows_sum_to_one(site):
    n = min(len(site.queries), 4)
    small = Side(site.queries.tokens[:n])
    site = Site(
        "encoder", "", small, small, tuple(transformations._divided_by_sums(w[:, :n, :n]) for w in site.weights)
    )
    steps = []
    for layer in site.weights:
        step = np.eye(n)
        for i in range(n):
            mean = [sum(float(head[i, j]) for head in layer) / len(layer) for j in range(n)]
            whole = 0.5 * sum(mean) + 0.5
            step[i] = [(0.5 * mean[j] + 0.5 * (i == j)) / whole for j in range(n)]
        steps.append(step)
    rolled = transformations.rollout(site)
    assert rolled.heads == ("rollout",) and rolled.layers == site.layers
    for depth, layer in enumerate(rolled.weights, start=1):
        np.testing.assert_allclose(layer.sum(axis=-1), 1, atol=1e-5)
        for start, end in itertools.product(range(n), range(n)):
            paths = itertools.product(range(n), repeat=depth - 1)
            total = 0.0
            for path in paths:
                at = [start, *path, end]
                total += math.prod(steps[depth - 1 - k][at[k], at[k + 1]] for k in range(depth))
            assert math.isclose(layer[0, start, end], total, abs_tol=1e-6)


def test_rollout_refuses_what_does_not_look_at_itself():
    source, target = Side(("a", "b")), Side(("x", "y"))
    weights = (np.full((1, 2, 2), 0.5, np.float32),)
    for site in (
        Site("cross", "", target, source, weights),
        Site("cross", "", source, source, weights),
        Site("encoder", "", source, source, weights, signed=True),
        Site("decoder", "", Side(("b",)), source, (weights[0][:, :1],)),
        transformations.without_special(of(decoder(np.random.default_rng(0)))).sites[0],
    ):
        with pytest.raises(NlpcliError, match="rollout needs"):
            transformations.rollout(site)


# --- numbers -----------------------------------------------------------------------------------------------------


@given(sites())
def test_entropy_lies_between_nothing_and_that_of_equal_weights(site):
    values = transformations.entropy(site)
    assert values.shape == (len(site.layers), len(site.heads))
    for (i, j), value in np.ndenumerate(values):
        rows = [row for row in site.weights[i][j].astype(float) if row.sum() > 0]
        if not rows:
            assert np.isnan(value)
            continue
        bits = [-sum(p / sum(row) * math.log2(p / sum(row)) for p in row if p > 0) for row in rows]
        assert math.isclose(value, sum(bits) / len(bits), abs_tol=1e-5)
        assert 0 <= value <= math.log2(len(site.keys)) + 1e-5


@pytest.mark.parametrize("m", [1, 2, 7, 512])
def test_equal_weights_have_the_entropy_of_the_logarithm_and_one_key_has_none(m):
    one, many = Side(("a",)), Side(tuple(map(str, range(m))))
    weights = np.zeros((2, 1, m), np.float32)
    weights[0], weights[1, 0, -1] = 1 / m, 1
    equal, single = transformations.entropy(Site("cross", "", one, many, (weights,)))[0]
    assert math.isclose(equal, math.log2(m), abs_tol=1e-5) and single == 0


@given(sites(square=True))
def test_mean_distance_equals_the_loop_over_positions(site):
    values = transformations.mean_distance(site)
    for (i, j), value in np.ndenumerate(values):
        head = site.weights[i][j].astype(float)
        far = sum(head[a, b] * abs(a - b) for a, b in np.ndindex(head.shape))
        total = sum(head[a, b] for a, b in np.ndindex(head.shape))
        assert np.isnan(value) if total == 0 else math.isclose(value, far / total, abs_tol=1e-5)


def test_distance_counts_from_the_memorys_start_and_is_unknown_between_two_texts():
    keys = Side(("m1", "m2", "a", "b"), groups=("memory", "memory", "text", "text"))
    weights = np.zeros((2, 2, 4), np.float32)
    weights[0, 0, 2] = weights[0, 1, 3] = 1  # each at itself
    weights[1, :, 0] = 1  # both at the memory's start
    own = Side(("a", "b"), positions=(2, 3))
    np.testing.assert_allclose(transformations.mean_distance(Site("decoder", "", own, keys, (weights,))), [[0, 2.5]])
    assert np.isnan(transformations.mean_distance(Site("cross", "", Side(("x", "y")), keys, (weights,)))).all()


def test_a_decoder_named_by_what_it_predicts_looks_at_itself_and_a_single_query_need_not():
    keys, predicted = Side(("<s>", "a", "b")), Side(("a", "b", "</s>"))
    weights = (np.eye(3, dtype=np.float32)[None],)
    assert transformations.is_self_attention(Site("decoder", "", predicted, keys, weights))
    np.testing.assert_array_equal(transformations.mean_distance(Site("decoder", "", predicted, keys, weights)), [[0]])
    one = (np.full((1, 1, 3), 1 / 3, np.float32),)
    assert not transformations.is_self_attention(Site("sentences", "", Side(("document",)), keys, one))
    assert not transformations.is_self_attention(
        Site("documents", "", keys, Side(("b",)), (np.ones((1, 3, 1), np.float32),))
    )


def decoder(rng: np.random.Generator) -> Site:
    """Rows are named by what they predict: the last is special, of the columns the first."""
    tokens, words = ("▁al", "so", "▁b", "c", "▁d"), (0, 0, 1, 1, 2)
    rows = Side((*tokens, "</s>"), (*words, -1), (False,) * 5 + (True,))
    columns = Side(("<s>", *tokens), (-1, *words), (True,) + (False,) * 5)
    return Site("decoder", "Decoder", rows, columns, (np.tril(softmaxed(rng, 2, 6, 6)),))


def test_tokens_left_out_bring_those_that_stay_no_nearer():
    site = decoder(np.random.default_rng(0))
    [kept] = transformations.without_special(of(site)).sites
    expected = []
    for head in site.weights[0][:, :-1, 1:].astype(float):
        far = [head[i, j] * abs(i - (j + 1)) for i, j in np.ndindex(head.shape)]
        expected.append(sum(far) / head.sum())
    np.testing.assert_allclose(transformations.mean_distance(kept), [expected], rtol=1e-6)


def test_a_word_stands_in_the_middle_of_its_tokens_whatever_is_left_out():
    site = decoder(np.random.default_rng(1))
    merged = transformations.merge_words(of(site))
    assert merged.sites[0].queries.positions == (0.5, 2.5, 4, 5)
    assert merged.sites[0].keys.positions == (0, 1.5, 3.5, 5)
    one, two = (
        transformations.without_special(merged),
        transformations.merge_words(transformations.without_special(of(site))),
    )
    assert one.sites[0].keys == two.sites[0].keys and one.sites[0].keys.positions == (1.5, 3.5, 5)
    np.testing.assert_allclose(
        transformations.mean_distance(one.sites[0]), transformations.mean_distance(two.sites[0]), rtol=1e-5
    )


def test_a_language_model_whose_first_word_has_two_pieces_has_a_distance_between_words():
    keys = Side(("▁al", "so", "▁b"), (0, 0, 1))
    rows = Side(("so", "▁b", "?"), (0, 1, -1), (False, False, True))
    [merged] = transformations.merge_words(
        of(Site("decoder", "", rows, keys, (np.eye(3, dtype=np.float32)[None],)))
    ).sites
    assert merged.weights[0].shape == (1, 3, 2)
    np.testing.assert_allclose(transformations.mean_distance(merged), [[(0.5 + 0.5 + 0) / 3]])


def test_statistics_tell_every_head_in_order():
    tokens = Side(("a", "b"))
    encoder = Site("encoder", "", tokens, tokens, (np.full((2, 2, 2), 0.5, np.float32),) * 2, layers=(3, 4))
    cross = Site("cross", "", Side(("x",)), tokens, (np.array([[[-1, 2]]], np.float32),), signed=True)
    rows = transformations.statistics(Attention((encoder, cross)))
    assert [(row.site, row.layer, row.head) for row in rows] == [
        ("encoder", 3, 1),
        ("encoder", 3, 2),
        ("encoder", 4, 1),
        ("encoder", 4, 2),
        ("cross", 1, 1),
    ]
    assert rows[0].entropy == rows[0].most == 1.0 and rows[0].distance == 0.5
    assert rows[-1].entropy is None and rows[-1].distance is None
