"""Roles and names of special ids."""

from __future__ import annotations

import pytest

from nlpcli.errors import NlpcliError
from nlpcli.text import SpecialTokens


def test_roles_take_the_first_ids_and_sentinels_follow():
    special = SpecialTokens.first(100)
    assert special.mask == 6
    assert special.sentinels == tuple(range(7, 107))
    assert len(special.all()) == 107
    assert special.names[106] == "<sentinel_99>"


def test_roles_may_stand_on_any_ids():
    special = SpecialTokens(pad=0, unk=100, bos=101, eos=102, cls=101, sep=102, mask=103)
    assert special.all() == {0, 100, 101, 102, 103}


def test_what_is_written_to_a_file_makes_the_same_tokens():
    special = SpecialTokens.first(3)
    data = special.as_dict()
    assert SpecialTokens(**{**data, "sentinels": tuple(data["sentinels"])}) == special


def test_roles_may_be_absent_and_have_other_names():
    special = SpecialTokens(0, 0, 0, 0, 0, 0, 0, spellings=((0, "<|end|>"), (5, "<other>")), absent=("pad", "mask"))
    assert special.all() == {0, 5}
    assert special.names == {0: "<|end|>", 5: "<other>"}
    special.check("bos", "eos")
    with pytest.raises(NlpcliError, match="the tokenizer has no mask token"):
        special.check("bos", "mask")
    assert set(SpecialTokens().as_dict()) < set(special.as_dict())
