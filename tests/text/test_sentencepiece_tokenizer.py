"""SentencePiece: the sampled distribution, the escaping, and long lines."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.text import train_tokenizer
from nlpcli.text.sentencepiece_tokenizer import _sentences


def segmentations(text: str, pieces: dict[str, float]) -> Iterator[tuple[str, ...]]:
    """Every way to lay `text` out of pieces."""
    if not text:
        yield ()
    for end in range(1, len(text) + 1):
        if text[:end] in pieces:
            for rest in segmentations(text[end:], pieces):
                yield (text[:end], *rest)


@pytest.fixture(scope="module")
def scores(tokenizers) -> dict[str, float]:
    """Log probabilities of the learned pieces of the unigram model."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizers["unigram"].model.to_bytes())
    return {
        processor.id_to_piece(id_): processor.get_score(id_)
        for id_ in range(processor.vocab_size())
        if not (processor.is_byte(id_) or processor.is_control(id_) or processor.is_unknown(id_))
    }


@pytest.mark.parametrize("word", ["reading", "kitchens", "Hausmeister"])
def test_the_best_segmentation_is_the_most_probable_of_all(tokenizers, scores, word):
    tokenizer = tokenizers["unigram"]
    best = max(segmentations("▁" + word, scores), key=lambda pieces: sum(scores[piece] for piece in pieces))
    assert [tokenizer.id_to_piece(id_) for id_ in tokenizer.encode([word])[0]] == list(best)


@pytest.mark.parametrize("strength", [0.1, 0.5])
def test_unigram_draws_in_proportion_to_the_power_of_the_probability(tokenizers, scores, strength):
    weights = {
        pieces: math.exp(strength * sum(scores[piece] for piece in pieces))
        for pieces in segmentations("▁kitchens", scores)
    }
    total, draws = sum(weights.values()), 10_000
    tokenizer = tokenizers["unigram"]
    drawn = tokenizer.encode(["kitchens"] * draws, sampling=strength, rng=np.random.default_rng(5))
    counts = Counter(tuple(map(tokenizer.id_to_piece, ids)) for ids in drawn)
    assert counts.keys() <= weights.keys()
    for pieces, weight in weights.items():
        expected = weight / total
        deviation = math.sqrt(draws * expected * (1 - expected)) + 1
        assert abs(counts[pieces] - draws * expected) < 5 * deviation


@pytest.mark.parametrize(("kind", "strength"), [("unigram", 1e4), ("bpe", 1e-300)])
@pytest.mark.parametrize("byte_fallback", [True, False])
@given(text=st.text(st.one_of(st.sampled_from("abcdehinorstu .,ä▁"), st.characters(exclude_categories=["Cs"]))))
def test_own_segmentation_without_chance_is_the_librarys(pairs, kind, strength, byte_fallback, text):
    tokenizer = pairs[kind, byte_fallback]
    drawn = tokenizer.encode([text], sampling=strength, rng=np.random.default_rng(0))
    assert drawn == tokenizer.encode([text])


@pytest.fixture(scope="module")
def pairs(lines):
    return {
        (kind, fallback): train_tokenizer(kind, lines, vocab_size=390 if fallback else 140, byte_fallback=fallback)
        for kind in ("unigram", "bpe")
        for fallback in (True, False)
    }


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_no_piece_goes_over_a_space(tokenizers, kind):
    tokenizer = tokenizers[kind]
    assert not any("▁" in tokenizer.id_to_piece(id_)[1:] for id_ in range(tokenizer.vocab_size))


def test_dropping_every_merge_leaves_characters(tokenizers):
    tokenizer = tokenizers["bpe"]
    ids = tokenizer.encode(["reading it"], sampling=1.0, rng=np.random.default_rng(0))[0]
    assert "".join(map(tokenizer.id_to_piece, ids)) == "▁reading▁it"
    assert all(len(tokenizer.id_to_piece(id_)) == 1 for id_ in ids)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_printed_mark_is_a_space_and_a_written_mark_is_not(tokenizers, kind):
    tokenizer = tokenizers[kind]
    with_space, with_mark = tokenizer.encode(["a b", "a▁b"])
    assert with_space != with_mark
    assert "▁" not in "".join(map(tokenizer.id_to_piece, with_mark[2:]))


def test_a_mark_in_the_training_text_is_learned_as_itself():
    tokenizer = train_tokenizer("bpe", ["x▁y x▁y x▁y z"] * 20, vocab_size=271)
    assert tokenizer.decode(tokenizer.encode(["x▁y z▁ \U000f2581"])) == ["x▁y z▁ \U000f2581"]
    assert not any(piece.startswith("<0x") for piece in map(tokenizer.id_to_piece, tokenizer.encode(["x▁y"])[0]))


def test_what_a_model_writes_amiss_is_still_a_text(tokenizers):
    tokenizer = tokenizers["unigram"]
    half = [tokenizer.piece_to_id("<0xE6>"), tokenizer.piece_to_id("<0x97>")]
    assert tokenizer.decode([half])[0].strip("\ufffd") == ""
    escape = [tokenizer.piece_to_id(f"<0x{value:02X}>") for value in "\U000f2581".encode()]
    assert tokenizer.decode([escape]) == ["\U000f2581"]


@given(st.text(st.sampled_from("ab \nä語"), max_size=400), st.integers(1, 60))
def test_long_lines_are_cut_and_nothing_is_lost(text, repeated):
    long = text * repeated
    cut = list(_sentences([long]))
    assert "".join(cut) == long.replace("\n", "")
    assert all(0 < len(line.encode()) <= 4192 for line in cut)


def test_long_lines_are_cut_at_spaces():
    words = ["word"] * 5000
    assert [word for line in _sentences([" ".join(words)]) for word in line.split()] == words


def test_words_of_long_lines_are_learned(lines):
    one_line = train_tokenizer("unigram", [" ".join(lines)], vocab_size=390)
    assert "▁reading" in one_line
