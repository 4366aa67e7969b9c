from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nlpcli.data.readers import read_parallel
from nlpcli.data.sample_data import sample_file
from nlpcli.data.train_dev_overlap import Placed, Shared, normal, shared, swapped

TEXTS = st.lists(st.tuples(st.text("aB ", max_size=2), st.text("a", max_size=1)), max_size=8)


def placed(texts, name):
    return [Placed(pair, f"{name}:{number}") for number, pair in enumerate(texts, 1)]


@given(TEXTS, TEXTS)
def test_held_out_examples_are_counted_whose_texts_training_has(held, train):
    keys = [tuple(map(normal, pair)) for pair in train]
    right = [i for i, pair in enumerate(held) if any(map(str.strip, pair)) and tuple(map(normal, pair)) in keys]
    found = shared(placed(held, "dev"), placed(train, "train"))
    assert (found.count if found else 0) == len(right)
    if right:
        first = keys.index(tuple(map(normal, held[right[0]])))
        assert found == Shared(len(right), len(held), f"dev:{right[0] + 1}", f"train:{first + 1}")


def test_exchanged_sides_are_noticed_and_right_ones_are_not():
    train = [str(sample_file(f"tatoeba-en-de/train.{side}.gz")) for side in ("en", "de")]
    dev = [str(sample_file(f"tatoeba-en-de/dev.{side}")) for side in ("en", "de")]
    assert swapped(read_parallel(*dev[::-1]), read_parallel(*train))
    assert not swapped(read_parallel(*dev), read_parallel(*train))
    assert not swapped(read_parallel(dev[0], dev[0]), read_parallel(train[0], train[0]))
