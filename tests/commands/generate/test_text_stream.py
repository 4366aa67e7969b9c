"""A text is written while it grows: whole characters, all of it once, and nothing of what ends it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.commands.generate.text_stream import CONTEXT, TextStream, added_text, before_stop
from nlpcli.text import train_tokenizer

LINES = ["the cat sat on the mat, the dog sat on the cat", "Übung macht den Meister – naïve 日本語 🙂🙂"] * 5
KINDS = {
    "unigram": {"vocab_size": 290, "byte_fallback": True},
    "byte-bpe": {"vocab_size": 300},
    "wordpiece": {"vocab_size": 78},
    "chars": {},
    "words": {},
}


@pytest.fixture(scope="module")
def tokenizers():
    return {kind: train_tokenizer(kind, LINES, **options) for kind, options in KINDS.items()}


def streamed(tokenizer, prefix, ids, stops=()):
    """What is written token by token, all that is written, and the text."""
    parts = []
    stream = TextStream(tokenizer, stops, parts.append)
    take = stream.after(prefix)
    whole = added_text(tokenizer, prefix, ids)
    text, stopped = before_stop(whole, stops)
    for id_ in ids:
        take(0, id_)
        if stopped and before_stop(added_text(tokenizer, prefix, ids[: ids.index(id_) + 1]), stops)[1]:
            break
    before = "".join(parts)
    stream.finish(text)
    return before, "".join(parts), text


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(data=st.data())
def test_what_is_written_is_the_text(tokenizers, kind, data):
    tokenizer = tokenizers[kind]
    ordinary = [id_ for id_ in range(tokenizer.vocab_size) if id_ not in tokenizer.special.all()]
    prefix = data.draw(st.lists(st.sampled_from(ordinary), min_size=1, max_size=2 * CONTEXT))
    ids = data.draw(st.lists(st.sampled_from(ordinary), max_size=3 * CONTEXT))
    before, after, text = streamed(tokenizer, prefix, ids)
    assert after == text
    assert len(before) >= len(text.rstrip("\ufffd")) - 1  # written at once, but for what may become another character


@pytest.mark.parametrize("kind", ["unigram", "byte-bpe", "chars"])
def test_text_is_written_token_by_token_and_never_half_a_character(tokenizers, kind):
    tokenizer, parts = tokenizers[kind], []
    [prefix, ids] = tokenizer.encode(["the cat", "naïve 日本語 🙂 sat on the mat"])
    take = TextStream(tokenizer, (), parts.append).after(prefix)
    for id_ in ids:
        take(0, id_)
    assert "\ufffd" not in "".join(parts) and len(parts) > 5
    assert "".join(parts) == added_text(tokenizer, prefix, ids)


def test_nothing_of_a_stop_is_written_and_what_only_began_like_one_is(tokenizers):
    tokenizer = tokenizers["chars"]
    [prefix] = tokenizer.encode(["the cat"])

    def written(text, stops):
        before, after, expected = streamed(
            tokenizer, prefix, tokenizer.encode([f"the cat{text}"])[0][len(prefix) :], stops
        )
        assert after == expected
        return before, after

    assert written(" sat on the mat", ("on the",)) == (" sat ", " sat ")
    assert written(" sat on a mat", ("on the",)) == (" sat on a mat", " sat on a mat")
    assert written(" sat on th", ("on the",)) == (" sat ", " sat on th")  # what was held comes in the end
    assert written(" sat on the dog", ("dog", "the d")) == (" sat on ", " sat on ")
