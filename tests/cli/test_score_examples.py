"""`nlpcli score` for labels, numbers, tags, answers and summaries, as a shell runs it."""

from __future__ import annotations

import gzip
import json

import pytest
import scipy.stats
from rouge_score.rouge_scorer import RougeScorer
from seqeval.metrics import f1_score as entity_f1
from sklearn import metrics as sklearn

from nlpcli.evaluation.squad_metrics import normalise_answer, words_f1

GOLD, PREDICTED = list("aabbcca"), list("abbbcaa")
TRUE_TAGS = ["B-PER I-PER O", "O B-LOC", "O"]
SAID_TAGS = ["B-PER I-PER O", "O B-PER", "I-LOC"]
TEXTS, SUMMARIES = ["The cats sat on mats.", "It is raining."], ["A cat sat on the mat.", "Raining today"]
SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Cats",
            "paragraphs": [
                {
                    "context": "The cat sat on the mat in Paris.",
                    "qas": [
                        {
                            "id": "q1",
                            "question": "Where?",
                            "answers": [
                                {"text": "on the mat", "answer_start": 12},
                                {"text": "Paris", "answer_start": 26},
                            ],
                        },
                        {"id": "q2", "question": "Who?", "answers": [{"text": "The cat", "answer_start": 0}]},
                        {"id": "q3", "question": "When?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


@pytest.fixture
def files(tmp_path):
    for name, lines in {
        "gold": GOLD,
        "said": PREDICTED,
        "x": ["1", "2.5", "3", "-4e-1"],
        "y": ["2", "2", "7", "0"],
        "tags.gold": TRUE_TAGS,
        "tags.said": SAID_TAGS,
        "text": TEXTS,
        "summary": SUMMARIES,
        "links": ["0-0 1-2", "0-0", "", "3-1"],
        "gold.links": ["0-0 1-2 2p2", "0-1", "0-0", ""],
    }.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for name, sentences in (("gold.conll", TRUE_TAGS), ("said.conll", SAID_TAGS)):
        blocks = [[f"w{n} X {tag}\n" for n, tag in enumerate(line.split())] for line in sentences]
        (tmp_path / name).write_text("-DOCSTART- X O\n\n" + "\n".join("".join(block) for block in blocks))
    (tmp_path / "squad.json").write_text(json.dumps(SQUAD))
    (tmp_path / "answers.json").write_text(json.dumps({"q1": "paris", "q2": "cat", "q3": "now", "other": "x"}))
    return tmp_path


def values(done):
    assert done.returncode == 0, done.stderr
    return {row["metric"]: row["value"] for row in json.loads(done.stdout)["scores"]}


def test_labels_are_scored_as_scikit_learn_scores_them(files, run):
    found = values(run("score", "accuracy,f1,mcc", "said", "--ref", "gold", "--json"))
    assert found == pytest.approx(
        {
            "accuracy": 100 * sklearn.accuracy_score(GOLD, PREDICTED),
            "f1": 100 * sklearn.f1_score(GOLD, PREDICTED, average="macro"),
            "mcc": 100 * sklearn.matthews_corrcoef(GOLD, PREDICTED),
        }
    )
    micro = run("score", "f1", "said", "--ref", "gold", "--average", "micro", "--labels", "a, b")
    expected = 100 * sklearn.f1_score(GOLD, PREDICTED, average="micro", labels=["a", "b"])
    assert micro.stdout.startswith(f"F1 {expected:.2f} precision = ") and "|average:micro|labels:a,b|" in micro.stdout
    binary = run(
        "score",
        "f1",
        "said",
        "--ref",
        "gold",
        "--average",
        "binary",
        "--positive",
        "b",
        "--score-only",
        "--decimals",
        "6",
    )
    assert float(binary.stdout) == pytest.approx(
        100 * sklearn.f1_score(GOLD, PREDICTED, average="macro", labels=["b"]), abs=1e-6
    )


def test_numbers_are_correlated_as_scipy_does(files, run):
    found = values(run("score", "pearson,spearman", "x", "--ref", "y", "--json"))
    x, y = [1, 2.5, 3, -0.4], [2, 2, 7, 0]
    expected = {"pearson": scipy.stats.pearsonr(x, y)[0], "spearman": scipy.stats.spearmanr(x, y)[0]}
    assert found == pytest.approx({name: 100 * value for name, value in expected.items()})


def test_tags_on_lines_and_in_columns_give_seqevals_score(files, run):
    expected = 100 * entity_f1(*([line.split() for line in lines] for lines in (TRUE_TAGS, SAID_TAGS)))
    for call in (
        ("tags.said", "--ref", "tags.gold"),
        ("said.conll", "--ref", "gold.conll"),
        ("-", "--ref", "gold.conll"),
    ):
        done = run("score", "entity-f1,tag-accuracy", *call, "--json", stdin=(files / "said.conll").read_text())
        assert values(done) == pytest.approx({"entity-f1": expected, "tag-accuracy": 100 * 4 / 6})
        assert "1 of 3 predicted sentences is not valid BIO" in done.stderr
    strict = run("score", "entity-f1", "tags.said", "--ref", "tags.gold", "--strict", "--json")
    assert values(strict) == pytest.approx({"entity-f1": 100 * 2 * 1 / (2 + 2)})


def test_answers_are_scored_against_a_squad_file_and_against_lines(files, run):
    found = run("score", "squad", "answers.json", "--ref", "squad.json", "--json")
    assert values(found) == pytest.approx({"exact-match": 200 / 3, "answer-f1": 200 / 3})
    with gzip.open(files / "squad.json.gz", "wt") as stream:
        stream.write(json.dumps(SQUAD))
    sentences = run("score", "squad", "--ref", "squad.json.gz", "--sentence", stdin='{"q1": "the mat"}')
    assert sentences.stdout == "0.00\t66.67\n0.00\t0.00\n0.00\t0.00\n"
    (files / "other").write_text("a cat\n\n")
    (files / "lines").write_text("The CAT!\n\n")
    (files / "ref").write_text("dogs\nsomething\n")
    assert run("score", "exact-match", "lines", "--ref", "ref", "--ref", "other", "--score-only").stdout == "50.00\n"
    assert run("score", "exact-match", "lines", "--ref", "other", "--score-only").stdout == "100.00\n"
    verbatim = run("score", "exact-match", "lines", "--ref", "other", "--normalize-answers", "none")
    assert verbatim.stdout.startswith("EM 50.00 ") and "|norm:none|" in verbatim.stdout


def official_squad(data, predictions, pair):
    """The score of SQuAD 2.0's script, reimplemented: it reads ids and the texts of answers, and nothing else."""
    scores = []
    for article in data["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                texts = [normalise_answer(answer["text"]) for answer in question["answers"]]
                right = [text for text in texts if text] or [""]
                scores.append(max(pair(normalise_answer(predictions[question["id"]]), text) for text in right))
    return 100 * sum(scores) / len(scores)


def test_what_squads_script_does_not_read_has_no_say_in_the_score(files, run):
    bridge = "The bridge was opened in 1903 by the mayor."
    questions = [
        {"id": "start", "question": "When?", "answers": [{"text": "1903", "answer_start": 0}]},
        {"id": "none", "question": "By whom?", "answers": [{"text": "the mayor"}]},
        {"id": "beyond", "question": "?", "answers": [{"text": "bridge", "answer_start": 4000}]},
        {"id": "text", "question": "?", "answers": [{"text": "bridge", "answer_start": "four"}]},
        {"id": "nowhere", "question": "?", "answers": [{"text": "the king", "answer_start": 4}]},
        {"id": "empty", "question": "?", "answers": [{"text": "", "answer_start": 4}]},
        {"id": "marked", "answers": [{"text": "bridge", "answer_start": 4}], "is_impossible": True},
    ]
    data = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": bridge, "qas": questions}]}]}
    answers = {"start": "1903", "none": "mayor", "beyond": "a bridge", "text": "the old bridge", "nowhere": "king"}
    answers |= {"empty": "", "marked": "bridge"}
    (files / "gold.json").write_text(json.dumps(data))
    (files / "pred.json").write_text(json.dumps(answers))
    found = values(run("score", "squad", "pred.json", "--ref", "gold.json", "--json"))
    assert found == pytest.approx(
        {
            "exact-match": official_squad(data, answers, lambda a, b: float(a == b)),
            "answer-f1": official_squad(data, answers, words_f1),
        }
    )
    assert found["exact-match"] == pytest.approx(100 * 6 / 7)


def test_missing_predictions_count_nothing_and_are_reported(files, run):
    (files / "few.json").write_text('{"q1": "paris"}')
    done = run("score", "exact-match", "few.json", "--ref", "squad.json", "--score-only", "--decimals", "4")
    assert done.stdout == "33.3333\n" and "2 of 3 questions have no prediction" in done.stderr


def test_rouge_is_that_of_rouge_score_with_and_without_its_stemmer(files, run):
    for stemmer in ("none", "porter"):
        theirs = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=stemmer == "porter")
        rows = [theirs.score(text, summary) for text, summary in zip(TEXTS, SUMMARIES, strict=True)]
        expected = [100 * sum(row[kind].fmeasure for row in rows) / 2 for kind in ("rouge1", "rouge2", "rougeL")]
        found = values(run("score", "rouge", "summary", "--ref", "text", "--rouge-stemmer", stemmer, "--json"))
        assert found == pytest.approx(dict(zip(("rouge1", "rouge2", "rougel"), expected, strict=True)))
    both = run("score", "rougeL,bleu", "summary", "--ref", "text", "--score-only")
    assert len(both.stdout.splitlines()) == 2


def test_links_are_scored_with_their_numbering_given(files, run):
    (files / "two.links").write_text("0-0 1-2\n\n")
    (files / "gold.talp").write_text("1-1 2-3 2p2\n1-1\n")
    done = run("score", "--metric", "aer", "--ref", "gold.talp", "--one-based", "ref", stdin="0-0 1-2\n\n")
    assert done.stdout.startswith(
        "AER 20.00 precision = 100.00 recall = 66.67 (2 links; reference: 3 sure, 1 possible) AER|"
    )
    assert done.stderr == ""
    wrong = run("score", "aer", "two.links", "--ref", "gold.talp")
    assert "warning: the links of the reference never contain 0" in wrong.stderr and wrong.returncode == 0
    turned = run(
        "score", "aer", "two.links", "--ref", "gold.talp", "--one-based", "ref", "--reverse", "ref", "--sentence"
    )
    assert turned.stdout == "50.00\n100.00\n"


def test_every_metric_has_an_interval_and_a_comparison(files, run):
    for metric, predicted, gold in (
        ("f1", "said", "gold"),
        ("spearman", "x", "y"),
        ("entity-f1", "said.conll", "gold.conll"),
        ("answer-f1", "answers.json", "squad.json"),
        ("rouge2", "summary", "text"),
        ("aer", "links", "gold.links"),
    ):
        done = run("score", metric, predicted, "--ref", gold, "--confidence", "--bootstrap-samples", "40")
        assert "[" in done.stdout and "|bs:40|seed:12345|" in done.stdout, done.stderr
        table = run("score", metric, predicted, "--ref", gold, "--baseline", predicted, "--bootstrap-samples", "40")
        assert table.stdout.splitlines()[2].endswith("1.0000"), table.stdout


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["pearson", "said", "--ref", "y"], ["said has 7 lines, but y has 4 lines"]),
        (["pearson", "text", "--ref", "summary"], ["summary:1: 'A cat sat on the mat.' is not a number"]),
        (["spearman", "nan", "--ref", "y"], ["nan:2: 'nan' is not a finite number"]),
        (["accuracy", "blank", "--ref", "y"], ["blank:3: the label is missing"]),
        (
            ["f1", "said", "--ref", "gold", "--average", "binary"],
            ["a binary F1 needs a positive label, and the labels are a, b, c", "--positive"],
        ),
        (["f1", "said", "--ref", "gold", "--average", "mean"], ["unknown average 'mean'"]),
        (["f1", "said", "--ref", "gold", "--sentence"], ["F1 is defined only for a whole test set"]),
        (["entity-f1", "said", "--ref", "gold"], ["gold:1: 'a' is not a valid tag", "B-PER"]),
        (
            ["entity-f1", "short", "--ref", "tags.gold"],
            ["short:2: the sentence has 1 tag, but in tags.gold:2 it has 2"],
        ),
        (["entity-f1", "two.conll", "--ref", "gold.conll"], ["two.conll has 1 sentence, but gold.conll has "]),
        (
            ["entity-f1", "word.conll", "--ref", "gold.conll"],
            ["word.conll:1: word 2", "'v1', but in gold.conll:3 it is 'w1'"],
        ),
        (
            ["entity-f1", "long.conll", "--ref", "gold.conll"],
            ["long.conll:1: the sentence has 2", "in gold.conll:3 it has 3"],
        ),
        (
            ["rouge1", "answers.json", "--ref", "squad.json"],
            ["the metric rouge1 can't be computed from files of the format squad"],
        ),
        (
            ["bleu", "said.conll", "--ref", "gold.conll"],
            ["the metric bleu can't be computed from files of the format conll"],
        ),
        (["squad", "said", "--ref", "squad.json"], ["said:1: the file is not valid JSON"]),
        (["aer", "y", "--ref", "gold.links"], ["y:1: '2' is not a link such as 0-0", "3p4"]),
        (["aer", "links", "--ref", "gold.links", "--one-based", "hyp"], ["links:1: the link 0-0 contains 0"]),
        (
            ["aer", "links", "--ref", "gold.links", "--one-based", "left"],
            ["value of --one-based 'left'", "ref, hyp, both"],
        ),
        (["accuracy", "said", "--ref", "gold", "--reverse", "ref"], ["--reverse has no effect on accuracy", "aer"]),
        (["squad", "list.json", "--ref", "squad.json"], ["list.json is not a JSON object of ids and answers"]),
        (
            ["squad", "number.json", "--ref", "squad.json"],
            ["number.json: the answer to question 'q1' is 7, not a string"],
        ),
        (["squad", "strange.json", "--ref", "squad.json"], ["strange.json: none of its ids belongs to a question"]),
        (
            ["squad", "answers.json", "--ref", "squad.json", "--ref", "squad.json"],
            ["a SQuAD data set already contains all references"],
        ),
        (["squad", "answers.json", "--ref", "answers.json"], ["answers.json:1: the field 'context' is missing"]),
        (["accuracy", "said", "--ref", "gold", "--ref", "gold"], ["accuracy takes 1 reference file, not 2"]),
        (["accuracy", "said", "--ref", "gold", "--strict"], ["--strict has no effect on accuracy", "entity-f1"]),
        (["rouge1", "summary", "--ref", "text", "--rouge-stemmer", "rouge-1.5.5"], ["WordNet", "wordnet-base"]),
        (
            ["rouge1", "summary", "--ref", "text", "--rouge-sentences", "split"],
            ["has no effect on rouge1", "rougelsum"],
        ),
        (["accuracy", "said", "--ref", "gold", "--format", "conl"], ["unknown format 'conl'"]),
        (["rogue", "summary", "--ref", "text"], ["'rogue' is neither a metric nor a file", "did you mean 'rouge"]),
    ],
)
def test_bad_calls_and_bad_input_end_with_one_sentence_and_status_2(files, run, call, words):
    for name, text in {
        "nan": "1\nnan\n2\n3\n",
        "blank": "a\nb\n\nc\n",
        "short": "B-PER I-PER O\nO\nO\n",
        "two.conll": "w0 X O\nw1 X O\nw2 X O\n",
        "word.conll": "w0 X O\nv1 X O\nw2 X O\n\nw0 X O\nw1 X O\n\nw0 X O\n",
        "long.conll": "w0 X O\nw1 X O\n\nw0 X O\n\nw0 X O\n",
        "list.json": '["paris"]',
        "number.json": '{"q1": 7}',
        "strange.json": '{"z": "paris"}',
    }.items():
        (files / name).write_text(text)
    done = run("score", *call)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_a_label_with_a_comma_can_be_counted_alone_or_beside_others(files, run):
    gold, predicted = ["a, b", "c", "a", "b", "a, b", "c"], ["a, b", "a, b", "a", "a", "c", "c"]
    for name, labels in (("g", gold), ("s", predicted)):
        (files / name).write_text("".join(f"{label}\n" for label in labels))
    for call, labels, signed in (
        (["--labels", "a, b"], ["a, b"], '|labels:"a, b"|'),
        (["--labels", "a, b", "--labels", "c"], ["a, b", "c"], '|labels:"a, b",c|'),
        (["--labels", '"a, b",c'], ["a, b", "c"], '|labels:"a, b",c|'),
        (["--labels", "a,c"], ["a", "c"], "|labels:a,c|"),
        (["--labels", "a", "--labels", "b"], ["a", "b"], "|labels:a,b|"),
    ):
        done = run("score", "f1", "s", "--ref", "g", *call, "--decimals", "6")
        expected = 100 * sklearn.f1_score(gold, predicted, average="macro", labels=labels)
        assert done.stdout.startswith(f"F1 {expected:.6f} ") and signed in done.stdout, done
