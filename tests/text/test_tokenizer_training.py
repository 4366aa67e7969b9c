"""Training: the same text gives the same tokenizer, and what can't be done is refused."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from nlpcli.errors import NlpcliError
from nlpcli.text import TOKENIZERS, train_tokenizer
from nlpcli.text.tokenizer_training import CharacterSettings, sample_lines

KINDS = list(TOKENIZERS)
SIZES = {"unigram": 400, "bpe": 430, "wordpiece": 260, "byte-bpe": 400, "chars": None, "words": None}

_IN_ANOTHER_PROCESS = """
import sys
import numpy as np
from nlpcli.text import train_tokenizer
sizes = {"unigram": 400, "bpe": 430, "wordpiece": 260, "byte-bpe": 400, "chars": None, "words": None}
lines = open(sys.argv[1], encoding="utf-8", newline="").read().split("\\0")
for kind, size in sizes.items():
    tokenizer = train_tokenizer(kind, lines, vocab_size=size, sentinels=3)
    print(tokenizer.fingerprint)
    if kind in ("unigram", "bpe", "byte-bpe"):
        print(tokenizer.encode(lines[:9], sampling=0.2, rng=np.random.default_rng(1)))
"""


def test_another_process_trains_the_same_tokenizers_and_draws_the_same(tokenizers, lines, tmp_path):
    file = tmp_path / "lines"
    file.write_bytes("\0".join(lines).encode())
    done = subprocess.run(
        [sys.executable, "-c", _IN_ANOTHER_PROCESS, file],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    expected = []
    for kind in KINDS:
        expected.append(tokenizers[kind].fingerprint)
        if kind in ("unigram", "bpe", "byte-bpe"):
            drawn = tokenizers[kind].encode(lines[:9], sampling=0.2, rng=np.random.default_rng(1))
            expected.append(str(drawn))
    assert done.stdout.splitlines() == expected
    assert done.stderr == ""


def test_training_and_encoding_are_silent(tokenizers, lines, capfd):
    for kind in KINDS:
        train_tokenizer(kind, lines, vocab_size=SIZES[kind]).encode(["\0 \x07 <s>"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["unigram", "bpe", "wordpiece", "byte-bpe"])
def test_the_vocabulary_has_the_requested_size(tokenizers, kind):
    assert tokenizers[kind].vocab_size == SIZES[kind]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "wordpiece", "byte-bpe"])
def test_a_vocabulary_the_text_cannot_fill_names_the_largest_possible(lines, kind):
    with pytest.raises(
        NlpcliError, match=r"100,000 tokens is too large for this text, which allows at most (\d+)"
    ) as error:
        train_tokenizer(kind, lines, vocab_size=100_000)
    largest = int(error.value.message.rsplit(" ", 1)[1])
    assert train_tokenizer(kind, lines, vocab_size=largest).vocab_size == largest
    with pytest.raises(NlpcliError, match="too large"):
        train_tokenizer(kind, lines, vocab_size=largest + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_too_small_for_what_it_has_to_hold_names_the_least(lines, kind):
    with pytest.raises(NlpcliError, match=r"5 tokens is too small: .* alone need \d+") as error:
        train_tokenizer(kind, lines, vocab_size=5)
    least = int(error.value.message.rsplit(" ", 1)[1])
    assert train_tokenizer(kind, lines, vocab_size=least).vocab_size == least
    with pytest.raises(NlpcliError, match="too small"):
        train_tokenizer(kind, lines, vocab_size=least - 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_no_tokenizer(kind, texts):
    with pytest.raises(NlpcliError, match="no text"):
        train_tokenizer(kind, texts, vocab_size=1000)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_the_stream_come_through(kind):
    def broken():
        yield "some text"
        raise NlpcliError("train.de:17: the line is not valid UTF-8")

    for limit in (10, None):
        with pytest.raises(NlpcliError, match=r"train\.de:17"):
            train_tokenizer(kind, broken(), vocab_size=400, max_lines=limit)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lone_surrogate_in_the_text_is_refused(kind):
    with pytest.raises(NlpcliError, match="surrogate"):
        train_tokenizer(kind, ["some text \udfff"], vocab_size=400)


def test_wrong_settings_are_refused(lines):
    for settings, message in (
        ({"kind": "unigrm"}, "unknown tokenizer type 'unigrm'"),
        ({"characters": CharacterSettings("nfck")}, "unknown normalization 'nfck'"),
        ({"vocab_size": None}, "a tokenizer of type unigram needs a vocabulary size"),
        ({"vocab_size": 0}, "the vocabulary size must be at least 1, not 0"),
        ({"sentinels": -1}, "the number of sentinel tokens can't be negative: -1"),
        ({"sentinels": 2**64}, "18,446,744,073,709,551,616 sentinel tokens are too many"),
        (
            {"characters": CharacterSettings(coverage=1.5)},
            "the character coverage must be greater than 0 and at most 1, not 1.5",
        ),
        ({"max_lines": 0}, "the maximum number of lines to train on must be at least 1, not 0"),
    ):
        with pytest.raises(NlpcliError, match=message):
            train_tokenizer(**{"kind": "unigram", "texts": lines, "vocab_size": 400, **settings})


def test_a_long_stream_is_sampled_and_a_short_one_kept(lines):
    tokenizer = train_tokenizer("byte-bpe", lines, vocab_size=300, max_lines=50)
    assert (tokenizer.trained["lines"], tokenizer.trained["of"]) == (50, len(lines))
    tokenizer = train_tokenizer("byte-bpe", lines, vocab_size=300)
    assert (tokenizer.trained["lines"], tokenizer.trained["of"]) == (len(lines), len(lines))


def test_sampled_lines_keep_their_order_and_depend_on_the_seed_alone():
    stream = [str(number) for number in range(1000)]
    drawn = sample_lines(iter(stream), 20, seed=3)
    assert len(set(drawn)) == 20
    assert drawn == sorted(drawn, key=int)
    assert drawn == sample_lines(stream, 20, seed=3)
    assert drawn != sample_lines(stream, 20, seed=4)
    assert sample_lines(stream, 2000, seed=3) == stream


def test_every_line_is_drawn_equally_often():
    counts = Counter(line for seed in range(3000) for line in sample_lines("abcdefghij", 3, seed))
    assert all(abs(counts[line] - 900) < 5 * (3000 * 0.3 * 0.7) ** 0.5 for line in "abcdefghij")


@pytest.mark.parametrize("kind", ["unigram", "bpe", "chars", "byte-bpe"])
def test_normalisation_happens_before_everything(lines, kind):
    tokenizer = train_tokenizer(
        kind,
        lines,
        vocab_size=SIZES[kind] and SIZES[kind] - 30,
        characters=CharacterSettings("nfkc_cf", lowercase=True),
    )
    assert not tokenizer.lossless
    assert tokenizer.decode(tokenizer.encode(["ﬁt ＡBC Straße①"])) == ["fit abc strasse1"]
    learned = [tokenizer.id_to_piece(id_).strip("▁Ġ") for id_ in range(263, tokenizer.vocab_size)]
    assert not any(piece.isascii() and len(piece) > 1 and piece.isupper() for piece in learned)


@pytest.mark.parametrize("kind", ["unigram", "bpe", "chars"])
def test_without_byte_fallback_a_strange_character_is_unknown(lines, kind):
    tokenizer = train_tokenizer(kind, lines, vocab_size=SIZES[kind] and 140, byte_fallback=False)
    assert not tokenizer.lossless
    ids = tokenizer.encode(["the Ω dogs"])[0]
    assert tokenizer.special.unk in ids
    assert tokenizer.decode([ids]) == ["the  dogs"]
    assert "<0x41>" not in tokenizer


@pytest.mark.parametrize("kind", ["unigram", "bpe", "chars", "wordpiece"])
def test_less_coverage_leaves_rare_characters_without_a_piece(kind):
    text = ["abcab" * 20 + " ω"] * 50 + ["abc ab a b ca bc"] * 10
    sizes = {"unigram": 272, "bpe": 275, "chars": None, "wordpiece": 20}
    tokenizer = train_tokenizer(kind, text, vocab_size=sizes[kind], characters=CharacterSettings(coverage=0.98))
    assert not any("ω" in tokenizer.id_to_piece(id_) for id_ in range(tokenizer.vocab_size))
