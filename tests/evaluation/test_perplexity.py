from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import NlpcliError
from nlpcli.evaluation.perplexity import PerplexityProtocol, perplexity

PROTOCOL = PerplexityProtocol(window=64, stride=64)


@given(st.integers(2, 50_000), st.integers(1, 10_000))
def test_a_uniform_guess_among_v_tokens_has_the_perplexity_v(vocabulary, tokens):
    scores = perplexity(tokens * math.log(vocabulary), tokens=tokens, protocol=PROTOCOL)
    assert scores["perplexity"].value == pytest.approx(vocabulary)
    assert scores["loss"].value == pytest.approx(math.log(vocabulary))


@given(st.floats(0, 1e4), st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 5000))
def test_all_units_tell_the_same_log_likelihood(nats, tokens, words, octets):
    scores = perplexity(nats, tokens=tokens, words=words, bytes=octets, characters=octets, protocol=PROTOCOL)
    assert scores["loss"].value * tokens == pytest.approx(nats)
    assert scores["bits_per_byte"].value * octets * math.log(2) == pytest.approx(nats)
    assert scores["bits_per_character"].value == scores["bits_per_byte"].value
    assert 2 ** min(scores["bits_per_byte"].value, 1000) == pytest.approx(min(scores["byte_perplexity"].value, 2**1000))
    if nats / words < 700:
        assert math.log(scores["word_perplexity"].value) * words == pytest.approx(nats, abs=1e-9 * words)


def test_only_what_was_counted_is_measured():
    assert list(perplexity(1.0, tokens=2, protocol=PROTOCOL)) == ["loss", "perplexity"]
    everything = perplexity(1.0, tokens=2, words=1, bytes=8, characters=7, protocol=PROTOCOL)
    assert set(everything) == {
        "loss",
        "perplexity",
        "word_perplexity",
        "byte_perplexity",
        "bits_per_byte",
        "bits_per_character",
    }


def test_the_signature_names_level_window_and_stride():
    scores = perplexity(1.0, tokens=2, words=1, protocol=PerplexityProtocol(window=64, stride=32, tokenizer="chars"))
    assert scores["perplexity"].signature.startswith("perplexity|level:token|window:64|stride:32|tok:chars|nlpcli:")
    assert scores["word_perplexity"].signature.startswith("word_perplexity|level:word|window:64|stride:32|")
    assert scores["perplexity"].details["count"] == 2
    scores = perplexity(1.0, tokens=2, protocol=PerplexityProtocol(64, 64, "chars", memory="32"))
    assert scores["loss"].signature.startswith("loss|level:token|window:64|stride:64|memory:32|tok:chars|nlpcli:")
    scores = perplexity(
        1.0, tokens=2, protocol=PerplexityProtocol(5, 5, "chars", "state", streams=4, dynamic="sgd:0.1")
    )
    assert "|stride:5|memory:state|streams:4|dynamic:sgd:0.1|tok:chars|" in scores["loss"].signature


def test_a_perplexity_beyond_any_float_is_infinite():
    assert perplexity(1e6, tokens=1, protocol=PROTOCOL)["perplexity"].value == math.inf


@pytest.mark.parametrize("counts", [{"tokens": 0}, {"tokens": 1, "words": 0}, {"tokens": 1, "bytes": 0}])
def test_a_text_of_nothing_has_no_perplexity(counts):
    with pytest.raises(NlpcliError, match="is undefined"):
        perplexity(1.0, **counts, protocol=PROTOCOL)


@pytest.mark.parametrize(("window", "stride"), [(64, 65), (64, 0), (0, 1)])
def test_a_stride_that_would_skip_or_repeat_tokens_is_refused(window, stride):
    with pytest.raises(NlpcliError, match="stride must lie between 1 and the window"):
        PerplexityProtocol(window, stride)
