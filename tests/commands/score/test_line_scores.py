"""Scores from portions of the files: the same numbers, warnings and errors as from whole files, in little memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from nlpcli.commands.score import line_scores
from nlpcli.commands.score import score as recipe
from nlpcli.commands.score.request import ScoreRequest
from nlpcli.errors import NlpcliError
from nlpcli.evaluation import METRICS, Resampling
from nlpcli.evaluation.score import TEXT_PAIRS

OF_LINES = tuple(name for name in METRICS if METRICS.load(name).needs == TEXT_PAIRS)
WORDS = ["der", "mann", "sieht", "den", "hund", ".", "3.5", "kind,", "haus"]


def written(path, name, count, step):
    lines = (" ".join(WORDS[(i * step + k * k) % 9] for k in range(i % 8)) for i in range(count))
    (path / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(path / name)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(line_scores, "WINDOW", 7)
    return [written(tmp_path, name, 50, step) for name, step in (("a", 1), ("b", 2), ("r", 4), ("s", 5))]


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("resampling", [None, Resampling(5, 3)])
def test_the_report_is_that_of_whole_files(files, baseline, resampling):
    first, second, right, other = files
    for names, references in ((OF_LINES, (right,)), (("bleu", "chrf", "ter", "rouge1"), (right, other))):
        request = ScoreRequest(
            (first,) if baseline else (first, second), references, names, second if baseline else None,
            resampling=resampling,
        )  # fmt: skip
        report, whole = recipe.score(request), recipe.Scoring(request).report()
        assert report.as_dict() == whole.as_dict()
        assert (report.warnings, report.segments) == (whole.warnings, 50)


def test_sentences_and_their_warnings_are_those_of_whole_files(files):
    first, _, right, other = files
    for references in ((right,), (right, other)):
        request = ScoreRequest((first,), references, ("bleu", "chrf", "ter", "rouge1"))
        warnings: list[str] = []
        found = list(recipe.sentence_scores(request, warn=warnings.append))
        scoring = recipe.Scoring(request)
        assert found == list(zip(scoring.hypotheses(), scoring.sentences(), strict=True))
        assert warnings == scoring.warnings(sentence=True)


def test_lines_in_memory_are_scored_as_those_of_files(files):
    first, _, right, _ = files
    texts = {name: Path(name).read_text("utf-8").split("\n")[:-1] for name in (first, right)}
    request = ScoreRequest((first,), (right,), OF_LINES)
    in_memory = ScoreRequest((first,), (right,), OF_LINES, texts=texts)
    assert recipe.score(request).as_dict() == recipe.score(in_memory).as_dict()


@pytest.mark.parametrize(("lines", "words"), [(43, "43 lines"), (49, "49 lines"), (56, "56 lines"), (80, "80 lines")])
def test_files_of_different_lengths_are_refused_with_their_lengths(files, tmp_path, lines, words):
    first, _, right, _ = files
    short = written(tmp_path, "short", lines, 1)
    for names in ((first, short), (short, first)):
        with pytest.raises(NlpcliError) as raised:
            recipe.score(ScoreRequest(names, (right,), ("bleu",)))
        assert raised.value.message == f"{short} has {words}, but {right} has 50 lines"


def test_the_first_empty_file_is_named(files, tmp_path):
    (tmp_path / "empty").write_text("")
    empty = str(tmp_path / "empty")
    for hypothesis, reference in ((files[0], empty), (empty, files[2]), (str(tmp_path / "none"), empty)):
        with pytest.raises(NlpcliError, match="empty is empty, so there is nothing to score"):
            recipe.score(ScoreRequest((hypothesis,), (reference,), ("wer",)))


def test_the_line_of_a_mistake_is_its_number_in_the_file(files, tmp_path):
    lines = Path(files[2]).read_text("utf-8").split("\n")[:-1]
    (tmp_path / "bad").write_text("\n".join([*lines[:30], "{ a / b", *lines[31:]]) + "\n")
    for call in (recipe.score, lambda request: list(recipe.sentence_scores(request, warn=print))):
        with pytest.raises(NlpcliError, match=r"^reference line 31: a '\{' has no matching"):
            call(ScoreRequest((files[0],), (str(tmp_path / "bad"),), ("wer",), options={"alternatives": True}))


def test_a_seed_that_the_paired_test_ignores_is_refused_before_the_files_are_read(tmp_path):
    request = ScoreRequest((str(tmp_path / "none"),), ("no",), ("bleu",), "neither", resampling=Resampling(5, 0))
    with pytest.raises(NlpcliError, match="seed 0"):
        recipe.score(request)


def test_memory_does_not_grow_with_the_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(line_scores, "WINDOW", 64)
    peaks = []
    for count in (500, 500, 5000):
        paths = written(tmp_path, "a", count, 1), written(tmp_path, "r", count, 4)
        tracemalloc.start()
        recipe.score(ScoreRequest(paths[:1], paths[1:], ("bleu", "chrf", "wer")))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 100_000  # bytes; 4,500 more lines have 250,000 characters and 700,000 n-grams
