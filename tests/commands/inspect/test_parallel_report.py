"""What is wrong with a parallel corpus is found, line by line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nlpcli
from nlpcli.commands.inspect.line_pairs import Pairs
from nlpcli.commands.inspect.line_scan import Scan
from nlpcli.commands.inspect.overlap_with_training import compare
from nlpcli.commands.inspect.parallel_report import Corpus, inspect_parallel
from nlpcli.data.train_dev_overlap import normal
from nlpcli.errors import NlpcliError
from nlpcli.text import train_tokenizer

DATA = Path(nlpcli.__file__).resolve().parents[1] / "sample_data" / "tatoeba-en-de"
COUNT = 3000


@pytest.fixture(scope="module")
def clean():
    sides = []
    for name in ("train.en.gz", "train.de.gz"):
        sides.append(gzip.decompress((DATA / name).read_bytes()).decode("utf-8").splitlines()[:COUNT])
    return sides


@pytest.fixture
def corpus(tmp_path, clean):
    """Writes two sides, changed as requested, and inspects them."""

    def look(change=lambda english, german: None, **settings):
        english, german = map(list, clean)
        change(english, german)
        files = tmp_path / "a.en", tmp_path / "a.de"
        for file, lines in zip(files, (english, german), strict=True):
            file.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
        return inspect_parallel(Corpus(tuple(map(str, files)), **settings))

    return look


def found(inspection, name):
    return next((finding for finding in inspection.findings if finding.name == name), None)


def lines(inspection, name):
    finding = found(inspection, name)
    return [] if finding is None else list(map(int, finding.lines))


def test_the_sample_has_no_faults(corpus):
    inspection = corpus()
    assert not inspection.has_problems
    assert inspection.facts["lines"] == COUNT
    assert [inspection.facts[side]["language"] for side in ("source", "target")] == ["en", "de"]


def test_exchanged_pairs_lines_of_the_other_language_and_copies_are_distinguished(corpus):
    def change(english, german):
        english[10], german[10] = german[10], english[10]
        english[700] = "Ich habe gestern den ganzen Tag auf dich gewartet."
        german[900] = "I was waiting for you the whole day yesterday."
        english[1500] = german[1500] = "We have never seen anything like this before."
        english[1600] = german[1600] = "Tom!"

    inspection = corpus(change)
    assert lines(inspection, "swapped") == [11]
    assert lines(inspection, "source_language") == [701]
    assert lines(inspection, "target_language") == [901]
    assert lines(inspection, "copy") == [1501]
    assert 1601 in lines(inspection, "short_copy")
    assert inspection.has_problems


def test_blank_lines_odd_characters_and_broken_bytes_are_reported_with_their_lines(corpus):
    def change(english, german):
        english[4] = ""
        german[5] = " \t"
        english[6] += "\u00a0!"
        german[7] += "\udcff"
        german[8] = "Это предложение написано другими буквами."

    inspection = corpus(change)
    assert lines(inspection, "blank_side") == [5, 6]
    assert 7 in lines(inspection, "source_space")
    assert lines(inspection, "target_encoding") == [8]
    assert lines(inspection, "target_script") == [9]


def test_lengths_that_don_t_fit_are_found(corpus):
    def change(english, german):
        german[20] = "Ja."
        english[20] = "This sentence is very much longer than the word that stands on the other side of it, isn't it?"

    assert 21 in lines(corpus(change), "length_ratio")


def test_repeated_pairs_and_several_translations_are_distinguished(corpus):
    def change(english, german):
        english[100], german[100] = "A line of its own.", "Eine eigene Zeile."
        english[200], german[200] = "a  line of its own.", "Eine eigene Zeile."
        english[300], german[300] = "A line of its own.", "Eine ganz eigene Zeile."
        english[400], german[400] = "One line of its own.", "Eine eigene Zeile."

    inspection = corpus(change)
    assert 201 in lines(inspection, "duplicate") and 201 not in lines(inspection, "one_to_many")
    assert 301 in lines(inspection, "one_to_many")
    assert 401 in lines(inspection, "many_to_one")
    examples = {example.line: example.shown for example in found(corpus(change, show=999), "one_to_many").examples}
    assert examples[301]["earlier"] == "line 101: Eine eigene Zeile."


def test_missing_lines_are_reported_with_their_place(corpus):
    inspection = corpus(lambda english, german: german.__delitem__(slice(1200, 1202)))
    assert "a.en has 3,000" in found(inspection, "unequal").text
    assert abs(lines(inspection, "unequal")[0] - 1201) <= 10
    assert inspection.facts["lines"] is None


def test_the_given_languages_are_checked(corpus):
    assert found(corpus(languages=("en", "de")), "language") is None
    assert found(corpus(languages=("de", "en")), "language").problem
    with pytest.raises(NlpcliError, match="unknown language 'eng'"):
        Corpus(("a", "b"), languages=("eng", "de"))


def test_a_tokenizer_adds_pieces_and_what_is_unknown(corpus, tmp_path):
    train_tokenizer("chars", ["abcdefghijklmnopqrstuvwxyz .!"], byte_fallback=False).save(tmp_path / "tok")
    inspection = corpus(tokenizer=tmp_path / "tok")
    assert inspection.facts["target"]["unknown_tokens"] > 0
    assert inspection.facts["length_ratio_in_tokens"]["mean"] > 1
    assert found(inspection, "unknown").count > 0


def test_test_sets_are_compared_with_training(corpus, tmp_path, clean):
    english, german = clean
    (tmp_path / "t.en").write_text(f"{english[5].upper()}\nNever seen at all here\n{english[9]}\n\n", "utf-8")
    (tmp_path / "t.de").write_text(
        f"{german[5]}\nWar noch nie da gewesen\nEtwas ganz anderes, nie gesehen\n\n", "utf-8"
    )
    inspection = corpus(test=(str(tmp_path / "t.en"), str(tmp_path / "t.de")))
    assert inspection.facts["overlap"] == {"train_test": {"pair": 1, "source": 1, "target": 0, "near": 0}}
    assert lines(inspection, "test_pair_in_train") == [1]
    assert lines(inspection, "test_source_in_train") == [3]
    assert found(inspection, "test_pair_in_train").examples[0].shown["train"] == "line 6"


LINES = st.lists(
    st.tuples(st.sampled_from(["a b", "A b", "a b!", "c", ""]), st.sampled_from(["x", "X.", "y", ""])), max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, LINES)
def test_overlap_is_that_of_sets(train, held):
    def pairs(rows):
        sides = [Scan("text"), Scan("text")]
        for side, texts in zip(sides, zip(*rows, strict=True) if rows else ((), ()), strict=True):
            if texts:
                side.add(list(texts))
        return Pairs(("s", "t"), sides, (None, None))

    places = compare(pairs(train), pairs(held))
    whole = {(normal(a), normal(b)) for a, b in train}
    loose = {tuple("".join(c for c in normal(x) if c.isalnum()) for x in pair) for pair in train}
    sources, targets = {a for a, _ in whole}, {b for _, b in whole}
    for line, (source, target) in enumerate(held):
        exact = (normal(source), normal(target))
        near = tuple("".join(c for c in x if c.isalnum()) for x in exact)
        if not (exact[0] and exact[1]):
            kind = None
        elif exact in whole:
            kind = "pair"
        elif near in loose:
            kind = "near"
        else:
            kind = "source" if exact[0] in sources else "target" if exact[1] in targets else None
        assert [name for name, found in places.items() if found[line] >= 0] == ([kind] if kind else [])


def test_an_empty_side_is_refused(tmp_path):
    (tmp_path / "a").write_text("one\n", "utf-8")
    (tmp_path / "b").write_text("", "utf-8")
    with pytest.raises(NlpcliError, match="is empty"):
        inspect_parallel(Corpus((str(tmp_path / "a"), str(tmp_path / "b"))))
