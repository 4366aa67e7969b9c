"""`nlpcli score` as a shell runs it."""

from __future__ import annotations

import gzip
import json
import subprocess

import jiwer
import pytest
import sacrebleu

REFERENCE = ["The cat sat on the mat.", "", "It is raining cats and dogs today.", "No, thank you!"]
OTHER = ["A cat was sitting on the mat.", "", "Today it rains a lot.", "No thanks!"]
HYPOTHESIS = ["The cat sat on a mat.", "oh", "It is raining cats and dogs.", "no thank you"]


@pytest.fixture
def files(tmp_path):
    for name, lines in (("ref.txt", REFERENCE), ("other.txt", OTHER), ("hyp.txt", HYPOTHESIS)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return tmp_path


def refused(done, *words):
    """Exit status 2, nothing on stdout, one sentence with these words (and at most a hint) on stderr."""
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    *_, message = [line for line in done.stderr.splitlines() if line.startswith("nlpcli: ")]
    for word in words:
        assert word in done.stderr, done.stderr
    return message


def test_a_pipe_and_a_file_and_both_spellings_give_sacrebleus_score_and_signature(files, run):
    metric = sacrebleu.metrics.BLEU()
    expected = metric.corpus_score(HYPOTHESIS, [REFERENCE])
    line = f"BLEU {expected.score:.2f} {expected.format().split(' ', 3)[3]} BLEU|{metric.get_signature()}\n"
    text = (files / "hyp.txt").read_text()
    for done in (
        run("score", "--metric", "bleu", "--ref", "ref.txt", stdin=text),
        run("score", "--metric", "bleu", "hyp.txt", "--ref", "ref.txt"),
        run("score", "bleu", "hyp.txt", "--ref", "ref.txt"),
        run("score", "bleu", "--ref", "ref.txt", stdin=text),
    ):
        assert (done.returncode, done.stdout, done.stderr) == (0, line, "")


def test_several_metrics_and_references_are_scored_in_one_call(files, run):
    done = run(
        "score",
        "--metric",
        "bleu,chrf",
        "--metric",
        "ter",
        "hyp.txt",
        "--ref",
        "ref.txt",
        "--ref",
        "other.txt",
        "--json",
    )
    report = json.loads(done.stdout)
    references = [REFERENCE, OTHER]
    assert [row["metric"] for row in report["scores"]] == ["bleu", "chrf", "ter"]
    assert [row["value"] for row in report["scores"]] == [
        kind().corpus_score(HYPOTHESIS, references).score
        for kind in (sacrebleu.metrics.BLEU, sacrebleu.metrics.CHRF, sacrebleu.metrics.TER)
    ]
    assert all("|nrefs:2|" in row["signature"] for row in report["scores"])
    assert (report["segments"], report["references"]) == (4, ["ref.txt", "other.txt"])


def test_error_rates_are_jiwers_and_a_blank_reference_line_counts_insertions(files, run):
    done = run("score", "wer,cer,mer,wil", "hyp.txt", "--ref", "ref.txt", "--json")
    values = {row["metric"]: row["value"] for row in json.loads(done.stdout)["scores"]}
    words = jiwer.process_words(REFERENCE, HYPOTHESIS)
    expected = {"wer": words.wer, "mer": words.mer, "wil": words.wil, "cer": jiwer.cer(REFERENCE, HYPOTHESIS)}
    assert values == pytest.approx({name: 100 * value for name, value in expected.items()})
    plain = run("score", "wer", "hyp.txt", "--ref", "ref.txt", "--lowercase", "--remove-punctuation")
    assert plain.stdout.startswith(
        "WER 18.75 3 errors in 16 words (sub = 1 del = 1 ins = 1) WER|nrefs:1|case:lc|punct:no|"
    )


def test_the_bare_number_is_all_that_a_script_reads(files, run):
    done = run(
        "score",
        "wer,bleu",
        "hyp.txt",
        "--ref",
        "ref.txt",
        "--score-only",
        "--decimals",
        "4",
        "--lowercase",
        "--remove-punctuation",
    )
    bleu = sacrebleu.corpus_bleu(HYPOTHESIS, [REFERENCE], lowercase=True).score
    assert done.stdout == f"18.7500\n{bleu:.4f}\n"
    assert "WER|nrefs:1|case:lc" in done.stderr and "BLEU|nrefs:1|case:lc" in done.stderr


def test_sentence_scores_are_one_line_out_for_each_line_in(files, run):
    done = run("score", "bleu,chrf", "--sentence", "--ref", "ref.txt", stdin=(files / "hyp.txt").read_text())
    rows = [tuple(map(float, line.split("\t"))) for line in done.stdout.splitlines()]
    assert rows == [
        (round(sacrebleu.sentence_bleu(h, [r]).score, 2), round(sacrebleu.sentence_chrf(h, [r]).score, 2))
        for h, r in zip(HYPOTHESIS, REFERENCE, strict=True)
    ]
    assert "eff:yes" in done.stderr
    data = run("score", "bleu,wer", "--sentence", "--json", "hyp.txt", "--ref", "ref.txt").stdout.splitlines()
    second = json.loads(data[1])
    assert len(data) == 4 and second["text"] == HYPOTHESIS[1]
    assert [(score["metric"], score["value"]) for score in second["scores"]] == [("bleu", 0.0), ("wer", 100.0)]


def test_the_interval_stands_behind_the_value_and_in_the_signature(files, run):
    done = run(
        "score", "bleu,wer", "hyp.txt", "--ref", "ref.txt", "--confidence", "--bootstrap-samples", "50", "--seed", "7"
    )
    for line in done.stdout.splitlines():
        assert "[" in line and "|bs:50|seed:7|" in line
    assert len(done.stdout.splitlines()) == 2


def test_systems_are_compared_with_a_baseline_in_a_table(files, run):
    (files / "worse.txt").write_text("\n\n\nNo, thank you!\n")
    done = run("score", "bleu,wer", "hyp.txt", "worse.txt", "--ref", "ref.txt", "--baseline", "worse.txt")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["system", "BLEU", "95", "%", "interval", "p"]
    assert [line.split()[0] for line in lines] == [
        *("system", "worse.txt", "hyp.txt", "worse.txt", lines[4].split()[0]),
        *("system", "worse.txt", "hyp.txt", "worse.txt", lines[9].split()[0]),
    ]
    assert lines[1].startswith("worse.txt (baseline)") and lines[3].endswith("1.0000")
    assert lines[4].startswith("BLEU|nrefs:1|bs:1000|seed:12345|") and lines[9].startswith("WER|")
    rows = json.loads(run("score", "bleu", "hyp.txt", "--ref", "ref.txt", "--baseline", "worse.txt", "--json").stdout)[
        "scores"
    ]
    assert [row["baseline"] for row in rows] == [True, False]
    assert "p_value" not in rows[0] and 0 < rows[1]["p_value"] <= 1


def test_the_alignment_is_jiwers_picture_and_as_json_its_edits(files, run):
    done = run("score", "wer,cer", "hyp.txt", "--ref", "ref.txt", "--alignment")
    pictures = [
        jiwer.visualize_alignment(process(REFERENCE, HYPOTHESIS), show_measures=False)
        for process in (jiwer.process_words, jiwer.process_characters)
    ]
    assert done.stdout.startswith("\n".join(pictures) + "\nWER ")
    report = json.loads(run("score", "mer", "hyp.txt", "--ref", "ref.txt", "--alignment", "--json").stdout)
    assert report["alignments"]["words"][1] == [{"edit": "insert", "reference": [], "hypothesis": ["oh"]}]


def test_compressed_references_and_windows_line_ends_are_read(files, run):
    with gzip.open(files / "ref.gz", "wb") as stream:
        stream.write("\r\n".join(REFERENCE).encode())
    assert run("score", "bleu", "--ref", "ref.gz", "ref.txt", "--score-only").stdout == "100.00\n"


def test_transcripts_are_matched_by_their_id_and_may_leave_a_choice(files, run):
    (files / "ref.trn").write_text("MOST { FIDELITY'S / FIDELITY } FUNDS (A_1)\nFOR { @ / AN } INVESTOR (a_2)\n")
    (files / "hyp.trn").write_text(";; ours\nfor an inventor (A_2)\n\nmost fidelity funds (a_1)\n")
    call = ("score", "wer", "hyp.trn", "--ref", "ref.trn", "--format", "trn", "--lowercase", "--alternatives")
    assert run(*call).stdout.startswith("WER 16.67 1 error in 6 words (sub = 1 del = 0 ins = 0) ")
    (files / "hyp.trn").write_text("most fidelity funds (a_1)\n")
    refused(run(*call), "utterance 'a_2' of ref.trn is missing from hyp.trn")


def test_without_a_metric_bleu_is_taken_and_reported_on_stderr(files, run):
    done = run("score", "hyp.txt", "--ref", "ref.txt")
    assert done.stdout.startswith("BLEU ") and "the metric is bleu, which is the default" in done.stderr


def test_a_metrics_name_comes_before_a_file_of_that_name(files, run):
    (files / "bleu").write_text((files / "ref.txt").read_text())
    text = (files / "hyp.txt").read_text()
    assert run("score", "bleu", "--ref", "ref.txt", "--score-only", stdin=text).stdout != "100.00\n"
    assert run("score", "./bleu", "--ref", "ref.txt", "--score-only").stdout == "100.00\n"
    assert run("score", "--metric", "bleu", "bleu", "--ref", "ref.txt", "--score-only").stdout == "100.00\n"


def test_warnings_go_to_stderr(files, run):
    (files / "tok.txt").write_text("a long line .\n" * 100)
    done = run("score", "bleu", "tok.txt", "--ref", "tok.txt", "--score-only")
    assert done.stdout == "100.00\n" and "warning: at least 100 lines end in ' .'" in done.stderr


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["bleu", "hyp.txt", "--ref", "short.txt"], ["hyp.txt has 4 lines, but short.txt has 3 lines"]),
        (
            ["bleu", "hyp.txt", "--ref", "ref.txt", "--ref", "short.txt"],
            ["short.txt has 3 lines, but ref.txt has 4 lines"],
        ),
        (
            ["bleu", "hyp.txt", "--ref", "ref.txt", "--baseline", "short.txt"],
            ["short.txt has 3 lines, but ref.txt has 4 lines"],
        ),
        (["bleu", "--ref", "ref.txt"], ["<stdin> is empty"]),
        (["bleu", "empty.txt", "--ref", "ref.txt"], ["empty.txt is empty"]),
        (["bleu", "hyp.txt", "--ref", "empty.txt"], ["empty.txt is empty"]),
        (["bleu", "hyp.txt", "--ref", "none.txt"], ["none.txt"]),
        (
            ["bleu", "hyp.txt", "--ref", "latin1.txt"],
            ["latin1.txt:2: the line is not valid UTF-8 (byte 0xfc at column 2)"],
        ),
        (["bleu", "hyp.txt"], ["--ref"]),
        (["--metric", "blue", "hyp.txt", "--ref", "ref.txt"], ["unknown metric 'blue'", "did you mean 'bleu'?"]),
        (["blue", "hyp.txt", "--ref", "ref.txt"], ["'blue' is neither a metric nor a file", "did you mean 'bleu'?"]),
        (["bleu", "hyp.txt", "--ref", "ref.txt", "--tokenise", "none"], ["'--tokenise'", "did you mean '--tokenize'?"]),
        (["bleu", "hyp.txt", "--ref", "ref.txt", "--tokenize", "13b"], ["unknown tokenizer '13b'"]),
        (["bleu", "hyp.txt", "--ref", "ref.txt", "--smooth", "flor"], ["did you mean 'floor'?"]),
        (["wer", "hyp.txt", "--ref", "ref.txt", "--tokenize", "zh"], ["--tokenize has no effect on wer", "bleu"]),
        (["wer", "hyp.txt", "--ref", "ref.txt", "--ref", "other.txt"], ["wer takes 1 reference file, not 2"]),
        (["bleu", "hyp.txt", "--ref", "ref.txt", "--alignment"], ["--alignment has no effect on bleu", "wer"]),
        (["wer", "hyp.txt", "ref.txt", "--ref", "ref.txt", "--alignment"], ["--alignment takes only one system"]),
        (["wer", "hyp.txt", "ref.txt", "--ref", "ref.txt", "--sentence"], ["--sentence takes only one system"]),
        (
            ["wer", "hyp.txt", "--ref", "ref.txt", "--sentence", "--confidence"],
            ["--sentence and --confidence can't be used together"],
        ),
        (["wer", "hyp.txt", "--ref", "ref.txt", "--json", "--score-only"], ["--json and --score-only"]),
        (["wer", "-", "--ref", "-"], ["standard input can be read only once"]),
        (["wer", "hyp.txt", "--ref", "ref.txt", "--format", "trm"], ["did you mean 'trn'?"]),
        (
            ["wer", "hyp.txt", "--ref", "ref.txt", "--format", "trn"],
            ["ref.txt:1: the line does not end with an utterance"],
        ),
        (["wer", "hyp.txt", "--ref", "braces.txt", "--alternatives"], ["reference line 2", "no matching '}'"]),
        (["wer", "hyp.txt", "--ref", "ref.txt", "--confidence", "--bootstrap-samples", "1"], ["at least 2"]),
        (["bleu", "hyp.txt", "--ref", "ref.txt", "--baseline", "ref.txt", "--seed", "0"], ["seed 0"]),
        (["bleu", "hyp.txt", "--ref", "ref.txt", "--decimals", "x"], ["decimals", "'x'"]),
    ],
)
def test_bad_calls_and_bad_input_end_with_one_sentence_and_status_2(files, run, call, words):
    (files / "short.txt").write_text("".join(f"{line}\n" for line in REFERENCE[:3]))
    (files / "empty.txt").write_bytes(b"")
    (files / "latin1.txt").write_bytes("a\nfür\n\nb\n".encode("latin-1"))
    (files / "braces.txt").write_text("a\n{ b / c\nd\ne\n")
    refused(run("score", *call), *words)


@pytest.mark.processes
def test_a_reader_that_leaves_ends_the_command_quietly(files, nlpcli_command, environment):
    (files / "many.txt").write_text("a b c\n" * 20_000)
    command = [*nlpcli_command, "score", "wer", "many.txt", "--ref", "many.txt", "--sentence"]
    process = subprocess.Popen(command, cwd=files, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"0.00\n"
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert errors.startswith("WER|") and len(errors.splitlines()) == 1


def test_a_blank_line_in_one_of_several_reference_files_is_a_missing_reference(files, run):
    hypotheses = ["I do", "the cat sat on the mat today", ""]
    sets = [["this is a long ref", "the cat sat on the mat", ""], ["", "the cat is on the mat today", "  "]]
    (files / "h").write_text("".join(f"{line}\n" for line in hypotheses))
    for name, lines in zip(("r1", "r2"), sets, strict=True):
        (files / name).write_text("".join(f"{line}\n" for line in lines))
    missing = [sets[0], [None, *sets[1][1:]]]  # a line that is blank in all is an empty text
    kinds = (sacrebleu.metrics.BLEU, sacrebleu.metrics.CHRF, sacrebleu.metrics.TER)
    call = ("score", "bleu,chrf,ter,rouge1", "h", "--ref", "r1", "--ref", "r2", "--json")
    rows = json.loads(run(*call).stdout)["scores"]
    assert [row["value"] for row in rows[:3]] == [kind().corpus_score(hypotheses, missing).score for kind in kinds]
    assert all("|nrefs:var|" in row["signature"] for row in rows)
    for more in (["--confidence"], ["--baseline", "h"]):
        again = json.loads(run(*call, *more, "--bootstrap-samples", "20").stdout)["scores"]
        assert {row["value"] for row in again} == {row["value"] for row in rows}
        assert all("|nrefs:var|bs:20|" in row["signature"] for row in again)
    (files / "first").write_text("this is a long ref\n")
    (files / "one").write_text("I do\n")
    alone = run("score", "bleu,chrf,ter", "one", "--ref", "first", "--sentence").stdout
    done = run("score", "bleu,chrf,ter", "h", "--ref", "r2", "--ref", "r1", "--sentence")
    assert done.stdout.startswith(alone) and "nrefs:var" in done.stderr


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            ["ter", "--ter-asian-support"],
            "--ter-asian-support has no effect without --ter-normalized or --ter-no-punct",
        ),
        (["rouge1", "--rouge-references", "mean"], "--rouge-references has no effect with only one reference"),
        (["wer", "--alternatives"], "--alternatives has no effect because no reference contains '{ A / B }'"),
        (["ter", "--ter-asian-support", "--sentence"], "--ter-asian-support has no effect without"),
    ],
)
def test_an_option_without_effect_is_named_and_changes_nothing(files, run, call, message):
    done = run("score", *call, "hyp.txt", "--ref", "ref.txt")
    assert done.returncode == 0 and f"warning: {message}" in done.stderr
    options = [part for part in call[1:] if part in ("--json", "--sentence")]
    plain = run("score", call[0], "hyp.txt", "--ref", "ref.txt", *options)
    assert "no effect" not in plain.stderr
    value = json.loads(done.stdout)["scores"][0]["value"] if "--json" in call else done.stdout.split("|")[0]
    assert value == (json.loads(plain.stdout)["scores"][0]["value"] if "--json" in call else plain.stdout.split("|")[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["bleu", "--seed", "3"], "--seed has no effect without --confidence or --baseline"),
        (["bleu", "--bootstrap-samples", "9"], "--bootstrap-samples has no effect without --confidence or --baseline"),
        (["wer", "--sentence", "--seed", "3"], "--seed has no effect without --confidence or --baseline"),
        (["bleu", "--json", "--decimals", "4"], "--json and --decimals can't be used together"),
    ],
)
def test_an_option_that_excludes_another_or_needs_one_is_refused(files, run, call, message):
    done = run("score", *call, "hyp.txt", "--ref", "ref.txt")
    assert done.returncode == 2 and done.stderr.startswith(f"nlpcli: {message}") and done.stdout == ""


@pytest.mark.parametrize(
    "call",
    [
        ["ter", "--ter-asian-support", "--ter-normalized"],
        ["ter", "--ter-asian-support", "--ter-no-punct"],
        ["bleu", "--seed", "3", "--confidence", "--bootstrap-samples", "9"],
        ["bleu", "--seed", "3", "--baseline", "other.txt", "--bootstrap-samples", "9"],
        ["rouge1", "--rouge-references", "mean", "--ref", "other.txt"],
        ["bleu", "--sentence"],
    ],
)
def test_an_option_with_its_effect_is_taken_without_a_word(files, run, call):
    assert "effect" not in run("score", *call, "hyp.txt", "--ref", "ref.txt").stderr


def test_a_text_without_spaces_is_hinted_at_for_whole_texts_and_for_lines(files, run):
    (files / "zh").write_text("今天天气很好\n", encoding="utf-8")
    for call in (["wer"], ["ter"], ["bleu"], ["wer", "--sentence"], ["bleu", "--sentence"], ["ter", "--score-only"]):
        done = run("score", *call, "zh", "--ref", "zh")
        assert "warning: the references look like Chinese or Japanese" in done.stderr, call
        assert "--effective-order" not in (done.stderr if "--sentence" in call else "")
    assert run("score", "cer,chrf", "zh", "--ref", "zh").stderr == ""


def test_the_help_keeps_to_eighty_columns_and_points_where_the_metrics_are(run):
    text = run("score", "--help", COLUMNS="80").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "One or more of the metrics listed above" in text
