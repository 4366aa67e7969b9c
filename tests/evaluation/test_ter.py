from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import TER

from nlpcli.errors import NlpcliError
from nlpcli.evaluation.ter import Ter, ter

LINE = st.lists(st.sampled_from(["the", "The", "cat", "sat", "mat.", "don't", "你好", "&amp;"]), max_size=8).map(
    " ".join
)


@given(
    st.lists(st.tuples(LINE, LINE, LINE), min_size=1, max_size=4),
    st.fixed_dictionaries(
        {},
        optional={
            "ter_normalized": st.booleans(),
            "ter_no_punct": st.booleans(),
            "ter_asian_support": st.booleans(),
            "ter_case_sensitive": st.booleans(),
        },
    ),
)
def test_ter_equals_sacrebleus_on_any_text_with_any_option(lines, options):
    hypotheses, *references = (list(column) for column in zip(*lines, strict=True))
    theirs = TER(**{name.removeprefix("ter_"): value for name, value in options.items()})
    expected = theirs.corpus_score(hypotheses, references)
    ours = ter(hypotheses, references, **options)
    assert (ours.value, ours.signature) == (expected.score, f"TER|{theirs.get_signature()}")
    assert ours.details["edits"] == expected.num_edits


def test_moving_a_phrase_costs_one_edit():
    score = ter(["sat on the mat the cat"], [["the cat sat on the mat"]])
    assert score.details == {"edits": 1, "reference_length": 6.0}
    assert score.value == pytest.approx(100 / 6)


def test_lowercase_states_what_holds_anyway_and_contradicts_case_sensitivity():
    assert Ter(lowercase=True).corpus(["A b"], [["a B"]]).value == 0
    with pytest.raises(NlpcliError, match="can't be used together"):
        Ter(lowercase=True, ter_case_sensitive=True)
