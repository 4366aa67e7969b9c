"""Layouts as tokenizers' templates: what is written comes back, and ids are where they should be."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from nlpcli.convert.tokenizer_template import laid_out, layout_of, with_template

NAMES = {0: "<s>", 1: "</s>", 2: "[CLS]", 3: "<|end of text|>"}
PIECES = {**{name: id_ for id_, name in NAMES.items()}, "a": 4, "b": 5, "?": 6}
marks = st.lists(st.sampled_from(sorted(NAMES)), max_size=3)


def core() -> Tokenizer:
    made = Tokenizer(models.WordLevel(PIECES, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(list(NAMES.values()))
    return made


def as_read(made: Tokenizer, kind: str = "encoder"):
    model = SimpleNamespace(to_bytes=lambda: made.to_str().encode())
    tokenizer = SimpleNamespace(kind="huggingface", model=model, special=SimpleNamespace(eos=3))
    return layout_of(tokenizer, {"kind": kind, "family": "transformer"})


@given(marks, marks, st.lists(st.sampled_from(sorted(NAMES)), min_size=1, max_size=3), st.sampled_from([0, 1]))
def test_a_layout_becomes_a_template_with_its_ids_and_segments_and_is_read_from_it(start, between, end, second):
    layout = {"start": start, "between": between, "end": end, "segments": [0, second, 0]}
    made = core()
    with_template(made, layout, NAMES)
    for texts, ids in ((("a b",), [[4, 5]]), (("a b", "b"), [[4, 5], [5]])):
        found = made.encode(*texts)
        assert (found.ids, found.type_ids) == laid_out(layout, *ids)
    assert as_read(made) == layout | {"summary": "first"}


def test_a_last_token_of_its_own_kind_is_kept():
    layout = {"start": [], "between": [1], "end": [1, 2], "segments": [0, 1, 2]}
    made = core()
    assert with_template(made, layout, NAMES)
    assert made.encode("a", "b").type_ids == [0, 0, 1, 1, 2]
    assert made.encode("a").type_ids == [0, 0, 2]
    assert as_read(made)["segments"] == [0, 1, 2]


def test_a_tokenizers_own_way_stays_where_it_is_the_same():
    made = core()
    made.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=True)
    before = made.to_str()
    layout = {"start": [0], "between": [1, 1], "end": [1], "segments": [0, 0, 0]}
    assert not with_template(made, layout, NAMES)
    assert made.to_str() == before
    assert with_template(made, layout | {"between": [1]}, NAMES)


def test_without_a_template_a_decoder_reads_texts_as_they_are_and_an_encoder_as_its_family_does():
    assert as_read(core()) is None
    plain = as_read(core(), "decoder")
    assert (plain["start"], plain["between"], plain["end"], plain["empty"]) == ([], [], [], [3])
